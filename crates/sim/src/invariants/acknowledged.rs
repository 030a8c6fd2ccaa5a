//! An acknowledged write is in the log, where its user was told that it is.
//!
//! Source: "an acknowledged write is never lost" (kill -9 of all servers, torn last record, disk
//! full, restore), the first promise of every store; etcd's data inconsistency of 2022.

use std::collections::BTreeMap;

use super::{Fact, Invariant};

/// What was proposed and what was committed.
#[derive(Debug, Default)]
pub(super) struct Acknowledged {
    /// The request of each proposal.
    requests: BTreeMap<u64, u64>,
    /// The proposal at each index.
    committed: BTreeMap<u64, u64>,
    /// What was acknowledged where.
    told: BTreeMap<u64, u64>,
}

impl Invariant for Acknowledged {
    fn name(&self) -> &'static str {
        "acknowledged writes are kept"
    }

    fn observe(&mut self, fact: &Fact<'_>) -> Result<(), String> {
        match fact {
            Fact::Proposed { number, fingerprint } => {
                self.requests.insert(*fingerprint, *number);
                Ok(())
            }
            Fact::Committed { index, fingerprint, .. } => {
                self.committed.insert(*index, *fingerprint);
                self.told.get(index).map_or(Ok(()), |number| self.compare(*index, *number))
            }
            Fact::Acknowledged { number, index } => {
                self.told.insert(*index, *number);
                self.compare(*index, *number)
            }
            _ => Ok(()),
        }
    }
}

impl Acknowledged {
    fn compare(&self, index: u64, number: u64) -> Result<(), String> {
        let there = self.committed.get(&index).and_then(|at| self.requests.get(at)).copied();
        if there == Some(number) {
            return Ok(());
        }
        Err(format!("request {number} was acknowledged at {index}, where there is {there:?}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariants::testing::check;

    #[test]
    fn a_lost_write_is_found() {
        let proposed = || Fact::Proposed { number: 1, fingerprint: 10 };
        let committed = |fingerprint| Fact::Committed { server: 0, index: 5, term: 1, fingerprint };
        let told = || Fact::Acknowledged { number: 1, index: 5 };
        check(Acknowledged::default(), &[proposed(), committed(10), told()], false);
        check(Acknowledged::default(), &[proposed(), told()], true);
        check(Acknowledged::default(), &[proposed(), committed(11), told()], true);
        check(Acknowledged::default(), &[proposed(), committed(10), told(), committed(11)], true);
    }
}
