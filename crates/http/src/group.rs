//! The consensus group and the saved state, which the dialects ask for alike.
//!
//! # Deliberately absent
//!
//! - Paths and headers: each dialect has its own and names a [`Route`].

use axum::body::Bytes;
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use cos_model::{ServerId, Timestamp};
use cos_state::{
    AutopilotConfig, Command, ControlPlane, GroupChange, GroupError, GroupHealth, Member,
};
use serde_json::{Value, json};

use crate::api::Api;
use crate::archive::ARCHIVE_BYTES_MAX;
use crate::body::{BODY_BYTES_MAX, Body};
use crate::duration;
use crate::error::ApiError;
use crate::params::{Params, is_pretty};
use crate::reply::Reply;
use crate::snapshot;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// How the group is looked after.
    Autopilot,
    /// How the group does.
    Health,
    /// A member of the group, to be removed.
    Peer,
    /// The leadership, to be handed over.
    Leadership,
    /// A server that is gone for good, by name.
    ForceLeave,
    /// The whole state as a file.
    Snapshot,
    /// The digest of the whole state.
    Hash,
}

/// Answers a request whose path a dialect has recognised.
pub async fn answer(
    api: &Api,
    route: Route,
    request: axum::extract::Request,
) -> Result<Response, ApiError> {
    let params = Params::parse(request.uri().query().unwrap_or_default());
    let method = request.method().clone();
    let limit = if route == Route::Snapshot { ARCHIVE_BYTES_MAX } else { BODY_BYTES_MAX };
    let body = axum::body::to_bytes(request.into_body(), limit).await.map_err(|error| {
        let text = format!("Failed to read body (at most {limit} bytes): {error}");
        ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, text)
    })?;
    match method {
        Method::GET => read(api, route, &params).await,
        Method::PUT | Method::POST => write(api, route, &params, body).await,
        Method::DELETE if route == Route::Peer => {
            let control = api.control()?.as_ref();
            let id = peer(control, &params)?.ok_or_else(missing_peer)?;
            control.change_group(GroupChange::Remove(id)).await?;
            Ok(().into_response())
        }
        _ => Err(wrong_method()),
    }
}

async fn read(api: &Api, route: Route, params: &Params) -> Result<Response, ApiError> {
    let control = api.control()?.as_ref();
    match route {
        Route::Autopilot => autopilot(control, params).await,
        Route::Health => health(control, params).await,
        Route::Snapshot => save(control, params).await,
        Route::Hash => hash(control, params).await,
        Route::Peer | Route::Leadership | Route::ForceLeave => Err(wrong_method()),
    }
}

async fn write(
    api: &Api,
    route: Route,
    params: &Params,
    body: Bytes,
) -> Result<Response, ApiError> {
    let control = api.control()?.as_ref();
    match route {
        Route::Autopilot => set_autopilot(api, control, params, &body).await,
        Route::Leadership => transfer(control, params).await,
        Route::ForceLeave => {
            let name = params.text("node");
            let name = name.ok_or_else(|| ApiError::bad_request("missing node to force leave"))?;
            force_leave(control, name, params).await
        }
        Route::Snapshot => {
            let index = snapshot::restore(control, body).await?;
            Ok(Reply::written(index).json(&json!({ "Index": index })))
        }
        Route::Health | Route::Hash | Route::Peer => Err(wrong_method()),
    }
}

fn wrong_method() -> ApiError {
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "Invalid method")
}

async fn hash(control: &dyn ControlPlane, params: &Params) -> Result<Response, ApiError> {
    if !is_stale(params)? {
        control.barrier().await?;
    }
    let state = control.state();
    let index = state.index();
    let hash = snapshot::content_hash(state).await?;
    Ok(Reply::default().json(&json!({ "Index": index, "StateHash": hash })))
}

/// Believes of a server that it is gone for good.
pub async fn force_leave(
    control: &dyn ControlPlane,
    name: &str,
    params: &Params,
) -> Result<Response, ApiError> {
    let (name, prune) = (name.to_owned(), params.flag("prune")?);
    control.change_group(GroupChange::Forget { name, prune }).await?;
    Ok(().into_response())
}

impl From<GroupError> for ApiError {
    fn from(error: GroupError) -> Self {
        let message = error.to_string();
        match error {
            GroupError::NoLeader => Self::internal(message),
            GroupError::NotFound(_) => Self::not_found(message),
            GroupError::Refused(_) => Self::bad_request(message),
        }
    }
}

fn is_stale(params: &Params) -> Result<bool, ApiError> {
    params.flag("stale")
}

