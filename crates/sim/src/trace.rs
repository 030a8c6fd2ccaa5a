//! What happened, as one number, and as words where somebody wants to read it.
//!
//! # Invariants
//!
//! - The number does not depend on whether words are kept.

use std::collections::VecDeque;

/// How many lines are kept if not all are wanted.
const TAIL_LINES: usize = 60;

/// How much of a trace is kept in words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// Nothing.
    Nothing,
    /// The end.
    Tail,
    /// Everything.
    Everything,
}

/// The trace of one run.
#[derive(Debug)]
pub struct Trace {
    hash: u64,
    events: u64,
    keep: Keep,
    lines: VecDeque<String>,
}

impl Trace {
    /// Starts empty.
    pub fn new(keep: Keep) -> Self {
        Self { hash: 0xCBF2_9CE4_8422_2325, events: 0, keep, lines: VecDeque::new() }
    }

    /// Notes an event: when, and facts that tell it from others; `words` is asked only if kept.
    pub fn note(&mut self, at: u64, facts: &[u64], words: impl FnOnce() -> String) {
        self.events += 1;
        self.fold(at);
        for fact in facts {
            self.fold(*fact);
        }
        if self.keep == Keep::Nothing {
            return;
        }
        let (seconds, micros) = (at / 1_000_000, at % 1_000_000);
        self.lines.push_back(format!("{seconds:>4}.{micros:06} {}", words()));
        if self.keep == Keep::Tail && self.lines.len() > TAIL_LINES {
            self.lines.pop_front();
        }
    }

    /// The number.
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// How many events were noted.
    pub fn events(&self) -> u64 {
        self.events
    }

    /// The words that were kept.
    pub fn into_lines(self) -> Vec<String> {
        self.lines.into()
    }

    fn fold(&mut self, word: u64) {
        self.hash = (self.hash ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(23);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_does_not_depend_on_what_is_kept() {
        let hashes = [Keep::Nothing, Keep::Tail, Keep::Everything].map(|keep| {
            let mut trace = Trace::new(keep);
            for at in 0..100 {
                trace.note(at, &[1, 2], || format!("event {at}"));
            }
            trace.hash()
        });
        assert!(hashes.iter().all(|hash| *hash == hashes[0]));
    }

    #[test]
    fn the_tail_is_what_happened_last() {
        let mut trace = Trace::new(Keep::Tail);
        for at in 0..1000 {
            trace.note(at, &[], || at.to_string());
        }
        let lines = trace.into_lines();
        assert_eq!(lines.len(), TAIL_LINES);
        assert!(lines[TAIL_LINES - 1].ends_with("999"));
    }
}
