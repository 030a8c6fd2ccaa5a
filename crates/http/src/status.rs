//! `/v1/cos/status`: what this agent is and what it has applied, for tools.

use axum::extract::State;
use axum::response::Response;
use serde_json::json;

use crate::api::Api;
use crate::error::ApiError;
use crate::params::{Params, is_pretty};
use crate::reply::Reply;

/// Answers from this agent alone, without asking the cluster. Two servers with equal `index` have
/// equal `state_hash`, or one of them is broken.
pub(crate) async fn read(State(api): State<Api>, params: Params) -> Result<Response, ApiError> {
    let identity = api.agent.identity();
    let server = api.control.as_ref().map(|control| {
        let state = control.state();
        let leadership = control.leadership();
        json!({
            "is_leader": leadership.is_leader,
            "leader": leadership.leader.map(|leader| leader.rpc),
            "term": leadership.term,
            "applied_index": leadership.applied_index,
            "last_log_index": leadership.last_log_index,
            "index": state.index(),
            "state_hash": format!("{:016x}", state.hash()),
        })
    });
    let answer = json!({
        "version": cos_model::version::COS,
        "name": identity.name,
        "region": identity.region,
        "datacenter": identity.datacenter,
        "node_id": api.local.as_ref().map(|local| local.node_id()),
        "uptime_seconds": api.agent.uptime().as_secs(),
        "security": api.agent.stats().get("cluster").and_then(|group| group.get("security")),
        "server": server,
    });
    Ok(Reply::default().pretty(is_pretty(&params)).json(&answer))
}
