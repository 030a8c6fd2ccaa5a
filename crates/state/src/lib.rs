//! The replicated state machine: commands in, tables changed, events out.
//!
//! Every server applies the same log in the same order and so holds the same tables. Nothing here
//! reads a clock or draws entropy; the proposer stamps both into the command.
//!
//! # Invariants
//!
//! - **Total.** [`State::apply`] answers every command; what cannot be done is [`Refused`], and a
//!   refused command changes nothing but the index.
//! - **Deterministic.** The same log gives the same tables, events and [`State::hash`].
//! - **Cheap to copy.** A clone shares everything, so a reader's snapshot costs nothing.
//! - **One index per object.** Each object carries the index at which it last changed, and each
//!   table the index at which anything in it last changed.
//!
//! # Deliberately absent
//!
//! - Deciding. Schedulers, deployment watchers and drains compute commands elsewhere; only what
//!   several of them must decide alike is here: evaluations, rollbacks, garbage.
//! - Waiting. [`ControlPlane`] names how callers propose and wait; `server` implements it.

mod autopilot;
mod codec;
mod command;
mod control_plane;
mod digest;
pub mod evaluations;
mod event;
pub mod garbage;
mod group;
pub mod rollback;
mod state;

pub use autopilot::AutopilotConfig;
pub use codec::{DecodeError, FIRST_FORMAT, FORMAT, decode_request, encode_request, format_of};
pub use command::{Command, Origin, Refused, Reply, Request, RestorePart, SchedulerConfig};
pub use control_plane::{
    Committed, ControlPlane, Leadership, Member, MemberStatus, ProposeError, Topic,
};
pub use event::Event;
pub use group::{GroupChange, GroupError, GroupHealth, ServerHealth};
pub use state::{Applied, GroupSummary, RESTORE_BYTES_MAX, RESTORE_GAP, State};
