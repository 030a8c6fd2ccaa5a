//! What is committed stays, at its place, on every server.
//!
//! Source: state machine safety of Raft (Ongaro 2014, figure 3.2); "log and state of all servers are
//! equal at equal index".

use std::collections::BTreeMap;

use super::{Fact, Invariant};

/// What was committed at each index.
#[derive(Debug, Default)]
pub(super) struct Committed(BTreeMap<u64, (u64, u64)>);

impl Invariant for Committed {
    fn name(&self) -> &'static str {
        "committed entries do not change"
    }

    fn observe(&mut self, fact: &Fact<'_>) -> Result<(), String> {
        let Fact::Committed { server, index, term, fingerprint } = fact else { return Ok(()) };
        let new = (*term, *fingerprint);
        let known = *self.0.entry(*index).or_insert(new);
        if known == new {
            return Ok(());
        }
        Err(format!("entry {index} was {known:?} and is {new:?} on server {server}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariants::testing::check;

    #[test]
    fn a_committed_entry_that_changes_is_found() {
        let entry =
            |server, index, term, fingerprint| Fact::Committed { server, index, term, fingerprint };
        check(Committed::default(), &[entry(0, 1, 1, 5), entry(1, 1, 1, 5)], false);
        check(Committed::default(), &[entry(0, 1, 1, 5), entry(1, 1, 1, 6)], true);
        check(Committed::default(), &[entry(0, 1, 1, 5), entry(0, 1, 2, 5)], true);
    }
}
