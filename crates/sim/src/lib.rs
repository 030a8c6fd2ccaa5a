//! A whole cluster in one thread, from one seed.
//!
//! A plain loop takes what happens next from a queue and lets it happen: a message arrives, a disk
//! has synced, a process ends, a user asks for something, something breaks. What servers and agents
//! decide is decided by the shipped pure code (`cos-state`, `cos-scheduler`, the pure modules of
//! `cos-server` and `cos-agent`); clock, network, disks, processes and consensus are modelled here.
//!
//! # Invariants
//!
//! - **The seed decides everything.** The same seed gives the same trace, byte for byte.
//! - **No logic twice.** What the shipped code decides is not decided here a second time, but by
//!   the checkers, which are meant to be independent.
//! - **Never shipped.** Nothing depends on this crate.
//!
//! # Deliberately absent
//!
//! - The real engine below consensus, sockets, real disks: they are tested by processes.

pub mod agent;
pub mod consensus;
pub mod context;
pub mod disk;
pub mod faults;
pub mod invariants;
pub mod machine;
pub mod network;
pub mod options;
pub mod planted;
pub mod random;
pub mod server;
#[cfg(test)]
mod tests;
pub mod trace;
mod words;
pub mod workload;
pub mod world;

pub use options::Options;
pub use planted::Planted;
pub use trace::Keep;
pub use world::{Outcome, run};
