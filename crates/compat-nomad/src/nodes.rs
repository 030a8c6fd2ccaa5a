//! `/v1/nodes` and `/v1/node/:id…`.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, State};
use axum::response::Response;
use axum::routing::get;
use cos_http::body::RawBody;
use cos_http::{ApiError, Body, PageKey, Params, ReadOptions, Reply};
use cos_model::{
    DrainSpec, DrainState, EvalId, Evaluation, Node, NodeId, NodeStatus, Timestamp, Trigger,
};
use cos_state::evaluations::evals_for_node;
use cos_state::{Command, Committed, Topic};
use serde_json::{Value, json};

use crate::context::{Listing, Nomad, id, newest};
use crate::wire::alloc::detail;
use crate::wire::node::{Node as Shown, NodeStub, StubFields};
use crate::write;

pub(crate) fn routes() -> Router<Nomad> {
    Router::new()
        .route("/v1/nodes", get(list))
        .route("/v1/node/{id}", get(read))
        .route("/v1/node/{id}/allocations", get(allocations))
        .route("/v1/node/{id}/evaluate", write(evaluate))
        .route("/v1/node/{id}/drain", write(drain))
        .route("/v1/node/{id}/eligibility", write(eligibility))
        .route("/v1/node/{id}/purge", write(purge))
}

fn not_found() -> ApiError {
    ApiError::not_found("node not found")
}

async fn list(
    State(nomad): State<Nomad>,
    params: Params,
    options: ReadOptions,
) -> Result<Response, ApiError> {
    let fields = StubFields { resources: params.flag("resources")?, os: params.flag("os")? };
    let listing = Listing {
        items: |state, options| {
            let wanted =
                |node: &&Arc<Node>| node.id.to_string().starts_with(options.prefix.as_str());
            state.nodes().filter(wanted).cloned().collect()
        },
        key: |node| PageKey::text(node.id.to_string()),
        full: |node| json!(Shown::from(node)),
    };
    let show = |_: &_, node: &Node| NodeStub::new(node, fields);
    nomad.list(&options, &[Topic::Nodes], listing, show).await
}

async fn read(
    State(nomad): State<Nomad>,
    Path(text): Path<String>,
    options: ReadOptions,
) -> Result<Response, ApiError> {
    let wanted: NodeId = id(&text, "node not found")?;
    let read = |state: &Arc<cos_state::State>| {
        let node = state.node(wanted).ok_or_else(not_found)?;
        Ok((node.modify_index, Shown::from(node.as_ref())))
    };
    nomad.api.read(&options, &[Topic::Nodes], read).await
}

async fn allocations(
    State(nomad): State<Nomad>,
    Path(text): Path<String>,
    options: ReadOptions,
) -> Result<Response, ApiError> {
    let wanted: NodeId = id(&text, "node not found")?;
    let topics = [Topic::Allocs];
    let read = |state: &Arc<cos_state::State>| {
        let shown: Vec<Value> = state.allocs_on_node(wanted).map(|alloc| detail(alloc)).collect();
        Ok((newest(state, &topics), shown))
    };
    nomad.api.read(&options, &topics, read).await
}

/// A node to change, in the newest state.
async fn target(nomad: &Nomad, text: &str) -> Result<(Arc<cos_state::State>, Arc<Node>), ApiError> {
    let wanted: NodeId = id(text, "node not found")?;
    let state = nomad.current().await?;
    let node = Arc::clone(state.node(wanted).ok_or_else(not_found)?);
    Ok((state, node))
}

fn evals(
    nomad: &Nomad,
    state: &cos_state::State,
    node: NodeId,
) -> Result<Vec<Evaluation>, ApiError> {
    let control = nomad.api.control()?;
    let mut ids = || control.new_id();
    Ok(evals_for_node(state, node, Trigger::NodeUpdate, &mut ids, control.now()))
}

/// The answer to a change of a node.
fn updated(committed: &Committed, evals: &[EvalId]) -> Response {
    Reply::written(committed.index).json(&json!({
        "EvalIDs": evals,
        "EvalCreateIndex": if evals.is_empty() { 0 } else { committed.index },
        "NodeModifyIndex": committed.index,
        "HeartbeatTTL": 0,
        "Index": committed.index,
    }))
}

