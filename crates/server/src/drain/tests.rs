//! Drains step by step, with the cluster answering as the scheduler and agents would.

use cos_model::{DrainSpec, Migrate};
use proptest::prelude::*;

use super::*;
use crate::testing::{self, World};

const HOUR: Duration = Duration::from_hours(1);

/// Two nodes; instances 1.. of a job run on node 1.
fn world(kind: JobKind, count: u32, parallel: u32) -> World {
    let mut world = World::new();
    world.add_node(testing::node(1));
    world.add_node(testing::node(2));
    let mut job = testing::job("web", kind, count);
    job.groups[0].migrate = Some(Migrate { max_parallel: parallel, ..Migrate::default() });
    world.register(&job);
    let allocs: Vec<(u128, u128)> = (1..=u128::from(count)).map(|number| (number, 1)).collect();
    world.place("web", &allocs, None);
    for (number, _) in allocs {
        world.report(number, ClientStatus::Running, None);
    }
    world
}

fn begin(world: &mut World, deadline: Option<Duration>, ignore_system_jobs: bool) {
    begin_on(world, 1, deadline, ignore_system_jobs);
}

fn begin_on(world: &mut World, node: u128, deadline: Option<Duration>, ignore_system_jobs: bool) {
    let started_at = world.now;
    let force_at = deadline.map_or(Timestamp::NEVER, |deadline| started_at + deadline);
    let spec = DrainSpec { deadline, ignore_system_jobs };
    world.apply(Command::SetNodeDrain {
        id: NodeId::from_bits(node),
        drain: Some(DrainState { spec, started_at, force_at }),
        mark_eligible: false,
        evals: Vec::new(),
    });
}

/// Asks and applies; says who was told to move, or that a drain is over.
#[track_caller]
fn check(world: &mut World, expected: &str) {
    let commands = world.draw(|state, now, ids| decide(state, now, ids));
    let mut said = Vec::new();
    for command in commands {
        match &command {
            Command::SetTransitions { transitions, evals } => {
                said.extend(transitions.keys().map(|id| id.bits().to_string()));
                assert!(!evals.is_empty());
            }
            Command::SetNodeDrain { drain: None, .. } => said.push("done".to_owned()),
            other => panic!("{other:?}"),
        }
        world.apply(command);
    }
    assert_eq!(said.join(" "), expected);
}

/// The instance ends on node 1 and a replacement runs on node 2.
fn moves(world: &mut World, number: u128) {
    world.report(number, ClientStatus::Complete, None);
    world.place("web", &[(number + 100, 2)], None);
    world.report(number + 100, ClientStatus::Running, None);
}

#[test]
fn a_service_moves_as_many_at_once_as_its_group_allows() {
    let mut world = world(JobKind::Service, 3, 1);
    begin(&mut world, Some(HOUR), false);
    check(&mut world, "1");
    check(&mut world, "");
    moves(&mut world, 1);
    check(&mut world, "2");
    moves(&mut world, 2);
    check(&mut world, "3");
    moves(&mut world, 3);
    check(&mut world, "done");
    check(&mut world, "");
}

#[test]
fn two_at_once_are_two_at_once() {
    let mut world = world(JobKind::Service, 4, 2);
    begin(&mut world, Some(HOUR), false);
    check(&mut world, "1 2");
    moves(&mut world, 2);
    check(&mut world, "3");
}

#[test]
fn a_stopped_instance_whose_replacement_does_not_run_holds_the_others() {
    let mut world = world(JobKind::Service, 2, 1);
    begin(&mut world, Some(HOUR), false);
    check(&mut world, "1");
    world.report(1, ClientStatus::Complete, None);
    check(&mut world, "");
    world.place("web", &[(101, 2)], None);
    check(&mut world, "");
    world.report(101, ClientStatus::Running, None);
    check(&mut world, "2");
}

#[test]
fn an_instance_that_does_not_serve_moves_at_once() {
    let mut world = world(JobKind::Service, 2, 1);
    world.place("web", &[(9, 1)], None);
    begin(&mut world, Some(HOUR), false);
    check(&mut world, "1 9");
}

