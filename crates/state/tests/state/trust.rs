//! Examples: a token lets one key in, once; the authority is replaced in order.

use cos_model::Timestamp;
use cos_model::trust::{JoinToken, SealedAuthority, TrustChange};
use cos_state::{Command, Request, State};

/// The second at which tokens of these tests end.
const END: i64 = 100;

fn token(id: u128) -> JoinToken {
    JoinToken {
        id,
        role: "client".to_owned(),
        secret_hash: vec![7],
        created_at: Timestamp::NEVER,
        expires_at: Timestamp(END),
        used: None,
    }
}

/// Applies a change at a second, and returns what it answered.
fn apply(state: &mut State, at: i64, change: TrustChange) -> Result<(), String> {
    let command = Command::Trust(change);
    let request = Request { at: Timestamp(at), command, origin: None };
    let reply = state.apply(state.index() + 1, &request).reply;
    reply.map(|_| ()).map_err(|refused| refused.to_string())
}

fn using(secret: u8, role: &str, by: &str, key: u8) -> TrustChange {
    TrustChange::UseToken {
        id: 1,
        secret_hash: vec![secret],
        role: role.to_owned(),
        by: by.to_owned(),
        key: vec![key],
    }
}

#[track_caller]
fn check(at: i64, change: TrustChange, expected: &str) {
    let mut state = State::default();
    apply(&mut state, 1, TrustChange::CreateToken(token(1))).unwrap();
    let answer = apply(&mut state, at, change).err().unwrap_or_default();
    assert!(answer.starts_with(expected), "{answer}");
    assert_eq!(state.trust().tokens[&1].used.is_some(), answer.is_empty());
}

#[test]
fn a_token_is_used_only_by_whom_it_is_for_and_in_time() {
    check(2, using(7, "client", "a", 1), "");
    check(2, using(8, "client", "a", 1), "this join token is not known here");
    check(2, using(7, "server", "a", 1), "this join token is for a client, and it was used by a s");
    check(END, using(7, "client", "a", 1), "this join token has expired");
    check(END - 1, using(7, "client", "a", 1), "");
}

#[test]
fn a_used_token_is_used_up_but_for_the_key_that_used_it() {
    let mut state = State::default();
    apply(&mut state, 1, TrustChange::CreateToken(token(1))).unwrap();
    apply(&mut state, 2, using(7, "client", "a", 1)).unwrap();
    let index = state.trust().modify_index;
    apply(&mut state, 3, using(7, "client", "a", 1)).unwrap();
    assert_eq!(state.trust().modify_index, index, "an answer that was lost is given again");
    let refused = apply(&mut state, 4, using(7, "client", "b", 2)).unwrap_err();
    assert_eq!(refused, "this join token was used already, by `a`");
}

#[test]
fn tokens_are_revoked_and_forgotten_a_day_after_their_end() {
    let mut state = State::default();
    apply(&mut state, 1, TrustChange::CreateToken(token(1))).unwrap();
    assert!(apply(&mut state, 1, TrustChange::CreateToken(token(1))).is_err(), "one per id");
    apply(&mut state, 1, TrustChange::CreateToken(token(2))).unwrap();
    apply(&mut state, 2, TrustChange::RevokeToken { id: 1 }).unwrap();
    assert!(apply(&mut state, 2, TrustChange::RevokeToken { id: 1 }).is_err());
    let later = 25 * 3600 * 1_000_000_000;
    apply(&mut state, later, TrustChange::CreateToken(token(3))).unwrap();
    assert_eq!(state.trust().tokens.keys().collect::<Vec<_>>(), [&3]);
}

#[test]
fn the_authority_is_replaced_only_by_who_knows_the_one_before() {
    let mut state = State::default();
    let mut set = |version, expected| {
        let authority = SealedAuthority { version, roots: Vec::new(), sealed: Vec::new() };
        apply(&mut state, 1, TrustChange::SetAuthority { authority, expected })
    };
    set(1, 0).unwrap();
    assert!(set(1, 0).is_err());
    set(2, 1).unwrap();
    assert!(set(3, 1).unwrap_err().contains("version 2 instead of 1"));
    let read = State::decode_snapshot(&state.encode_snapshot()).unwrap();
    assert_eq!(read, state);
    assert_eq!(read.trust().authority.as_ref().map(|authority| authority.version), Some(2));
}
