//! Two entries of the same index and term are the same entry.
//!
//! Source: log matching of Raft (Ongaro 2014, figure 3.2), which everything above rests on.

use std::collections::BTreeMap;

use super::{Fact, Invariant};

/// What each entry says.
#[derive(Debug, Default)]
pub(super) struct LogMatching(BTreeMap<(u64, u64), u64>);

impl Invariant for LogMatching {
    fn name(&self) -> &'static str {
        "log matching"
    }

    fn observe(&mut self, fact: &Fact<'_>) -> Result<(), String> {
        let Fact::Written { index, term, fingerprint } = fact else { return Ok(()) };
        let known = *self.0.entry((*index, *term)).or_insert(*fingerprint);
        if known == *fingerprint {
            return Ok(());
        }
        Err(format!("entry {index} of term {term} says {known} here and {fingerprint} there"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariants::testing::check;

    #[test]
    fn two_entries_of_one_place_are_found() {
        let written = |index, term, fingerprint| Fact::Written { index, term, fingerprint };
        check(LogMatching::default(), &[written(1, 1, 7), written(1, 2, 8)], false);
        check(LogMatching::default(), &[written(1, 1, 7), written(1, 1, 8)], true);
    }
}
