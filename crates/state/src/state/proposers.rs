//! What was answered to whom, so that a request that comes twice is done once.
//!
//! A server that does not learn the outcome of its proposal sends it again, and then both may be in
//! the log (ADR 0010). Each request names its proposer, a number, and the lowest number that the
//! proposer still waits for. Answers below that are forgotten, and a request below it is a copy
//! that nobody waits for.
//!
//! # Invariants
//!
//! - A request is done at most once while its proposer is known.
//! - What is remembered is bounded: proposers, and answers for each. Both are forgotten in the same
//!   moment on every server.

use std::sync::Arc;

use cos_model::ProposerId;
use imbl::OrdMap;
use serde::{Deserialize, Serialize};

use crate::command::{Origin, Refused, Reply};

/// How many proposers are remembered; each start of a server makes one. Beyond it the one that was
/// silent for longest is forgotten, which would need that many restarts between two copies of one
/// request to do harm.
const PROPOSERS_MAX: usize = 64;

/// How many answers are remembered for one proposer. A server has fewer requests open at a time.
pub(super) const ANSWERS_MAX: usize = 4096;

/// What a request was answered, and at which index.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Answer {
    pub(super) index: u64,
    pub(super) reply: Result<Reply, Refused>,
}

/// What is remembered of one proposer.
#[derive(Clone, Debug, Default, PartialEq)]
struct Proposer {
    /// Below this number it waits for nothing.
    settled: u64,
    /// When it was last heard of.
    index: u64,
    answers: OrdMap<u64, Arc<Answer>>,
}

/// What is remembered of all proposers.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Proposers {
    table: OrdMap<ProposerId, Proposer>,
}

/// What is known of a request.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Known {
    /// Nothing: it is to be done.
    New,
    /// It was done, with this answer.
    Answered(Arc<Answer>),
    /// Its proposer does not wait for it any more.
    Settled,
}

impl Proposers {
    /// What is known of the request with this origin.
    pub(super) fn look(&self, origin: &Origin) -> Known {
        let Some(proposer) = self.table.get(&origin.proposer) else { return Known::New };
        match proposer.answers.get(&origin.number) {
            Some(answer) => Known::Answered(Arc::clone(answer)),
            None if origin.number < proposer.settled => Known::Settled,
            None => Known::New,
        }
    }

    /// Notes what a new request was answered.
    pub(super) fn note(&mut self, origin: &Origin, answer: Answer) {
        let mut proposer = self.table.get(&origin.proposer).cloned().unwrap_or_default();
        proposer.index = answer.index;
        proposer.answers.insert(origin.number, Arc::new(answer));
        proposer.settled = proposer.settled.max(origin.settled);
        while let Some(lowest) = proposer.answers.get_min().map(|(number, _)| *number) {
            if lowest >= proposer.settled && proposer.answers.len() <= ANSWERS_MAX {
                break;
            }
            proposer.answers.remove(&lowest);
            proposer.settled = proposer.settled.max(lowest + 1);
        }
        self.table.insert(origin.proposer, proposer);
        if self.table.len() > PROPOSERS_MAX {
            let silent = self.table.iter().min_by_key(|(id, proposer)| (proposer.index, **id));
            let silent = silent.map(|(id, _)| *id);
            silent.map(|id| self.table.remove(&id));
        }
    }

    pub(super) fn to_stored(&self) -> Vec<StoredProposer> {
        let store = |(id, proposer): (&ProposerId, &Proposer)| StoredProposer {
            id: *id,
            settled: proposer.settled,
            index: proposer.index,
            answers: proposer.answers.iter().map(|(n, a)| (*n, Arc::clone(a))).collect(),
        };
        self.table.iter().map(store).collect()
    }

    pub(super) fn from_stored(stored: Vec<StoredProposer>) -> Self {
        let read = |stored: StoredProposer| {
            let answers = stored.answers.into_iter().collect();
            let proposer = Proposer { settled: stored.settled, index: stored.index, answers };
            (stored.id, proposer)
        };
        Self { table: stored.into_iter().map(read).collect() }
    }
}

/// One proposer as it is stored.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct StoredProposer {
    id: ProposerId,
    settled: u64,
    index: u64,
    answers: Vec<(u64, Arc<Answer>)>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(proposer: u128, number: u64, settled: u64) -> Origin {
        Origin { proposer: ProposerId::from_bits(proposer), number, settled }
    }

    fn answer(index: u64) -> Answer {
        Answer { index, reply: Ok(Reply::Done) }
    }

    #[test]
    fn an_answer_is_remembered_until_its_proposer_goes_on() {
        let mut proposers = Proposers::default();
        assert_eq!(proposers.look(&origin(1, 0, 0)), Known::New);
        proposers.note(&origin(1, 0, 0), answer(7));
        assert_eq!(proposers.look(&origin(1, 0, 0)), Known::Answered(Arc::new(answer(7))));
        assert_eq!(proposers.look(&origin(2, 0, 0)), Known::New, "another's is another");
        proposers.note(&origin(1, 2, 0), answer(8));
        assert_eq!(proposers.look(&origin(1, 1, 0)), Known::New, "one that was overtaken");
        proposers.note(&origin(1, 3, 2), answer(9));
        assert_eq!(proposers.look(&origin(1, 0, 0)), Known::Settled);
        assert_eq!(proposers.look(&origin(1, 1, 0)), Known::Settled);
        assert_eq!(proposers.look(&origin(1, 2, 0)), Known::Answered(Arc::new(answer(8))));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut proposers = Proposers::default();
        let many = u64::try_from(ANSWERS_MAX).unwrap() + 10;
        for number in 0..many {
            proposers.note(&origin(1, number, 0), answer(number + 1));
        }
        assert_eq!(proposers.look(&origin(1, 9, 0)), Known::Settled);
        assert_eq!(proposers.look(&origin(1, 10, 0)), Known::Answered(Arc::new(answer(11))));
        for id in 2..u128::try_from(PROPOSERS_MAX).unwrap() + 2 {
            proposers.note(&origin(id, 0, 0), answer(many + u64::try_from(id).unwrap()));
        }
        assert_eq!(proposers.look(&origin(1, 10, 0)), Known::New, "the oldest is forgotten");
        assert_eq!(proposers.table.len(), PROPOSERS_MAX);
    }

    #[test]
    fn what_is_stored_is_what_is_read() {
        let mut proposers = Proposers::default();
        proposers.note(&origin(1, 5, 2), answer(3));
        proposers.note(&origin(9, 1, 0), answer(4));
        assert_eq!(Proposers::from_stored(proposers.to_stored()), proposers);
    }
}
