//! The part of Consul's HTTP API that proxies, monitors and services call, in terms of the catalog
//! and the key-value store.
//!
//! Catalog and health are answered from this agent's own copy of the catalog, also when no server
//! can be reached. Keys and the state of the cluster are a server's to answer: an agent that is
//! none passes those requests on.
//!
//! # Invariants
//!
//! - Every read takes `index` and `wait` and answers with `X-Consul-Index`, never zero.
//! - Lists are never `null`.
//! - A failure is one line of plain text.
//!
//! # Deliberately absent
//!
//! - Transactions, prepared queries, events, ACLs, the mesh: each is refused by name.
//! - Running checks. The agent does, from the definitions that registering puts into the catalog.

mod agent;
mod catalog;
mod checks;
mod decode;
mod health;
mod keyring;
mod kv;
mod register;
mod respond;
mod sessions;
mod shape;
mod status;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::routing::{MethodRouter, any, get, put};
use cos_http::group::Route;
use cos_http::{Api, ApiError};
use cos_model::catalog::{Catalog, CatalogChange, Health};
use tokio::sync::watch;

/// The discovery side of an agent. The program implements it.
#[async_trait]
pub trait Discovery: Send + Sync + 'static {
    /// The catalog as this agent knows it, now and whenever it changes.
    fn catalog(&self) -> watch::Receiver<Arc<Catalog>>;

    /// Changes the catalog. Returns what was refused, by position.
    async fn change(&self, changes: Vec<CatalogChange>) -> Result<BTreeMap<u32, String>, ApiError>;

    /// Takes a report on one of this agent's TTL checks.
    async fn report(&self, check: &str, status: Health, output: &str) -> Result<(), ApiError>;

    /// Whether scripts that callers of the API bring may run on this machine.
    fn allows_scripts(&self) -> bool;
}

/// What the handlers work with.
#[derive(Clone)]
pub struct Consul {
    /// What all dialects share.
    pub api: Api,
    /// The discovery side of this agent.
    pub discovery: Arc<dyn Discovery>,
}

impl std::fmt::Debug for Consul {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Consul").field("api", &self.api).finish_non_exhaustive()
    }
}

/// All routes of the dialect.
pub fn router(consul: Consul) -> Router {
    Router::new()
        .route("/", get(|| async { "Consul Agent\n" }))
        .merge(agent_routes())
        .merge(catalog_routes())
        .merge(session_routes())
        .route("/v1/kv", any(kv::root))
        .route("/v1/kv/", any(kv::root))
        .route("/v1/kv/{*key}", any(kv::key))
        .route("/v1/status/leader", get(status::leader))
        .route("/v1/status/peers", get(status::peers))
        .route("/v1/operator/raft/configuration", get(status::raft_configuration))
        .route("/v1/operator/raft/peer", group_route(Route::Peer))
        .route("/v1/operator/raft/transfer-leader", group_route(Route::Leadership))
        .route("/v1/operator/autopilot/configuration", group_route(Route::Autopilot))
        .route("/v1/operator/autopilot/health", group_route(Route::Health))
        .route("/v1/snapshot", group_route(Route::Snapshot))
        .route("/v1/snapshot/hash", group_route(Route::Hash))
        .route("/v1/agent/force-leave/{name}", put(status::force_leave))
        .route("/v1/cos/catalog", get(catalog::whole))
        .merge(refused_routes())
        .fallback(|| async { StatusCode::NOT_FOUND })
        .with_state(consul)
}

/// What the dialects answer alike; a server's to answer.
fn group_route(route: Route) -> MethodRouter<Consul> {
    any(move |State(consul): State<Consul>, request: Request| async move {
        if consul.api.control.is_none() {
            return status::ask_a_server(&consul, request).await;
        }
        cos_http::group::answer(&consul.api, route, request).await
    })
}

fn agent_routes() -> Router<Consul> {
    Router::new()
        .route("/v1/agent/self", get(agent::itself))
        .route("/v1/operator/keyring", any(keyring::keyring))
        .route("/v1/agent/members", get(agent::members))
        .route("/v1/agent/services", get(agent::services))
        .route("/v1/agent/service/{id}", get(agent::service))
        .route("/v1/agent/checks", get(agent::checks))
        .route("/v1/agent/health/service/id/{id}", get(agent::health_by_id))
        .route("/v1/agent/health/service/name/{name}", get(agent::health_by_name))
        .route("/v1/agent/service/register", put(register::service).post(register::service))
        .route("/v1/agent/service/deregister/{*id}", put(register::remove_service))
        .route("/v1/agent/service/maintenance/{*id}", put(register::service_maintenance))
        .route("/v1/agent/maintenance", put(register::node_maintenance))
        .route("/v1/agent/check/register", put(register::check).post(register::check))
        .route("/v1/agent/check/deregister/{*id}", put(register::remove_check))
        .route("/v1/agent/check/update/{*id}", put(checks::update))
        .route("/v1/agent/check/pass/{*id}", put(checks::pass))
        .route("/v1/agent/check/warn/{*id}", put(checks::warn))
        .route("/v1/agent/check/fail/{*id}", put(checks::fail))
}

fn catalog_routes() -> Router<Consul> {
    Router::new()
        .route("/v1/catalog/datacenters", get(catalog::datacenters))
        .route("/v1/catalog/nodes", get(catalog::nodes))
        .route("/v1/catalog/services", get(catalog::services))
        .route("/v1/catalog/service/", get(catalog::missing_service))
        .route("/v1/catalog/service/{*name}", get(catalog::service))
        .route("/v1/catalog/node/{*name}", get(catalog::node))
        .route("/v1/catalog/node-services/{*name}", get(catalog::node_services))
        .route("/v1/catalog/register", put(register::catalog_register))
        .route("/v1/catalog/deregister", put(register::catalog_deregister))
        .route("/v1/health/node/{*name}", get(health::node))
        .route("/v1/health/checks/{*name}", get(health::checks))
        .route("/v1/health/service/", get(catalog::missing_service))
        .route("/v1/health/service/{*name}", get(health::service))
        .route("/v1/health/state/{state}", get(health::state))
}

fn session_routes() -> Router<Consul> {
    Router::new()
        .route("/v1/session/create", put(sessions::create))
        .route("/v1/session/destroy/", put(sessions::missing_session))
        .route("/v1/session/destroy/{id}", put(sessions::destroy))
        .route("/v1/session/renew/", put(sessions::missing_session))
        .route("/v1/session/renew/{id}", put(sessions::renew))
        .route("/v1/session/info/", get(sessions::missing_session))
        .route("/v1/session/info/{id}", get(sessions::info))
        .route("/v1/session/node/", get(sessions::missing_node))
        .route("/v1/session/node/{*name}", get(sessions::of_node))
        .route("/v1/session/list", get(sessions::list))
}

/// What clients may ask for and cos does not do yet, told instead of a bare 404.
fn refused_routes() -> Router<Consul> {
    const FAMILIES: [(&str, &str); 7] = [
        ("/v1/txn", "transactions"),
        ("/v1/query/{*rest}", "prepared queries"),
        ("/v1/event/{*rest}", "user events"),
        ("/v1/acl/{*rest}", "ACLs"),
        ("/v1/connect/{*rest}", "the service mesh"),
        ("/v1/config/{*rest}", "configuration entries"),
        ("/v1/coordinate/{*rest}", "network coordinates"),
    ];
    FAMILIES.into_iter().fold(Router::new(), |router, (path, what)| {
        let refuse = any(move || async move {
            ApiError::unsupported(format!("cos does not support {what} yet"))
        });
        router.route(path, refuse)
    })
}
