//! What every handler of the dialect works with.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use axum::response::Response;
use cos_http::{Api, ApiError, PageKey, ReadOptions, Reply, page};
use cos_model::{Evaluation, Job, JobKey, Timestamp, Trigger};
use cos_state::evaluations::eval_for_job;
use cos_state::{Command, Committed, State, Topic};
use serde::Serialize;
use serde_json::{Value, json};

use crate::Planner;

/// The handlers' state.
#[derive(Clone)]
pub(crate) struct Nomad {
    pub(crate) api: Api,
    pub(crate) planner: Arc<dyn Planner>,
}

impl fmt::Debug for Nomad {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Nomad").field("api", &self.api).finish_non_exhaustive()
    }
}

impl Nomad {
    pub(crate) fn new(api: Api, planner: Arc<dyn Planner>) -> Self {
        Self { api, planner }
    }

    /// The newest state for a write that depends on it: caught up with everything committed.
    pub(crate) async fn current(&self) -> Result<Arc<State>, ApiError> {
        let control = self.api.control()?;
        control.barrier().await?;
        Ok(control.state())
    }

    /// A job of the newest state.
    pub(crate) async fn current_job(&self, key: &JobKey) -> Result<Arc<Job>, ApiError> {
        let state = self.current().await?;
        state.job(key).map(Arc::clone).ok_or_else(|| ApiError::not_found("job not found"))
    }

    /// Makes a pending evaluation of a job; none for a job that only launches others.
    pub(crate) fn evaluation(
        &self,
        job: &Job,
        trigger: Trigger,
    ) -> Result<Option<Evaluation>, ApiError> {
        let control = self.api.control()?;
        if job.is_template() {
            return Ok(None);
        }
        Ok(Some(eval_for_job(job, trigger, control.new_id(), control.now())))
    }

    /// Reads the clock of the control plane.
    pub(crate) fn now(&self) -> Result<Timestamp, ApiError> {
        Ok(self.api.control()?.now())
    }

    /// Commits a command.
    pub(crate) async fn propose(&self, command: Command) -> Result<Committed, ApiError> {
        self.api.propose(command).await
    }

    /// Answers with a filtered, ordered page of a table.
    pub(crate) async fn list<T, S: Serialize + Send>(
        &self,
        options: &ReadOptions,
        topics: &[Topic],
        listing: Listing<T>,
        show: impl Fn(&State, &T) -> S + Send + Sync,
    ) -> Result<Response, ApiError> {
        let (fresh, (shown, next)) = self
            .api
            .read_with(options, topics, |state| {
                let items = (listing.items)(state, options);
                let (items, next) =
                    page(options, items, |item| (listing.key)(item), |item| (listing.full)(item));
                let shown: Vec<S> = items.iter().map(|item| show(state, item)).collect();
                (newest(state, topics), (shown, next))
            })
            .await?;
        Ok(Reply::fresh(fresh).pretty(options.pretty).next_token(next).json(&shown))
    }
}

/// Which items a list has, in which order, and what a filter sees of each.
pub(crate) struct Listing<T> {
    /// The items that the request can mean, in any order.
    pub(crate) items: fn(&State, &ReadOptions) -> Vec<Arc<T>>,
    /// The place of an item.
    pub(crate) key: fn(&T) -> PageKey,
    /// What a filter sees.
    pub(crate) full: fn(&T) -> Value,
}

/// The index at which one of these topics last changed.
pub(crate) fn newest(state: &State, topics: &[Topic]) -> u64 {
    topics.iter().map(|topic| state.topic_index(topic)).max().unwrap_or(0)
}

/// Reads an id from a path. What is no id cannot be the id of anything.
pub(crate) fn id<T: FromStr>(text: &str, missing: &str) -> Result<T, ApiError> {
    text.parse().ok().ok_or_else(|| ApiError::not_found(missing))
}

/// The one namespace that there is.
pub(crate) const DEFAULT_NAMESPACE: &str = "default";

/// The namespace that a request for one thing means.
pub(crate) fn namespace(named: Option<&str>) -> &str {
    match named {
        None | Some("" | "*") => DEFAULT_NAMESPACE,
        Some(named) => named,
    }
}

/// The answer to a write that made an evaluation of a job.
pub(crate) fn registered(
    committed: &Committed,
    eval: Option<&Evaluation>,
    job_modify_index: u64,
    warnings: &str,
) -> Response {
    Reply::written(committed.index).json(&json!({
        "EvalID": eval.map(|eval| eval.id.to_string()).unwrap_or_default(),
        "EvalCreateIndex": eval.map_or(0, |_| committed.index),
        "JobModifyIndex": job_modify_index,
        "Warnings": warnings,
        "Index": committed.index,
        "LastContact": 0,
        "KnownLeader": false,
        "NextToken": "",
    }))
}
