//! The restart policy: what follows the end of a task that was not asked to end.
//!
//! Pure: the moment and the entropy for the jitter are arguments.

use std::time::Duration;

use cos_model::{Restart, RestartMode, Timestamp};
use serde::{Deserialize, Serialize};

use crate::words;

/// How many restarts the current interval has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempts {
    count: u32,
    interval_start: Timestamp,
}

/// What happened to a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It ended and said that all is well.
    Success,
    /// It ended badly, or its checks stayed bad, or it could not be started.
    Failure,
    /// It cannot be started, and trying again would not help.
    Unrecoverable,
}

/// What follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing: it did its work.
    Done,
    /// It is started again after this time.
    Again {
        /// The wait.
        delay: Duration,
        /// Why so.
        reason: String,
    },
    /// It failed for good.
    Fail {
        /// Why.
        reason: String,
    },
}

impl Attempts {
    /// Decides what follows an ending, and counts it. `on_success` says whether a good end is to be
    /// followed by a restart as well, as it is for services.
    pub fn decide(
        &mut self,
        policy: &Restart,
        on_success: bool,
        ending: Ending,
        now: Timestamp,
        entropy: u64,
    ) -> Verdict {
        if ending == Ending::Success && !on_success {
            return Verdict::Done;
        }
        if ending == Ending::Unrecoverable {
            return Verdict::Fail { reason: "Error was unrecoverable".to_owned() };
        }
        if policy.attempts == 0 && policy.mode == RestartMode::Fail {
            return Verdict::Fail { reason: "Policy allows no restarts".to_owned() };
        }
        if self.interval_start.is_never() || now > self.interval_start + policy.interval {
            *self = Self { count: 0, interval_start: now };
        }
        self.count = self.count.saturating_add(1);
        if self.count <= policy.attempts {
            let delay = with_jitter(policy.delay, entropy);
            return Verdict::Again { delay, reason: words::WITHIN_POLICY.to_owned() };
        }
        match policy.mode {
            RestartMode::Fail => Verdict::Fail { reason: exceeded(policy) },
            RestartMode::Delay => {
                let rest = (self.interval_start + policy.interval).since(now);
                Verdict::Again {
                    delay: with_jitter(rest.max(policy.delay), entropy),
                    reason: "Exceeded allowed attempts, applying a delay".to_owned(),
                }
            }
        }
    }
}

fn exceeded(policy: &Restart) -> String {
    format!(
        "Exceeded allowed attempts {} in interval {} and mode is \"fail\"",
        policy.attempts,
        words::go_duration(policy.interval)
    )
}

/// Adds up to a quarter, in whole milliseconds, so that what restarts together drifts apart.
fn with_jitter(delay: Duration, entropy: u64) -> Duration {
    let quarter = u64::try_from(delay.as_millis() / 4).unwrap_or(u64::MAX - 1);
    delay + Duration::from_millis(entropy % (quarter + 1))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn policy(attempts: u32, mode: RestartMode) -> Restart {
        Restart {
            attempts,
            interval: Duration::from_mins(10),
            delay: Duration::from_secs(15),
            mode,
            render_templates: false,
        }
    }

    /// Runs endings at given seconds and writes each verdict in a word or two.
    fn check(policy: &Restart, on_success: bool, endings: &[(i64, Ending)], expected: &[&str]) {
        let mut attempts = Attempts::default();
        let verdicts: Vec<String> = endings
            .iter()
            .map(|(second, ending)| {
                let now = Timestamp((second + 1) * 1_000_000_000);
                match attempts.decide(policy, on_success, *ending, now, 0) {
                    Verdict::Done => "done".to_owned(),
                    Verdict::Again { delay, .. } => format!("again {}", delay.as_secs()),
                    Verdict::Fail { reason } => format!("fail: {reason}"),
                }
            })
            .collect();
        assert_eq!(verdicts, expected);
    }

    use Ending::{Failure, Success, Unrecoverable};

    #[test]
    fn a_batch_task_that_succeeds_is_done() {
        check(&policy(2, RestartMode::Fail), false, &[(0, Success)], &["done"]);
    }

    #[test]
    fn a_service_that_ends_well_is_restarted() {
        check(&policy(2, RestartMode::Fail), true, &[(0, Success)], &["again 15"]);
    }

    #[test]
    fn attempts_run_out_within_the_interval() {
        check(
            &policy(2, RestartMode::Fail),
            true,
            &[(0, Failure), (20, Failure), (40, Failure)],
            &[
                "again 15",
                "again 15",
                "fail: Exceeded allowed attempts 2 in interval 10m0s and mode is \"fail\"",
            ],
        );
    }

    #[test]
    fn a_new_interval_begins_a_new_count() {
        check(
            &policy(1, RestartMode::Fail),
            true,
            &[(0, Failure), (601, Failure)],
            &["again 15", "again 15"],
        );
    }

    #[test]
    fn delay_mode_waits_for_the_interval_to_end() {
        check(
            &policy(1, RestartMode::Delay),
            true,
            &[(0, Failure), (100, Failure)],
            &["again 15", "again 500"],
        );
    }

    #[test]
    fn what_cannot_be_started_is_not_tried_again() {
        check(
            &policy(2, RestartMode::Fail),
            true,
            &[(0, Unrecoverable)],
            &["fail: Error was unrecoverable"],
        );
    }

    #[test]
    fn no_attempts_means_no_restart() {
        check(
            &policy(0, RestartMode::Fail),
            true,
            &[(0, Failure)],
            &["fail: Policy allows no restarts"],
        );
    }

    proptest! {
        #[test]
        fn jitter_is_at_most_a_quarter(millis in 0_u64..10_000_000, entropy in any::<u64>()) {
            let delay = Duration::from_millis(millis);
            let jittered = with_jitter(delay, entropy);
            prop_assert!(jittered >= delay && jittered <= delay + delay / 4);
        }

        #[test]
        fn no_interval_sees_more_restarts_than_allowed(
            gaps in proptest::collection::vec(1_i64..400, 1..40),
            attempts in 0_u32..4,
        ) {
            let policy = policy(attempts, RestartMode::Fail);
            let mut state = Attempts::default();
            let mut now = Timestamp(1);
            let mut windows: Vec<(Timestamp, u32)> = Vec::new();
            for gap in gaps {
                now = now + Duration::from_secs(u64::try_from(gap).unwrap());
                let verdict = state.decide(&policy, true, Failure, now, 7);
                let Verdict::Again { .. } = verdict else { continue };
                match windows.last_mut() {
                    Some((start, count)) if now <= *start + policy.interval => *count += 1,
                    _ => windows.push((now, 1)),
                }
            }
            prop_assert!(windows.iter().all(|(_, count)| *count <= attempts));
        }
    }
}
