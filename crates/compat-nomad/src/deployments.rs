//! `/v1/deployments` and `/v1/deployment/…`.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::response::Response;
use axum::routing::get;
use cos_http::body::RawBody;
use cos_http::{ApiError, Body, PageKey, ReadOptions, Reply};
use cos_model::plan::DeploymentUpdate;
use cos_model::{AllocId, Deployment, DeploymentId, DeploymentStatus, Evaluation, Job, Trigger};
use cos_state::evaluations::eval_for_job;
use cos_state::rollback::rollback;
use cos_state::{Command, Committed, Topic};
use serde_json::json;

use crate::context::{Listing, Nomad, id, newest};
use crate::wire::alloc::{AllocStub, StubFields};
use crate::wire::deployment as wire;
use crate::write;

pub(crate) fn routes() -> Router<Nomad> {
    Router::new()
        .route("/v1/deployments", get(list))
        .route("/v1/deployment/{id}", get(read))
        .route("/v1/deployment/allocations/{id}", get(allocations))
        .route("/v1/deployment/fail/{id}", write(fail))
        .route("/v1/deployment/pause/{id}", write(pause))
        .route("/v1/deployment/promote/{id}", write(promote))
        .route("/v1/deployment/allocation-health/{id}", write(set_health))
}

fn not_found() -> ApiError {
    ApiError::not_found("deployment not found")
}

async fn list(State(nomad): State<Nomad>, options: ReadOptions) -> Result<Response, ApiError> {
    let listing = Listing {
        items: |state, options| {
            let wanted = |deployment: &&Arc<Deployment>| {
                options.wants_namespace(&deployment.job.namespace)
                    && (options.prefix.is_empty()
                        || deployment.id.to_string().starts_with(&options.prefix))
            };
            state.deployments().filter(wanted).cloned().collect()
        },
        key: |deployment| PageKey::numbered(deployment.create_index, deployment.id.to_string()),
        full: |deployment| json!(wire::Deployment::from(deployment)),
    };
    let show = |_: &_, deployment: &Deployment| wire::Deployment::from(deployment);
    nomad.list(&options, &[Topic::Deployments], listing, show).await
}

async fn read(
    State(nomad): State<Nomad>,
    Path(text): Path<String>,
    options: ReadOptions,
) -> Result<Response, ApiError> {
    let wanted: DeploymentId = id(&text, "deployment not found")?;
    let read = |state: &Arc<cos_state::State>| {
        let deployment = state.deployment(wanted).ok_or_else(not_found)?;
        Ok((deployment.modify_index, wire::Deployment::from(deployment.as_ref())))
    };
    nomad.api.read(&options, &[Topic::Deployments], read).await
}

async fn allocations(
    State(nomad): State<Nomad>,
    Path(text): Path<String>,
    options: ReadOptions,
) -> Result<Response, ApiError> {
    let wanted: DeploymentId = id(&text, "deployment not found")?;
    let topics = [Topic::Allocs];
    let read = |state: &Arc<cos_state::State>| {
        let deployment = state.deployment(wanted).ok_or_else(not_found)?;
        let stubs: Vec<AllocStub> = state
            .allocs_of_job(&deployment.job)
            .filter(|alloc| alloc.deployment_id == Some(wanted))
            .map(|alloc| AllocStub::new(alloc, StubFields::default()))
            .collect();
        Ok((newest(state, &topics), stubs))
    };
    nomad.api.read(&options, &topics, read).await
}

/// A deployment to change, with its job and an evaluation of it.
struct Target {
    deployment: Arc<Deployment>,
    job: Arc<Job>,
    state: Arc<cos_state::State>,
    eval: Evaluation,
}

/// Finds the deployment for an act, whose name ends the refusal in the words that clients match on.
async fn target(nomad: &Nomad, text: &str, act: &str) -> Result<Target, ApiError> {
    let wanted: DeploymentId = id(text, "deployment not found")?;
    let state = nomad.current().await?;
    let deployment = Arc::clone(state.deployment(wanted).ok_or_else(not_found)?);
    if !deployment.is_active() {
        return Err(ApiError::bad_request(format!("can't {act} terminal deployment")));
    }
    let job = state.job(&deployment.job).ok_or_else(|| ApiError::not_found("job not found"))?;
    let job = Arc::clone(job);
    let control = nomad.api.control()?;
    let eval = eval_for_job(&job, Trigger::DeploymentWatcher, control.new_id(), control.now());
    let eval = Evaluation { deployment_id: Some(wanted), ..eval };
    Ok(Target { deployment, job, state, eval })
}

