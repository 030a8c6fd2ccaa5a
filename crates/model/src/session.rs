//! Sessions: who holds locks on keys, and until when.
//!
//! A session stands on a node of the catalog and on checks there. It ends when one of them fails
//! or goes, when it is not renewed in time, or when somebody ends it; the keys that it holds are
//! then released or deleted, and cannot be locked for a while.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::id::SessionId;

/// A session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// Its id.
    pub id: SessionId,
    /// A name for people; may be empty.
    pub name: String,
    /// The node of the catalog that it stands on.
    pub node: Arc<str>,
    /// Ids of the node's checks that have to stand.
    pub node_checks: Vec<String>,
    /// Checks of services on the node that have to stand.
    pub service_checks: Vec<ServiceCheck>,
    /// How long a key that it held cannot be locked after its end.
    pub lock_delay: Duration,
    /// What happens to the keys that it holds at its end.
    pub behavior: Behavior,
    /// How long it lives without being renewed; zero is for ever.
    pub ttl: Duration,
    /// Index of its creation.
    pub create_index: u64,
    /// Index of its last change.
    pub modify_index: u64,
    /// Index at which it was last renewed, or created.
    pub renew_index: u64,
}

/// A check of a service, as a session names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceCheck {
    /// The check's id.
    pub id: String,
    /// The namespace that was named with it; there is only one.
    pub namespace: String,
}

/// What happens to the keys that a session holds at its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Behavior {
    /// They are released.
    #[default]
    Release,
    /// They are deleted.
    Delete,
}

impl Behavior {
    /// The word that clients use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Release => "release",
            Self::Delete => "delete",
        }
    }
}

/// A change of the sessions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SessionOp {
    /// Begins one. Its node must be in the catalog, and its checks must be there and stand. The
    /// same id again changes nothing.
    Create(Box<Session>),
    /// Ends one, if it is there.
    Destroy {
        /// The session.
        id: SessionId,
    },
    /// Lets one live for another TTL.
    Renew {
        /// The session.
        id: SessionId,
    },
    /// Ends those that were not renewed since the index that is given with each.
    Expire {
        /// The sessions, each with the `renew_index` that the leader saw.
        sessions: BTreeMap<SessionId, u64>,
    },
    /// Lets keys be locked again after a session's end.
    EndLockDelays {
        /// The delays that are over.
        delays: BTreeSet<LockDelay>,
    },
}

/// The time after a session's end in which the keys that it held cannot be locked. All keys of one
/// session share one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LockDelay {
    /// The index at which it began.
    pub since: u64,
    /// How long it lasts.
    pub lasts: Duration,
}
