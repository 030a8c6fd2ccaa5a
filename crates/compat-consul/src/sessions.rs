//! `/v1/session`: begin, renew, end and list sessions. Answered by a server.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use cos_http::blocking::{Wait, wait_for};
use cos_http::{ApiError, Params};
use cos_model::SessionId;
use cos_model::catalog::ALIVE_CHECK;
use cos_model::session::{Behavior, ServiceCheck, Session, SessionOp};
use cos_state::{Command, State as Tables, Topic};
use serde_json::{Value, json};

use crate::Consul;
use crate::decode::{Fields, Loose, wrong};
use crate::respond::{Read, check_place, index_headers, plain_json};
use crate::shape::go_duration;
use crate::status::ask_a_server;

/// The largest definition of a session.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// The longest name of a session or of what it stands on.
const NAME_BYTES_MAX: usize = 1024;

/// How many checks a session may stand on.
const CHECKS_MAX: usize = 64;

/// How long a key cannot be locked after a session's end if its definition does not say.
const LOCK_DELAY_DEFAULT: Duration = Duration::from_secs(15);

/// Lock delays that are given as a number below this are seconds, not nanoseconds.
const LOCK_DELAY_SECONDS_BELOW: u64 = 1000;

const TTL_MIN: Duration = Duration::from_secs(10);
const TTL_MAX: Duration = Duration::from_hours(24);

pub(crate) async fn create(
    State(consul): State<Consul>,
    params: Params,
    request: Request,
) -> Result<Response, ApiError> {
    check_place(&consul, &params)?;
    let (head, body) = request.into_parts();
    let body = axum::body::to_bytes(body, BODY_BYTES_MAX).await.map_err(|_large| {
        ApiError::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("Request body too large, max allowed is {BODY_BYTES_MAX} bytes"),
        )
    })?;
    if consul.api.control.is_none() {
        // Who stands on "its own" node means the agent that it asked, not the server.
        let body = Body::from(with_node(&body, &consul.api.agent.identity().name)?);
        let mut request = Request::from_parts(head, body);
        request.headers_mut().remove(axum::http::header::CONTENT_LENGTH);
        return ask_a_server(&consul, request).await;
    }
    let id = SessionId::from_bits(consul.api.control()?.new_id());
    let session = session(&Fields::parse(&body)?, id, &consul.api.agent.identity().name)?;
    propose(&consul, SessionOp::Create(Box::new(session))).await?;
    Ok(plain_json(&json!({ "ID": id.to_string() }), false))
}

pub(crate) async fn destroy(
    State(consul): State<Consul>,
    Path(id): Path<String>,
    params: Params,
    request: Request,
) -> Result<Response, ApiError> {
    check_place(&consul, &params)?;
    if consul.api.control.is_none() {
        return ask_a_server(&consul, request).await;
    }
    // What is no id names no session, and ending none is done.
    if let Ok(id) = id.parse() {
        propose(&consul, SessionOp::Destroy { id }).await?;
    }
    Ok(plain_json(&json!(true), false))
}

pub(crate) async fn renew(
    State(consul): State<Consul>,
    Path(id): Path<String>,
    params: Params,
    request: Request,
) -> Result<Response, ApiError> {
    check_place(&consul, &params)?;
    if consul.api.control.is_none() {
        return ask_a_server(&consul, request).await;
    }
    let missing = || ApiError::not_found(format!("Session id '{id}' not found"));
    let found: SessionId = id.parse().map_err(|_not_an_id| missing())?;
    propose(&consul, SessionOp::Renew { id: found }).await?;
    let state = consul.api.control()?.state();
    // It may have ended since.
    let session = state.session(found).ok_or_else(missing)?;
    Ok(plain_json(&json!([shape(session)]), cos_http::params::is_pretty(&params)))
}

