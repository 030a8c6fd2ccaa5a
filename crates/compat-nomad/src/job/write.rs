//! Writes to one job: stop, evaluate, revert, stable.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::response::Response;
use cos_http::{ApiError, Body, Reply};
use cos_model::{AllocId, ClientStatus, DesiredTransition, Job, Trigger};
use cos_state::{Command, State};
use serde_json::json;

use super::Asked;
use super::read::job_not_found;
use crate::context::{Nomad, registered};
use crate::jobs::{Submission, submit};

pub(super) async fn delete(nomad: &Nomad, asked: &Asked) -> Result<Response, ApiError> {
    let purge = asked.params.flag("purge")?;
    // Accepted and without meaning: there is one region.
    let _global = asked.params.flag("global")?;
    let job = nomad.current_job(&asked.key).await?;
    let mut eval = nomad.evaluation(&job, Trigger::JobDeregister)?;
    let priority: Option<u8> = asked.params.number("eval_priority")?;
    if let (Some(eval), Some(priority)) = (&mut eval, priority.filter(|p| (1..=100).contains(p))) {
        eval.priority = priority;
    }
    if asked.params.flag("no_shutdown_delay")? {
        skip_shutdown_delay(nomad, &job).await?;
    }
    let command = Command::StopJob { key: asked.key.clone(), purge, eval: eval.clone() };
    let committed = nomad.propose(command).await?;
    Ok(Reply::written(committed.index).json(&json!({
        "EvalID": eval.as_ref().map(|eval| eval.id.to_string()).unwrap_or_default(),
        "EvalCreateIndex": eval.map_or(0, |_| committed.index),
        "JobModifyIndex": committed.index,
        "VolumeEvalID": "",
        "VolumeEvalIndex": 0,
        "Index": committed.index,
        "LastContact": 0,
        "KnownLeader": false,
        "NextToken": "",
    })))
}

async fn skip_shutdown_delay(nomad: &Nomad, job: &Job) -> Result<(), ApiError> {
    let state = nomad.current().await?;
    let transitions: BTreeMap<AllocId, DesiredTransition> = state
        .allocs_of_job(&job.key)
        .filter(|alloc| !alloc.is_terminal())
        .map(|alloc| (alloc.id, DesiredTransition { no_shutdown_delay: true, ..alloc.transition }))
        .collect();
    if !transitions.is_empty() {
        nomad.propose(Command::SetTransitions { transitions, evals: Vec::new() }).await?;
    }
    Ok(())
}

pub(super) async fn evaluate(nomad: &Nomad, asked: &Asked) -> Result<Response, ApiError> {
    let body = Body::parse_or_empty(&asked.body)?;
    let options = body.object("EvalOptions")?.unwrap_or_default();
    let force = options.flag("ForceReschedule")?;
    let state = nomad.current().await?;
    let job = state.job(&asked.key).ok_or_else(job_not_found)?;
    let Some(eval) = nomad.evaluation(job, Trigger::JobEvaluate)? else {
        return Err(ApiError::bad_request("can't evaluate periodic or parameterized job"));
    };
    let evals = vec![eval.clone()];
    let command = if force {
        Command::SetTransitions { transitions: failed_to_replace(&state, asked), evals }
    } else {
        Command::PutEvals { evals }
    };
    let committed = nomad.propose(command).await?;
    Ok(registered(&committed, Some(&eval), job.job_modify_index, ""))
}

/// Failed allocations that nothing has replaced yet.
fn failed_to_replace(state: &Arc<State>, asked: &Asked) -> BTreeMap<AllocId, DesiredTransition> {
    state
        .allocs_of_job(&asked.key)
        .filter(|alloc| alloc.client_status == ClientStatus::Failed && alloc.next.is_none())
        .map(|alloc| (alloc.id, DesiredTransition { force_reschedule: true, ..alloc.transition }))
        .collect()
}

pub(super) async fn revert(nomad: &Nomad, asked: &Asked) -> Result<Response, ApiError> {
    let body = Body::parse(&asked.body)?;
    check_id(&body, asked)?;
    let version = body.unsigned("JobVersion")?.unwrap_or(0);
    let prior = body.unsigned("EnforcePriorVersion")?;
    let state = nomad.current().await?;
    let current = state.job(&asked.key).ok_or_else(job_not_found)?;
    if prior.is_some_and(|prior| prior != current.version) {
        return Err(ApiError::bad_request(format!(
            "Current job has version {}; enforcing version {}",
            current.version,
            prior.unwrap_or(0)
        )));
    }
    if current.version == version && !current.stop {
        return Err(ApiError::bad_request(format!("can't revert to current version {version}")));
    }
    let Some(wanted) = state.job_version(&asked.key, version) else {
        return Err(ApiError::not_found(format!(
            "job {:?} in namespace {:?} at version {version} not found",
            &*asked.key.id, &*asked.key.namespace
        )));
    };
    let submission = Submission {
        job: Job { stop: false, ..wanted.as_ref().clone() },
        expected: Some(current.job_modify_index),
        trigger: Trigger::JobRegister,
        priority: None,
    };
    submit(nomad, submission, "").await
}

pub(super) async fn stable(nomad: &Nomad, asked: &Asked) -> Result<Response, ApiError> {
    let body = Body::parse(&asked.body)?;
    check_id(&body, asked)?;
    let command = Command::SetJobStability {
        key: asked.key.clone(),
        version: body.unsigned("JobVersion")?.unwrap_or(0),
        stable: body.flag("Stable")?,
    };
    let committed = nomad.propose(command).await?;
    Ok(Reply::written(committed.index).json(&json!({"Index": committed.index})))
}

fn check_id(body: &Body, asked: &Asked) -> Result<(), ApiError> {
    match body.text("JobID")? {
        "" => Err(ApiError::bad_request("JobID must be specified")),
        id if *id == *asked.key.id => Ok(()),
        _ => Err(ApiError::bad_request("Job ID does not match")),
    }
}
