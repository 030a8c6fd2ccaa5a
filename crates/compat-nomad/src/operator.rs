//! `/v1/operator/…`: the consensus group, and how the scheduler works.

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::{MethodRouter, any, get};
use cos_http::body::RawBody;
use cos_http::group::Route;
use cos_http::params::is_pretty;
use cos_http::{ApiError, Body, Params, ReadOptions, Reply};
use cos_state::{Command, SchedulerConfig, Topic};
use serde_json::{Value, json};

use crate::context::Nomad;

pub(crate) fn routes() -> Router<Nomad> {
    Router::new()
        .route("/v1/operator/raft/configuration", get(raft_configuration))
        .route(
            "/v1/operator/scheduler/configuration",
            get(scheduler).put(set_scheduler).post(set_scheduler),
        )
        .route("/v1/operator/raft/peer", group(Route::Peer))
        .route("/v1/operator/raft/transfer-leadership", group(Route::Leadership))
        .route("/v1/operator/autopilot/configuration", group(Route::Autopilot))
        .route("/v1/operator/autopilot/health", group(Route::Health))
        .route("/v1/operator/snapshot", group(Route::Snapshot))
        .route("/v1/operator/snapshot/hash", group(Route::Hash))
        .route("/v1/agent/force-leave", group(Route::ForceLeave))
        .route("/v1/operator/license", get(|| async { StatusCode::NO_CONTENT }))
}

/// What the dialects answer alike.
fn group(route: Route) -> MethodRouter<Nomad> {
    any(move |State(nomad): State<Nomad>, request: Request| async move {
        cos_http::group::answer(&nomad.api, route, request).await
    })
}

async fn raft_configuration(
    State(nomad): State<Nomad>,
    params: Params,
) -> Result<Response, ApiError> {
    let control = nomad.api.control()?;
    let leadership = control.leadership();
    let members = control.members();
    let servers: Vec<Value> = control
        .peers()
        .into_iter()
        .map(|(id, address, votes)| {
            let id_text = id.to_string();
            let member = members.iter().find(|m| m.tags.get("id") == Some(&id_text));
            json!({
                "ID": id_text,
                "Node": member.map_or("(unknown)", |member| member.name.as_str()),
                "Address": address,
                "Leader": leadership.leader_id == Some(id),
                "Voter": votes,
                "RaftProtocol": "3",
            })
        })
        .collect();
    let answer = json!({"Servers": servers, "Index": leadership.applied_index});
    Ok(Reply::default().pretty(is_pretty(&params)).json(&answer))
}

async fn scheduler(State(nomad): State<Nomad>, options: ReadOptions) -> Result<Response, ApiError> {
    let read = |state: &std::sync::Arc<cos_state::State>| {
        let config = state.scheduler_config();
        let index = config.modify_index;
        let shown = json!({
            "SchedulerConfig": {
                "SchedulerAlgorithm": if config.spread { "spread" } else { "binpack" },
                "PreemptionConfig": {
                    "SystemSchedulerEnabled": false,
                    "SysBatchSchedulerEnabled": false,
                    "BatchSchedulerEnabled": false,
                    "ServiceSchedulerEnabled": false,
                },
                "MemoryOversubscriptionEnabled": config.memory_oversubscription,
                "RejectJobRegistration": config.reject_job_registration,
                "PauseEvalBroker": false,
                "CreateIndex": config.create_index,
                "ModifyIndex": config.modify_index,
            },
            "Index": index,
            "LastContact": 0,
            "KnownLeader": true,
            "NextToken": "",
        });
        Ok((index, shown))
    };
    nomad.api.read(&options, &[Topic::SchedulerConfig], read).await
}

async fn set_scheduler(
    State(nomad): State<Nomad>,
    params: Params,
    RawBody(bytes): RawBody,
) -> Result<Response, ApiError> {
    let body = Body::parse(&bytes)?;
    let spread = match body.text("SchedulerAlgorithm")? {
        "" | "binpack" => false,
        "spread" => true,
        other => {
            return Err(ApiError::bad_request(format!("invalid scheduler algorithm: {other}")));
        }
    };
    refuse_unsupported(&body)?;
    let current = nomad.current().await?;
    let known = current.scheduler_config();
    if params.number::<u64>("cas")?.is_some_and(|cas| cas != known.modify_index) {
        let answer = json!({"Updated": false, "Index": known.modify_index});
        return Ok(Reply::written(known.modify_index).json(&answer));
    }
    let config = SchedulerConfig {
        spread,
        memory_oversubscription: body.flag("MemoryOversubscriptionEnabled")?,
        reject_job_registration: body.flag("RejectJobRegistration")?,
        ..known.clone()
    };
    let committed = nomad.propose(Command::SetSchedulerConfig(config)).await?;
    let answer = json!({"Updated": true, "Index": committed.index});
    Ok(Reply::written(committed.index).json(&answer))
}

fn refuse_unsupported(body: &Body) -> Result<(), ApiError> {
    if body.flag("PauseEvalBroker")? {
        return Err(ApiError::unsupported("cos does not support `PauseEvalBroker` yet"));
    }
    let preemption = body.object("PreemptionConfig")?.unwrap_or_default();
    for name in [
        "SystemSchedulerEnabled",
        "SysBatchSchedulerEnabled",
        "BatchSchedulerEnabled",
        "ServiceSchedulerEnabled",
    ] {
        if preemption.flag(name)? {
            return Err(ApiError::unsupported(format!(
                "cos does not support preemption yet (PreemptionConfig.{name})"
            )));
        }
    }
    Ok(())
}
