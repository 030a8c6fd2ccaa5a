//! What must hold in every state of every run, one file each, with where the demand comes from.
//!
//! A run shows facts; each invariant takes those that concern it and says what is wrong. The first
//! violation ends the run.
//!
//! # Invariants
//!
//! - Watching changes nothing.

use std::fmt;

use cos_model::AllocId;
use cos_state::{Applied, Request, State};

use crate::machine::Machine;

mod acknowledged;
mod bounded;
mod capacity;
mod committed;
mod equal_state;
mod fenced;
mod forward_only;
mod kv_model;
mod log_matching;
mod no_double_start;
mod no_ghosts;
mod one_leader;
mod placement;
mod reads;
mod rolling;
mod single_instance;
#[cfg(test)]
mod testing;

/// An entry that a server applied to its state.
#[derive(Debug)]
pub struct AppliedFact<'a> {
    /// The server.
    pub server: usize,
    /// The entry's index.
    pub index: u64,
    /// Whether no server applied it before.
    pub is_first: bool,
    /// The command and its time.
    pub request: &'a Request,
    /// What it did.
    pub applied: &'a Applied,
    /// The state after it.
    pub state: &'a State,
    /// What runs.
    pub machines: &'a [Machine],
}

/// Something that happened.
#[derive(Debug)]
pub enum Fact<'a> {
    /// A server leads.
    Elected {
        /// Which.
        server: usize,
        /// In which term.
        term: u64,
    },
    /// A server wrote an entry, or found it on its disk.
    Written {
        /// The entry's place.
        index: u64,
        /// Its term.
        term: u64,
        /// What it says, in a number.
        fingerprint: u64,
    },
    /// A server learned that an entry is committed.
    Committed {
        /// Which.
        server: usize,
        /// The entry's place.
        index: u64,
        /// Its term.
        term: u64,
        /// What it says, in a number.
        fingerprint: u64,
    },
    /// A server applied an entry to its state.
    Applied(&'a AppliedFact<'a>),
    /// A server took its state from a snapshot.
    Restored {
        /// Which.
        server: usize,
        /// The index of the snapshot.
        index: u64,
        /// The state.
        state: &'a State,
    },
    /// A request of a user became a proposal.
    Proposed {
        /// The request.
        number: u64,
        /// What its entry says, in a number.
        fingerprint: u64,
    },
    /// A user was told that a request is committed.
    Acknowledged {
        /// The request.
        number: u64,
        /// Where.
        index: u64,
    },
    /// A user read.
    Read {
        /// What anybody had been told was committed when the question was asked.
        floor: u64,
        /// The index of the answer.
        index: u64,
    },
    /// An agent took what a server wants of it.
    Obeyed {
        /// Which.
        agent: usize,
        /// The generation it had taken before.
        before: u64,
        /// The generation of the message.
        generation: u64,
        /// How many things it does because of it.
        acts: usize,
    },
    /// An agent started a process.
    Launched {
        /// Which.
        agent: usize,
        /// For which allocation.
        alloc: AllocId,
        /// Whether one of the same task ran that this agent had started or found itself.
        is_double: bool,
    },
    /// A queue was measured.
    Queue {
        /// Which.
        what: &'static str,
        /// How long it is.
        length: usize,
        /// How long it may be.
        limit: usize,
    },
}

/// Something that must hold.
pub trait Invariant: fmt::Debug {
    /// Its name.
    fn name(&self) -> &'static str;

    /// Takes a fact. An error says what is wrong.
    fn observe(&mut self, fact: &Fact<'_>) -> Result<(), String>;
}

/// All that watch.
#[derive(Debug)]
pub struct Watch {
    invariants: Vec<Box<dyn Invariant>>,
    violation: Option<String>,
    newest: u64,
}

impl Watch {
    /// Watches everything; what is promised only where nothing fails, if `is_calm`.
    pub fn new(is_calm: bool) -> Self {
        let mut invariants: Vec<Box<dyn Invariant>> = vec![
            Box::<one_leader::OneLeader>::default(),
            Box::<log_matching::LogMatching>::default(),
            Box::<committed::Committed>::default(),
            Box::<acknowledged::Acknowledged>::default(),
            Box::<equal_state::EqualState>::default(),
            Box::<kv_model::KvModel>::default(),
            Box::<capacity::Capacity>::default(),
            Box::<placement::Placement>::default(),
            Box::<single_instance::SingleInstance>::default(),
            Box::<forward_only::ForwardOnly>::default(),
            Box::<fenced::Fenced>::default(),
            Box::<no_double_start::NoDoubleStart>::default(),
            Box::<no_ghosts::NoGhosts>::default(),
            Box::<reads::Reads>::default(),
            Box::<bounded::Bounded>::default(),
        ];
        if is_calm {
            invariants.push(Box::<rolling::Rolling>::default());
        }
        Self { invariants, violation: None, newest: 0 }
    }

    /// Whether no server has applied an entry so far. Says so once.
    pub fn is_first(&mut self, index: u64) -> bool {
        let is_first = index > self.newest;
        self.newest = self.newest.max(index);
        is_first
    }

    /// Shows a fact to all.
    pub fn observe(&mut self, fact: &Fact<'_>) {
        if self.violation.is_some() {
            return;
        }
        for invariant in &mut self.invariants {
            if let Err(why) = invariant.observe(fact) {
                self.violation = Some(format!("{}: {why}", invariant.name()));
                return;
            }
        }
    }

    /// Notes that something is wrong that no invariant speaks of.
    pub fn fail(&mut self, why: String) {
        self.violation.get_or_insert(why);
    }

    /// What is wrong, if anything.
    pub fn violation(&self) -> Option<&str> {
        self.violation.as_deref()
    }
}
