//! How long no server has been heard of, over restarts of the agent.
//!
//! Pure: both clocks are arguments. Within one run of the agent the monotonic clock counts; what an
//! earlier run saw is added by the wall clock, as nothing else survives.

use std::time::Duration;

use cos_model::Timestamp;

/// How long no server has been heard of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Absence {
    /// When this run last heard of one, or began.
    since: Duration,
    /// How long it had been before this run.
    before: Duration,
}

impl Absence {
    /// Begins a run. `last_contact` is what an earlier one kept; a date in the future is none.
    pub(crate) fn restored(
        now: Duration,
        date: Timestamp,
        last_contact: Option<Timestamp>,
    ) -> Self {
        let before = last_contact.map_or(Duration::ZERO, |last| date.since(last));
        Self { since: now, before }
    }

    /// Notes that a server is connected.
    pub(crate) fn end(&mut self, now: Duration) {
        *self = Self { since: now, before: Duration::ZERO };
    }

    /// How long it has lasted.
    pub(crate) fn lasted(&self, now: Duration) -> Duration {
        now.saturating_sub(self.since).saturating_add(self.before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(number: u64) -> Duration {
        Duration::from_secs(number)
    }

    #[test]
    fn an_absence_counts_from_the_last_contact_over_restarts() {
        let date = Timestamp(1_000_000_000_000);
        let mut absence = Absence::restored(seconds(50), date, None);
        assert_eq!(absence.lasted(seconds(53)), seconds(3));
        absence.end(seconds(60));
        assert_eq!(absence.lasted(seconds(60)), seconds(0));
        // An hour later by the wall clock, the machine was started anew.
        let later = date + seconds(3_600);
        let restored = Absence::restored(seconds(5), later, Some(date));
        assert_eq!(restored.lasted(seconds(7)), seconds(3_602));
        // A clock that was set back says nothing.
        assert_eq!(Absence::restored(seconds(5), date, Some(later)).lasted(seconds(6)), seconds(1));
    }
}
