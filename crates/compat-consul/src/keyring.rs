//! `/v1/operator/keyring`: the keys of gossip. Servers of a region are the only ones that gossip,
//! so the same keys stand for both of the original's pools.

use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderMap, Method};
use axum::response::{IntoResponse, Response};
use cos_http::body::RawBody;
use cos_http::listener::Caller;
use cos_http::params::is_pretty;
use cos_http::{ApiError, Body, KeyringOrder, Params, Reply, only_from_here};
use serde_json::json;

use crate::Consul;

/// Lists, installs (POST), uses (PUT) or removes (DELETE) a key.
pub(crate) async fn keyring(
    State(consul): State<Consul>,
    caller: Option<Extension<Caller>>,
    headers: HeaderMap,
    method: Method,
    params: Params,
    RawBody(bytes): RawBody,
) -> Result<Response, ApiError> {
    only_from_here(caller.as_deref(), &headers)?;
    let key = || Ok::<_, ApiError>(Body::parse(&bytes)?.text("Key")?.to_owned());
    let order = match method {
        Method::POST => KeyringOrder::Install(key()?),
        Method::PUT => KeyringOrder::Use(key()?),
        Method::DELETE => KeyringOrder::Remove(key()?),
        _ => KeyringOrder::List,
    };
    let is_list = order == KeyringOrder::List;
    let view = consul.api.security()?.keyring(order).await?;
    if let Some((server, why)) = view.problems.iter().next() {
        return Err(ApiError::internal(format!("keyring: {server}: {why}")));
    }
    if !is_list {
        return Ok(().into_response());
    }
    let pool = |wan: bool| {
        json!({
            "WAN": wan,
            "Datacenter": consul.api.agent.identity().datacenter,
            "Segment": "",
            "Messages": {},
            "Keys": view.keys,
            "PrimaryKeys": view.primary,
            "NumNodes": view.servers,
        })
    };
    let answer = json!([pool(true), pool(false)]);
    Ok(Reply::default().pretty(is_pretty(&params)).json(&answer))
}
