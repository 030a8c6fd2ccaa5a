//! `/v1/client/…`: what only the machine that runs an allocation can answer.
//!
//! Whoever is asked finds the machine and passes the request on; the handlers below are reached
//! only on that machine.

use axum::Router;
use axum::extract::{Path, Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use cos_http::body::RawBody;
use cos_http::forward::hops;
use cos_http::params::is_pretty;
use cos_http::{ApiError, Body, LocalError, Params, Reply};
use cos_model::{AllocId, NodeId};
use serde_json::json;

use crate::context::Nomad;
use crate::wire::usage::{AllocUsage, HostStats};
use crate::write;

mod exec;
pub(crate) mod frames;
mod fs;

pub(crate) fn routes(nomad: &Nomad) -> Router<Nomad> {
    Router::new()
        .route("/v1/client/fs/ls/{alloc}", get(fs::list))
        .route("/v1/client/fs/stat/{alloc}", get(fs::stat))
        .route("/v1/client/fs/cat/{alloc}", get(fs::cat))
        .route("/v1/client/fs/readat/{alloc}", get(fs::read_at))
        .route("/v1/client/fs/stream/{alloc}", get(fs::stream))
        .route("/v1/client/fs/logs/{alloc}", get(fs::logs))
        .route("/v1/client/allocation/{alloc}/exec", get(exec::exec))
        .route("/v1/client/allocation/{alloc}/restart", write(restart))
        .route("/v1/client/allocation/{alloc}/signal", write(signal))
        .route("/v1/client/allocation/{alloc}/stats", get(alloc_stats))
        .route("/v1/client/allocation/{alloc}/gc", any(collect_alloc))
        .route("/v1/client/stats", get(host_stats))
        .route("/v1/client/gc", any(collect_all))
        .route_layer(from_fn_with_state(nomad.clone(), to_the_machine))
}

/// Who answers a request.
pub(crate) enum Answerer {
    /// This machine.
    Here,
    /// The machine at this HTTP address.
    At(String),
    /// Some server, which will know.
    Server,
}

async fn to_the_machine(State(nomad): State<Nomad>, request: Request, next: Next) -> Response {
    let params = Params::parse(request.uri().query().unwrap_or_default());
    let path = request.uri().path().to_owned();
    let first_hop = hops(request.headers()) == 0;
    let answerer = match find(&nomad, &path, &params, first_hop).await {
        Ok(answerer) => answerer,
        Err(error) => return error.into_response(),
    };
    let forwarder = &nomad.api.forwarder;
    match answerer {
        Answerer::Here => next.run(request).await,
        Answerer::At(address) => forwarder.to(&address, request).await.into_response(),
        Answerer::Server => {
            forwarder.to_a_server(&nomad.api.agent.servers(), request).await.into_response()
        }
    }
}

async fn find(
    nomad: &Nomad,
    path: &str,
    params: &Params,
    first_hop: bool,
) -> Result<Answerer, ApiError> {
    match named_alloc(path) {
        Some(text) => {
            let unknown = || ApiError::not_found(format!("Unknown allocation {text:?}"));
            let alloc: AllocId = text.parse().map_err(|_not_an_id| unknown())?;
            answerer_of_alloc(nomad, alloc, first_hop).await
        }
        None => match params.text("node_id") {
            Some(text) => {
                let unknown = || ApiError::not_found(format!("Unknown node {text:?}"));
                let node: NodeId = text.parse().map_err(|_not_an_id| unknown())?;
                answerer_of_node(nomad, node, first_hop).await
            }
            None => nomad.api.local().map(|_| Answerer::Here),
        },
    }
}

/// The allocation in `/v1/client/fs/:what/:alloc` or `/v1/client/allocation/:alloc/:what`.
fn named_alloc(path: &str) -> Option<&str> {
    let rest = path.strip_prefix("/v1/client/")?;
    let mut parts = rest.split('/');
    match parts.next()? {
        "fs" => parts.nth(1),
        "allocation" => parts.next(),
        _ => None,
    }
}

async fn answerer_of_alloc(
    nomad: &Nomad,
    alloc: AllocId,
    first_hop: bool,
) -> Result<Answerer, ApiError> {
    if nomad.api.local.as_ref().is_some_and(|local| local.has_alloc(alloc)) {
        return Ok(Answerer::Here);
    }
    let unknown = || LocalError::UnknownAlloc(alloc);
    let Some(control) = &nomad.api.control else {
        // A server sent it here and is wrong: the allocation was collected meanwhile.
        return if first_hop { Ok(Answerer::Server) } else { Err(unknown().into()) };
    };
    let mut found = control.state().alloc(alloc).map(|alloc| alloc.node_id);
    if found.is_none() {
        control.barrier().await?;
        found = control.state().alloc(alloc).map(|alloc| alloc.node_id);
    }
    match found {
        Some(node) if is_own(nomad, node) => Err(unknown().into()),
        Some(node) => address_of(nomad, node),
        None => Err(unknown().into()),
    }
}

pub(crate) async fn answerer_of_node(
    nomad: &Nomad,
    node: NodeId,
    first_hop: bool,
) -> Result<Answerer, ApiError> {
    if is_own(nomad, node) {
        return Ok(Answerer::Here);
    }
    match &nomad.api.control {
        Some(control) => {
            control.barrier().await?;
            address_of(nomad, node)
        }
        None if first_hop => Ok(Answerer::Server),
        None => Err(ApiError::not_found(format!("Unknown node \"{node}\""))),
    }
}

fn is_own(nomad: &Nomad, node: NodeId) -> bool {
    nomad.api.local.as_ref().is_some_and(|local| local.node_id() == node)
}

fn address_of(nomad: &Nomad, node: NodeId) -> Result<Answerer, ApiError> {
    let state = nomad.api.control()?.state();
    let node =
        state.node(node).ok_or_else(|| ApiError::not_found(format!("Unknown node \"{node}\"")))?;
    if node.http_address.is_empty() {
        return Err(ApiError::internal("No path to node"));
    }
    Ok(Answerer::At(node.http_address.clone()))
}

/// Reads the allocation of a path.
fn alloc_id(text: &str) -> Result<AllocId, ApiError> {
    text.parse().map_err(|_not_an_id| ApiError::not_found(format!("Unknown allocation {text:?}")))
}

async fn restart(
    State(nomad): State<Nomad>,
    Path(alloc): Path<String>,
    RawBody(bytes): RawBody,
) -> Result<Response, ApiError> {
    let body = Body::parse_or_empty(&bytes)?;
    let task = Some(body.text("TaskName")?).filter(|name| !name.is_empty());
    let all = body.flag("AllTasks")?;
    if all && task.is_some() {
        return Err(ApiError::bad_request("cannot restart all tasks and a single task at once"));
    }
    nomad.api.local()?.restart(alloc_id(&alloc)?, task, all).await?;
    Ok(done())
}

async fn signal(
    State(nomad): State<Nomad>,
    Path(alloc): Path<String>,
    RawBody(bytes): RawBody,
) -> Result<Response, ApiError> {
    let body = Body::parse(&bytes)?;
    let task = Some(body.text("Task")?).filter(|name| !name.is_empty());
    let signal = Some(body.text("Signal")?).filter(|name| !name.is_empty()).unwrap_or("SIGKILL");
    nomad.api.local()?.signal(alloc_id(&alloc)?, task, signal).await?;
    Ok(done())
}

fn done() -> Response {
    Reply::default().json(&json!({"Index": 0}))
}

async fn alloc_stats(
    State(nomad): State<Nomad>,
    Path(alloc): Path<String>,
    params: Params,
) -> Result<Response, ApiError> {
    let local = nomad.api.local()?;
    let usage = local.alloc_stats(alloc_id(&alloc)?, params.text("task")).await?;
    Ok(Reply::default().pretty(is_pretty(&params)).json(&AllocUsage::from(&usage)))
}

async fn host_stats(State(nomad): State<Nomad>, params: Params) -> Result<Response, ApiError> {
    let usage = nomad.api.local()?.host_stats().await?;
    Ok(Reply::default().pretty(is_pretty(&params)).json(&HostStats::from(&usage)))
}

async fn collect_alloc(
    State(nomad): State<Nomad>,
    Path(alloc): Path<String>,
) -> Result<Response, ApiError> {
    nomad.api.local()?.collect(Some(alloc_id(&alloc)?)).await?;
    Ok(Reply::default().empty())
}

async fn collect_all(State(nomad): State<Nomad>) -> Result<Response, ApiError> {
    nomad.api.local()?.collect(None).await?;
    Ok(Reply::default().empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_allocation_is_found_in_the_path() {
        assert_eq!(named_alloc("/v1/client/fs/ls/abc"), Some("abc"));
        assert_eq!(named_alloc("/v1/client/allocation/abc/exec"), Some("abc"));
        assert_eq!(named_alloc("/v1/client/stats"), None);
    }
}
