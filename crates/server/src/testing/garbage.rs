//! What is forgotten, when.

use std::time::Duration;

use cos_model::{ClientStatus, JobKind, NodeId, NodeStatus};
use cos_state::Command;
use cos_state::garbage::{Thresholds, collect};

use super::World;
use crate::testing;

const HOUR: Duration = Duration::from_hours(1);

/// Says what is forgotten at `hours` after what was done last.
#[track_caller]
fn check(world: &mut World, hours: u32, expected: &str) {
    check_at(world, hours, &Thresholds::default(), expected);
}

#[track_caller]
fn check_at(world: &mut World, hours: u32, thresholds: &Thresholds, expected: &str) {
    let command = collect(&world.state, world.now + HOUR * hours, thresholds);
    let said = match command {
        None => "nothing".to_owned(),
        Some(Command::Collect { evals, allocs, deployments, jobs, nodes }) => {
            let count = |what: &str, n: usize| (n > 0).then(|| format!("{n} {what}"));
            [
                count("evals", evals.len()),
                count("allocs", allocs.len()),
                count("deployments", deployments.len()),
                count("jobs", jobs.len()),
                count("nodes", nodes.len()),
            ]
            .into_iter()
            .flatten()
            .collect::<Vec<_>>()
            .join(", ")
        }
        Some(other) => format!("{other:?}"),
    };
    assert_eq!(said, expected);
}

fn world(kind: JobKind) -> World {
    let mut world = World::new();
    world.add_node(testing::node(1));
    world.register(&testing::job("web", kind, 1));
    world.place("web", &[(1, 1)], None);
    world.report(1, ClientStatus::Running, None);
    world
}

#[test]
fn what_runs_is_kept() {
    check(&mut world(JobKind::Service), 1000, "nothing");
}

#[test]
fn a_finished_batch_instance_is_kept_until_its_job_goes() {
    let mut world = world(JobKind::Batch);
    world.report(1, ClientStatus::Complete, None);
    check(&mut world, 3, "nothing");
    check(&mut world, 5, "1 evals, 1 allocs, 1 jobs");
}

#[test]
fn a_stopped_job_goes_after_its_time_and_at_once_if_forced() {
    let mut world = world(JobKind::Service);
    world.apply(Command::StopJob { key: testing::key("web"), purge: false, eval: None });
    world.report(1, ClientStatus::Complete, None);
    check(&mut world, 0, "nothing");
    check(&mut world, 1, "1 evals, 1 allocs");
    check(&mut world, 4, "1 evals, 1 allocs, 1 jobs");
    check_at(&mut world, 0, &Thresholds::FORCED, "1 evals, 1 allocs, 1 jobs");
}

#[test]
fn a_failed_instance_of_a_living_job_is_kept_for_its_history() {
    let mut world = world(JobKind::Service);
    world.report(1, ClientStatus::Failed, None);
    check(&mut world, 3, "nothing");
}

#[test]
fn a_node_that_is_down_goes_when_nothing_is_left_on_it() {
    let mut world = World::new();
    world.add_node(testing::node(1));
    world.apply(Command::SetNodeStatus {
        id: NodeId::from_bits(1),
        status: NodeStatus::Down,
        message: "Node heartbeat missed".to_owned(),
        evals: Vec::new(),
    });
    check(&mut world, 23, "nothing");
    check(&mut world, 24, "1 nodes");
}

#[test]
fn collecting_leaves_nothing_to_collect() {
    let mut world = world(JobKind::Service);
    world.apply(Command::StopJob { key: testing::key("web"), purge: false, eval: None });
    world.report(1, ClientStatus::Complete, None);
    world.pass(HOUR * 5);
    let command = collect(&world.state, world.now, &Thresholds::default()).unwrap();
    world.apply(command);
    check(&mut world, 1000, "nothing");
}
