//! Which task has to be restarted because a check of it stays bad.
//!
//! Pure: results come with the moment and with the start of the task's present run.

use std::collections::BTreeMap;
use std::sync::Arc;

use cos_model::catalog::Health;
use cos_model::{CheckRestart, Timestamp};

/// Bad results in a row, by check.
#[derive(Clone, Debug, Default)]
pub struct CheckWatch {
    bad: BTreeMap<Arc<str>, u32>,
}

impl CheckWatch {
    /// Takes a result. Returns whether the task has to be restarted; then the count begins anew.
    pub fn result(
        &mut self,
        id: &Arc<str>,
        rule: &CheckRestart,
        result: Health,
        since: Timestamp,
        now: Timestamp,
    ) -> bool {
        let good = match result {
            Health::Passing => true,
            Health::Warning => rule.ignore_warnings,
            Health::Critical => false,
        };
        if good || rule.limit == 0 || now < since + rule.grace {
            self.bad.remove(id);
            return false;
        }
        let bad = self.bad.entry(Arc::clone(id)).or_default();
        *bad += 1;
        if *bad < rule.limit {
            return false;
        }
        self.bad.remove(id);
        true
    }

    /// Forgets a check.
    pub fn forget(&mut self, id: &str) {
        self.bad.remove(id);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Feeds results at seconds (the run began at 0) and lists the seconds of restarts.
    fn check(rule: &CheckRestart, rows: &[(i64, Health)], expected: &[i64]) {
        let id = Arc::from("c");
        let at = |second: i64| Timestamp((second + 1) * 1_000_000_000);
        let mut watch = CheckWatch::default();
        let restarts: Vec<i64> = rows
            .iter()
            .filter(|(second, result)| watch.result(&id, rule, *result, at(0), at(*second)))
            .map(|(second, _)| *second)
            .collect();
        assert_eq!(restarts, expected);
    }

    const BAD: Health = Health::Critical;
    const GOOD: Health = Health::Passing;

    fn rule() -> CheckRestart {
        CheckRestart { limit: 2, grace: Duration::from_secs(10), ignore_warnings: false }
    }

    #[test]
    fn bad_results_in_a_row_restart() {
        check(&rule(), &[(11, BAD), (12, GOOD), (13, BAD), (14, BAD), (15, BAD)], &[14]);
    }

    #[test]
    fn results_within_the_grace_do_not_count() {
        check(&rule(), &[(1, BAD), (2, BAD), (9, BAD), (10, BAD), (11, BAD)], &[11]);
    }

    #[test]
    fn warnings_count_unless_they_are_ignored() {
        let rows = [(11, Health::Warning), (12, Health::Warning)];
        check(&rule(), &rows, &[12]);
        check(&CheckRestart { ignore_warnings: true, ..rule() }, &rows, &[]);
    }

    #[test]
    fn a_limit_of_zero_switches_it_off() {
        check(&CheckRestart { limit: 0, ..rule() }, &[(11, BAD), (12, BAD)], &[]);
    }
}
