//! When a failed instance gets a replacement, by its group's policy.
//!
//! # Invariants
//!
//! - The wait depends on the waits before it, so it survives any number of replacements; the line
//!   of earlier replacements is carried along.

use std::time::Duration;

use cos_model::{Allocation, DelayFunction, Reschedule, RescheduleEvent, Timestamp};

/// How many earlier replacements are remembered where their number is unlimited.
const EVENTS_MAX: usize = 5;

/// When an instance failed: when its last task ended, as far as that is known.
pub(crate) fn failed_at(alloc: &Allocation) -> Timestamp {
    let ends = alloc.task_states.values().map(|state| state.finished_at);
    ends.max().filter(|end| !end.is_never()).unwrap_or(alloc.modify_time)
}

/// When a failed instance is to be replaced, or none if its policy allows no further replacement.
pub(crate) fn due_at(alloc: &Allocation) -> Option<Timestamp> {
    let policy = policy(alloc)?;
    let failed_at = failed_at(alloc);
    let delay = next_delay(alloc, policy);
    let is_allowed = policy.unlimited || {
        let recent = alloc
            .reschedules
            .iter()
            .filter(|event| failed_at.since(event.at) < policy.interval)
            .count();
        let fits_interval = recent == 0 || delay < policy.interval;
        recent < policy.attempts as usize && fits_interval
    };
    is_allowed.then(|| failed_at + delay)
}

/// The line of replacements that a replacement of `alloc` made now carries on.
pub(crate) fn continued(alloc: &Allocation, now: Timestamp) -> Vec<RescheduleEvent> {
    let policy = policy(alloc);
    let keep_from = match policy {
        Some(policy) if !policy.unlimited => {
            alloc.reschedules.partition_point(|event| now.since(event.at) > policy.interval)
        }
        _ => alloc.reschedules.len().saturating_sub(EVENTS_MAX),
    };
    let mut events = alloc.reschedules[keep_from..].to_vec();
    events.push(RescheduleEvent {
        at: now,
        previous: alloc.id,
        previous_node: alloc.node_id,
        delay: policy.map_or(Duration::ZERO, |policy| next_delay(alloc, policy)),
    });
    events
}

fn policy(alloc: &Allocation) -> Option<&Reschedule> {
    alloc.task_group()?.reschedule.as_ref()
}

/// The wait before the next replacement.
fn next_delay(alloc: &Allocation, policy: &Reschedule) -> Duration {
    let Some(last) = alloc.reschedules.last() else { return policy.delay };
    let second_last = alloc.reschedules.iter().rev().nth(1);
    let grown = match policy.delay_function {
        DelayFunction::Constant => return policy.delay,
        DelayFunction::Exponential => last.delay.saturating_mul(2),
        DelayFunction::Fibonacci => match second_last {
            // The wait was reset, so a new series began with the last one.
            Some(before) if before.delay == policy.max_delay && last.delay == policy.delay => {
                last.delay
            }
            Some(before) => last.delay.saturating_add(before.delay),
            None => policy.delay,
        },
    };
    if policy.max_delay.is_zero() || grown <= policy.max_delay {
        return grown;
    }
    // An instance that ran longer than the longest wait is taken for cured.
    let ran_for = failed_at(alloc).since(last.at);
    if ran_for > policy.max_delay { policy.delay } else { policy.max_delay }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    const SECOND: Duration = Duration::from_secs(1);

    /// Fails an instance again and again, each time `runs_for` after its placement, and checks the
    /// waits in seconds; `-` means that no replacement follows.
    #[track_caller]
    fn check(policy: &str, runs_for: u32, expected: &str) {
        let mut alloc = testing::failed_alloc(policy);
        let mut now = Timestamp(1_000_000_000_000);
        let mut waits = Vec::new();
        for _ in expected.split_whitespace() {
            now = now + SECOND * runs_for;
            alloc.modify_time = now;
            let Some(due) = due_at(&alloc) else {
                waits.push("-".to_owned());
                break;
            };
            waits.push(due.since(now).as_secs().to_string());
            now = due;
            alloc.reschedules = continued(&alloc, now);
        }
        assert_eq!(waits.join(" "), expected, "{policy}");
    }

    #[test]
    fn waits_grow_as_the_policy_says() {
        check("unlimited delay=30 function=constant", 1, "30 30 30 30");
        check("unlimited delay=30 function=exponential max_delay=200", 1, "30 60 120 200 200 200");
        check("unlimited delay=5 function=fibonacci max_delay=40", 1, "5 5 10 15 25 40 40");
    }

    #[test]
    fn a_long_run_resets_the_wait() {
        check("unlimited delay=30 function=exponential max_delay=100", 101, "30 60 30 60 30");
    }

    #[test]
    fn attempts_are_counted_within_the_interval() {
        check("attempts=2 interval=1200 delay=5 function=constant", 1, "5 5 -");
        check("attempts=2 interval=100 delay=5 function=constant", 60, "5 5 5 5 5");
        check("attempts=0 interval=100 delay=5 function=constant", 1, "-");
    }

    #[test]
    fn without_a_policy_nothing_is_replaced() {
        check("none", 1, "-");
    }
}
