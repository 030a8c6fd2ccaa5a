//! When sessions and lock delays end, second by second.

use std::sync::Arc;

use cos_model::session::Behavior;
use cos_state::Command;

use super::*;
use crate::testing::{self, World};

const TTL: u64 = 10;
const DELAY: u64 = 15;

fn session(number: u128, ttl: u64) -> Session {
    Session {
        id: SessionId::from_bits(number),
        name: String::new(),
        node: Arc::from(testing::node(1).name),
        node_checks: Vec::new(),
        service_checks: Vec::new(),
        lock_delay: Duration::from_secs(DELAY),
        behavior: Behavior::Release,
        ttl: Duration::from_secs(ttl),
        create_index: 0,
        modify_index: 0,
        renew_index: 0,
    }
}

fn world() -> World {
    let mut world = World::new();
    world.add_node(testing::node(1));
    world.apply(Command::Session(SessionOp::Create(Box::new(session(1, TTL)))));
    world.apply(Command::Session(SessionOp::Create(Box::new(session(2, 0)))));
    world
}

/// Lets a minute pass, proposes what is due, and says in which seconds something was.
fn play(world: &mut World, mut each: impl FnMut(u64, &mut World, &mut SessionTimers)) -> Vec<u64> {
    let mut timers = SessionTimers::default();
    timers.restore(&world.state, Duration::ZERO);
    let mut seconds = Vec::new();
    for second in 0..60 {
        let now = Duration::from_secs(second);
        each(second, world, &mut timers);
        for op in timers.due(&world.state, now) {
            seconds.push(second);
            world.apply(Command::Session(op));
        }
        timers.restore(&world.state, now);
    }
    seconds
}

#[test]
fn a_session_that_is_not_renewed_ends_after_twice_its_ttl() {
    let mut world = world();
    assert_eq!(play(&mut world, |_, _, _| {}), [2 * TTL]);
    let left: Vec<u128> = world.state.sessions().map(|session| session.id.bits()).collect();
    assert_eq!(left, [2], "one without a ttl lives on");
}

#[test]
fn a_renewal_begins_the_time_anew() {
    let mut world = world();
    let id = SessionId::from_bits(1);
    let ends = play(&mut world, |second, world, _| {
        if second == TTL {
            world.apply(Command::Session(SessionOp::Renew { id }));
        }
    });
    assert_eq!(ends, [3 * TTL]);
}

#[test]
fn a_new_leader_grants_the_time_anew() {
    let mut world = world();
    let ends = play(&mut world, |second, world, timers| {
        if second == TTL {
            *timers = SessionTimers::default();
            timers.restore(&world.state, Duration::from_secs(second));
        }
    });
    assert_eq!(ends, [3 * TTL]);
}

#[test]
fn a_lock_delay_ends_when_it_is_over_and_not_before() {
    let mut world = world();
    let (session, key) = (SessionId::from_bits(2), "k".to_owned());
    let op = cos_model::kv::KvOp::Acquire { key, value: Vec::new(), flags: 0, session };
    world.apply(Command::Kv { ops: vec![op] });
    world.apply(Command::Session(SessionOp::Destroy { id: SessionId::from_bits(1) }));
    world.apply(Command::Session(SessionOp::Destroy { id: session }));
    assert_eq!(world.state.lock_delays().count(), 1);
    assert_eq!(play(&mut world, |_, _, _| {}), [DELAY]);
    assert_eq!(world.state.lock_delays().count(), 0);
}

#[test]
fn what_was_proposed_in_vain_is_proposed_again() {
    let world = world();
    let mut timers = SessionTimers::default();
    timers.restore(&world.state, Duration::ZERO);
    let due = |timers: &mut SessionTimers, second| {
        timers.due(&world.state, Duration::from_secs(second)).len()
    };
    assert_eq!(due(&mut timers, 20), 1);
    assert_eq!(due(&mut timers, 20), 0, "not at full speed");
    assert_eq!(timers.next_due(), Some(Duration::from_secs(21)));
    assert_eq!(due(&mut timers, 21), 1);
    timers.ended(SessionId::from_bits(1));
    assert_eq!(due(&mut timers, 30), 0);
    assert_eq!(timers.next_due(), None);
}
