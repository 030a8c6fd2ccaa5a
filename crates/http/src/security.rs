//! Who may become a member of the cluster: join tokens, the certificate authority, the keys of
//! gossip.
//!
//! # Invariants
//!
//! - Whoever may do these things owns the cluster, so they are answered only to callers on the
//!   server's own machine. A request that another agent passed on does not come from there.
//! - A token's secret is shown once, to who made it; keys of the authority never.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use axum::Extension;
use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use axum::routing::{get, post};
use cos_model::trust::{JoinToken, TrustChange};
use cos_state::Command;
use serde_json::{Value, json};

use crate::api::Api;
use crate::body::{Body, RawBody};
use crate::error::ApiError;
use crate::forward::hops;
use crate::listener::Caller;
use crate::params::{Params, is_pretty};
use crate::reply::Reply;

/// How long a token lasts unless its maker says otherwise…
const TTL_DEFAULT: Duration = Duration::from_hours(1);
/// …and at most: a forgotten token is an open door.
const TTL_MAX: Duration = Duration::from_hours(30 * 24);

/// What a server can do about membership.
#[async_trait]
pub trait ClusterSecurity: Send + Sync + 'static {
    /// Makes a join token for `server` or `client` and returns its text.
    async fn create_token(&self, role: &str, ttl: Duration) -> Result<String, ApiError>;

    /// Says how the certificate authority stands.
    async fn authority(&self) -> Result<AuthorityView, ApiError>;

    /// Begins to replace the certificate authority.
    async fn rotate(&self) -> Result<(), ApiError>;

    /// Changes the keys of gossip on all servers, or only lists them.
    async fn keyring(&self, change: KeyringOrder) -> Result<KeyringView, ApiError>;
}

/// How the certificate authority stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthorityView {
    /// The cluster's id.
    pub cluster: String,
    /// The version of the authority.
    pub version: u64,
    /// SHA-256 of its roots, the one that issues first.
    pub roots: Vec<String>,
    /// Members that still need an older root.
    pub waiting_for: Vec<String>,
}

/// What is asked of the keys of gossip.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyringOrder {
    /// Only lists them.
    List,
    /// Adds a key.
    Install(String),
    /// Encrypts with a key that was added.
    Use(String),
    /// Forgets a key.
    Remove(String),
}

/// What all servers answered about the keys of gossip.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyringView {
    /// How many servers were asked.
    pub servers: usize,
    /// How many have each key.
    pub keys: BTreeMap<String, usize>,
    /// How many encrypt with each key.
    pub primary: BTreeMap<String, usize>,
    /// What went wrong, by server.
    pub problems: BTreeMap<String, String>,
}

/// Refuses everybody who is not on this machine.
pub fn only_from_here(caller: Option<&Caller>, headers: &HeaderMap) -> Result<(), ApiError> {
    if hops(headers) == 0 && caller.is_some_and(|caller| caller.is_here) {
        return Ok(());
    }
    Err(ApiError::new(
        StatusCode::FORBIDDEN,
        "this is answered only to callers on the server's own machine: run the command there",
    ))
}

impl Api {
    /// What this server can do about membership, or the refusal of an agent that is no server.
    pub fn security(&self) -> Result<&dyn ClusterSecurity, ApiError> {
        self.security.as_deref().ok_or_else(|| {
            ApiError::unsupported("this agent is not a server; ask on the machine of one")
        })
    }
}

/// The routes of this file.
pub(crate) fn routes() -> Router<Api> {
    Router::new()
        .route("/v1/cos/tokens", get(tokens).post(create))
        .route("/v1/cos/token/{id}", axum::routing::delete(revoke))
        .route("/v1/cos/ca", get(authority))
        .route("/v1/cos/ca/rotate", post(rotate).put(rotate))
}

type FromHere = Option<Extension<Caller>>;

async fn create(
    State(api): State<Api>,
    caller: FromHere,
    headers: HeaderMap,
    RawBody(bytes): RawBody,
) -> Result<Response, ApiError> {
    only_from_here(caller.as_deref(), &headers)?;
    let body = Body::parse(&bytes)?;
    let role = body.text("Role")?;
    if !["server", "client"].contains(&role) {
        return Err(ApiError::bad_request("Role must be server or client"));
    }
    let ttl = match body.text("TTL")? {
        "" => TTL_DEFAULT,
        text => crate::duration::parse(text)
            .ok()
            .filter(|ttl| !ttl.is_zero() && *ttl <= TTL_MAX)
            .ok_or_else(|| ApiError::bad_request("TTL must be a duration of at most 720h"))?,
    };
    let text = api.security()?.create_token(role, ttl).await?;
    Ok(Reply::default().json(&json!({ "Token": text })))
}

async fn tokens(
    State(api): State<Api>,
    caller: FromHere,
    headers: HeaderMap,
    params: Params,
) -> Result<Response, ApiError> {
    only_from_here(caller.as_deref(), &headers)?;
    api.control()?.barrier().await?;
    let state = api.control()?.state();
    let list: Vec<Value> = state.trust().tokens.values().map(shown).collect();
    Ok(Reply::default().pretty(is_pretty(&params)).json(&list))
}

fn shown(token: &JoinToken) -> Value {
    json!({
        "ID": format!("{:032x}", token.id),
        "Role": token.role,
        "CreateTime": token.created_at.unix_nanos(),
        "ExpireTime": token.expires_at.unix_nanos(),
        "UsedBy": token.used.as_ref().map(|used| used.by.clone()),
        "UseTime": token.used.as_ref().map(|used| used.at.unix_nanos()),
    })
}

async fn revoke(
    State(api): State<Api>,
    caller: FromHere,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    only_from_here(caller.as_deref(), &headers)?;
    let id = u128::from_str_radix(&id, 16)
        .ok()
        .ok_or_else(|| ApiError::bad_request("a token's id is 32 hexadecimal digits"))?;
    let committed = api.propose(Command::Trust(TrustChange::RevokeToken { id })).await?;
    Ok(Reply::written(committed.index).empty())
}

async fn authority(
    State(api): State<Api>,
    caller: FromHere,
    headers: HeaderMap,
    params: Params,
) -> Result<Response, ApiError> {
    only_from_here(caller.as_deref(), &headers)?;
    let view = api.security()?.authority().await?;
    let answer = json!({
        "Cluster": view.cluster,
        "Version": view.version,
        "Roots": view.roots,
        "Rotating": view.roots.len() > 1,
        "WaitingFor": view.waiting_for,
    });
    Ok(Reply::default().pretty(is_pretty(&params)).json(&answer))
}

async fn rotate(
    State(api): State<Api>,
    caller: FromHere,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    only_from_here(caller.as_deref(), &headers)?;
    api.security()?.rotate().await?;
    Ok(Reply::default().json(&json!({})))
}
