//! `/v1/allocations` and `/v1/allocation/:id`.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::response::Response;
use axum::routing::get;
use cos_http::{ApiError, PageKey, Params, ReadOptions, Reply};
use cos_model::{AllocId, Allocation, DesiredTransition, Trigger};
use cos_state::evaluations::eval_for_job;
use cos_state::{Command, Topic};
use serde_json::json;

use crate::context::{Listing, Nomad, id};
use crate::wire::alloc::{AllocStub, StubFields, detail};
use crate::write;

pub(crate) fn routes() -> Router<Nomad> {
    Router::new()
        .route("/v1/allocations", get(list))
        .route("/v1/allocation/{id}", get(read))
        .route("/v1/allocation/{id}/stop", write(stop))
}

async fn list(
    State(nomad): State<Nomad>,
    params: Params,
    options: ReadOptions,
) -> Result<Response, ApiError> {
    let task_states = !params.has("task_states") || params.flag("task_states")?;
    let fields = StubFields { resources: params.flag("resources")?, task_states };
    let listing = Listing {
        items: |state, options| {
            let wanted = |alloc: &&Arc<Allocation>| {
                options.wants_namespace(&alloc.job.key.namespace)
                    && (options.prefix.is_empty()
                        || alloc.id.to_string().starts_with(&options.prefix))
            };
            state.allocs().filter(wanted).cloned().collect()
        },
        key: |alloc| PageKey::numbered(alloc.create_index, alloc.id.to_string()),
        full: detail,
    };
    let show = |_: &_, alloc: &Allocation| AllocStub::new(alloc, fields);
    nomad.list(&options, &[Topic::Allocs], listing, show).await
}

async fn read(
    State(nomad): State<Nomad>,
    Path(text): Path<String>,
    options: ReadOptions,
) -> Result<Response, ApiError> {
    let wanted: AllocId = id(&text, "alloc not found")?;
    let read = |state: &Arc<cos_state::State>| {
        let alloc = state.alloc(wanted).ok_or_else(|| ApiError::not_found("alloc not found"))?;
        Ok((alloc.modify_index, detail(alloc)))
    };
    nomad.api.read(&options, &[Topic::Allocs], read).await
}

/// Stops an allocation; the scheduler places another one for it.
async fn stop(
    State(nomad): State<Nomad>,
    Path(text): Path<String>,
    params: Params,
) -> Result<Response, ApiError> {
    let wanted: AllocId = id(&text, "allocation not found")?;
    let no_shutdown_delay = params.flag("no_shutdown_delay")?;
    let state = nomad.current().await?;
    let alloc = state.alloc(wanted).ok_or_else(|| ApiError::not_found("allocation not found"))?;
    // The evaluation is of the job as it is now, if it still is.
    let job = state.job(alloc.job_key()).unwrap_or(&alloc.job);
    let control = nomad.api.control()?;
    let eval = eval_for_job(job, Trigger::AllocStop, control.new_id(), control.now());
    let hint = DesiredTransition { migrate: true, no_shutdown_delay, ..alloc.transition };
    let command = Command::SetTransitions {
        transitions: BTreeMap::from([(wanted, hint)]),
        evals: vec![eval.clone()],
    };
    let committed = nomad.propose(command).await?;
    let answer = json!({"EvalID": eval.id, "Index": committed.index});
    Ok(Reply::written(committed.index).json(&answer))
}
