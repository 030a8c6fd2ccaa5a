//! The one seam to the machine: clock, entropy, supervised tasks, and the cluster's own protocol.
//!
//! Shells reach the machine only through here, so that a simulator can stand in for it.

pub mod clock;
pub mod entropy;
pub mod rpc;
pub mod tasks;

pub use clock::{Clock, SystemClock};
pub use tasks::{Fate, Tasks};
