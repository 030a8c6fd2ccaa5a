//! Rollouts as agents report them, and what the watcher says.

use std::time::Duration;

use cos_model::{AllocId, ClientStatus, EvalId, JobKind, Update};

use super::*;
use crate::testing::{self, World};

const MINUTE: Duration = Duration::from_mins(1);

fn group(total: u32) -> DeploymentGroup {
    DeploymentGroup {
        promoted: true,
        progress_deadline: 10 * MINUTE,
        desired_total: total,
        ..DeploymentGroup::default()
    }
}

/// A job `web` of which `healths` instances were placed: `h` healthy, `u` unhealthy, `-` unknown.
fn world(healths: &str, group: DeploymentGroup) -> World {
    let mut world = World::new();
    world.add_node(testing::node(1));
    world.register(&testing::job("web", JobKind::Service, group.desired_total));
    roll_out(&mut world, healths, group, 1);
    world
}

fn roll_out(world: &mut World, healths: &str, group: DeploymentGroup, first: u128) {
    let mut group = group;
    if !group.progress_deadline.is_zero() {
        group.require_progress_by = world.now + group.progress_deadline;
    }
    let count = healths.len() as u128;
    if group.desired_canaries > 0 {
        group.placed_canaries = (first..first + count).map(AllocId::from_bits).collect();
    }
    let deployment = world.deployment("web", group);
    let allocs: Vec<(u128, u128)> = (first..first + count).map(|number| (number, 1)).collect();
    world.place("web", &allocs, Some(deployment));
    for (number, health) in (first..).zip(healths.chars()) {
        let healthy = match health {
            'h' => Some(true),
            'u' => Some(false),
            _ => None,
        };
        world.report(number, ClientStatus::Running, healthy);
    }
}

fn decide_latest(world: &mut World) -> Option<Command> {
    let id = world.state.latest_deployment(&testing::key("web")).unwrap().id;
    world.draw(|state, now, ids| decide(state, id, now, ids))
}

/// Says in one line what the watcher wants.
#[track_caller]
fn check(world: &mut World, expected: &str) {
    let said = match decide_latest(world) {
        None => "nothing".to_owned(),
        Some(Command::SetDeploymentStatus { update, revert, eval }) => format!(
            "{}: {}{}{}",
            update.status.name(),
            update.description,
            revert.map_or(String::new(), |job| format!("; registers version {}", job.version)),
            eval.map_or("", |_| "; evaluates"),
        ),
        Some(Command::PromoteDeployment { groups: None, .. }) => "promotes".to_owned(),
        Some(other) => format!("{other:?}"),
    };
    assert_eq!(said, expected);
}

#[test]
fn a_rollout_succeeds_when_all_instances_are_healthy() {
    check(&mut world("hhh", group(3)), "successful: Deployment completed successfully");
    check(&mut world("hh-", group(3)), "nothing");
    check(&mut world("", group(0)), "successful: Deployment completed successfully");
}

#[test]
fn an_unhealthy_instance_may_be_replaced_until_the_deadline() {
    let mut world = world("hu", group(2));
    check(&mut world, "nothing");
    world.pass(11 * MINUTE);
    check(&mut world, "failed: Failed due to progress deadline; evaluates");
}

#[test]
fn without_a_progress_deadline_the_first_unhealthy_instance_fails_the_rollout() {
    let hasty = DeploymentGroup { progress_deadline: Duration::ZERO, ..group(2) };
    check(
        &mut world("hu", hasty.clone()),
        "failed: Failed due to unhealthy allocations; evaluates",
    );
    check(&mut world("h-", hasty), "nothing");
}

#[test]
fn a_failure_without_an_older_stable_version_reverts_to_nothing() {
    let mut world = world("-", DeploymentGroup { auto_revert: true, ..group(1) });
    world.pass(11 * MINUTE);
    check(
        &mut world,
        "failed: Failed due to progress deadline - no stable job version to auto revert to; \
         evaluates",
    );
}