async fn autopilot(control: &dyn ControlPlane, params: &Params) -> Result<Response, ApiError> {
    if !is_stale(params)? {
        control.barrier().await?;
    }
    let state = control.state();
    Ok(Reply::default().pretty(is_pretty(params)).json(&shown_config(state.autopilot_config())))
}

fn shown_config(config: &AutopilotConfig) -> Value {
    json!({
        "CleanupDeadServers": config.cleanup_dead_servers,
        "LastContactThreshold": duration::show(config.last_contact_threshold),
        "MaxTrailingLogs": config.max_trailing_logs,
        "MinQuorum": config.min_quorum,
        "ServerStabilizationTime": duration::show(config.server_stabilization_time),
        "EnableRedundancyZones": config.enable_redundancy_zones,
        "DisableUpgradeMigration": false,
        "EnableCustomUpgrades": false,
        "CreateIndex": config.create_index,
        "ModifyIndex": config.modify_index,
    })
}

async fn set_autopilot(
    api: &Api,
    control: &dyn ControlPlane,
    params: &Params,
    body: &Bytes,
) -> Result<Response, ApiError> {
    control.barrier().await?;
    let state = control.state();
    let known = state.autopilot_config();
    if params.number::<u64>("cas")?.is_some_and(|cas| cas != known.modify_index) {
        return Ok(Reply::default().json(&json!(false)));
    }
    let config = read_config(&Body::parse(body)?)?;
    let committed = api.propose(Command::SetAutopilotConfig(config)).await?;
    Ok(Reply::written(committed.index).json(&json!(true)))
}

/// Reads a whole configuration; what is absent gets the value that Go gives it: the default of
/// durations, and nothing of the rest.
fn read_config(body: &Body) -> Result<AutopilotConfig, ApiError> {
    for name in ["DisableUpgradeMigration", "EnableCustomUpgrades"] {
        if body.flag(name)? {
            return Err(ApiError::unsupported(format!("cos does not support `{name}` yet")));
        }
    }
    let defaults = AutopilotConfig::default();
    let number = |name: &str| Ok::<_, ApiError>(body.unsigned(name)?.unwrap_or(0));
    let min_quorum = u32::try_from(number("MinQuorum")?)
        .map_err(|_too_large| ApiError::bad_request("MinQuorum is too large"))?;
    let time = |name: &str, default| match body.get(name) {
        None => Ok(default),
        Some(Value::Number(nanos)) => nanos
            .as_u64()
            .map(std::time::Duration::from_nanos)
            .ok_or_else(|| ApiError::bad_request(format!("{name} is no duration"))),
        Some(_) => duration::parse(body.text(name)?)
            .map_err(|error| ApiError::bad_request(format!("Error parsing {name}: {error}"))),
    };
    Ok(AutopilotConfig {
        cleanup_dead_servers: body.flag("CleanupDeadServers")?,
        last_contact_threshold: time("LastContactThreshold", defaults.last_contact_threshold)?,
        max_trailing_logs: number("MaxTrailingLogs")?,
        min_quorum,
        server_stabilization_time: time(
            "ServerStabilizationTime",
            defaults.server_stabilization_time,
        )?,
        enable_redundancy_zones: body.flag("EnableRedundancyZones")?,
        create_index: 0,
        modify_index: 0,
    })
}

async fn health(control: &dyn ControlPlane, params: &Params) -> Result<Response, ApiError> {
    let health = control.group_health().await?;
    let mut response = Reply::default().pretty(is_pretty(params)).json(&shown_health(&health));
    if !health.is_healthy {
        *response.status_mut() = StatusCode::TOO_MANY_REQUESTS;
    }
    Ok(response)
}

fn shown_health(health: &GroupHealth) -> Value {
    let servers: Vec<Value> = health
        .servers
        .iter()
        .map(|server| {
            let contact = server.last_contact.map_or_else(|| "0s".to_owned(), duration::show);
            json!({
                "ID": server.id,
                "Name": server.name,
                "Address": server.address,
                "SerfStatus": server.status.name(),
                "Version": server.version,
                "Leader": server.is_leader,
                "LastContact": contact,
                "LastTerm": server.last_term,
                "LastIndex": server.last_index,
                "Healthy": server.is_healthy,
                "Voter": server.votes,
                "StableSince": date(server.stable_since),
                "RedundancyZone": server.zone,
            })
        })
        .collect();
    let ids = |keep: fn(&cos_state::ServerHealth) -> bool| -> Vec<ServerId> {
        health.servers.iter().filter(|server| keep(server)).map(|server| server.id).collect()
    };
    json!({
        "Healthy": health.is_healthy,
        "FailureTolerance": health.failure_tolerance,
        "OptimisticFailureTolerance": health.failure_tolerance,
        "Servers": servers,
        "Leader": ids(|server| server.is_leader).first(),
        "Voters": ids(|server| server.votes),
        "ReadReplicas": ids(|server| !server.votes),
    })
}

