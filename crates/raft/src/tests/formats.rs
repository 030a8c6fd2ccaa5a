//! Stored and sent forms: what is decoded is what was encoded, and no bytes panic.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use cos_model::ServerId;
use openraft::EntryPayload;
use openraft::impls::BasicNode;
use openraft::raft::{AppendEntriesRequest, VoteRequest};
use proptest::prelude::*;

use crate::bytes::Writer;
use crate::codec;
use crate::log::{self, Mark};
use crate::snapshot;
use crate::types::{Entry, Membership, Payload, SnapshotMeta, StoredMembership, Types, Vote};
use crate::wire::{self, Piece};

fn any_mark() -> impl Strategy<Value = Mark> {
    (0..9_u64, any::<u32>()).prop_map(|(term, index)| Mark { term, index: index.into() })
}

fn any_vote() -> impl Strategy<Value = Vote> {
    (any::<u64>(), any::<u128>(), any::<bool>()).prop_map(|(term, candidate, granted)| {
        codec::vote(log::Vote { term, candidate: ServerId::from_bits(candidate), granted })
    })
}

fn any_membership() -> impl Strategy<Value = Membership> {
    let nodes = prop::collection::btree_map(0..9_u128, "[a-z:0-9]{0,12}", 1..5);
    (nodes, any::<bool>()).prop_map(|(nodes, joint)| {
        let nodes: BTreeMap<ServerId, BasicNode> = nodes
            .into_iter()
            .map(|(id, address)| (ServerId::from_bits(id), BasicNode::new(address)))
            .collect();
        let first: BTreeSet<ServerId> = nodes.keys().take(2).copied().collect();
        let all: BTreeSet<ServerId> = nodes.keys().copied().collect();
        let groups = if joint { vec![first, all] } else { vec![first] };
        Membership::new(groups, nodes).unwrap()
    })
}

fn any_payload() -> impl Strategy<Value = EntryPayload<Payload, ServerId, BasicNode>> {
    prop_oneof![
        Just(EntryPayload::Blank),
        prop::collection::vec(any::<u8>(), 0..40)
            .prop_map(|bytes| EntryPayload::Normal(Payload(bytes.into()))),
        any_membership().prop_map(EntryPayload::Membership),
    ]
}

fn any_meta() -> impl Strategy<Value = SnapshotMeta> {
    (prop::option::of(any_mark()), prop::option::of(any_mark()), any_membership()).prop_map(
        |(last, changed, membership)| SnapshotMeta {
            last_log_id: last.map(codec::log_id),
            last_membership: StoredMembership::new(changed.map(codec::log_id), membership),
        },
    )
}

proptest! {
    #[test]
    fn append_messages_survive(
        vote in any_vote(),
        previous in prop::option::of(any_mark()),
        commit in prop::option::of(any_mark()),
        payloads in prop::collection::vec(any_payload(), 0..5),
    ) {
        let first = previous.map_or(0, |previous| previous.index + 1);
        let entries: Vec<Entry> = payloads
            .into_iter()
            .zip(first..)
            .map(|(payload, index)| Entry { log_id: codec::log_id(Mark { term: 3, index }), payload })
            .collect();
        let request = AppendEntriesRequest::<Types> {
            vote,
            prev_log_id: previous.map(codec::log_id),
            entries,
            leader_commit: commit.map(codec::log_id),
        };
        let bytes = wire::encode(|writer| wire::write_append(writer, request.clone()));
        let decoded = wire::decode(bytes.clone(), wire::read_append).unwrap();
        prop_assert_eq!(decoded.vote, request.vote);
        prop_assert_eq!(decoded.prev_log_id, request.prev_log_id);
        prop_assert_eq!(decoded.entries, request.entries);
        prop_assert_eq!(decoded.leader_commit, request.leader_commit);
        for end in 0..bytes.len() {
            prop_assert!(wire::decode(bytes.slice(..end), wire::read_append).is_err());
        }
    }

    #[test]
    fn vote_messages_survive(vote in any_vote(), last in prop::option::of(any_mark()), transfer: bool) {
        let last_log_id = last.map(codec::log_id);
        let request = VoteRequest::<Types> { vote, last_log_id, leadership_transfer: transfer };
        let bytes = wire::encode(|writer| wire::write_vote(writer, &request));
        prop_assert_eq!(wire::decode(bytes, wire::read_vote), Ok(request));
    }

    #[test]
    fn snapshots_survive_and_damage_is_noticed(
        vote in any_vote(),
        meta in any_meta(),
        content in prop::collection::vec(any::<u8>(), 0..40),
        at in any::<prop::sample::Index>(),
    ) {
        let content = Bytes::from(content);
        let piece = Piece { vote, meta: meta.clone(), total: 99, offset: 7, content: content.clone() };
        let bytes = wire::encode(|writer| wire::write_piece(writer, &piece));
        prop_assert_eq!(wire::decode(bytes, wire::read_piece), Ok(piece));

        let mut file = snapshot::encode(&meta, &content);
        let decoded = snapshot::decode(&Bytes::from(file.clone())).unwrap();
        prop_assert_eq!((decoded.meta, decoded.snapshot), (meta, content));
        let at = at.index(file.len());
        file[at] ^= 0x40;
        prop_assert!(snapshot::decode(&file.into()).is_err(), "byte {}", at);
    }

    #[test]
    fn the_state_file_survives_and_damage_is_noticed(
        id: u128,
        vote in prop::option::of(any_vote()),
        purged in prop::option::of(any_mark()),
        at in any::<prop::sample::Index>(),
    ) {
        let vote = vote.as_ref().map(codec::stored_vote);
        let state = log::State { id: ServerId::from_bits(id), vote, purged };
        let mut bytes = state.encode();
        prop_assert_eq!(log::State::decode(&bytes), Some(state));
        let at = at.index(bytes.len());
        bytes[at] ^= 0x01;
        prop_assert_eq!(log::State::decode(&bytes), None);
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), first in 0..2_u8) {
        let mut bytes = bytes;
        bytes.insert(0, first);
        let bytes = Bytes::from(bytes);
        drop(wire::decode(bytes.clone(), wire::read_append));
        drop(wire::decode(bytes.clone(), wire::read_append_reply));
        drop(wire::decode(bytes.clone(), wire::read_vote));
        drop(wire::decode(bytes.clone(), wire::read_vote_reply));
        drop(wire::decode(bytes.clone(), wire::read_piece));
        drop(wire::decode(bytes.clone(), wire::read_piece_reply));
        drop(wire::decode(bytes.clone(), wire::read_transfer));
        drop(wire::decode(bytes.clone(), wire::read_transfer_reply));
        drop(snapshot::decode(&bytes));
    }
}

#[test]
fn the_membership_of_no_group_survives() {
    let mut bytes = Vec::new();
    codec::write_membership(&mut Writer::new(&mut bytes), &Membership::default());
    let decoded = codec::read_membership(&mut crate::bytes::Reader::new(bytes.into()));
    assert_eq!(decoded, Ok(Membership::default()));
}