/// Version 0 is stable; version 1 is rolled out, `change` says what is different.
fn second_version(change: impl FnOnce(&mut Job)) -> World {
    let mut world = world("h", DeploymentGroup { auto_revert: true, ..group(1) });
    let success = decide_latest(&mut world).unwrap();
    world.apply(success);
    world.apply(Command::SetJobStability { key: testing::key("web"), version: 0, stable: true });
    let mut job = testing::job("web", JobKind::Service, 1);
    change(&mut job);
    world.register(&job);
    world
}

#[test]
fn a_failure_reverts_to_the_latest_stable_version() {
    let mut world = second_version(|job| drop(job.meta.insert("a".to_owned(), "b".to_owned())));
    roll_out(&mut world, "-", DeploymentGroup { auto_revert: true, ..group(1) }, 9);
    world.pass(11 * MINUTE);
    check(
        &mut world,
        "failed: Failed due to progress deadline - rolling back to job version 0; registers \
         version 0; evaluates",
    );
    let command = decide_latest(&mut world).unwrap();
    world.apply(command);
    let current = world.job("web");
    assert_eq!((current.version, current.meta.len()), (2, 0));
    assert_eq!(decide_latest(&mut world), None);
}

#[test]
fn a_failed_group_without_auto_revert_only_fails() {
    let mut world = second_version(|job| drop(job.meta.insert("a".to_owned(), "b".to_owned())));
    roll_out(&mut world, "-", group(1), 9);
    world.pass(11 * MINUTE);
    check(&mut world, "failed: Failed due to progress deadline; evaluates");
}

#[test]
fn healthy_canaries_wait_for_a_word_or_promote_themselves() {
    let canaries = DeploymentGroup { desired_canaries: 2, promoted: false, ..group(4) };
    let auto = DeploymentGroup { auto_promote: true, ..canaries.clone() };
    check(
        &mut world("hh", canaries),
        "running: Deployment is running but requires manual promotion",
    );
    check(
        &mut world("h-", auto.clone()),
        "running: Deployment is running pending automatic promotion",
    );
    check(&mut world("hh", auto), "promotes");
}

#[test]
fn waiting_for_promotion_is_said_once_and_does_not_expire() {
    let canaries = DeploymentGroup { desired_canaries: 1, promoted: false, ..group(4) };
    let mut world = world("h", canaries);
    let describe = decide_latest(&mut world).unwrap();
    world.apply(describe);
    check(&mut world, "nothing");
    world.pass(11 * MINUTE);
    check(&mut world, "nothing");
    let deployment = world.state.latest_deployment(&testing::key("web")).unwrap();
    assert_eq!(next_deadline(deployment), None);
}

#[test]
fn an_overtaken_rollout_is_left_to_the_scheduler() {
    let mut world = world("-", group(1));
    let mut job = testing::job("web", JobKind::Service, 1);
    job.groups[0].update = Some(Update::default());
    world.register(&job);
    world.pass(11 * MINUTE);
    check(&mut world, "nothing");
}

#[test]
fn health_evaluates_a_rollout_that_is_not_all_placed() {
    let check = |healths: &str, total, report: (u128, Option<bool>), expected: usize| {
        let mut world = world(healths, group(total));
        let update = world.update(report.0, ClientStatus::Running, report.1);
        let evals = world.draw(|state, now, ids| for_health(state, &[update], ids, now));
        assert_eq!(evals.len(), expected, "{healths} of {total}, {report:?}");
        assert!(evals.iter().all(|eval| eval.id != EvalId::default()));
    };
    check("-", 3, (1, Some(true)), 1);
    check("-", 1, (1, Some(true)), 0);
    check("h", 3, (1, Some(true)), 0);
    check("-", 3, (1, Some(false)), 0);
    check("-", 3, (1, None), 0);
}
