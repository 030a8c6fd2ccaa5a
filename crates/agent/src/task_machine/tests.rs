//! Stories of one task, written as inputs and what follows, and properties of all stories.

use cos_model::RestartMode;
use proptest::prelude::*;

use super::*;
use crate::testing;

fn policy() -> Policy {
    Policy {
        restart: testing::restart(),
        restart_on_success: true,
        kill_signal: "SIGINT".to_owned(),
        kill_timeout: Duration::from_secs(5),
        shutdown_delay: Duration::ZERO,
    }
}

fn at(second: i64) -> Moment {
    Moment { now: Timestamp((second + 1) * 1_000_000_000), entropy: 0 }
}

fn exit(exit_code: i32) -> Input {
    Input::Exited(ExitResult { exit_code, ..ExitResult::default() })
}

fn stop() -> Input {
    Input::Stop { event: None, at_once: false, group_delay: Duration::ZERO }
}

/// A task that runs since second 2.
fn running() -> TaskMachine {
    let mut machine = TaskMachine::new(policy(), Timestamp(1));
    for (second, input) in [(0, Input::Begin), (1, Input::Prepared), (2, Input::Started)] {
        machine.step(input, at(second));
    }
    machine
}

/// Plays inputs at seconds; compares the effects of each in a word, and the events of the whole.
fn check(policy: Policy, story: &[(i64, Input, &str)], events: &[&str]) -> TaskMachine {
    let mut machine = TaskMachine::new(policy, Timestamp(1));
    for (second, input, expected) in story {
        let effects = machine.step(input.clone(), at(*second));
        let words: Vec<&str> = effects
            .iter()
            .map(|effect| match effect {
                Effect::Prepare => "prepare",
                Effect::CancelPreparation => "cancel",
                Effect::Launch => "launch",
                Effect::Stop { .. } => "stop",
                Effect::Signal(_) => "signal",
            })
            .collect();
        assert_eq!(words.join(" "), *expected, "at {second} after {input:?}");
    }
    let told: Vec<String> = machine
        .state()
        .events
        .iter()
        .map(|event| format!("{}: {}", event.kind, event.message))
        .collect();
    assert_eq!(told, events);
    machine
}

#[test]
fn what_ended_while_the_agent_was_away_ended_then() {
    let end = |ended_at: i64| {
        let mut machine = running();
        let exit = ExitResult { ended_at: Some(Timestamp(ended_at)), ..ExitResult::default() };
        machine.step(Input::Exited(exit), at(100));
        let events = &machine.state().events;
        events.iter().find(|event| event.kind == "Terminated").map(|event| event.at)
    };
    let started = running().state().started_at;
    let known = started + Duration::from_secs(5);
    assert_eq!(end(known.0), Some(known));
    // Neither before it began nor in the future.
    assert_eq!(end(1), Some(started));
    assert_eq!(end(at(1_000).now.0), Some(at(100).now));
}

#[test]
fn a_service_that_fails_too_often_is_given_up() {
    let machine = check(
        policy(),
        &[
            (0, Input::Begin, "prepare"),
            (0, Input::Prepared, "launch"),
            (1, Input::Started, ""),
            (2, exit(1), ""),
            (16, Input::Tick, ""),
            (17, Input::Tick, "launch"),
            (18, Input::Started, ""),
            (19, exit(1), ""),
            (34, Input::Tick, "launch"),
            (35, Input::Started, ""),
            (36, exit(1), ""),
            (90, Input::Tick, ""),
        ],
        &[
            "Task Setup: Building Task Directory",
            "Started: Task started by client",
            "Terminated: Exit Code: 1",
            "Restarting: Task restarting in 15s",
            "Started: Task started by client",
            "Terminated: Exit Code: 1",
            "Restarting: Task restarting in 15s",
            "Started: Task started by client",
            "Terminated: Exit Code: 1",
            "Not Restarting: Exceeded allowed attempts 2 in interval 10m0s and mode is \"fail\"",
        ],
    );
    assert!(machine.state().failed && machine.is_dead());
    assert_eq!(machine.state().restarts, 2);
}

