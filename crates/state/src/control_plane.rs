//! How everybody outside the control plane speaks to it: propose, read, wait.
//!
//! The trait stands here because its vocabulary is [`Command`] and [`State`]. `server` implements
//! it; `http` and the dialects use it, and neither sees the other.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use cos_model::link::ServerAddress;
use cos_model::{ServerId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::command::{Command, Refused, Reply};
use crate::group::{GroupChange, GroupError, GroupHealth};
use crate::state::State;

/// A handle to the control plane of one server.
#[async_trait]
pub trait ControlPlane: Send + Sync + 'static {
    /// Commits a command, through the leader wherever it is, and returns once this server has
    /// applied it. Retries over leader changes until `deadline` in the implementation's
    /// configuration has passed.
    async fn propose(&self, command: Command) -> Result<Committed, ProposeError>;

    /// Returns the state as this server last applied it.
    fn state(&self) -> Arc<State>;

    /// Returns once this server has applied everything that was committed anywhere when the call
    /// began, so that a read of [`ControlPlane::state`] after it is linearizable.
    async fn barrier(&self) -> Result<(), ProposeError>;

    /// Returns once anything in one of the topics changed after `index`, or `wait` passed.
    async fn changed(&self, topics: &[Topic], index: u64, wait: Duration);

    /// Says who leads and how fresh this server's state is.
    fn leadership(&self) -> Leadership;

    /// Lists the servers that gossip knows, of all regions.
    fn members(&self) -> Vec<Member>;

    /// Asks members at these gossip addresses to join. Returns how many answered.
    async fn join(&self, addresses: &[String]) -> Result<usize, ProposeError>;

    /// Lists the consensus group: id, RPC address, whether it votes.
    fn peers(&self) -> Vec<(ServerId, String, bool)>;

    /// Changes the consensus group, through the leader wherever it is. Returns the new leader where
    /// the leadership was handed over.
    async fn change_group(&self, change: GroupChange) -> Result<Option<ServerId>, GroupError>;

    /// Says how the consensus group does, as its leader sees it.
    async fn group_health(&self) -> Result<GroupHealth, GroupError>;

    /// Draws a fresh id.
    fn new_id(&self) -> u128;

    /// Reads the clock.
    fn now(&self) -> Timestamp;
}

/// A table, or a part of one, that can be waited on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Topic {
    /// All nodes.
    Nodes,
    /// All jobs.
    Jobs,
    /// All evaluations.
    Evals,
    /// All allocations.
    Allocs,
    /// All deployments.
    Deployments,
    /// The whole catalog.
    Catalog,
    /// One service name of the catalog.
    Service(Arc<str>),
    /// All keys that begin so.
    Kv(Arc<str>),
    /// The scheduler's configuration.
    SchedulerConfig,
    /// How the consensus group is looked after.
    AutopilotConfig,
}

/// A command that was committed and applied.
#[derive(Clone, Debug, PartialEq)]
pub struct Committed {
    /// The index at which it was applied.
    pub index: u64,
    /// What it answered.
    pub reply: Reply,
}

/// Why a command was not, or perhaps not, done.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ProposeError {
    /// The state machine refused it.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// No leader was found in time; nothing was done.
    #[error("No cluster leader")]
    NoLeader,
    /// It is unknown whether it was done: the leader changed or did not answer in time.
    #[error("request timed out, its outcome is unknown: {0}")]
    Unknown(String),
    /// Too many requests are under way already; nothing was done.
    #[error("too many writes are under way, try again later")]
    Busy,
    /// The server is stopping.
    #[error("the server is shutting down")]
    Stopping,
}

/// Who leads and how fresh a server's state is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leadership {
    /// The leader's addresses, if one is known.
    pub leader: Option<ServerAddress>,
    /// The leader's id, if one is known.
    pub leader_id: Option<ServerId>,
    /// Whether this server leads.
    pub is_leader: bool,
    /// How long ago this server last heard of the leader; zero on the leader.
    pub last_contact: Duration,
    /// The consensus term.
    pub term: u64,
    /// The last log index of this server.
    pub last_log_index: u64,
    /// The last index this server applied.
    pub applied_index: u64,
}

/// A server as gossip knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// `name.region`.
    pub name: String,
    /// Its gossip address.
    pub address: String,
    /// Its gossip port.
    pub port: u16,
    /// Facts: `role`, `region`, `dc`, `build`, `id`, `rpc_addr`, `port`, `expect`, ….
    pub tags: BTreeMap<String, String>,
    /// Whether it answers.
    pub status: MemberStatus,
}

/// Whether a member answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MemberStatus {
    /// It answers.
    Alive,
    /// It said good-bye.
    Left,
    /// It stopped answering.
    Failed,
}

impl MemberStatus {
    /// The word that clients show.
    pub fn name(self) -> &'static str {
        match self {
            Self::Alive => "alive",
            Self::Left => "left",
            Self::Failed => "failed",
        }
    }
}
