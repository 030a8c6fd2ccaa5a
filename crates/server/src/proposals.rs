//! Numbers this server's proposals, so that a proposal that is sent twice is done once.
//!
//! # Invariants
//!
//! - A number is open from before its proposal is sent until nobody waits for its answer.
//! - What is said to be settled is not open, and never will be again.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use cos_model::ProposerId;
use cos_state::Origin;

/// The proposals of one server since its start.
#[derive(Debug)]
pub(crate) struct Proposals {
    proposer: ProposerId,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    next: u64,
    numbers: BTreeSet<u64>,
}

/// One proposal whose answer is awaited; dropped when it is not any more.
#[derive(Debug)]
pub(crate) struct Ticket<'a> {
    proposals: &'a Proposals,
    origin: Origin,
}

impl Proposals {
    /// Begins to count, under a name that nobody has had before.
    pub(crate) fn new(proposer: ProposerId) -> Self {
        Self { proposer, open: Mutex::default() }
    }

    /// Opens the next number.
    pub(crate) fn open(&self) -> Ticket<'_> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let number = open.next;
        open.next += 1;
        open.numbers.insert(number);
        let settled = open.numbers.first().copied().unwrap_or(number);
        Ticket { proposals: self, origin: Origin { proposer: self.proposer, number, settled } }
    }
}

impl Ticket<'_> {
    /// What goes with the proposal, each time that it is sent.
    pub(crate) fn origin(&self) -> Origin {
        self.origin
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        let mut open = self.proposals.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.numbers.remove(&self.origin.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_awaited_is_not_settled() {
        let proposals = Proposals::new(ProposerId::from_bits(1));
        let numbers = |ticket: &Ticket<'_>| (ticket.origin().number, ticket.origin().settled);
        let (first, second) = (proposals.open(), proposals.open());
        assert_eq!((numbers(&first), numbers(&second)), ((0, 0), (1, 0)));
        drop(second);
        let third = proposals.open();
        assert_eq!(numbers(&third), (2, 0));
        drop(first);
        assert_eq!(numbers(&proposals.open()), (3, 2));
    }
}