#[test]
fn at_the_deadline_everything_moves() {
    let mut service = world(JobKind::Service, 3, 1);
    begin(&mut service, Some(HOUR), false);
    check(&mut service, "1");
    assert_eq!(next_deadline(&service.state, service.now), Some(service.now + HOUR));
    service.pass(HOUR);
    check(&mut service, "2 3");
    check(&mut service, "");
    let mut at_once = world(JobKind::Service, 3, 1);
    begin(&mut at_once, Some(Duration::ZERO), false);
    check(&mut at_once, "1 2 3");
}

#[test]
fn batch_instances_stay_until_the_deadline() {
    let mut world = world(JobKind::Batch, 2, 1);
    begin(&mut world, Some(HOUR), false);
    check(&mut world, "");
    world.report(1, ClientStatus::Complete, None);
    check(&mut world, "");
    world.pass(HOUR);
    check(&mut world, "2");
}

#[test]
fn without_a_deadline_batch_instances_stay_to_their_end() {
    let mut world = world(JobKind::Batch, 1, 1);
    begin(&mut world, None, false);
    world.pass(100 * HOUR);
    check(&mut world, "");
    world.report(1, ClientStatus::Complete, None);
    check(&mut world, "done");
}

#[test]
fn system_instances_go_last_or_stay() {
    let with_system = |ignore| {
        let mut world = world(JobKind::Service, 1, 1);
        world.register(&testing::job("log", JobKind::System, 1));
        world.place("log", &[(50, 1)], None);
        world.report(50, ClientStatus::Running, None);
        begin(&mut world, Some(HOUR), ignore);
        check(&mut world, "1");
        moves(&mut world, 1);
        world
    };
    let mut last = with_system(false);
    check(&mut last, "50");
    last.report(50, ClientStatus::Complete, None);
    check(&mut last, "done");
    let mut ignored = with_system(true);
    check(&mut ignored, "done");
}

#[test]
fn an_empty_node_is_done_at_once() {
    let mut world = World::new();
    world.add_node(testing::node(1));
    begin(&mut world, None, false);
    check(&mut world, "done");
}

proptest! {
    /// However the moves of two drains end, enough instances serve, and in the end both are done.
    #[test]
    fn a_group_never_falls_below_what_it_promised(
        count in 1_u32..6,
        parallel in 1_u32..4,
        homes in prop::collection::vec(1_u128..3, 6),
        order in prop::collection::vec(any::<prop::sample::Index>(), 40),
    ) {
        let mut world = World::new();
        for number in 1..=3 {
            world.add_node(testing::node(number));
        }
        let mut job = testing::job("web", JobKind::Service, count);
        job.groups[0].migrate = Some(Migrate { max_parallel: parallel, ..Migrate::default() });
        world.register(&job);
        for (number, home) in (1..=u128::from(count)).zip(homes) {
            world.place("web", &[(number, home)], None);
            world.report(number, ClientStatus::Running, None);
        }
        for number in [1, 2] {
            begin_on(&mut world, number, Some(HOUR), false);
        }
        let mut moving: Vec<u128> = Vec::new();
        for choice in order {
            for command in world.draw(decide_all) {
                if let Command::SetTransitions { transitions, .. } = &command {
                    moving.extend(transitions.keys().map(|id| id.bits()));
                }
                world.apply(command);
            }
            let serving = world
                .state
                .allocs()
                .filter(|alloc| is_untold(alloc) && serves(&world.state, alloc))
                .count();
            prop_assert!(serving + parallel as usize >= count as usize);
            if !moving.is_empty() {
                let ended = moving.swap_remove(choice.index(moving.len()));
                world.report(ended, ClientStatus::Complete, None);
                world.place("web", &[(ended + 100, 3)], None);
                world.report(ended + 100, ClientStatus::Running, None);
            }
        }
        prop_assert!(!is_under_way(&world.state));
    }
}

fn decide_all(state: &State, now: Timestamp, ids: &mut dyn FnMut() -> u128) -> Vec<Command> {
    decide(state, now, ids)
}
