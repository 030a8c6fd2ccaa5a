//! A request that comes twice is done once, and answered alike.

use cos_model::kv::KvOp;
use cos_model::{ProposerId, Timestamp};
use cos_state::{Command, Origin, Refused, Reply, Request, State, decode_request, encode_request};

fn request(number: u64, settled: u64, op: KvOp) -> Request {
    let origin = Origin { proposer: ProposerId::from_bits(9), number, settled };
    Request { at: Timestamp(1), command: Command::Kv { ops: vec![op] }, origin: Some(origin) }
}

fn create(key: &str, value: &str) -> KvOp {
    let value = value.as_bytes().to_vec();
    KvOp::SetIfUnchanged { key: key.to_owned(), value, flags: 0, expected: 0 }
}

#[test]
fn a_copy_is_answered_with_what_the_first_one_did() {
    let mut state = State::default();
    let first = request(0, 0, create("a", "1"));
    let done = state.apply(1, &first);
    assert_eq!((done.index, done.reply.clone()), (1, Ok(Reply::Kv(true))));
    assert!(!done.events.is_empty());
    // Done again, it would find the key and say no.
    let again = state.apply(2, &first);
    assert_eq!((again.index, again.reply), (1, done.reply));
    assert!(again.events.is_empty());
    assert_eq!((state.index(), state.kv_get("a").unwrap().modify_index), (2, 1));
}

#[test]
fn a_snapshot_remembers_what_was_answered() {
    let mut state = State::default();
    state.apply(1, &request(0, 0, create("a", "1")));
    let mut restored = State::decode_snapshot(&state.encode_snapshot()).unwrap();
    assert_eq!(restored, state);
    let again = restored.apply(2, &request(0, 0, create("a", "1")));
    assert_eq!((again.index, again.reply), (1, Ok(Reply::Kv(true))));
    state.apply(2, &request(0, 0, create("a", "1")));
    assert_eq!(restored.hash(), state.hash());
}

#[test]
fn a_copy_that_nobody_waits_for_is_refused() {
    let mut state = State::default();
    let late = request(0, 0, create("a", "late"));
    state.apply(1, &request(1, 1, create("a", "first")));
    let refused = state.apply(2, &late).reply;
    assert!(matches!(refused, Err(Refused::Invalid(_))), "{refused:?}");
    assert_eq!(state.kv_get("a").unwrap().value, b"first");
}

#[test]
fn a_request_is_read_with_its_origin_as_it_was_written() {
    let request = request(3, 2, create("a", "1"));
    assert_eq!(decode_request(&encode_request(&request)).unwrap(), request);
}