pub(crate) async fn info(
    State(consul): State<Consul>,
    Path(id): Path<String>,
    params: Params,
    request: Request,
) -> Result<Response, ApiError> {
    let id: Option<SessionId> = id.parse().ok();
    read(&consul, &params, request, |state| {
        id.and_then(|id| state.session(id)).into_iter().map(|session| shape(session)).collect()
    })
    .await
}

pub(crate) async fn of_node(
    State(consul): State<Consul>,
    Path(node): Path<String>,
    params: Params,
    request: Request,
) -> Result<Response, ApiError> {
    let node: Arc<str> = Arc::from(node);
    read(&consul, &params, request, |state| {
        state.sessions_on_node(&node).map(|session| shape(session)).collect()
    })
    .await
}

pub(crate) async fn list(
    State(consul): State<Consul>,
    params: Params,
    request: Request,
) -> Result<Response, ApiError> {
    read(&consul, &params, request, |state| state.sessions().map(|one| shape(one)).collect()).await
}

/// Refuses a route that lacks the name that it is about.
pub(crate) async fn missing_session() -> ApiError {
    ApiError::bad_request("Missing session")
}

/// Refuses a route that lacks the name that it is about.
pub(crate) async fn missing_node() -> ApiError {
    ApiError::bad_request("Missing node name")
}

async fn read(
    consul: &Consul,
    params: &Params,
    request: Request,
    find: impl Fn(&Tables) -> Vec<Value>,
) -> Result<Response, ApiError> {
    check_place(consul, params)?;
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let text = format!("method {} not allowed", request.method());
        return Err(ApiError::new(StatusCode::METHOD_NOT_ALLOWED, text));
    }
    if consul.api.control.is_none() {
        return ask_a_server(consul, request).await;
    }
    let options = Read::from_params(params)?;
    let wait = Wait { index: options.index, longest: options.wait, stale: params.has("stale") };
    let stopping = consul.api.tasks.stopping();
    let topic = Topic::Sessions;
    let look = |state: &Arc<Tables>| (state.topic_index(&topic), find(state));
    let control = consul.api.control()?;
    let topics = std::slice::from_ref(&topic);
    let (index, found) = wait_for(control.as_ref(), &stopping, wait, topics, look).await?;
    let headers = index_headers(consul, index);
    let body = plain_json(&Value::Array(found), cos_http::params::is_pretty(params));
    Ok((headers, body).into_response())
}

/// Proposes, and answers failures as Consul does: what does not fit the state is a 500.
async fn propose(consul: &Consul, op: SessionOp) -> Result<(), ApiError> {
    match consul.api.propose(Command::Session(op)).await {
        Ok(_) => Ok(()),
        Err(error) if error.status == StatusCode::BAD_REQUEST => {
            Err(ApiError::internal(error.message))
        }
        Err(error) => Err(error),
    }
}

/// Adds the node to a definition that names none.
fn with_node(body: &[u8], node: &str) -> Result<Vec<u8>, ApiError> {
    if !Fields::parse(body)?.text("Node")?.is_empty() {
        return Ok(body.to_vec());
    }
    let mut value: Value = if body.is_empty() {
        json!({})
    } else {
        serde_json::from_slice(body)
            .map_err(|error| ApiError::bad_request(format!("Request decode failed: {error}")))?
    };
    if let Some(fields) = value.as_object_mut() {
        fields.retain(|name, _| !name.eq_ignore_ascii_case("node"));
        fields.insert("Node".to_owned(), json!(node));
    }
    Ok(value.to_string().into_bytes())
}

