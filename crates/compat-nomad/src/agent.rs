//! `/v1/agent/…`: this agent, and the servers that gossip knows.

use std::collections::BTreeMap;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use cos_http::params::is_pretty;
use cos_http::{ApiError, Params, Reply};
use cos_model::version;
use cos_state::{Member, MemberStatus};
use serde::Serialize;
use serde_json::{Value, json};

use crate::context::Nomad;
use crate::{monitor, write};

pub(crate) fn routes() -> Router<Nomad> {
    Router::new()
        .route("/v1/agent/self", get(itself))
        .route("/v1/agent/members", get(members))
        .route("/v1/agent/join", write(join))
        .route("/v1/agent/servers", get(servers).put(set_servers).post(set_servers))
        .route("/v1/agent/health", get(health))
        .route("/v1/agent/monitor", get(monitor::monitor))
}

/// A server as gossip knows it.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct AgentMember {
    name: String,
    addr: String,
    port: u16,
    tags: BTreeMap<String, String>,
    status: &'static str,
    protocol_min: u8,
    protocol_max: u8,
    protocol_cur: u8,
    delegate_min: u8,
    delegate_max: u8,
    delegate_cur: u8,
}

impl From<&Member> for AgentMember {
    fn from(member: &Member) -> Self {
        Self {
            name: member.name.clone(),
            addr: member.address.clone(),
            port: member.port,
            tags: member.tags.clone(),
            status: member.status.name(),
            protocol_min: 1,
            protocol_max: 5,
            protocol_cur: 2,
            delegate_min: 2,
            delegate_max: 5,
            delegate_cur: 4,
        }
    }
}

/// An agent that is no server is in no gossip; it shows only its name.
fn own_member(nomad: &Nomad) -> AgentMember {
    let identity = nomad.api.agent.identity();
    let full_name = format!("{}.{}", identity.name, identity.region);
    let members = nomad.api.control.as_ref().map(|control| control.members()).unwrap_or_default();
    let known = members.iter().find(|member| member.name == full_name);
    let alone = || Member {
        name: full_name.clone(),
        address: String::new(),
        port: 0,
        tags: BTreeMap::new(),
        status: MemberStatus::Alive,
    };
    known.map_or_else(|| AgentMember::from(&alone()), AgentMember::from)
}

async fn itself(State(nomad): State<Nomad>, params: Params) -> Result<Response, ApiError> {
    let agent = &nomad.api.agent;
    let identity = agent.identity();
    let mut config = json!({
        "Name": identity.name,
        "Region": identity.region,
        "Datacenter": identity.datacenter,
        "Server": {"Enabled": identity.is_server},
        "Client": {"Enabled": identity.is_client},
        "ACL": {"Enabled": false},
        "Version": {
            "Version": version::NOMAD,
            "Revision": "",
            "VersionPrerelease": "",
            "VersionMetadata": format!("cos-{}", version::COS),
        },
    });
    merge(&mut config, agent.config());
    let answer = json!({"config": config, "member": own_member(&nomad), "stats": stats(&nomad)});
    Ok(Reply::default().pretty(is_pretty(&params)).json(&answer))
}

/// Adds what the agent says of its configuration to what is known of any agent.
fn merge(known: &mut Value, said: Value) {
    match (known, said) {
        (Value::Object(known), Value::Object(said)) => {
            for (key, value) in said {
                merge(known.entry(key).or_insert(Value::Null), value);
            }
        }
        (known, said) => *known = said,
    }
}

fn stats(nomad: &Nomad) -> BTreeMap<String, BTreeMap<String, String>> {
    let mut stats = nomad.api.agent.stats();
    if let Some(control) = &nomad.api.control {
        let leadership = control.leadership();
        let group = stats.entry("nomad".to_owned()).or_default();
        group.insert("server".to_owned(), "true".to_owned());
        group.insert("leader".to_owned(), leadership.is_leader.to_string());
        let address = leadership.leader.map(|leader| leader.rpc).unwrap_or_default();
        group.insert("leader_addr".to_owned(), address);
        let group = stats.entry("raft".to_owned()).or_default();
        group.insert("term".to_owned(), leadership.term.to_string());
        group.insert("last_log_index".to_owned(), leadership.last_log_index.to_string());
        group.insert("applied_index".to_owned(), leadership.applied_index.to_string());
    }
    if let Some(local) = &nomad.api.local {
        let group = stats.entry("client".to_owned()).or_default();
        group.insert("node_id".to_owned(), local.node_id().to_string());
    }
    stats
}

async fn members(State(nomad): State<Nomad>, params: Params) -> Result<Response, ApiError> {
    let identity = nomad.api.agent.identity();
    let members = nomad.api.control()?.members();
    let answer = json!({
        "ServerName": identity.name,
        "ServerRegion": identity.region,
        "ServerDC": identity.datacenter,
        "Members": members.iter().map(AgentMember::from).collect::<Vec<_>>(),
    });
    Ok(Reply::default().pretty(is_pretty(&params)).json(&answer))
}

async fn join(State(nomad): State<Nomad>, params: Params) -> Result<Response, ApiError> {
    let control = nomad.api.control()?;
    let addresses: Vec<String> = params.all("address").map(str::to_owned).collect();
    if addresses.is_empty() {
        return Err(ApiError::bad_request("missing address to join"));
    }
    let (joined, error) = match control.join(&addresses).await {
        Ok(joined) => (joined, String::new()),
        Err(error) => (0, error.to_string()),
    };
    let answer = json!({"num_joined": joined, "error": error});
    Ok(Reply::default().json(&answer))
}

async fn servers(State(nomad): State<Nomad>, params: Params) -> Result<Response, ApiError> {
    // A machine that only serves has no servers to ask.
    nomad.api.local()?;
    let mut known: Vec<String> =
        nomad.api.agent.servers().into_iter().map(|server| server.rpc).collect();
    known.sort();
    Ok(Reply::default().pretty(is_pretty(&params)).json(&known))
}

async fn set_servers(State(nomad): State<Nomad>, params: Params) -> Result<Response, ApiError> {
    nomad.api.local()?;
    let addresses: Vec<String> = params.all("address").map(str::to_owned).collect();
    if addresses.is_empty() {
        return Err(ApiError::bad_request("missing server address"));
    }
    nomad.api.agent.set_servers(&addresses).await?;
    Ok(Reply::default().empty())
}

async fn health(State(nomad): State<Nomad>, params: Params) -> Result<Response, ApiError> {
    let asked: Vec<&str> = params.all("type").collect();
    let health = nomad.api.agent.health();
    let mut answer = serde_json::Map::new();
    let mut is_well = true;
    for (role, found) in [("client", health.client), ("server", health.server)] {
        if !asked.is_empty() && !asked.contains(&role) {
            continue;
        }
        let explicit = asked.contains(&role);
        let found = match found {
            None if !explicit => continue,
            None => Err(format!("{role} not enabled")),
            Some(found) => found,
        };
        is_well &= found.is_ok();
        let message = found.as_ref().err().map_or("ok", String::as_str);
        answer.insert(role.to_owned(), json!({"ok": found.is_ok(), "message": message}));
    }
    let response = Reply::default().pretty(is_pretty(&params)).json(&Value::Object(answer));
    if is_well {
        return Ok(response);
    }
    Ok((StatusCode::INTERNAL_SERVER_ERROR, response).into_response())
}