#[test]
fn a_batch_task_that_succeeds_is_done() {
    let machine = check(
        Policy { restart_on_success: false, ..policy() },
        &[
            (0, Input::Begin, "prepare"),
            (0, Input::Prepared, "launch"),
            (1, Input::Started, ""),
            (2, exit(0), ""),
        ],
        &[
            "Received: Task received by client",
            "Task Setup: Building Task Directory",
            "Started: Task started by client",
            "Terminated: Exit Code: 0",
        ],
    );
    assert!(machine.is_dead() && !machine.state().failed);
}

#[test]
fn stopping_leaves_discovery_waits_and_then_signals() {
    let machine = check(
        Policy { shutdown_delay: Duration::from_secs(3), ..policy() },
        &[
            (0, Input::Begin, "prepare"),
            (0, Input::Prepared, "launch"),
            (1, Input::Started, ""),
            (5, stop(), ""),
            (5, Input::Tick, ""),
            (6, Input::Left, ""),
            (8, Input::Tick, ""),
            (9, Input::Tick, "stop"),
            (9, stop(), ""),
            (10, Input::Exited(ExitResult { exit_code: 130, signal: 2, ..Default::default() }), ""),
        ],
        &[
            "Received: Task received by client",
            "Task Setup: Building Task Directory",
            "Started: Task started by client",
            "Waiting for shutdown delay: Waiting for shutdown_delay of 3s before killing the task.",
            "Killing: Sent interrupt. Waiting 5s before force killing",
            "Terminated: Exit Code: 130, Signal: 2",
            "Killed: Task successfully killed",
        ],
    );
    assert!(machine.is_dead() && !machine.state().failed);
}

#[test]
fn a_restart_by_a_user_is_at_once_and_uncounted() {
    let machine = check(
        policy(),
        &[
            (0, Input::Begin, "prepare"),
            (0, Input::Prepared, "launch"),
            (1, Input::Started, ""),
            (2, Input::Restart(words::USER_RESTART.to_owned()), ""),
            (2, Input::Left, "stop"),
            (3, exit(143), "launch"),
            (4, Input::Started, ""),
        ],
        &[
            "Received: Task received by client",
            "Task Setup: Building Task Directory",
            "Started: Task started by client",
            "Restart Signaled: User requested task to restart",
            "Terminated: Exit Code: 143",
            "Restarting: Task restarting in 0s",
            "Started: Task started by client",
        ],
    );
    assert_eq!(machine.record().attempts, Attempts::default());
    assert_eq!(machine.state().restarts, 1);
}

#[test]
fn a_bad_check_is_counted_by_the_policy() {
    let one = Restart { attempts: 0, mode: RestartMode::Fail, ..testing::restart() };
    let machine = check(
        Policy { restart: one, ..policy() },
        &[
            (0, Input::Begin, "prepare"),
            (0, Input::Prepared, "launch"),
            (1, Input::Started, ""),
            (2, Input::CheckFailed("healthcheck: check \"x\" unhealthy".to_owned()), ""),
            (2, Input::Left, "stop"),
            (3, exit(143), ""),
        ],
        &[
            "Received: Task received by client",
            "Task Setup: Building Task Directory",
            "Started: Task started by client",
            "Restart Signaled: healthcheck: check \"x\" unhealthy",
            "Terminated: Exit Code: 143",
            "Not Restarting: Policy allows no restarts",
        ],
    );
    assert!(machine.state().failed);
}

#[test]
fn what_is_stopped_while_starting_is_stopped_when_it_runs() {
    check(
        policy(),
        &[
            (0, Input::Begin, "prepare"),
            (0, Input::Prepared, "launch"),
            (1, stop(), ""),
            (2, Input::Started, "stop"),
            (3, exit(143), ""),
        ],
        &[
            "Received: Task received by client",
            "Task Setup: Building Task Directory",
            "Started: Task started by client",
            "Killing: Sent interrupt. Waiting 5s before force killing",
            "Terminated: Exit Code: 143",
            "Killed: Task successfully killed",
        ],
    );
}

