//! Remembers who stands for election, so that two servers that noticed the same loss do not take
//! the votes from each other.
//!
//! A pre-vote asks whether one would vote, and promises nothing. So a second candidate would be
//! told yes while the first one is being elected, raise the term, and spoil that election. While a
//! candidate is young, its rivals are therefore told no. That is always safe, and short.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use cos_model::ServerId;
use tokio::time::Instant;

/// How long a candidate is left to win; many times what an election takes.
pub(crate) const CAMPAIGN: Duration = Duration::from_millis(150);

/// The candidate that this server knows of, if there is a young one.
#[derive(Debug, Default)]
pub(crate) struct Campaign {
    candidate: Mutex<Option<(ServerId, Instant)>>,
}

impl Campaign {
    /// Notes that `candidate` stands for election.
    pub(crate) fn note(&self, candidate: ServerId, now: Instant) {
        let mut known = self.candidate.lock().unwrap_or_else(PoisonError::into_inner);
        *known = Some((candidate, now));
    }

    /// For how long rivals of the candidate, if it is another one than `asking`, are told no.
    pub(crate) fn rivals(&self, asking: ServerId, now: Instant) -> Option<Duration> {
        let known = *self.candidate.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, since) = known.filter(|(candidate, _)| *candidate != asking)?;
        let age = now.saturating_duration_since(since);
        CAMPAIGN.checked_sub(age).filter(|left| !left.is_zero())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_candidate_has_no_rivals_for_a_while() {
        let (campaign, first, second) =
            (Campaign::default(), ServerId::from_bits(1), ServerId::from_bits(2));
        let now = Instant::now();
        assert_eq!(campaign.rivals(first, now), None);
        campaign.note(first, now);
        assert_eq!(campaign.rivals(first, now), None, "it is no rival of itself");
        assert_eq!(campaign.rivals(second, now), Some(CAMPAIGN));
        assert_eq!(campaign.rivals(second, now + CAMPAIGN), None);
    }
}
