//! `/v1/system/…` and `/v1/metrics`.

use std::collections::BTreeSet;

use axum::Router;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, put};
use cos_http::params::is_pretty;
use cos_http::{ApiError, Params, Reply};
use cos_model::{Allocation, Deployment, Evaluation, Job, JobKey, JobStatus, NodeStatus};
use cos_state::Command;

use crate::context::Nomad;
use crate::wire::rfc3339;

pub(crate) fn routes() -> Router<Nomad> {
    Router::new()
        .route("/v1/system/gc", put(collect))
        .route("/v1/system/reconcile/summaries", put(reconcile))
        .route("/v1/metrics", get(metrics))
}

/// Removes everything that is over, however recently.
async fn collect(State(nomad): State<Nomad>) -> Result<Response, ApiError> {
    let state = nomad.current().await?;
    let command = garbage(&state);
    let is_empty = matches!(&command, Command::Collect { evals, allocs, deployments, jobs, nodes }
        if evals.is_empty() && allocs.is_empty() && deployments.is_empty()
            && jobs.is_empty() && nodes.is_empty());
    if is_empty {
        return Ok(Reply::written(state.index().max(1)).empty());
    }
    let committed = nomad.propose(command).await?;
    Ok(Reply::written(committed.index).empty())
}

/// What is over: dead jobs of which nothing runs or waits, with everything of theirs; of other
/// jobs the evaluations that ended and whose allocations all ended; nodes that are down and empty.
fn garbage(state: &cos_state::State) -> Command {
    let is_over = |job: &Job| {
        job.status == JobStatus::Dead
            && !job.is_template()
            && state.evals_of_job(&job.key).all(|eval| eval.is_terminal())
            && state.allocs_of_job(&job.key).all(|alloc| alloc.is_client_terminal())
    };
    let dead: BTreeSet<JobKey> =
        state.jobs().filter(|job| is_over(job)).map(|job| job.key.clone()).collect();
    let is_gone = |key: &JobKey| dead.contains(key) || state.job(key).is_none();
    let alloc_is_over = |alloc: &Allocation| {
        let replaced = alloc.next.is_some() || alloc.is_desired_terminal();
        alloc.is_client_terminal() && (is_gone(alloc.job_key()) || replaced)
    };
    let eval_is_over = |eval: &Evaluation| {
        eval.is_terminal() && state.allocs_of_eval(eval.id).all(|alloc| alloc_is_over(alloc))
    };
    let deployment_is_over = |deployment: &Deployment| {
        let latest = state.latest_deployment(&deployment.job).map(|latest| latest.id);
        !deployment.is_active() && (is_gone(&deployment.job) || latest != Some(deployment.id))
    };
    Command::Collect {
        evals: state.evals().filter(|e| eval_is_over(e)).map(|e| e.id).collect(),
        allocs: state.allocs().filter(|a| alloc_is_over(a)).map(|a| a.id).collect(),
        deployments: state.deployments().filter(|d| deployment_is_over(d)).map(|d| d.id).collect(),
        nodes: state
            .nodes()
            .filter(|node| node.status == NodeStatus::Down)
            .filter(|node| state.allocs_on_node(node.id).all(|alloc| alloc.is_client_terminal()))
            .map(|node| node.id)
            .collect(),
        jobs: dead.into_iter().collect(),
    }
}

/// Summaries are counted whenever they are read, so there is nothing to repair.
async fn reconcile(State(nomad): State<Nomad>) -> Result<Response, ApiError> {
    let state = nomad.current().await?;
    Ok(Reply::written(state.index().max(1)).empty())
}

async fn metrics(State(nomad): State<Nomad>, params: Params) -> Result<Response, ApiError> {
    let api = &nomad.api;
    api.metrics.observe(api);
    match params.text("format") {
        Some("prometheus") => {
            let kind = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
            Ok((kind, api.metrics.render()).into_response())
        }
        None => {
            let now = api.control.as_ref().and_then(|control| rfc3339(control.now()));
            let shown = api.metrics.to_json(&now.unwrap_or_default());
            Ok(Reply::default().pretty(is_pretty(&params)).json(&shown))
        }
        Some(other) => {
            Err(ApiError::bad_request(format!("{other:?} is not a format; try \"prometheus\"")))
        }
    }
}
