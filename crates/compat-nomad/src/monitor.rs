//! `/v1/agent/monitor`: the log lines of this agent, or of the one that the request names.

use axum::body::Body as HttpBody;
use axum::extract::{Request, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use cos_http::forward::hops;
use cos_http::local::Frame;
use cos_http::{ApiError, LogLevel, Params};
use futures_util::StreamExt;

use crate::client::{Answerer, answerer_of_node, frames};
use crate::context::Nomad;

pub(crate) async fn monitor(
    State(nomad): State<Nomad>,
    request: Request,
) -> Result<Response, ApiError> {
    let params = Params::parse(request.uri().query().unwrap_or_default());
    let first_hop = hops(request.headers()) == 0;
    match answerer(&nomad, &params, first_hop).await? {
        Answerer::Here => own_lines(&nomad, &params),
        Answerer::At(address) => nomad.api.forwarder.to(&address, request).await,
        Answerer::Server => {
            nomad.api.forwarder.to_a_server(&nomad.api.agent.servers(), request).await
        }
    }
}

async fn answerer(nomad: &Nomad, params: &Params, first_hop: bool) -> Result<Answerer, ApiError> {
    match (params.text("node_id"), params.text("server_id")) {
        (None, None) => Ok(Answerer::Here),
        (Some(_), Some(_)) => {
            Err(ApiError::bad_request("Cannot target node and server simultaneously"))
        }
        (Some(text), None) => {
            let unknown = || ApiError::not_found(format!("Unknown node {text:?}"));
            let node = text.parse().map_err(|_not_an_id| unknown())?;
            answerer_of_node(nomad, node, first_hop).await
        }
        (None, Some(_)) if nomad.api.control.is_none() => Ok(Answerer::Server),
        (None, Some(text)) => server(nomad, text),
    }
}

/// Finds a server by its id or name; `leader` is whoever leads.
fn server(nomad: &Nomad, wanted: &str) -> Result<Answerer, ApiError> {
    let control = nomad.api.control()?;
    let leader = control.leadership();
    if wanted == "leader" && leader.is_leader {
        return Ok(Answerer::Here);
    }
    if wanted == "leader" {
        let leader = leader.leader.ok_or_else(|| ApiError::internal("No cluster leader"))?;
        return Ok(Answerer::At(leader.http));
    }
    let members = control.members();
    let is_wanted = |member: &&cos_state::Member| {
        let tagged = |name: &str| member.tags.get(name).is_some_and(|own| own == wanted);
        member.name == wanted || tagged("id") || tagged("name")
    };
    let found = members.iter().find(is_wanted);
    let unknown = || ApiError::bad_request(format!("unknown Nomad server {wanted}"));
    let address = found.ok_or_else(unknown)?.tags.get("http").cloned().unwrap_or_default();
    match address {
        own if own == nomad.api.agent.identity().http_address => Ok(Answerer::Here),
        address if address.is_empty() => Err(ApiError::internal("No path to server")),
        address => Ok(Answerer::At(address)),
    }
}

fn own_lines(nomad: &Nomad, params: &Params) -> Result<Response, ApiError> {
    let name = params.text("log_level").unwrap_or("info");
    let level = LogLevel::from_name(name)
        .ok_or_else(|| ApiError::bad_request(format!("Unknown log level: {name}")))?;
    let plain = params.flag("plain")?;
    let lines = nomad.api.agent.logs(level, params.flag("log_json")?);
    if plain {
        let bytes = lines.map(|line| Ok::<_, std::convert::Infallible>(line + "\n"));
        let kind = [(header::CONTENT_TYPE, "text/plain; charset=utf-8")];
        return Ok((kind, HttpBody::from_stream(bytes)).into_response());
    }
    let pieces = lines.map(|line| {
        let data = bytes::Bytes::from(line + "\n");
        Ok(Frame { data, ..Frame::default() })
    });
    Ok(frames::framed(pieces.boxed()))
}