#[test]
fn a_driver_that_cannot_fails_the_task_at_once() {
    let refused = Input::StartFailed { message: "no such image".to_owned(), recoverable: false };
    let machine = check(
        policy(),
        &[(0, Input::Begin, "prepare"), (0, Input::Prepared, "launch"), (1, refused, "")],
        &[
            "Received: Task received by client",
            "Task Setup: Building Task Directory",
            "Driver Failure: no such image",
            "Not Restarting: Error was unrecoverable",
        ],
    );
    assert!(machine.state().failed);
}

#[test]
fn a_restored_task_goes_on_or_begins_anew() {
    let mut record = Record::default();
    record.state.phase = TaskPhase::Running;
    record.state.started_at = Timestamp(1);
    let mut found = TaskMachine::restore(policy(), record.clone(), true);
    assert_eq!(found.step(Input::Recovered, at(1)), []);
    assert!(found.is_advertised());
    let mut lost = TaskMachine::restore(policy(), record.clone(), true);
    assert_eq!(lost.step(Input::Lost("gone".to_owned()), at(1)), [Effect::Prepare]);
    let mut idle = TaskMachine::restore(policy(), record, false);
    assert_eq!(idle.step(Input::Begin, at(1)), [Effect::Prepare]);
}

/// Any input, in any order, also such as no runner would give.
fn any_input() -> impl Strategy<Value = Input> {
    let text = || "x".to_owned();
    prop_oneof![
        Just(Input::Begin),
        Just(Input::Prepared),
        any::<bool>().prop_map(|recoverable| Input::PreparationFailed {
            event: words::setup_failure(Timestamp(1), "x"),
            recoverable
        }),
        Just(Input::Started),
        Just(Input::Recovered),
        Just(Input::Lost(text())),
        any::<bool>()
            .prop_map(move |recoverable| Input::StartFailed { message: text(), recoverable }),
        (0..3).prop_map(exit),
        Just(Input::Left),
        Just(Input::StopFailed(text())),
        Just(Input::Tick),
        Just(stop()),
        Just(Input::Restart(text())),
        Just(Input::CheckFailed(text())),
        Just(Input::Signal { signal: text(), reason: text() }),
    ]
}

proptest! {
    #[test]
    fn dead_is_the_end(inputs in proptest::collection::vec((any_input(), 0_i64..40), 0..60)) {
        let mut machine = TaskMachine::new(policy(), Timestamp(1));
        let mut second = 0;
        let mut end: Option<TaskState> = None;
        for (input, gap) in inputs {
            second += gap;
            let effects = machine.step(input, at(second));
            if let Some(end) = &end {
                prop_assert_eq!(machine.state(), end);
                prop_assert!(effects.is_empty());
            } else if machine.is_dead() {
                end = Some(machine.state().clone());
            }
            prop_assert!(machine.state().events.len() <= cos_model::allocation::TASK_EVENTS_MAX);
        }
    }

    /// A process exists from a launch that succeeded to its exit; a second one never begins.
    #[test]
    fn there_is_at_most_one_process(
        choices in proptest::collection::vec((0_u8..10, 0_i64..40), 0..80)
    ) {
        let mut machine = TaskMachine::new(policy(), Timestamp(1));
        let (mut launching, mut running, mut second) = (false, false, 0);
        for (choice, gap) in choices {
            second += gap;
            let input = match choice {
                0 => Input::Begin,
                1 => Input::Prepared,
                2 if launching => { launching = false; running = true; Input::Started }
                3 if running => { running = false; exit(1) }
                4 => Input::Left,
                5 => stop(),
                6 => Input::Restart("x".to_owned()),
                7 => Input::CheckFailed("x".to_owned()),
                8 if launching => {
                    launching = false;
                    Input::StartFailed { message: "x".to_owned(), recoverable: true }
                }
                _ => Input::Tick,
            };
            for effect in machine.step(input, at(second)) {
                if effect == Effect::Launch {
                    prop_assert!(!launching && !running);
                    launching = true;
                }
            }
            if machine.is_dead() {
                prop_assert!(!running && !launching);
            }
        }
    }
}
