//! How many instances a job has and should have.

use std::sync::Arc;

use axum::response::Response;
use cos_http::{ApiError, Body, ReadOptions};
use cos_model::{Job, TaskGroup, Trigger};
use cos_state::{State, Topic};

use super::Asked;
use super::read::job_not_found;
use crate::context::{Nomad, newest};
use crate::jobs::{Submission, submit};
use crate::wire::job::JobScaleStatus;

pub(super) async fn status(
    nomad: &Nomad,
    options: &ReadOptions,
    asked: &Asked,
) -> Result<Response, ApiError> {
    let topics = [Topic::Jobs, Topic::Allocs];
    let read = |state: &Arc<State>| {
        let job = state.job(&asked.key).ok_or_else(job_not_found)?;
        Ok((newest(state, &topics), JobScaleStatus::new(state, job)))
    };
    nomad.api.read(options, &topics, read).await
}

pub(super) async fn change(nomad: &Nomad, asked: &Asked) -> Result<Response, ApiError> {
    let body = Body::parse(&asked.body)?;
    let target = body.object("Target")?.unwrap_or_default();
    let group = target.text("Group")?;
    if group.is_empty() {
        return Err(ApiError::bad_request("missing task group name for scaling action"));
    }
    if body.flag("Error")? && body.get("Count").is_some() {
        return Err(ApiError::bad_request(
            "scaling action should not contain count if error is true",
        ));
    }
    let Some(count) = body.integer("Count")? else {
        return Err(ApiError::unsupported("cos does not record scaling events without a count"));
    };
    let count = u32::try_from(count)
        .ok()
        .ok_or_else(|| ApiError::bad_request("scaling action count can't be negative"))?;
    let state = nomad.current().await?;
    let job = state.job(&asked.key).ok_or_else(job_not_found)?;
    let expected = body.unsigned("JobModifyIndex")?.filter(|index| *index > 0);
    let scaled = scaled(&state, job, group, count)?;
    let submission = Submission {
        job: scaled,
        // The count is set in what was just read; a change in between must not be lost.
        expected: Some(expected.unwrap_or(job.job_modify_index)),
        trigger: Trigger::JobScaling,
        priority: None,
    };
    submit(nomad, submission, "").await
}

fn scaled(state: &State, job: &Job, group: &str, count: u32) -> Result<Job, ApiError> {
    if job.stop {
        return Err(ApiError::bad_request("cannot scale a stopped job"));
    }
    if state.latest_deployment(&job.key).is_some_and(|deployment| deployment.is_active()) {
        return Err(ApiError::bad_request("job scaling blocked due to active deployment"));
    }
    let mut scaled = job.clone();
    let Some(found) = scaled.groups.iter_mut().find(|known| known.name == group) else {
        return Err(ApiError::bad_request(format!(
            "task group {group:?} specified for scaling does not exist in job"
        )));
    };
    check_bounds(found, count)?;
    found.count = count;
    Ok(scaled)
}

fn check_bounds(group: &TaskGroup, count: u32) -> Result<(), ApiError> {
    let Some(scaling) = group.scaling.as_ref() else { return Ok(()) };
    if count < scaling.min {
        return Err(ApiError::bad_request(format!(
            "group count was less than scaling policy minimum: {count} < {}",
            scaling.min
        )));
    }
    if count > scaling.max {
        return Err(ApiError::bad_request(format!(
            "group count was greater than scaling policy maximum: {count} > {}",
            scaling.max
        )));
    }
    Ok(())
}
