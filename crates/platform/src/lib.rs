//! The one seam to the machine: clock, entropy, disk, log, signals, supervised tasks, and the
//! cluster's own protocol.
//!
//! Shells reach the machine only through here, so that a simulator can stand in for it.

pub mod clock;
pub mod disk;
pub mod entropy;
pub mod gate;
pub mod logging;
mod open_files;
pub mod rpc;
pub mod shutdown;
pub mod tasks;
pub mod thread;
pub mod tls;

pub use clock::{Clock, SystemClock};
pub use disk::{Disk, DiskFile};
pub use gate::LogGate;
pub use logging::LogHub;
pub use open_files::{OpenFiles, raise_open_files};
pub use tasks::{Fate, Tasks};
