//! The consensus engine's types, as this crate uses them. Nothing outside this crate sees one.

use std::fmt;

use bytes::Bytes;
use cos_model::ServerId;
use openraft::RaftTypeConfig;
use openraft::impls::{BasicNode, leader_id_std};
use openraft::vote::RaftLeaderId;

use crate::machine::Applier;

/// What a proposal carries: bytes that only the state machine understands.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Payload(pub(crate) Bytes);

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl fmt::Display for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

openraft::declare_raft_types!(
    /// One leader per term, as in the paper; a log id is a term and an index.
    pub(crate) Types:
        D = Payload,
        R = Bytes,
        NodeId = ServerId,
        Node = BasicNode,
        Term = u64,
        LeaderId = leader_id_std::LeaderId<u64, ServerId>,
);

pub(crate) type Engine = openraft::Raft<Types, Applier>;
pub(crate) type Entry = <Types as RaftTypeConfig>::Entry;
pub(crate) type LeaderId = <Types as RaftTypeConfig>::LeaderId;
pub(crate) type Vote = <Types as RaftTypeConfig>::Vote;
type Committed = <LeaderId as RaftLeaderId>::Committed;
pub(crate) type LogId = openraft::LogId<Committed>;
pub(crate) type Membership = openraft::Membership<ServerId, BasicNode>;
pub(crate) type StoredMembership = openraft::StoredMembership<Committed, ServerId, BasicNode>;
pub(crate) type SnapshotMeta = openraft::SnapshotMeta<Committed, ServerId, BasicNode>;
pub(crate) type Snapshot = openraft::Snapshot<Committed, ServerId, BasicNode, Bytes>;