async fn evaluate(
    State(nomad): State<Nomad>,
    Path(text): Path<String>,
) -> Result<Response, ApiError> {
    let (state, node) = target(&nomad, &text).await?;
    let evals = evals(&nomad, &state, node.id)?;
    let ids: Vec<EvalId> = evals.iter().map(|eval| eval.id).collect();
    let committed = nomad.propose(Command::PutEvals { evals }).await?;
    Ok(updated(&committed, &ids))
}

async fn drain(
    State(nomad): State<Nomad>,
    Path(text): Path<String>,
    RawBody(bytes): RawBody,
) -> Result<Response, ApiError> {
    let body = Body::parse(&bytes)?;
    let mark_eligible = body.flag("MarkEligible")?;
    let drain = match body.object("DrainSpec")? {
        Some(spec) => Some(drain_state(&spec, nomad.now()?)?),
        None => None,
    };
    check_node_id(&body, &text)?;
    let (state, node) = target(&nomad, &text).await?;
    // A drain that begins is the drainer's work. One that ends may make room at once.
    let takes_work = drain.is_none() && mark_eligible && node.drain.is_some();
    let evals = if takes_work { evals(&nomad, &state, node.id)? } else { Vec::new() };
    let ids: Vec<EvalId> = evals.iter().map(|eval| eval.id).collect();
    let command = Command::SetNodeDrain { id: node.id, drain, mark_eligible, evals };
    let committed = nomad.propose(command).await?;
    Ok(updated(&committed, &ids))
}

/// A deadline of 0 is none, a negative one is "at once".
fn drain_state(spec: &Body, now: Timestamp) -> Result<DrainState, ApiError> {
    let nanos = spec.integer("Deadline")?.unwrap_or(0);
    let deadline = match nanos {
        0 => None,
        _ => Some(Duration::from_nanos(u64::try_from(nanos).unwrap_or(0))),
    };
    let spec = DrainSpec { deadline, ignore_system_jobs: spec.flag("IgnoreSystemJobs")? };
    let force_at = deadline.map_or(Timestamp::NEVER, |deadline| now + deadline);
    Ok(DrainState { spec, started_at: now, force_at })
}

async fn eligibility(
    State(nomad): State<Nomad>,
    Path(text): Path<String>,
    RawBody(bytes): RawBody,
) -> Result<Response, ApiError> {
    let body = Body::parse(&bytes)?;
    let eligible = match body.text("Eligibility")? {
        "eligible" => true,
        "ineligible" => false,
        other => {
            return Err(ApiError::bad_request(format!("invalid scheduling eligibility {other:?}")));
        }
    };
    check_node_id(&body, &text)?;
    let (state, node) = target(&nomad, &text).await?;
    if eligible && node.drain.is_some() {
        return Err(ApiError::bad_request(
            "can not set node's scheduling eligibility to eligible while it is draining",
        ));
    }
    let takes_work = eligible && !node.eligible;
    let evals = if takes_work { evals(&nomad, &state, node.id)? } else { Vec::new() };
    let ids: Vec<EvalId> = evals.iter().map(|eval| eval.id).collect();
    let command = Command::SetNodeEligibility { id: node.id, eligible, evals };
    let committed = nomad.propose(command).await?;
    Ok(updated(&committed, &ids))
}

fn check_node_id(body: &Body, path: &str) -> Result<(), ApiError> {
    match body.text("NodeID")? {
        "" => Ok(()),
        named if named == path => Ok(()),
        _ => Err(ApiError::bad_request("Node ID does not match")),
    }
}

async fn purge(State(nomad): State<Nomad>, Path(text): Path<String>) -> Result<Response, ApiError> {
    let (state, node) = target(&nomad, &text).await?;
    if node.status != NodeStatus::Down {
        return Err(ApiError::bad_request(
            "only a node that is down can be purged; stop its agent first",
        ));
    }
    let evals = evals(&nomad, &state, node.id)?;
    let ids: Vec<EvalId> = evals.iter().map(|eval| eval.id).collect();
    let collect = Command::Collect {
        evals: Vec::new(),
        allocs: Vec::new(),
        deployments: Vec::new(),
        jobs: Vec::new(),
        nodes: vec![node.id],
    };
    let mut committed = nomad.propose(collect).await?;
    if !evals.is_empty() {
        committed = nomad.propose(Command::PutEvals { evals }).await?;
    }
    Ok(updated(&committed, &ids))
}
