//! Our own form of the engine's structures, for the disk and for the wire.
//!
//! The engine's structures change between its releases; these bytes do not. Whoever changes a
//! form gives it a new version and keeps reading the old one.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use cos_model::ServerId;
use openraft::EntryPayload;
use openraft::impls::BasicNode;

use crate::bytes::{Reader, Truncated, Writer};
use crate::log::{self, Kind, Mark};
use crate::types::{
    Entry, LeaderId, LogId, Membership, Payload, SnapshotMeta, StoredMembership, Vote,
};

const MEMBERSHIP_VERSION: u8 = 1;

/// Why bytes are not what they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DecodeError {
    #[error("ends too early")]
    Truncated,
    #[error("has version {0}, which this program does not know")]
    Version(u8),
    #[error("contains {0}")]
    Invalid(&'static str),
}

impl From<Truncated> for DecodeError {
    fn from(Truncated: Truncated) -> Self {
        Self::Truncated
    }
}

pub(crate) fn mark(id: &LogId) -> Mark {
    Mark { term: **id.committed_leader_id(), index: id.index() }
}

pub(crate) fn log_id(mark: Mark) -> LogId {
    LogId::new_term_index(mark.term, mark.index)
}

pub(crate) fn stored_vote(vote: &Vote) -> log::Vote {
    log::Vote {
        term: vote.leader_id.term,
        candidate: vote.leader_id.voted_for,
        granted: vote.committed,
    }
}

pub(crate) fn vote(stored: log::Vote) -> Vote {
    Vote {
        leader_id: LeaderId { term: stored.term, voted_for: stored.candidate },
        committed: stored.granted,
    }
}

pub(crate) fn stored_entry(entry: Entry) -> log::Entry {
    let (kind, payload) = match entry.payload {
        EntryPayload::Blank => (Kind::Blank, Bytes::new()),
        EntryPayload::Normal(Payload(payload)) => (Kind::Normal, payload),
        EntryPayload::Membership(membership) => {
            let mut bytes = Vec::new();
            write_membership(&mut Writer::new(&mut bytes), &membership);
            (Kind::Membership, bytes.into())
        }
    };
    log::Entry { mark: mark(&entry.log_id), kind, payload }
}

pub(crate) fn entry(stored: log::Entry) -> Result<Entry, DecodeError> {
    let payload = match stored.kind {
        Kind::Blank => EntryPayload::Blank,
        Kind::Normal => EntryPayload::Normal(Payload(stored.payload)),
        Kind::Membership => {
            EntryPayload::Membership(read_membership(&mut Reader::new(stored.payload))?)
        }
    };
    Ok(Entry { log_id: log_id(stored.mark), payload })
}

pub(crate) fn write_log_id(writer: &mut Writer<'_>, id: Option<&LogId>) {
    writer.option(id, |writer, id| {
        writer.u64(**id.committed_leader_id());
        writer.u64(id.index());
    });
}

pub(crate) fn read_log_id(reader: &mut Reader) -> Result<Option<LogId>, DecodeError> {
    reader.option(|reader| {
        let term = reader.u64()?;
        Ok(log_id(Mark { term, index: reader.u64()? }))
    })
}

pub(crate) fn write_vote(writer: &mut Writer<'_>, vote: &Vote) {
    writer.u64(vote.leader_id.term);
    writer.u128(vote.leader_id.voted_for.bits());
    writer.u8(u8::from(vote.committed));
}

pub(crate) fn read_vote(reader: &mut Reader) -> Result<Vote, DecodeError> {
    let term = reader.u64()?;
    let candidate = ServerId::from_bits(reader.u128()?);
    Ok(vote(log::Vote { term, candidate, granted: reader.u8()? != 0 }))
}

pub(crate) fn write_membership(writer: &mut Writer<'_>, membership: &Membership) {
    writer.u8(MEMBERSHIP_VERSION);
    let groups = membership.get_joint_config();
    writer.count(groups.len());
    for voters in groups {
        writer.count(voters.len());
        for id in voters {
            writer.u128(id.bits());
        }
    }
    writer.count(membership.nodes().count());
    for (id, node) in membership.nodes() {
        writer.u128(id.bits());
        writer.bytes(node.addr.as_bytes());
    }
}

pub(crate) fn read_membership(reader: &mut Reader) -> Result<Membership, DecodeError> {
    match reader.u8()? {
        MEMBERSHIP_VERSION => {}
        other => return Err(DecodeError::Version(other)),
    }
    let mut groups = Vec::new();
    for _ in 0..reader.count()? {
        let mut voters = BTreeSet::new();
        for _ in 0..reader.count()? {
            voters.insert(ServerId::from_bits(reader.u128()?));
        }
        groups.push(voters);
    }
    let mut nodes = BTreeMap::new();
    for _ in 0..reader.count()? {
        let id = ServerId::from_bits(reader.u128()?);
        let address = String::from_utf8(reader.bytes()?.into())
            .map_err(|_not_text| DecodeError::Invalid("an address that is no text"))?;
        nodes.insert(id, BasicNode::new(address));
    }
    // The engine's empty membership, of a server that belongs to no cluster yet, is none that
    // can be built from its parts.
    if groups.is_empty() && nodes.is_empty() {
        return Ok(Membership::default());
    }
    Membership::new(groups, nodes)
        .map_err(|_invalid| DecodeError::Invalid("an impossible membership"))
}

pub(crate) fn write_meta(writer: &mut Writer<'_>, meta: &SnapshotMeta) {
    write_log_id(writer, meta.last_log_id.as_ref());
    write_log_id(writer, meta.last_membership.log_id().as_ref());
    write_membership(writer, meta.last_membership.membership());
}

pub(crate) fn read_meta(reader: &mut Reader) -> Result<SnapshotMeta, DecodeError> {
    let last_log_id = read_log_id(reader)?;
    let membership_id = read_log_id(reader)?;
    let last_membership = StoredMembership::new(membership_id, read_membership(reader)?);
    Ok(SnapshotMeta { last_log_id, last_membership })
}
