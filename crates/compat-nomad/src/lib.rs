//! The dialect of Nomad's HTTP API: its routes, its JSON, its texts.
//!
//! [`router`] is all of it. Each file translates one resource between Nomad's words and commands
//! to, or questions of, the replicated state.
//!
//! # Invariants
//!
//! - Shapes, statuses and texts that clients match on are Nomad's; where a body is wrong, the
//!   status is 400 with the same text (Nomad often says 500).
//! - A route that Nomad has and cos does not is refused by name with 501, never answered wrongly.
//! - A job id may contain slashes, percent-encoded or not.
//!
//! # Deliberately absent
//!
//! - Deciding. Planning for `job plan` is behind [`Planner`], running behind `cos_http::LocalNode`.
//! - Access control; it comes with its own issue, and its routes say so.

mod agent;
mod allocations;
mod client;
mod context;
mod deployments;
mod evaluations;
mod job;
mod jobs;
mod keyring;
mod monitor;
mod namespaces;
mod nodes;
mod operator;
mod search;
mod spec;
mod status;
mod system;
#[cfg(test)]
mod tests;
mod unsupported;
mod wire;

use std::sync::Arc;

use axum::Router;
use axum::handler::Handler;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{MethodFilter, MethodRouter, on};
use cos_http::{Api, middleware};
use cos_model::{Job, Plan};
use cos_state::State;

use context::Nomad;

/// Plans without committing, for `job plan`. The program provides it from the scheduler.
pub trait Planner: Send + Sync + 'static {
    /// Plans a job as if it were registered now. `job.version` is what it would become.
    fn dry_run(&self, state: &State, job: Job) -> Plan;
}

/// All routes of the dialect.
pub fn router(api: Api, planner: Arc<dyn Planner>) -> Router {
    let nomad = Nomad::new(api.clone(), planner);
    Router::new()
        .merge(jobs::routes())
        .merge(job::routes())
        .merge(allocations::routes())
        .merge(evaluations::routes())
        .merge(deployments::routes())
        .merge(nodes::routes())
        .merge(client::routes(&nomad))
        .merge(agent::routes())
        .merge(keyring::routes())
        .merge(status::routes())
        .merge(operator::routes())
        .merge(system::routes())
        .merge(search::routes())
        .merge(namespaces::routes())
        .merge(unsupported::routes())
        .method_not_allowed_fallback(middleware::wrong_method)
        .with_state(nomad)
        .layer(from_fn_with_state(api.clone(), status::check_region))
        .layer(from_fn_with_state(api, middleware::ask_a_server))
        .layer(from_fn(middleware::allow_any_origin))
        .layer(from_fn(middleware::compress))
}

/// A route that takes PUT and POST alike, as almost all of Nomad's writes do.
fn write<H, T>(handler: H) -> MethodRouter<Nomad>
where
    H: Handler<T, Nomad>,
    T: 'static,
{
    on(MethodFilter::PUT.or(MethodFilter::POST), handler)
}
