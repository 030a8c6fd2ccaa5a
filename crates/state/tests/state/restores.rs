//! A saved state takes the place of everything, at one place of the log, or nothing happens.

use cos_model::kv::KvOp;
use cos_model::{ProposerId, RestoreId, Timestamp};
use cos_state::{
    AutopilotConfig, Command, Event, Origin, RESTORE_GAP, Refused, Reply, Request, RestorePart,
    State, Topic,
};

use crate::samples;

fn set(key: &str) -> Command {
    let value = key.as_bytes().to_vec();
    Command::Kv { ops: vec![KvOp::Set { key: key.to_owned(), value, flags: 0 }] }
}

fn apply(state: &mut State, index: u64, command: Command) -> Result<Reply, Refused> {
    state.apply(index, &Request::new(Timestamp(1), command)).reply
}

/// A state with a node and keys, whose index is `index`.
fn saved(index: u64) -> State {
    let mut state = State::default();
    let node = Box::new(samples::node(1));
    apply(&mut state, 1, Command::RegisterNode { node, evals: Vec::new() }).unwrap();
    apply(&mut state, index, set("old")).unwrap();
    state
}

fn parts(bytes: &[u8], id: u128, size: usize) -> Vec<RestorePart> {
    let chunks: Vec<&[u8]> = bytes.chunks(size).collect();
    let last = chunks.len() - 1;
    let part = |(number, bytes): (usize, &&[u8])| RestorePart {
        id: RestoreId::from_bits(id),
        number: u32::try_from(number).unwrap(),
        is_last: number == last,
        bytes: bytes.to_vec(),
    };
    chunks.iter().enumerate().map(part).collect()
}

#[test]
fn a_saved_state_takes_the_place_of_everything() {
    for (then, now) in [(5_000_000, 10), (10, 5_000_000)] {
        let saved = saved(then);
        let mut state = State::default();
        apply(&mut state, now, set("new")).unwrap();
        let mut index = now;
        for part in parts(&saved.encode_snapshot(), 1, 300) {
            index += 1;
            let before = state.clone();
            let is_last = part.is_last;
            let applied = state.apply(index, &Request::new(Timestamp(1), Command::Restore(part)));
            if !is_last {
                assert_eq!(applied.reply, Ok(Reply::Done));
                assert_eq!(state.kv_list("").count(), before.kv_list("").count());
                continue;
            }
            let at = before.index().max(then).max(index) + RESTORE_GAP;
            let hash = saved.content_hash();
            assert_eq!(applied.reply, Ok(Reply::Restored { index: at, hash }));
            assert_eq!(applied.events, [Event::Restored]);
            assert_eq!((applied.index, state.index(), state.floor()), (at, at, at));
        }
        assert_eq!(state.content_hash(), saved.content_hash());
        assert!(state.kv_get("old").is_some() && state.kv_get("new").is_none());
        assert_eq!(state.nodes().count(), 1);
        for topic in [Topic::Nodes, Topic::Jobs, Topic::Kv("".into()), Topic::Catalog] {
            assert_eq!(state.topic_index(&topic), state.index(), "{topic:?}");
        }
        // The log goes on where it was, and what comes has later indexes.
        let restored = state.index();
        apply(&mut state, index + 1, set("later")).unwrap();
        assert_eq!(state.index(), restored + 1);
        assert_eq!(state.kv_get("later").unwrap().modify_index, restored + 1);
        assert_ne!(state.content_hash(), saved.content_hash());
        // A replica that gets all that by a snapshot goes on alike.
        let mut replica = State::decode_snapshot(&state.encode_snapshot()).unwrap();
        assert_eq!(replica, state);
        apply(&mut replica, index + 2, set("more")).unwrap();
        apply(&mut state, index + 2, set("more")).unwrap();
        assert_eq!(replica, state);
    }
}

#[test]
fn what_cannot_be_read_changes_nothing() {
    let bytes = saved(9).encode_snapshot();
    for cut in (0..bytes.len()).step_by(97) {
        let mut state = saved(5);
        let before = state.content_hash();
        let mut index = 5;
        for part in parts(&bytes[..cut.max(1)], 1, 500) {
            index += 1;
            let is_last = part.is_last;
            let reply = apply(&mut state, index, Command::Restore(part));
            assert_eq!(reply.is_err(), is_last, "cut at {cut}: {reply:?}");
        }
        assert_eq!(state.content_hash(), before, "cut at {cut}");
        assert_eq!(state.floor(), 0);
    }
}

#[test]
fn parts_of_two_restores_do_not_mix() {
    let bytes = saved(9).encode_snapshot();
    let (one, other) = (parts(&bytes, 1, 400), parts(&bytes, 2, 400));
    assert!(one.len() > 2);
    let mut state = State::default();
    let mut index = 0;
    let mut send = |state: &mut State, part: &RestorePart| {
        index += 1;
        apply(state, index, Command::Restore(part.clone()))
    };
    assert_eq!(send(&mut state, &one[0]), Ok(Reply::Done));
    assert_eq!(send(&mut state, &other[0]), Ok(Reply::Done), "the later one wins");
    assert!(send(&mut state, &one[1]).is_err());
    assert!(send(&mut state, &other[2]).is_err(), "one is missing");
    assert_eq!(state.floor(), 0);
    let mut last = Ok(Reply::Done);
    for part in &one {
        last = send(&mut state, part);
    }
    assert!(matches!(last, Ok(Reply::Restored { .. })), "{last:?}");
    assert!(send(&mut state, one.last().unwrap()).is_err(), "it is over");
}

#[test]
fn a_part_that_comes_twice_is_taken_once() {
    let bytes = saved(9).encode_snapshot();
    let mut state = State::default();
    let mut index = 0;
    let mut last = None;
    for (number, part) in parts(&bytes, 1, 400).into_iter().enumerate() {
        let number = u64::try_from(number).unwrap();
        let origin = Origin { proposer: ProposerId::from_bits(3), number, settled: 0 };
        let request =
            Request { at: Timestamp(1), command: Command::Restore(part), origin: Some(origin) };
        index += 2;
        last = Some(state.apply(index, &request).reply);
        // The copy is answered alike, also the one that comes after the restore.
        assert_eq!(Some(state.apply(index + 1, &request).reply), last);
    }
    assert!(matches!(last, Some(Ok(Reply::Restored { .. }))), "{last:?}");
    assert!(state.kv_get("old").is_some());
}

#[test]
fn how_the_group_is_looked_after_is_stored() {
    let mut state = State::default();
    assert_eq!(state.autopilot_config().create_index, 0);
    let config = AutopilotConfig { min_quorum: 3, ..AutopilotConfig::default() };
    apply(&mut state, 4, Command::SetAutopilotConfig(config.clone())).unwrap();
    apply(&mut state, 5, Command::SetAutopilotConfig(config.clone())).unwrap();
    let stored = AutopilotConfig { create_index: 4, modify_index: 4, ..config };
    assert_eq!(*state.autopilot_config(), stored);
    assert_eq!(state.topic_index(&Topic::AutopilotConfig), 4);
    let read = State::decode_snapshot(&state.encode_snapshot()).unwrap();
    assert_eq!(*read.autopilot_config(), stored);
}
