//! `/v1/system/…` and `/v1/metrics`.

use axum::Router;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, put};
use cos_http::params::is_pretty;
use cos_http::{ApiError, Params, Reply};
use cos_state::garbage::{self, Thresholds};

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
    let control = nomad.api.control()?;
    let Some(command) = garbage::collect(&state, control.now(), &Thresholds::FORCED) else {
        return Ok(Reply::written(state.index().max(1)).empty());
    };
    let committed = nomad.propose(command).await?;
    Ok(Reply::written(committed.index).empty())
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
