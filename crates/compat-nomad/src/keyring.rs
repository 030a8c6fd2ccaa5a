//! `/v1/agent/keyring/…`: the keys of gossip.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use axum::routing::get;
use axum::{Extension, Router};
use cos_http::body::RawBody;
use cos_http::listener::Caller;
use cos_http::params::is_pretty;
use cos_http::{ApiError, Body, KeyringOrder, KeyringView, Params, Reply, only_from_here};
use serde_json::json;

use crate::context::Nomad;
use crate::write;

pub(crate) fn routes() -> Router<Nomad> {
    Router::new()
        .route("/v1/agent/keyring/list", get(list))
        .route("/v1/agent/keyring/install", write(install))
        .route("/v1/agent/keyring/use", write(use_key))
        .route("/v1/agent/keyring/remove", write(remove))
}

type From = Option<Extension<Caller>>;

async fn list(
    State(nomad): State<Nomad>,
    caller: From,
    headers: HeaderMap,
    params: Params,
) -> Result<Response, ApiError> {
    order(&nomad, caller, &headers, &params, KeyringOrder::List).await
}

async fn install(
    State(nomad): State<Nomad>,
    caller: From,
    headers: HeaderMap,
    params: Params,
    RawBody(bytes): RawBody,
) -> Result<Response, ApiError> {
    let wanted = KeyringOrder::Install(key(&bytes)?);
    order(&nomad, caller, &headers, &params, wanted).await
}

async fn use_key(
    State(nomad): State<Nomad>,
    caller: From,
    headers: HeaderMap,
    params: Params,
    RawBody(bytes): RawBody,
) -> Result<Response, ApiError> {
    let wanted = KeyringOrder::Use(key(&bytes)?);
    order(&nomad, caller, &headers, &params, wanted).await
}

async fn remove(
    State(nomad): State<Nomad>,
    caller: From,
    headers: HeaderMap,
    params: Params,
    RawBody(bytes): RawBody,
) -> Result<Response, ApiError> {
    let wanted = KeyringOrder::Remove(key(&bytes)?);
    order(&nomad, caller, &headers, &params, wanted).await
}

fn key(bytes: &[u8]) -> Result<String, ApiError> {
    Ok(Body::parse(bytes)?.text("Key")?.to_owned())
}

async fn order(
    nomad: &Nomad,
    caller: From,
    headers: &HeaderMap,
    params: &Params,
    wanted: KeyringOrder,
) -> Result<Response, ApiError> {
    only_from_here(caller.as_deref(), headers)?;
    let view = nomad.api.security()?.keyring(wanted).await?;
    if !view.problems.is_empty() {
        return Err(problem(&view));
    }
    let messages: BTreeMap<String, String> = BTreeMap::new();
    let answer = json!({ "Messages": messages, "Keys": view.keys, "NumNodes": view.servers });
    Ok(Reply::default().pretty(is_pretty(params)).json(&answer))
}

fn problem(view: &KeyringView) -> ApiError {
    let (failed, all) = (view.problems.len(), view.servers);
    let lines: Vec<String> =
        view.problems.iter().map(|(server, why)| format!("{server}: {why}")).collect();
    let text = format!("{failed}/{all} nodes reported failure\n{}", lines.join("\n"));
    ApiError::internal(text)
}
