//! Consensus: one log, in the same order on every server, behind a narrow interface.
//!
//! A server gives this crate a [`StateMachine`] and a [`Transport`], proposes payloads that only
//! its machine understands, and gets each one's index and reply once a majority has stored it
//! durably and this server has applied it. What it must answer itself are the `raft.*` messages
//! of other servers, by passing them to [`Raft::handle`].
//!
//! The engine inside is an existing one (ADR 0001); neither its types nor its stored forms are
//! visible from outside. The log and the snapshots on disk are our own (ADR 0002).
//!
//! Deliberately absent: retries of proposals. Only the proposer knows whether a repeat is
//! harmless; [`ProposeError`] says precisely whether the first attempt may still take effect.

mod bytes;
mod campaign;
mod codec;
mod config;
mod log;
mod machine;
mod metrics;
mod network;
mod raft;
mod recovery;
mod snapshot;
mod store;
#[cfg(test)]
mod tests;
mod types;
mod wire;

pub use config::{Config, Timings};
pub use machine::{Encode, StateMachine};
pub use metrics::{Contact, Metrics};
pub use network::{Transport, TransportError, is_from_leader};
pub use raft::{
    BarrierError, HandleError, MembershipError, PROPOSAL_BYTES_MAX, ProposeError, Raft, StartError,
    TransferError, WaitError,
};
pub use recovery::Recovery;
