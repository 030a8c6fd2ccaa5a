//! Makes one machine match its desired allocations.
//!
//! The servers say what shall run here; this crate brings it about and says what happened. Its
//! decisions are pure modules (`task_machine`, `alloc_machine`, `health`, `reconcile`,
//! `environment`, `template`, `services`), each fed with events and the moment at which they
//! happened. Around them stand the shells: [`agent`] starts and follows, `runner` runs one
//! allocation, [`link`] talks to the servers, [`store`] remembers, [`checks`] asks services how they
//! are.
//!
//! # Invariants
//!
//! - **A task outlives its agent.** Stopping, crashing and restarting the agent touches no task; the
//!   next agent finds it by its stored handle, or learns how it ended.
//! - **Observed state goes forward.** What was reported as ended is never reported as running.
//! - **Out of discovery first.** A task that is to be stopped has left the catalog before it gets
//!   its signal.
//! - **Without servers it goes on.** Tasks, restarts, checks and the copy of the catalog need none.
//!
//! # Deliberately absent
//!
//! - How a task is run; see `cos_drivers`.
//! - HTTP, DNS, proxying. They are given the catalog's watch and [`AgentHandle`].

mod absence;
pub mod agent;
pub mod alloc_machine;
mod artifacts;
mod catalog_copy;
pub mod check_restart;
pub mod checks;
pub mod config;
mod directories;
pub mod environment;
pub mod files;
pub mod fingerprint;
pub mod health;
pub mod host_stats;
pub mod link;
mod metrics;
pub mod reconcile;
mod registry;
mod runner;
pub mod services;
pub mod store;
mod table;
pub mod task_machine;
pub mod template;
mod templates;
pub mod words;

#[cfg(test)]
mod testing;

pub use agent::{AgentHandle, AllocError, StartError, start};
pub use checks::{CatalogSink, Ran, ScriptHost, TtlError};
pub use config::Config;
pub use files::{AllocFiles, Chunk, FileError, FileInfo, LogStream, Origin, Span};
pub use host_stats::HostStats;
pub use link::{Link, LinkError};
pub use table::AllocView;
