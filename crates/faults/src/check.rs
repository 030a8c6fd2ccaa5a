//! Looks for an order that explains a history: the search of Wing and Gong, with Lowe's memory of
//! what was tried.
//!
//! The list holds calls and answers by time. The first operations whose calls stand before the
//! first answer may come next; one that fits the state is taken out and the search goes on with the
//! rest. Where nothing fits, the last one is put back. A set of taken operations together with a
//! state that was reached before is not tried again.

use std::collections::HashSet;
use std::hash::Hash;

/// How many combinations of operations and state are tried before a history counts as too large.
const TRIED_MAX: usize = 4_000_000;

/// A thing of which there is one, step by step.
pub trait Model {
    /// What it is at a time.
    type State: Clone + Eq + Hash;
    /// What is done to it, with the answer.
    type Act;

    /// What it is before anything happened.
    fn begin(&self) -> Self::State;

    /// What it is after an act, or none if the act could not have had this answer.
    fn step(&self, state: &Self::State, act: &Self::Act) -> Option<Self::State>;

    /// Whether an act without an answer may have been noticed by one of the others. One that was
    /// not is left out at first, as if it never took effect.
    fn is_seen(&self, _act: &Self::Act, _others: &[&Self::Act]) -> bool {
        true
    }
}

/// One operation of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation<A> {
    /// When it was asked for, in any unit.
    pub called: u64,
    /// When the answer came; none if it is not known how, or whether, it was done.
    pub answered: Option<u64>,
    /// What it was.
    pub act: A,
}

/// What can be said of a history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// An order explains it.
    Linearizable,
    /// No order does.
    Violated,
    /// It is too large to be decided.
    Undecided,
}

/// Judges the history of one thing.
pub fn check<M: Model>(model: &M, history: &[Operation<M::Act>]) -> Verdict {
    let acts: Vec<&M::Act> = history.iter().map(|operation| &operation.act).collect();
    let seen: Vec<&Operation<M::Act>> = history
        .iter()
        .filter(|operation| operation.answered.is_some() || model.is_seen(&operation.act, &acts))
        .collect();
    let verdict = Search::new(model, &seen).run();
    if verdict == Verdict::Linearizable || seen.len() == history.len() {
        return verdict;
    }
    Search::new(model, &history.iter().collect::<Vec<_>>()).run()
}

/// The end of the list, before its first and after its last entry.
const END: usize = 0;

/// A call or an answer in the list.
#[derive(Clone, Copy)]
struct Entry {
    operation: usize,
    /// For a call, its answer; for an answer, none.
    answer: Option<usize>,
    before: usize,
    after: usize,
}

struct Search<'a, M: Model> {
    model: &'a M,
    operations: &'a [&'a Operation<M::Act>],
    /// Linked by number; number zero is the end.
    entries: Vec<Entry>,
    state: M::State,
    /// One bit for each operation that was taken.
    taken: Vec<u64>,
    /// The calls that were taken, each with the state before it.
    path: Vec<(usize, M::State)>,
    tried: HashSet<(Box<[u64]>, M::State)>,
    /// How many answered operations are left.
    left: usize,
}

impl<'a, M: Model> Search<'a, M> {
    fn new(model: &'a M, operations: &'a [&'a Operation<M::Act>]) -> Self {
        Self {
            model,
            operations,
            entries: entries(operations),
            state: model.begin(),
            taken: vec![0; operations.len().div_ceil(64)],
            path: Vec::new(),
            tried: HashSet::new(),
            left: operations.iter().filter(|operation| operation.answered.is_some()).count(),
        }
    }

    fn run(mut self) -> Verdict {
        let mut at = self.entries[END].after;
        while self.left > 0 {
            if self.tried.len() > TRIED_MAX {
                return Verdict::Undecided;
            }
            let is_call = at != END && self.entries[at].answer.is_some();
            if is_call {
                at = if self.take(at) { self.entries[END].after } else { self.entries[at].after };
                continue;
            }
            // An answer, or the end: everything that could come next was tried.
            let Some(last) = self.put_back() else { return Verdict::Violated };
            at = self.entries[last].after;
        }
        Verdict::Linearizable
    }

    /// Lets an operation come next, if it fits and was not tried so before.
    fn take(&mut self, call: usize) -> bool {
        let number = self.entries[call].operation;
        let Some(next) = self.model.step(&self.state, &self.operations[number].act) else {
            return false;
        };
        self.flip(number);
        if !self.tried.insert((self.taken.clone().into(), next.clone())) {
            self.flip(number);
            return false;
        }
        let before = std::mem::replace(&mut self.state, next);
        self.path.push((call, before));
        self.unlink(call);
        self.entries[call].answer.into_iter().for_each(|answer| self.unlink(answer));
        self.left -= usize::from(self.operations[number].answered.is_some());
        true
    }

    /// Puts the last operation back. Returns its call.
    fn put_back(&mut self) -> Option<usize> {
        let (call, before) = self.path.pop()?;
        let number = self.entries[call].operation;
        self.state = before;
        self.flip(number);
        // In the opposite order of their removal, so that each finds its neighbours again.
        self.entries[call].answer.into_iter().for_each(|answer| self.link(answer));
        self.link(call);
        self.left += usize::from(self.operations[number].answered.is_some());
        Some(call)
    }

    fn flip(&mut self, number: usize) {
        self.taken[number / 64] ^= 1 << (number % 64);
    }

    fn unlink(&mut self, number: usize) {
        let Entry { before, after, .. } = self.entries[number];
        self.entries[before].after = after;
        self.entries[after].before = before;
    }

    fn link(&mut self, number: usize) {
        let Entry { before, after, .. } = self.entries[number];
        self.entries[before].after = number;
        self.entries[after].before = number;
    }
}

/// The list: calls and answers by time. What happened at the same time was concurrent, so calls
/// come first; answers that never came come last.
fn entries<A>(operations: &[&Operation<A>]) -> Vec<Entry> {
    let mut order: Vec<(u64, bool, usize)> = Vec::with_capacity(operations.len() * 2);
    for (number, operation) in operations.iter().enumerate() {
        order.push((operation.called, false, number));
        order.push((operation.answered.unwrap_or(u64::MAX), true, number));
    }
    order.sort_unstable();
    let count = order.len();
    let mut entries =
        vec![Entry { operation: 0, answer: None, before: count, after: count.min(1) }];
    let mut calls = vec![END; operations.len()];
    for (place, (_, is_answer, operation)) in (1..).zip(&order) {
        let after = if place == count { END } else { place + 1 };
        entries.push(Entry { operation: *operation, answer: None, before: place - 1, after });
        if *is_answer {
            entries[calls[*operation]].answer = Some(place);
        } else {
            calls[*operation] = place;
        }
    }
    entries
}
