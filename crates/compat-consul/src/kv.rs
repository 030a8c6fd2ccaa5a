//! `/v1/kv`: read, write and delete keys. Answered by a server.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cos_http::blocking::{Wait, wait_for};
use cos_http::{ApiError, Params};
use cos_model::SessionId;
use cos_model::kv::{KvEntry, KvOp};
use cos_state::{Command, Reply, State as Tables, Topic};
use serde_json::{Value, json};

use crate::Consul;
use crate::respond::{Read, check_place, index_headers, plain_json};
use crate::status::ask_a_server;

/// The largest value.
const VALUE_BYTES_MAX: usize = 512 * 1024;

pub(crate) async fn root(
    consul: State<Consul>,
    params: Params,
    request: Request,
) -> Result<Response, ApiError> {
    key(consul, Path(String::new()), params, request).await
}

pub(crate) async fn key(
    State(consul): State<Consul>,
    Path(key): Path<String>,
    params: Params,
    request: Request,
) -> Result<Response, ApiError> {
    check_place(&consul, &params)?;
    if consul.api.control.is_none() {
        return ask_a_server(&consul, request).await;
    }
    match *request.method() {
        Method::GET | Method::HEAD => get(&consul, key, &params).await,
        Method::PUT | Method::POST => put(&consul, key, &params, request.into_body()).await,
        Method::DELETE => delete(&consul, key, &params).await,
        ref other => Err(ApiError::new(
            StatusCode::METHOD_NOT_ALLOWED,
            format!("method {other} not allowed"),
        )),
    }
}

async fn get(consul: &Consul, key: String, params: &Params) -> Result<Response, ApiError> {
    let keys_only = params.has("keys");
    let recurse = params.has("recurse");
    if key.is_empty() && !recurse && !keys_only {
        return Err(ApiError::bad_request("Missing key name"));
    }
    let options = Read::from_params(params)?;
    let control = consul.api.control()?;
    let wait = Wait { index: options.index, longest: options.wait, stale: params.has("stale") };
    let topic = Topic::Kv(Arc::from(key.as_str()));
    let stopping = consul.api.tasks.stopping();
    let everything = recurse || keys_only;
    let read = |state: &Arc<Tables>| {
        let found: Vec<Arc<KvEntry>> = if everything {
            state.kv_list(&key).cloned().collect()
        } else {
            state.kv_get(&key).cloned().into_iter().collect()
        };
        let index = match found.as_slice() {
            // A single key has its own index: its neighbours do not wake its watchers.
            [only] if !everything => only.modify_index,
            _ => state.topic_index(&topic),
        };
        (index, found)
    };
    let (index, found) =
        wait_for(control.as_ref(), &stopping, wait, std::slice::from_ref(&topic), read).await?;
    let headers = index_headers(consul, index);
    if found.is_empty() && !(keys_only && key.is_empty()) {
        return Ok((StatusCode::NOT_FOUND, headers).into_response());
    }
    let pretty = cos_http::params::is_pretty(params);
    if keys_only {
        let separator = params.text("separator").or_else(|| params.text("seperator"));
        let names = names(&found, &key, separator.unwrap_or(""));
        return Ok((headers, plain_json(&json!(names), pretty)).into_response());
    }
    if params.has("raw") && !recurse {
        let bytes = found.first().map_or_else(Vec::new, |entry| entry.value.clone());
        let safe = [
            (header::CONTENT_TYPE, "text/plain"),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (header::CONTENT_SECURITY_POLICY, "sandbox"),
        ];
        return Ok((safe, headers, bytes).into_response());
    }
    let entries: Vec<Value> = found.iter().map(|entry| shape(entry)).collect();
    Ok((headers, plain_json(&Value::Array(entries), pretty)).into_response())
}

fn shape(entry: &KvEntry) -> Value {
    let value = if entry.value.is_empty() {
        Value::Null
    } else {
        Value::String(STANDARD.encode(&entry.value))
    };
    let mut shape = json!({
        "LockIndex": entry.lock_index,
        "Key": entry.key,
        "Flags": entry.flags,
        "Value": value,
        "CreateIndex": entry.create_index,
        "ModifyIndex": entry.modify_index,
    });
    if let Some(session) = entry.session {
        shape["Session"] = json!(session.to_string());
    }
    shape
}

/// The names below a prefix, cut after the first separator, each once.
fn names<'a>(found: &'a [Arc<KvEntry>], prefix: &str, separator: &str) -> BTreeSet<&'a str> {
    let cut = |key: &'a str| {
        let rest = key.get(prefix.len()..).unwrap_or("");
        match rest.find(separator) {
            Some(at) if !separator.is_empty() => &key[..prefix.len() + at + separator.len()],
            _ => key,
        }
    };
    found.iter().map(|entry| cut(&entry.key)).collect()
}

async fn put(
    consul: &Consul,
    key: String,
    params: &Params,
    body: Body,
) -> Result<Response, ApiError> {
    if key.is_empty() {
        return Err(ApiError::bad_request("Missing key name"));
    }
    let conditions = ["cas", "acquire", "release"].map(|name| params.get(name));
    if conditions.iter().flatten().count() > 1 {
        return Err(ApiError::bad_request("Conflicting flags: cas, acquire and release"));
    }
    let flags: u64 = params.number("flags")?.unwrap_or(0);
    let expected: Option<u64> = params.number("cas")?;
    let value = axum::body::to_bytes(body, VALUE_BYTES_MAX).await.map_err(|_large| {
        ApiError::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("Request body too large, max allowed is {VALUE_BYTES_MAX} bytes"),
        )
    })?;
    let value = value.to_vec();
    let op = match (conditions, expected) {
        ([_, Some(session), _], _) => {
            KvOp::Acquire { key, value, flags, session: session_id(session)? }
        }
        ([_, _, Some(session)], _) => {
            KvOp::Release { key, value, flags, session: session_id(session)? }
        }
        (_, None) => KvOp::Set { key, value, flags },
        (_, Some(expected)) => KvOp::SetIfUnchanged { key, value, flags, expected },
    };
    propose(consul, op).await
}

/// Reads the id of a session. What is none names no session that there is.
fn session_id(text: &str) -> Result<SessionId, ApiError> {
    if text.is_empty() {
        return Err(ApiError::internal("missing session"));
    }
    text.parse().map_err(|_not_an_id| ApiError::internal(format!("invalid session {text:?}")))
}

async fn delete(consul: &Consul, key: String, params: &Params) -> Result<Response, ApiError> {
    let expected: Option<u64> = params.number("cas")?;
    let op = match (params.has("recurse"), expected) {
        (true, Some(_)) => {
            return Err(ApiError::bad_request("Conflicting flags: recurse and cas"));
        }
        (true, None) => KvOp::DeleteTree { prefix: key },
        (false, _) if key.is_empty() => return Err(ApiError::bad_request("Missing key name")),
        (false, Some(expected)) => KvOp::DeleteIfUnchanged { key, expected },
        (false, None) => KvOp::Delete { key },
    };
    propose(consul, op).await
}

async fn propose(consul: &Consul, op: KvOp) -> Result<Response, ApiError> {
    let is_lock = matches!(op, KvOp::Acquire { .. });
    let committed = match consul.api.propose(Command::Kv { ops: vec![op] }).await {
        Ok(committed) => committed,
        // A session that is not there is no fault of the request's form.
        Err(error) if is_lock && error.status == StatusCode::BAD_REQUEST => {
            return Err(ApiError::internal(error.message));
        }
        Err(error) => return Err(error),
    };
    let done = !matches!(committed.reply, Reply::Kv(false));
    Ok(plain_json(&json!(done), false))
}
