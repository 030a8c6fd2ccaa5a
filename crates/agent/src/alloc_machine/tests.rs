//! Stories of whole allocations, and the property that every story ends as it should.

use cos_drivers::ExitResult;
use cos_model::{DesiredStatus, JobKind, TaskPhase};
use proptest::prelude::*;

use super::*;
use crate::testing;

fn at(second: i64) -> Moment {
    Moment { now: Timestamp((second + 1) * 1_000_000_000), entropy: 0 }
}

fn lifecycle(name: &str, hook: Hook, sidecar: bool) -> Task {
    Task { lifecycle: Some(Lifecycle { hook, sidecar }), ..testing::task(name) }
}

fn machine(kind: JobKind, tasks: Vec<Task>) -> AllocMachine {
    let alloc = testing::alloc_of(1, testing::job(kind, testing::group(tasks)));
    AllocMachine::new(Arc::new(alloc), Timestamp(1))
}

/// A world in which everything asked for happens at once: preparations succeed, starts succeed,
/// stops end the task.
struct World {
    machine: AllocMachine,
    log: Vec<String>,
    second: i64,
}

impl World {
    fn new(machine: AllocMachine) -> Self {
        let mut world = Self { machine, log: Vec::new(), second: 0 };
        let effects = world.machine.begin(at(0));
        world.settle(effects);
        world
    }

    fn give(&mut self, task: &str, input: Input) {
        self.second += 1;
        let effects = self.machine.step(task, input, at(self.second));
        self.settle(effects);
    }

    fn exit(&mut self, task: &str, exit_code: i32) {
        self.log.push(format!("{task} exits {exit_code}"));
        self.give(task, Input::Exited(ExitResult { exit_code, ..ExitResult::default() }));
    }

    fn desire_stop(&mut self) {
        let mut alloc = Allocation::clone(self.machine.alloc());
        alloc.desired = DesiredStatus::Stop;
        let effects = self.machine.update(Arc::new(alloc), at(self.second));
        self.settle(effects);
    }

    fn settle(&mut self, effects: Vec<TaskEffect>) {
        for TaskEffect { task, effect } in effects {
            match effect {
                Effect::Prepare => self.give(&task, Input::Prepared),
                Effect::Launch => {
                    self.log.push(format!("start {task}"));
                    self.give(&task, Input::Started);
                }
                Effect::Stop { .. } => {
                    self.log.push(format!("stop {task}"));
                    self.exit(&task, 143);
                }
                Effect::CancelPreparation | Effect::Signal(_) => {}
            }
        }
        while let Some(task) = self.machine.leaving().first().cloned() {
            self.give(&task, Input::Left);
        }
    }

    fn statuses(&self) -> (ClientStatus, bool) {
        (self.machine.status(), self.machine.is_over())
    }
}

#[test]
fn tasks_begin_in_the_order_of_their_hooks() {
    let tasks = vec![
        testing::task("main"),
        lifecycle("init", Hook::Prestart, false),
        lifecycle("proxy", Hook::Prestart, true),
        lifecycle("after", Hook::Poststart, false),
        lifecycle("cleanup", Hook::Poststop, false),
    ];
    let mut world = World::new(machine(JobKind::Batch, tasks));
    world.exit("init", 0);
    world.exit("after", 0);
    world.exit("main", 0);
    world.exit("cleanup", 0);
    assert_eq!(
        world.log,
        [
            "start init",
            "start proxy",
            "init exits 0",
            "start main",
            "start after",
            "after exits 0",
            "main exits 0",
            "stop proxy",
            "proxy exits 143",
            "start cleanup",
            "cleanup exits 0",
        ]
    );
    assert_eq!(world.statuses(), (ClientStatus::Complete, true));
}

#[test]
fn a_failed_task_ends_its_siblings() {
    let mut one = testing::task("one");
    one.restart.attempts = 0;
    let mut world = World::new(machine(JobKind::Service, vec![one, testing::task("two")]));
    assert_eq!(world.statuses(), (ClientStatus::Running, false));
    world.exit("one", 1);
    assert_eq!(world.log, ["start one", "start two", "one exits 1", "stop two", "two exits 143"]);
    assert_eq!(world.statuses(), (ClientStatus::Failed, true));
    let two = world.machine.task("two").unwrap().state();
    assert!(!two.failed);
    assert!(two.events.iter().any(|e| e.message == "Task's sibling \"one\" failed"));
}

