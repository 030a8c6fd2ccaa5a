//! `/v1/status` and the consensus group, answered by a server.

use axum::extract::{Path, Request, State};
use axum::response::Response;
use cos_http::{ApiError, Params};
use cos_model::link::ServerAddress;
use serde_json::{Value, json};

use crate::Consul;
use crate::respond::plain_json;

/// Passes a request on to a server's listener of this dialect.
pub(crate) async fn ask_a_server(consul: &Consul, request: Request) -> Result<Response, ApiError> {
    let servers: Vec<ServerAddress> = consul
        .api
        .agent
        .servers()
        .into_iter()
        .filter(|server| !server.consul_http.is_empty())
        .map(|server| ServerAddress { http: server.consul_http.clone(), ..server })
        .collect();
    consul.api.forwarder.to_a_server(&servers, request).await
}

pub(crate) async fn leader(
    State(consul): State<Consul>,
    request: Request,
) -> Result<Response, ApiError> {
    let Some(control) = &consul.api.control else { return ask_a_server(&consul, request).await };
    let leader = control.leadership().leader.map_or_else(String::new, |leader| leader.rpc);
    Ok(plain_json(&json!(leader), false))
}

pub(crate) async fn peers(
    State(consul): State<Consul>,
    request: Request,
) -> Result<Response, ApiError> {
    let Some(control) = &consul.api.control else { return ask_a_server(&consul, request).await };
    let peers: Vec<Value> =
        control.peers().into_iter().map(|(_, address, _)| json!(address)).collect();
    Ok(plain_json(&Value::Array(peers), false))
}

pub(crate) async fn raft_configuration(
    State(consul): State<Consul>,
    request: Request,
) -> Result<Response, ApiError> {
    let Some(control) = &consul.api.control else { return ask_a_server(&consul, request).await };
    let leadership = control.leadership();
    let members = control.members();
    let servers: Vec<Value> = control
        .peers()
        .into_iter()
        .map(|(id, address, voter)| {
            let text = id.to_string();
            let name = members
                .iter()
                .find(|member| member.tags.get("id") == Some(&text))
                .map_or_else(String::new, |member| member.name.clone());
            json!({
                "ID": text,
                "Node": name,
                "Address": address,
                "Leader": leadership.leader_id == Some(id),
                "ProtocolVersion": "3",
                "Voter": voter,
                "LastIndex": leadership.last_log_index,
            })
        })
        .collect();
    let answer = json!({ "Servers": servers, "Index": leadership.applied_index });
    Ok(plain_json(&answer, false))
}

pub(crate) async fn force_leave(
    State(consul): State<Consul>,
    Path(name): Path<String>,
    params: Params,
    request: Request,
) -> Result<Response, ApiError> {
    let Some(control) = &consul.api.control else { return ask_a_server(&consul, request).await };
    cos_http::group::force_leave(control.as_ref(), &name, &params).await
}
