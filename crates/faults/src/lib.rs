//! Judges what clients saw while a cluster was being hurt.
//!
//! A history is what concurrent clients asked, when, and what they were told. It is linearizable if
//! there is one order of all operations that a single machine could have gone through, in which no
//! operation moved out of the time between its call and its answer. Whoever was not told how an
//! operation ended has to accept that it takes effect at any later time, or never.
//!
//! Nothing here is shipped; the fault suite in `crates/cos/tests/faults` records and asks.
//!
//! # Invariants
//!
//! - Pure: no clock, no thread, no file.
//! - "Not linearizable" is said only of a history that no order explains; what is too large to
//!   decide is said to be that.
//!
//! # Deliberately absent
//!
//! - Clients, servers and faults.

mod check;
mod models;

pub use check::{Model, Operation, Verdict, check};
pub use models::{LockAct, LockModel, RegisterAct, RegisterModel, Value};