fn updated(committed: &Committed, eval: Option<&Evaluation>, reverted: Option<u64>) -> Response {
    Reply::written(committed.index).json(&json!({
        "EvalID": eval.map(|eval| eval.id.to_string()).unwrap_or_default(),
        "EvalCreateIndex": eval.map_or(0, |_| committed.index),
        "DeploymentModifyIndex": committed.index,
        "RevertedJobVersion": reverted,
        "Index": committed.index,
    }))
}

async fn fail(State(nomad): State<Nomad>, Path(text): Path<String>) -> Result<Response, ApiError> {
    let Target { deployment, job, state, eval } = target(&nomad, &text, "fail").await?;
    let auto_revert = deployment.groups.values().any(|group| group.auto_revert);
    let (ending, revert) =
        if auto_revert { rollback(&state, &deployment, &job) } else { (String::new(), None) };
    let reverted = revert.map(|job| job.version);
    let update = DeploymentUpdate {
        id: deployment.id,
        status: DeploymentStatus::Failed,
        description: format!("Deployment marked as failed{ending}"),
    };
    let command = Command::SetDeploymentStatus {
        update,
        revert: revert.map(|job| Box::new(Job::clone(job))),
        eval: Some(eval.clone()),
    };
    let committed = nomad.propose(command).await?;
    Ok(updated(&committed, Some(&eval), reverted))
}

async fn pause(
    State(nomad): State<Nomad>,
    Path(text): Path<String>,
    RawBody(bytes): RawBody,
) -> Result<Response, ApiError> {
    let pause = Body::parse(&bytes)?.flag("Pause")?;
    let Target { deployment, eval, .. } =
        target(&nomad, &text, if pause { "pause" } else { "resume" }).await?;
    let (status, description) = if pause {
        (DeploymentStatus::Paused, "Deployment is paused")
    } else {
        (DeploymentStatus::Running, deployment.running_description())
    };
    let eval = (!pause).then_some(eval);
    let description = description.to_owned();
    let update = DeploymentUpdate { id: deployment.id, status, description };
    let command = Command::SetDeploymentStatus { update, revert: None, eval: eval.clone() };
    let committed = nomad.propose(command).await?;
    Ok(updated(&committed, eval.as_ref(), None))
}

async fn promote(
    State(nomad): State<Nomad>,
    Path(text): Path<String>,
    RawBody(bytes): RawBody,
) -> Result<Response, ApiError> {
    let body = Body::parse(&bytes)?;
    let all = body.flag("All")?;
    let groups = body.texts("Groups")?;
    let Target { deployment, eval, .. } = target(&nomad, &text, "promote").await?;
    if !all && groups.is_empty() {
        return Err(ApiError::bad_request("either all groups or some group must be promoted"));
    }
    let command = Command::PromoteDeployment {
        id: deployment.id,
        groups: (!all).then_some(groups),
        eval: Some(eval.clone()),
    };
    let committed = nomad.propose(command).await?;
    Ok(updated(&committed, Some(&eval), None))
}

async fn set_health(
    State(nomad): State<Nomad>,
    Path(text): Path<String>,
    RawBody(bytes): RawBody,
) -> Result<Response, ApiError> {
    let body = Body::parse(&bytes)?;
    let healthy = alloc_ids(&body, "HealthyAllocationIDs")?;
    let unhealthy = alloc_ids(&body, "UnhealthyAllocationIDs")?;
    if healthy.is_empty() && unhealthy.is_empty() {
        return Err(ApiError::bad_request(
            "must specify at least one healthy/unhealthy allocation ID",
        ));
    }
    let Target { deployment, eval, .. } =
        target(&nomad, &text, "set health of allocations for a").await?;
    let command =
        Command::SetAllocHealth { id: deployment.id, healthy, unhealthy, eval: Some(eval.clone()) };
    let committed = nomad.propose(command).await?;
    Ok(updated(&committed, Some(&eval), None))
}

fn alloc_ids(body: &Body, name: &str) -> Result<Vec<AllocId>, ApiError> {
    let bad = |text: &str| ApiError::bad_request(format!("{name}: {text:?} is not an allocation"));
    body.texts(name)?.iter().map(|text| text.parse().ok().ok_or_else(|| bad(text))).collect()
}
