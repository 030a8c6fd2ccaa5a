//! The control plane of one server: it replicates the state, and the leader among the servers
//! turns what the state says into what is done next.
//!
//! # Invariants
//!
//! - **One writer.** Everything changes through a command in the log; this crate only proposes.
//! - **Decisions are functions.** What to do is computed by the pure modules from (state, now);
//!   the shell around them waits, calls them and proposes what they answer.
//! - **Leadership is a lease on duty.** Duties begin after a barrier and end when the term is lost;
//!   whatever a deposed leader still proposes is checked again by the state machine.
//!
//! # Deliberately absent
//!
//! - Wire formats of clients. The dialects translate and use [`cos_state::ControlPlane`].
//! - Running tasks. Agents do; see [`cos_model::link`] for what is said between the two.

pub mod absence;
mod access;
mod agents;
mod alarms;
mod autopilot;
pub mod blocked;
mod bootstrap;
pub mod broker;
mod catalog_feed;
pub mod config;
pub mod deployments;
pub mod dialogue;
pub mod drain;
pub mod duties;
pub mod evals;
mod feeds;
pub mod follow_up;
mod gossip;
mod group;
pub mod heartbeat;
mod identity;
mod leader;
mod liveness;
mod machine;
mod metrics;
mod peers_file;
mod proposals;
mod publish;
mod queries;
mod registration;
mod reports;
mod rpc;
mod server;
pub mod sessions;
mod shared;
mod shares;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod transport;
mod trust;
mod vigil;
mod waiters;
mod wire;
pub mod work;

pub use config::{Advertise, Bind, Config, Timing};
pub use gossip::{KeyError, KeyringChange, KeyringReport, parse_key};
pub use heartbeat::Limits as HeartbeatLimits;
pub use server::{Server, StartError, server_id};
pub use trust::{AuthorityStatus, Security, TrustError};
pub use work::problem;