fn missing_peer() -> ApiError {
    ApiError::bad_request(
        "Must specify either ?id with the server's ID or ?address with IP:PORT of peer to remove",
    )
}

/// The member that the parameters name.
fn peer(control: &dyn ControlPlane, params: &Params) -> Result<Option<ServerId>, ApiError> {
    match (params.text("id"), params.text("address")) {
        (None, None) => Ok(None),
        (Some(_), Some(_)) => {
            Err(ApiError::bad_request("Must specify only one of ?id or ?address"))
        }
        (Some(id), None) => match id.parse() {
            Ok(id) => Ok(Some(id)),
            Err(_) => Err(ApiError::bad_request(format!("`{id}` is no id of a server"))),
        },
        (None, Some(address)) => control
            .peers()
            .into_iter()
            .find(|(_, known, _)| known == address)
            .map(|(id, _, _)| Some(id))
            .ok_or_else(|| {
                ApiError::not_found(format!("no server of the group has the address {address}"))
            }),
    }
}

async fn transfer(control: &dyn ControlPlane, params: &Params) -> Result<Response, ApiError> {
    let target = peer(control, params)?;
    let before = control.leadership().leader_id;
    let after = match target {
        Some(target) if before == Some(target) => Some(target),
        target => control.change_group(GroupChange::Transfer(target)).await?,
    };
    let members = control.members();
    let shown = |id: Option<ServerId>| {
        let id = id?;
        let peers = control.peers();
        let address = peers.iter().find(|(known, _, _)| *known == id).map(|(_, at, _)| at.clone());
        Some(json!({ "ID": id, "Address": address, "Name": name_of(&members, id) }))
    };
    Ok(Reply::default().json(&json!({
        "From": shown(before),
        "To": shown(after),
        "Noop": before == after,
        "Success": true,
        "Err": null,
    })))
}

fn name_of(members: &[Member], id: ServerId) -> Option<&str> {
    let id = id.to_string();
    let member = members.iter().find(|member| member.tags.get("id") == Some(&id))?;
    Some(member.name.as_str())
}

async fn save(control: &dyn ControlPlane, params: &Params) -> Result<Response, ApiError> {
    let saved = snapshot::save(control, is_stale(params)?).await?;
    let digest = format!("sha-256={}", snapshot::digest(&saved.file));
    let mut response = Reply::written(saved.meta.index).empty();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-gzip"));
    if let Ok(digest) = HeaderValue::from_str(&digest) {
        headers.insert("digest", digest);
    }
    *response.body_mut() = saved.file.into();
    Ok(response)
}

/// A date as the dialects write it.
fn date(at: Timestamp) -> String {
    jiff::Timestamp::from_nanosecond(i128::from(at.0))
        .map_or_else(|_| String::new(), |at| at.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_is_read_as_it_is_shown() {
        let config = AutopilotConfig {
            cleanup_dead_servers: false,
            max_trailing_logs: 7,
            min_quorum: 3,
            last_contact_threshold: std::time::Duration::from_millis(1500),
            enable_redundancy_zones: true,
            ..AutopilotConfig::default()
        };
        let shown = shown_config(&config).to_string();
        assert!(shown.contains("\"LastContactThreshold\":\"1.5s\""), "{shown}");
        assert_eq!(read_config(&Body::parse(shown.as_bytes()).unwrap()).unwrap(), config);
    }

    #[test]
    fn what_is_wrong_in_a_configuration_is_named() {
        let check = |body: &str, expected: &str| {
            let error = read_config(&Body::parse(body.as_bytes()).unwrap()).unwrap_err();
            assert!(error.message.contains(expected), "{}", error.message);
        };
        check(r#"{"MinQuorum": -1}"#, "MinQuorum");
        check(r#"{"MinQuorum": 99999999999}"#, "MinQuorum is too large");
        check(r#"{"LastContactThreshold": "soon"}"#, "LastContactThreshold");
        check(r#"{"EnableCustomUpgrades": true}"#, "does not support `EnableCustomUpgrades`");
        check(r#"{"CleanupDeadServers": "yes"}"#, "CleanupDeadServers must be true or false");
    }
}
