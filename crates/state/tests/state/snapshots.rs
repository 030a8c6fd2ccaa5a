//! Snapshots: what is shared stays shared, and damage is found.

use std::sync::Arc;

use cos_model::Plan;
use cos_state::{Command, Request, State, decode_request, encode_request};

use crate::samples;
use crate::script::World;

/// How many allocations the tests store.
const MANY: u128 = 1000;

/// A job that is large compared with an allocation.
fn large_job() -> cos_model::Job {
    let mut job = samples::job("web");
    job.meta.insert("text".to_owned(), "x".repeat(10_000));
    job
}

/// A plan with many placements of one job.
fn large_plan(job: &Arc<cos_model::Job>) -> Plan {
    let mut plan = samples::plan(samples::eval(1, "web"));
    plan.placements = (1..=MANY).map(|number| samples::alloc(number, number, job)).collect();
    plan
}

fn world_with_many() -> World {
    let mut world = World::default();
    for number in 1..=MANY {
        let node = Box::new(samples::node(number));
        world.apply(Command::RegisterNode { node, evals: Vec::new() });
    }
    let job = Box::new(large_job());
    world.apply(Command::RegisterJob { job, expected_index: None, eval: None });
    let job = Arc::clone(world.state.job(&samples::job_key("web")).unwrap());
    let plan = Command::ApplyPlan { plan: Box::new(large_plan(&job)) };
    let stored = encode_request(&Request::new(cos_model::Timestamp(1), plan));
    let read = decode_request(&stored).unwrap();
    world.apply(read.command);
    world
}

#[test]
fn a_plan_stores_its_job_once() {
    let job = Arc::new(large_job());
    let plan = Box::new(large_plan(&job));
    let request = Request::new(cos_model::Timestamp(1), Command::ApplyPlan { plan });
    let stored = encode_request(&request);
    let limit = 10_000 + 2_000 + usize::try_from(MANY).unwrap() * 500;
    assert!(stored.len() < limit, "{} bytes", stored.len());
    let read = decode_request(&stored).unwrap();
    assert_eq!(read, request);
    let Command::ApplyPlan { plan } = read.command else { panic!("another command was read") };
    let first = &plan.placements[0];
    assert!(plan.placements.iter().all(|alloc| Arc::ptr_eq(&alloc.job, &first.job)));
    assert!(plan.placements.iter().all(|alloc| Arc::ptr_eq(&alloc.group, &first.group)));
}

#[test]
fn allocations_of_a_version_share_its_job_before_and_after() {
    let world = world_with_many();
    let stored = world.state.encode_snapshot();
    let restored = State::decode_snapshot(&stored).unwrap();
    assert_eq!(restored, world.state);
    for state in [&world.state, &restored] {
        let kept = state.job_version(&samples::job_key("web"), 0).unwrap();
        assert_eq!(state.allocs().count(), usize::try_from(MANY).unwrap());
        assert!(state.allocs().all(|alloc| Arc::ptr_eq(&alloc.job, kept)));
        assert!(state.evals().all(|eval| Arc::ptr_eq(&eval.job.id, &kept.key.id)));
    }
    let node_bytes = 2500;
    let limit = 3 * 12_000 + usize::try_from(MANY).unwrap() * (500 + node_bytes);
    assert!(stored.len() < limit, "{} bytes", stored.len());
}

#[test]
fn every_damaged_byte_is_found() {
    let mut world = World::default();
    world.apply(Command::RegisterNode { node: Box::new(samples::node(1)), evals: Vec::new() });
    let stored = world.state.encode_snapshot();
    for at in 0..stored.len() {
        let mut damaged = stored.clone();
        damaged[at] ^= 0x10;
        assert!(State::decode_snapshot(&damaged).is_err(), "byte {at}");
        assert!(State::decode_snapshot(&stored[..at]).is_err(), "cut at {at}");
    }
    assert!(State::decode_snapshot(&stored).is_ok());
}

#[test]
fn a_later_format_is_refused_by_its_number() {
    let mut stored = State::default().encode_snapshot();
    stored[0] = 9;
    let error = State::decode_snapshot(&stored).unwrap_err();
    assert_eq!(
        error.to_string(),
        "written in format 9 by a newer version of cos, and this one knows formats up to 2; start \
         that version again, nothing was changed"
    );
    stored[0] = 0;
    assert!(State::decode_snapshot(&stored).is_err());
}

/// So that an older program reads what it understands, and refuses what it does not.
#[test]
fn the_format_is_the_lowest_that_has_to_be_known() {
    let mut world = World::default();
    let mut formats = Vec::new();
    for line in [
        "node n1 name=box",
        "kv set a 1",
        "session create s1 on=box delay=15",
        "kv acquire a 1 s1",
        "session destroy s1",
        "session end-delay 5 lasts=15",
        "kv delete a",
    ] {
        let words: Vec<&str> = line.split(' ').collect();
        let request = Request::new(cos_model::Timestamp(1), world.command(&words));
        world.run(&words);
        formats.push((encode_request(&request)[0], world.state.encode_snapshot()[0]));
    }
    assert_eq!(formats, [(1, 1), (1, 1), (2, 2), (2, 2), (2, 2), (2, 1), (1, 1)]);
}

/// Depth is where decoders that recurse overflow the stack.
#[test]
fn deep_nesting_is_an_error_and_what_a_job_file_can_hold_is_not() {
    let mut bytes = vec![1, 0x81, 0xA3, b'z', b'z', b'z'];
    bytes.extend(vec![0x91; 100_000]);
    assert!(decode_request(&bytes).is_err());

    let deep = (0..160).fold(cos_model::Value::Null, |inner, depth| match depth % 2 {
        0 => cos_model::Value::List(vec![inner]),
        _ => cos_model::Value::Map([("k".to_owned(), inner)].into()),
    });
    let mut job = Box::new(samples::job("web"));
    job.extras.insert("deep".to_owned(), deep);
    let command = Command::RegisterJob { job, expected_index: None, eval: None };
    let request = Request::new(cos_model::Timestamp(1), command);
    assert_eq!(decode_request(&encode_request(&request)).unwrap(), request);
}
