//! The sentences that a plan leaves in the state, in the words that clients know and match on.

/// A superfluous instance, or one of a job that was stopped.
pub(crate) const NOT_NEEDED: &str = "alloc not needed due to job update";
/// An instance whose replacement has a new definition.
pub(crate) const UPDATING: &str = "alloc is being updated due to job update";
/// An instance whose node cannot be reached.
pub(crate) const LOST: &str = "alloc is lost since its node is down";
/// An instance whose node cannot be reached, and whose job waits for it.
pub(crate) const UNKNOWN: &str = "alloc is unknown since its node is disconnected";
/// One of two instances that do the same work since a node is back.
pub(crate) const RECONNECTED: &str = "alloc not needed due to disconnected client reconnect";
/// An instance that leaves its node.
pub(crate) const MIGRATING: &str = "alloc is being migrated";
/// A failed instance that got a replacement.
pub(crate) const RESCHEDULED: &str = "alloc was rescheduled because it failed";
/// An instance of a system job on a node that is being emptied.
pub(crate) const NODE_TAINTED: &str = "alloc not needed as node is tainted";

/// A blocked evaluation.
pub(crate) const BLOCKED: &str = "created to place remaining allocations";
/// An evaluation that replaces failed instances later.
pub(crate) const DELAYED: &str = "created for delayed rescheduling";

/// An evaluation that looks whether unknown instances are back.
pub(crate) const EXPIRING: &str = "created for delayed disconnect timeout";

/// A deployment that a newer version overtook.
pub(crate) const DEPLOYMENT_OVERTAKEN: &str = "Cancelled due to newer version of job";
/// A deployment of a job that was stopped.
pub(crate) const DEPLOYMENT_STOPPED: &str = "Cancelled because job is stopped";
