//! Whether an allocation is healthy within its deployment.
//!
//! The tracker is told what there is to see and when; it answers once, for good.
//!
//! # Invariants
//!
//! - **Pure.** The moment is an argument.
//! - **One verdict.** After it nothing is decided any more.
//! - **Unbroken.** To count as healthy, everything must have been good for `min_healthy_time`
//!   without a break, all of it before `healthy_deadline`.

use std::collections::BTreeMap;
use std::time::Duration;

use cos_model::{HealthCheckKind, Lifecycle, TaskGroup, TaskPhase, TaskState, Timestamp};

/// What the job says about health.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HealthPolicy {
    /// What makes an instance healthy.
    pub kind: HealthCheckKind,
    /// How long all must be good.
    pub min_healthy_time: Duration,
    /// When the time is up, counted from the start of the tracking.
    pub healthy_deadline: Duration,
}

/// The tracker of one allocation.
#[derive(Clone, Debug)]
pub struct HealthTracker {
    policy: HealthPolicy,
    began: Timestamp,
    good_since: Option<Timestamp>,
    verdict: Option<bool>,
}

/// What there is to see of an allocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sight {
    /// How its tasks are.
    pub tasks: TasksSight,
    /// Whether all checks that count pass.
    pub checks_pass: bool,
}

/// How the tasks of an allocation are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TasksSight {
    /// Not all run yet.
    Starting,
    /// All run that should; the newest since then.
    Running(Timestamp),
    /// One ended that should not have.
    Broken,
}

impl HealthTracker {
    /// Begins to track.
    pub fn new(policy: HealthPolicy, now: Timestamp) -> Self {
        Self { policy, began: now, good_since: None, verdict: None }
    }

    /// Takes what there is to see, and returns the verdict if this is the moment it falls.
    pub fn observe(&mut self, sight: Sight, now: Timestamp) -> Option<bool> {
        if self.verdict.is_some() || self.policy.kind == HealthCheckKind::Manual {
            return None;
        }
        let checks_pass = sight.checks_pass || self.policy.kind == HealthCheckKind::TaskStates;
        self.good_since = match sight.tasks {
            TasksSight::Running(since) if checks_pass => {
                Some(self.good_since.unwrap_or(now).max(since))
            }
            _ => None,
        };
        let deadline = self.began + self.policy.healthy_deadline;
        let healthy_at = self.good_since.map(|since| since + self.policy.min_healthy_time);
        if sight.tasks == TasksSight::Broken {
            self.verdict = Some(false);
        } else if healthy_at.is_some_and(|at| now >= at && at <= deadline) {
            self.verdict = Some(true);
        } else if now >= deadline {
            self.verdict = Some(false);
        }
        self.verdict
    }

    /// When to look again if nothing happens.
    pub fn due(&self) -> Option<Timestamp> {
        if self.verdict.is_some() || self.policy.kind == HealthCheckKind::Manual {
            return None;
        }
        let deadline = self.began + self.policy.healthy_deadline;
        let healthy_at = self.good_since.map(|since| since + self.policy.min_healthy_time);
        Some(healthy_at.map_or(deadline, |at| at.min(deadline)))
    }
}

/// Sums the tasks of a group up. A task that is there to end before or after the others may be dead.
pub fn tasks_sight(group: &TaskGroup, states: &BTreeMap<String, TaskState>) -> TasksSight {
    let mut newest = Timestamp::NEVER;
    let mut starting = false;
    for task in &group.tasks {
        let Some(state) = states.get(&task.name) else { return TasksSight::Starting };
        let may_end = matches!(task.lifecycle, Some(Lifecycle { sidecar: false, .. }));
        let poststop = task.lifecycle.is_some_and(|l| l.hook == cos_model::task::Hook::Poststop);
        match state.phase {
            TaskPhase::Dead if state.failed => return TasksSight::Broken,
            TaskPhase::Dead if may_end => {}
            TaskPhase::Dead => return TasksSight::Broken,
            TaskPhase::Pending => starting |= !poststop,
            TaskPhase::Running => newest = newest.max(state.started_at).max(state.last_restart),
        }
    }
    if starting { TasksSight::Starting } else { TasksSight::Running(newest) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: i64 = 1_000_000_000;

    fn at(second: i64) -> Timestamp {
        Timestamp((second + 1) * SECOND)
    }

    fn policy(kind: HealthCheckKind) -> HealthPolicy {
        HealthPolicy {
            kind,
            min_healthy_time: Duration::from_secs(10),
            healthy_deadline: Duration::from_mins(1),
        }
    }

    /// Feeds sights at seconds; returns the second and the verdict.
    fn check(kind: HealthCheckKind, rows: &[(i64, TasksSight, bool)]) -> Option<(i64, bool)> {
        let mut tracker = HealthTracker::new(policy(kind), at(0));
        rows.iter().find_map(|(second, tasks, checks_pass)| {
            let sight = Sight { tasks: *tasks, checks_pass: *checks_pass };
            tracker.observe(sight, at(*second)).map(|verdict| (*second, verdict))
        })
    }

    const RUNNING: TasksSight = TasksSight::Running(Timestamp(2 * SECOND));

    #[test]
    fn healthy_after_the_minimum_time() {
        let rows = [(1, RUNNING, true), (5, RUNNING, true), (11, RUNNING, true)];
        assert_eq!(check(HealthCheckKind::Checks, &rows), Some((11, true)));
    }

    #[test]
    fn a_failing_check_begins_the_time_anew() {
        let rows =
            [(1, RUNNING, true), (5, RUNNING, false), (6, RUNNING, true), (11, RUNNING, true)];
        assert_eq!(check(HealthCheckKind::Checks, &rows), None);
    }

    #[test]
    fn task_states_do_not_ask_for_checks() {
        let rows = [(1, RUNNING, false), (12, RUNNING, false)];
        assert_eq!(check(HealthCheckKind::TaskStates, &rows), Some((12, true)));
    }

    #[test]
    fn the_deadline_ends_the_waiting() {
        let rows = [(1, TasksSight::Starting, false), (60, TasksSight::Starting, false)];
        assert_eq!(check(HealthCheckKind::Checks, &rows), Some((60, false)));
    }

    #[test]
    fn a_dead_task_decides_at_once() {
        assert_eq!(
            check(HealthCheckKind::Checks, &[(3, TasksSight::Broken, true)]),
            Some((3, false))
        );
    }

    #[test]
    fn a_manual_deployment_waits_for_the_user() {
        assert_eq!(check(HealthCheckKind::Manual, &[(600, RUNNING, true)]), None);
    }

    proptest! {
        /// Independent definition: somewhere before the deadline there is a stretch of good sights
        /// that is long enough.
        #[test]
        fn healthy_means_an_unbroken_stretch(good in proptest::collection::vec(any::<bool>(), 70)) {
            let rows: Vec<(i64, TasksSight, bool)> = good
                .iter()
                .enumerate()
                .map(|(second, good)| (i64::try_from(second).unwrap(), RUNNING, *good))
                .collect();
            let verdict = check(HealthCheckKind::Checks, &rows);
            let first = (10..=60).find(|end| (end - 10..=*end).all(|s| good[s]) && *end >= 11);
            let expected = match first {
                Some(end) => (i64::try_from(end).unwrap(), true),
                None => (60, false),
            };
            prop_assert_eq!(verdict, Some(expected));
        }
    }
}