#[test]
fn the_end_of_the_leader_is_the_end_of_all() {
    let leader = Task { leader: true, ..testing::task("leader") };
    let mut world = World::new(machine(JobKind::Batch, vec![testing::task("a"), leader]));
    world.exit("leader", 0);
    assert_eq!(world.log, ["start a", "start leader", "leader exits 0", "stop a", "a exits 143"]);
    assert_eq!(world.statuses(), (ClientStatus::Complete, true));
}

#[test]
fn the_leader_is_stopped_first() {
    let leader = Task { leader: true, ..testing::task("z") };
    let mut world = World::new(machine(JobKind::Service, vec![testing::task("a"), leader]));
    world.desire_stop();
    assert_eq!(world.log[2..], ["stop z", "z exits 143", "stop a", "a exits 143"]);
}

#[test]
fn a_stopped_allocation_still_cleans_up() {
    let tasks = vec![testing::task("main"), lifecycle("cleanup", Hook::Poststop, false)];
    let mut world = World::new(machine(JobKind::Service, tasks));
    world.desire_stop();
    assert_eq!(world.log[1..], ["stop main", "main exits 143", "start cleanup"]);
    assert_eq!(world.statuses(), (ClientStatus::Running, false));
    world.exit("cleanup", 0);
    assert_eq!(world.statuses(), (ClientStatus::Complete, true));
}

#[test]
fn what_never_ran_leaves_nothing_to_clean_up() {
    let tasks = vec![
        lifecycle("init", Hook::Prestart, false),
        testing::task("main"),
        lifecycle("cleanup", Hook::Poststop, false),
    ];
    let mut world = World::new(machine(JobKind::Service, tasks));
    world.desire_stop();
    assert_eq!(world.log, ["start init", "stop init", "init exits 143"]);
    assert_eq!(world.statuses(), (ClientStatus::Complete, true));
}

#[test]
fn the_group_is_found_only_while_a_main_task_runs() {
    let tasks = vec![testing::task("main"), lifecycle("proxy", Hook::Prestart, true)];
    let mut world = World::new(machine(JobKind::Service, tasks));
    assert!(world.machine.advertised().group);
    world.exit("main", 1);
    let advertised = world.machine.advertised();
    assert!(!advertised.group && advertised.tasks.contains("proxy"));
    assert_eq!(world.machine.status(), ClientStatus::Running);
}

fn any_task(name: &'static str) -> impl Strategy<Value = Task> {
    let hooks = prop_oneof![
        3 => Just(None),
        1 => Just(Some((Hook::Prestart, false))),
        1 => Just(Some((Hook::Prestart, true))),
        1 => Just(Some((Hook::Poststart, false))),
        1 => Just(Some((Hook::Poststart, true))),
        1 => Just(Some((Hook::Poststop, false))),
    ];
    (hooks, any::<bool>(), 0_u32..3).prop_map(move |(hook, leader, attempts)| {
        let mut task = testing::task(name);
        task.lifecycle = hook.map(|(hook, sidecar)| Lifecycle { hook, sidecar });
        task.leader = leader && hook.is_none();
        task.restart.attempts = attempts;
        task
    })
}

proptest! {
    /// Whatever tasks end how and when: once the servers want it stopped, everything ends, and no
    /// status is ever taken back.
    #[test]
    fn every_story_ends(
        tasks in (any_task("a"), any_task("b"), any_task("c")),
        service in any::<bool>(),
        exits in proptest::collection::vec((0_usize..3, 0_i32..2, 0_i64..30), 0..12),
    ) {
        let kind = if service { JobKind::Service } else { JobKind::Batch };
        let mut world = World::new(machine(kind, vec![tasks.0, tasks.1, tasks.2]));
        let mut status = world.machine.status();
        for (index, exit_code, gap) in exits {
            world.exit(["a", "b", "c"][index], exit_code);
            world.second += gap;
            let effects = world.machine.tick(at(world.second));
            world.settle(effects);
            prop_assert!(world.machine.status() >= status);
            status = world.machine.status();
            prop_assert_eq!(status.is_terminal(), world.machine.is_over());
        }
        world.desire_stop();
        // A poststop task ends by itself.
        for _ in 0..20 {
            for task in ["a", "b", "c"] {
                world.exit(task, 0);
            }
            world.second += 1000;
            let effects = world.machine.tick(at(world.second));
            world.settle(effects);
        }
        prop_assert!(world.machine.is_over());
        prop_assert!(world.machine.status().is_terminal());
        prop_assert!(world.machine.task_states().values().all(|s| s.phase == TaskPhase::Dead));
        prop_assert_eq!(world.machine.advertised(), Advertised::default());
    }
}
