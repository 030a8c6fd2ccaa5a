//! What every HTTP dialect of an agent shares: listening, reading requests, waiting, answering,
//! passing on, and measuring.
//!
//! `compat-nomad` and `compat-consul` build their routers from these pieces; this crate itself
//! answers only cos's own few routes ([`router`]).
//!
//! How a dialect uses it:
//!
//! - [`Api`] is the handle that handlers get as axum state.
//! - [`Params`] is an extractor of the query string; [`ReadOptions`] of a whole read request.
//! - [`Api::read`] answers a read: barrier unless `stale`, waiting for `index`, freshness headers.
//!   A dialect with other headers uses [`blocking::wait_for`] and writes its own.
//! - [`ApiError`] is any failure; it becomes a status and a line of text.
//! - [`Forwarder`] passes a request on to another agent, streams and upgrades included.
//! - [`listener::serve`] runs a router on a socket until the program stops.
//!
//! # Invariants
//!
//! - Nothing that a client sends can panic or hang a handler; every limit has a name.
//! - A request is passed on at most [`forward::HOPS_MAX`] times.
//!
//! # Deliberately absent
//!
//! - Shapes of Nomad's or Consul's JSON, besides what both have alike ([`group`]).
//! - Access control by tokens.

pub mod agent;
pub mod api;
pub mod archive;
pub mod blocking;
pub mod body;
pub mod duration;
pub mod error;
pub mod filter;
pub mod forward;
pub mod group;
mod guarded;
pub mod limits;
pub mod listener;
pub mod local;
pub mod metrics;
pub mod middleware;
pub mod page;
pub mod params;
mod refusals;
pub mod reply;
pub mod security;
pub mod snapshot;
mod status;
mod ui;

pub use agent::{AgentHealth, AgentIdentity, AgentInfo, LogLevel};
pub use api::{Api, router};
pub use body::Body;
pub use error::ApiError;
pub use filter::Filter;
pub use forward::Forwarder;
pub use limits::Limits;
pub use local::{LocalError, LocalNode};
pub use metrics::Metrics;
pub use page::{PageKey, page};
pub use params::{Params, ReadOptions};
pub use reply::{Freshness, Reply};
pub use security::{AuthorityView, ClusterSecurity, KeyringOrder, KeyringView, only_from_here};
