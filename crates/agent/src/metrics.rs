//! The names of what is counted, as Nomad names them.

/// Allocations that began to run here.
pub(crate) const STARTS: &str = "nomad.client.allocs.start";
/// Restarts of tasks.
pub(crate) const RESTARTS: &str = "nomad.client.allocs.restart";
/// Tasks that the kernel killed because of their memory limit.
pub(crate) const OOM_KILLED: &str = "nomad.client.allocs.oom_killed";
