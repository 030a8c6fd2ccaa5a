//! Reads about one job.

use std::sync::Arc;

use axum::response::Response;
use cos_http::{ApiError, ReadOptions};
use cos_model::Job;
use cos_state::{State, Topic};
use serde_json::{Value, json};

use super::{Asked, diff};
use crate::context::{Nomad, newest};
use crate::spec::job_json;
use crate::wire::alloc::{AllocStub, StubFields};
use crate::wire::deployment::Deployment;
use crate::wire::eval;
use crate::wire::job::JobSummary;

pub(super) async fn job(
    nomad: &Nomad,
    options: &ReadOptions,
    asked: &Asked,
) -> Result<Response, ApiError> {
    let read = |state: &Arc<State>| {
        let job = state.job(&asked.key).ok_or_else(job_not_found)?;
        Ok((job.modify_index, job_json(job)))
    };
    nomad.api.read(options, &[Topic::Jobs], read).await
}

pub(super) async fn allocations(
    nomad: &Nomad,
    options: &ReadOptions,
    asked: &Asked,
) -> Result<Response, ApiError> {
    let all = wants_all(asked);
    let topics = [Topic::Allocs];
    let read = |state: &Arc<State>| {
        let current = state.job(&asked.key).map(|job| job.create_index);
        let is_wanted = |job: &Job| all || current.is_none_or(|index| job.create_index == index);
        let stubs: Vec<AllocStub> = state
            .allocs_of_job(&asked.key)
            .filter(|alloc| is_wanted(&alloc.job))
            .map(|alloc| AllocStub::new(alloc, StubFields::default()))
            .collect();
        Ok((newest(state, &topics), stubs))
    };
    nomad.api.read(options, &topics, read).await
}

/// `all` is a switch, but some clients send words with it.
fn wants_all(asked: &Asked) -> bool {
    asked.params.get("all").is_some_and(|value| !matches!(value, "0" | "f" | "false"))
}

pub(super) async fn evaluations(
    nomad: &Nomad,
    options: &ReadOptions,
    asked: &Asked,
) -> Result<Response, ApiError> {
    let topics = [Topic::Evals];
    let read = |state: &Arc<State>| {
        let mut evals: Vec<_> = state.evals_of_job(&asked.key).collect();
        evals.sort_by_key(|eval| std::cmp::Reverse(eval.create_index));
        let shown: Vec<Value> =
            evals.into_iter().map(|known| eval::detail(known, Vec::new())).collect();
        Ok((newest(state, &topics), shown))
    };
    nomad.api.read(options, &topics, read).await
}

pub(super) async fn deployments(
    nomad: &Nomad,
    options: &ReadOptions,
    asked: &Asked,
) -> Result<Response, ApiError> {
    let all = wants_all(asked);
    let topics = [Topic::Deployments];
    let read = |state: &Arc<State>| {
        let current = state.job(&asked.key).map(|job| job.create_index);
        let shown: Vec<Deployment> = state
            .deployments_of_job(&asked.key)
            .filter(|d| all || current.is_none_or(|index| d.job_create_index == index))
            .map(|deployment| Deployment::from(deployment.as_ref()))
            .collect();
        Ok((newest(state, &topics), shown))
    };
    nomad.api.read(options, &topics, read).await
}

pub(super) async fn deployment(
    nomad: &Nomad,
    options: &ReadOptions,
    asked: &Asked,
) -> Result<Response, ApiError> {
    let topics = [Topic::Deployments];
    let read = |state: &Arc<State>| {
        let latest = state.latest_deployment(&asked.key);
        let shown = latest.map(|deployment| Deployment::from(deployment.as_ref()));
        Ok((newest(state, &topics), shown))
    };
    nomad.api.read(options, &topics, read).await
}

pub(super) async fn summary(
    nomad: &Nomad,
    options: &ReadOptions,
    asked: &Asked,
) -> Result<Response, ApiError> {
    let topics = [Topic::Jobs, Topic::Allocs, Topic::Evals];
    let read = |state: &Arc<State>| {
        let job = state.job(&asked.key).ok_or_else(job_not_found)?;
        Ok((newest(state, &topics), JobSummary::new(state, job)))
    };
    nomad.api.read(options, &topics, read).await
}

pub(super) async fn versions(
    nomad: &Nomad,
    options: &ReadOptions,
    asked: &Asked,
) -> Result<Response, ApiError> {
    let with_diffs = asked.params.flag("diffs")?;
    let topics = [Topic::Jobs];
    let read = |state: &Arc<State>| {
        let mut versions: Vec<&Arc<Job>> = state.job_versions(&asked.key).collect();
        versions.reverse();
        let Some(current) = versions.first() else {
            return Err(ApiError::not_found("job versions not found"));
        };
        let pairs = versions.iter().zip(versions.iter().skip(1));
        let diffs: Vec<diff::JobDiff> =
            pairs.map(|(new, old)| diff::jobs(Some(&job_json(old)), &job_json(new))).collect();
        let index = current.modify_index;
        let shown = json!({
            "Versions": versions.iter().map(|job| job_json(job)).collect::<Vec<_>>(),
            "Diffs": with_diffs.then_some(diffs),
            "Index": index,
            "LastContact": 0,
            "KnownLeader": true,
            "NextToken": "",
        });
        Ok((index, shown))
    };
    nomad.api.read(options, &topics, read).await
}

pub(super) fn job_not_found() -> ApiError {
    ApiError::not_found("job not found")
}
