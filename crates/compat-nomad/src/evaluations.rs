//! `/v1/evaluations` and `/v1/evaluation/:id`.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::response::Response;
use axum::routing::get;
use cos_http::{ApiError, PageKey, Params, ReadOptions};
use cos_model::{EvalId, Evaluation};
use cos_state::Topic;
use serde_json::json;

use crate::context::{Nomad, id, newest};
use crate::wire::alloc::{AllocStub, StubFields};
use crate::wire::eval::{EvaluationStub, detail};

pub(crate) fn routes() -> Router<Nomad> {
    Router::new()
        .route("/v1/evaluations", get(list))
        .route("/v1/evaluations/count", get(count))
        .route("/v1/evaluation/{id}", get(read))
        .route("/v1/evaluation/{id}/allocations", get(allocations))
}

fn wanted(state: &cos_state::State, options: &ReadOptions) -> Vec<Arc<Evaluation>> {
    let is_wanted = |eval: &&Arc<Evaluation>| {
        options.wants_namespace(&eval.job.namespace)
            && (options.prefix.is_empty() || eval.id.to_string().starts_with(&options.prefix))
    };
    state.evals().filter(is_wanted).cloned().collect()
}

async fn list(
    State(nomad): State<Nomad>,
    params: Params,
    options: ReadOptions,
) -> Result<Response, ApiError> {
    let status = params.text("status").map(str::to_owned);
    let job = params.text("job").map(str::to_owned);
    if options.filter.is_some() && (status.is_some() || job.is_some()) {
        return Err(ApiError::bad_request(
            "Filter expression cannot be used with other filter parameters",
        ));
    }
    let topics = [Topic::Evals];
    let (fresh, (shown, next)) = nomad
        .api
        .read_with(&options, &topics, |state| {
            let mut items = wanted(state, &options);
            items.retain(|eval| {
                status.as_deref().is_none_or(|wanted| eval.status.name() == wanted)
                    && job.as_deref().is_none_or(|wanted| *eval.job.id == *wanted)
            });
            let key =
                |eval: &Arc<Evaluation>| PageKey::numbered(eval.create_index, eval.id.to_string());
            let full = |eval: &Arc<Evaluation>| detail(eval, Vec::new());
            let (items, next) = cos_http::page(&options, items, key, full);
            let shown: Vec<_> = items.iter().map(full).collect();
            (newest(state, &topics), (shown, next))
        })
        .await?;
    let reply = cos_http::Reply::fresh(fresh).pretty(options.pretty).next_token(next);
    Ok(reply.json(&shown))
}

async fn count(State(nomad): State<Nomad>, options: ReadOptions) -> Result<Response, ApiError> {
    let topics = [Topic::Evals];
    let read = |state: &Arc<cos_state::State>| {
        let items = wanted(state, &options);
        let is_wanted = |eval: &&Arc<Evaluation>| {
            options.filter.as_ref().is_none_or(|f| f.matches(&detail(eval, Vec::new())))
        };
        let index = newest(state, &topics);
        Ok((index, json!({"Count": items.iter().filter(is_wanted).count(), "Index": index})))
    };
    nomad.api.read(&options, &topics, read).await
}

async fn read(
    State(nomad): State<Nomad>,
    Path(text): Path<String>,
    params: Params,
    options: ReadOptions,
) -> Result<Response, ApiError> {
    let wanted: EvalId = id(&text, "eval not found")?;
    let with_related = params.flag("related")?;
    let read = |state: &Arc<cos_state::State>| {
        let eval = state.eval(wanted).ok_or_else(|| ApiError::not_found("eval not found"))?;
        let related = if with_related { related(state, eval) } else { Vec::new() };
        Ok((eval.modify_index, detail(eval, related)))
    };
    nomad.api.read(&options, &[Topic::Evals], read).await
}

/// Evaluations that this one follows, that follow it, or that wait for it, near or far.
fn related(state: &cos_state::State, eval: &Evaluation) -> Vec<EvaluationStub> {
    let mut found: Vec<&Arc<Evaluation>> = Vec::new();
    let mut open: Vec<&Evaluation> = vec![eval];
    while let Some(next) = open.pop() {
        for id in [next.next, next.previous, next.blocked].into_iter().flatten() {
            let is_new = id != eval.id && found.iter().all(|known| known.id != id);
            if let Some(relative) = state.eval(id).filter(|_| is_new) {
                found.push(relative);
                open.push(relative);
            }
        }
    }
    found.into_iter().map(|relative| EvaluationStub::from(relative.as_ref())).collect()
}

async fn allocations(
    State(nomad): State<Nomad>,
    Path(text): Path<String>,
    options: ReadOptions,
) -> Result<Response, ApiError> {
    let wanted: EvalId = id(&text, "eval not found")?;
    let topics = [Topic::Allocs];
    let read = |state: &Arc<cos_state::State>| {
        let stubs: Vec<AllocStub> = state
            .allocs_of_eval(wanted)
            .map(|alloc| AllocStub::new(alloc, StubFields::default()))
            .collect();
        Ok((newest(state, &topics), stubs))
    };
    nomad.api.read(&options, &topics, read).await
}
