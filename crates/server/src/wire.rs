//! What servers say to each other beside consensus, and how messages are written.
//!
//! # Invariants
//!
//! - A message is `MessagePack` with field names, so that servers of neighbouring versions
//!   understand each other.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use cos_model::{NodeId, ServerId};
use cos_state::{GroupChange, GroupHealth, Refused, Reply};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Asks the leader to commit an encoded request.
pub(crate) const PROPOSE: &str = "server.propose";
/// Asks the leader for a commit index that is current.
pub(crate) const BARRIER: &str = "server.barrier";
/// Tells the leader which agents were heard of.
pub(crate) const HEARTBEATS: &str = "server.heartbeats";
/// Asks a server whether it belongs to a consensus group already.
pub(crate) const STATUS: &str = "server.status";
/// Asks the leader about the consensus group, or to change it.
pub(crate) const GROUP: &str = "server.group";
/// A stream that says nothing: a follower sees by its end that the leader is gone.
pub(crate) const LEADER_WATCH: &str = "server.watch";
/// Asks a server what it heard of members' certificates.
pub(crate) const CONFIRMATIONS: &str = "server.confirmations";
/// Asks a server to change its gossip keys, or to list them.
pub(crate) const KEYRING: &str = "server.keyring";
/// An agent's stream.
pub(crate) const AGENT_STREAM: &str = "agent.stream";
/// An agent's question.
pub(crate) const AGENT_QUERY: &str = "agent.query";

/// What a command answered.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Answer {
    /// The index at which it was done.
    pub(crate) index: u64,
    pub(crate) reply: Result<Reply, Refused>,
}

/// The answer to [`PROPOSE`].
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Proposed {
    /// It was committed and applied by this entry of the log.
    Done(u64, Answer),
    /// This server does not lead; nothing was done.
    NotLeader,
    /// It is too large for the log; the words say so.
    TooLarge(String),
    /// Nobody knows.
    Unknown(String),
}

/// The answer to [`BARRIER`].
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Confirmed {
    /// Everything up to this index is committed.
    At(u64),
    /// This server does not lead.
    NotLeader,
}

/// The body of [`HEARTBEATS`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Liveness {
    /// Agents that were heard of.
    pub(crate) heard: Vec<NodeId>,
    /// Agents whose connection closed without good-bye.
    pub(crate) closed: Vec<NodeId>,
    /// Agents that stop and mean to be back soon.
    #[serde(default)]
    pub(crate) leaving: Vec<NodeId>,
}

/// The body of [`GROUP`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum GroupAsk {
    /// How the group does.
    Health,
    /// A change of it.
    Change(GroupChange),
}

/// The answer to [`GROUP`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum GroupAnswer {
    /// How the group does.
    Health(GroupHealth),
    /// It was done; the new leader, where the leadership was handed over.
    Done(Option<ServerId>),
    /// This server does not lead; nothing was done.
    NotLeader,
    /// There is no such server; the words name it.
    NotFound(String),
    /// It cannot be done; the words say why.
    Refused(String),
}

/// The answer to [`STATUS`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Status {
    /// Who answers.
    pub(crate) id: ServerId,
    /// Whether it belongs to a consensus group.
    pub(crate) is_initialized: bool,
    /// The servers of its region that it sees alive and that expect as many as it does.
    pub(crate) candidates: Vec<ServerId>,
    /// The consensus group as it knows it.
    pub(crate) members: Vec<ServerId>,
}

/// The answer to [`CONFIRMATIONS`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Confirmations {
    /// The version of the authority that the asked server holds.
    pub(crate) held: u64,
    /// For each node that it heard of, the version of the authority that issued its certificate.
    pub(crate) nodes: BTreeMap<String, u64>,
}

/// The longest wait for an answer that should come at once.
pub(crate) const QUICK_CALL: Duration = Duration::from_secs(2);

/// Encodes a message.
pub(crate) fn encode<T: Serialize>(message: &T) -> Bytes {
    rmp_serde::to_vec_named(message).expect("writing our own types to memory cannot fail").into()
}

/// Decodes a message.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, rmp_serde::decode::Error> {
    rmp_serde::from_slice(bytes)
}