fn session(fields: &Fields, id: SessionId, own_node: &str) -> Result<Session, ApiError> {
    let node = Some(fields.text("Node")?).filter(|node| !node.is_empty());
    let behavior = match fields.text("Behavior")?.as_str() {
        "" | "release" => Behavior::Release,
        "delete" => Behavior::Delete,
        other => return Err(ApiError::internal(format!("Invalid Behavior setting '{other}'"))),
    };
    let session = Session {
        id,
        name: fields.text("Name")?,
        node: node.as_deref().unwrap_or(own_node).into(),
        node_checks: node_checks(fields)?,
        service_checks: service_checks(fields)?,
        lock_delay: lock_delay(fields)?,
        behavior,
        ttl: ttl(fields)?,
        create_index: 0,
        modify_index: 0,
        renew_index: 0,
    };
    let checks = session.node_checks.len() + session.service_checks.len();
    if checks > CHECKS_MAX {
        return Err(wrong("Checks", &format!("{CHECKS_MAX} checks at most")));
    }
    let of_services = session.service_checks.iter().map(|check| &check.id);
    let names = session.node_checks.iter().chain(of_services).chain([&session.name]);
    if names.map(String::len).max() > Some(NAME_BYTES_MAX) {
        return Err(wrong("Name", &format!("{NAME_BYTES_MAX} bytes at most")));
    }
    Ok(session)
}

/// The older name `Checks` counts beside the newer one. Who names neither stands on the agent.
fn node_checks(fields: &Fields) -> Result<Vec<String>, ApiError> {
    let names = ["NodeChecks", "Checks"];
    if names.iter().all(|name| fields.raw(name).is_none()) {
        return Ok(vec![ALIVE_CHECK.to_owned()]);
    }
    let mut checks = Vec::new();
    for name in names {
        for check in fields.texts(name)? {
            if !checks.contains(&check) {
                checks.push(check);
            }
        }
    }
    Ok(checks)
}

fn service_checks(fields: &Fields) -> Result<Vec<ServiceCheck>, ApiError> {
    let check = |check: &Fields| {
        Ok(ServiceCheck { id: check.text("ID")?, namespace: check.text("Namespace")? })
    };
    fields.objects("ServiceChecks")?.iter().map(check).collect()
}

fn lock_delay(fields: &Fields) -> Result<Duration, ApiError> {
    let Some(value) = fields.raw("LockDelay") else { return Ok(LOCK_DELAY_DEFAULT) };
    let seconds = value.as_u64().filter(|number| *number < LOCK_DELAY_SECONDS_BELOW);
    seconds.map_or_else(|| fields.duration("LockDelay"), |it| Ok(Duration::from_secs(it)))
}

fn ttl(fields: &Fields) -> Result<Duration, ApiError> {
    let text = fields.text("TTL")?;
    if text.is_empty() {
        return Ok(Duration::ZERO);
    }
    let ttl = cos_http::duration::parse(&text)
        .map_err(|error| ApiError::internal(format!("Invalid Session TTL '{text}': {error}")))?;
    if ttl.is_zero() || (TTL_MIN..=TTL_MAX).contains(&ttl) {
        return Ok(ttl);
    }
    let (least, most) = (go_duration(TTL_MIN), go_duration(TTL_MAX));
    let nanos = ttl.as_nanos();
    Err(ApiError::internal(format!(
        "Invalid Session TTL '{nanos}', must be between [{least}={most}]"
    )))
}

fn shape(session: &Session) -> Value {
    let service_checks: Vec<Value> = session
        .service_checks
        .iter()
        .map(|check| json!({ "ID": check.id, "Namespace": check.namespace }))
        .collect();
    let or_null = |list: Vec<Value>| if list.is_empty() { Value::Null } else { json!(list) };
    let ttl = if session.ttl.is_zero() { String::new() } else { go_duration(session.ttl) };
    json!({
        "ID": session.id.to_string(),
        "Name": session.name,
        "Node": session.node,
        "LockDelay": u64::try_from(session.lock_delay.as_nanos()).unwrap_or(u64::MAX),
        "Behavior": session.behavior.name(),
        "TTL": ttl,
        "NodeChecks": session.node_checks,
        "ServiceChecks": or_null(service_checks),
        "CreateIndex": session.create_index,
        "ModifyIndex": session.modify_index,
    })
}
