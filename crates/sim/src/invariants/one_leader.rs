//! A term has one leader.
//!
//! Source: `docs/adr/0001-consensus-engine.md`; election safety of Raft (Ongaro 2014, figure 3.2);
//! "no write accepted by two leaders in one term".

use std::collections::BTreeMap;

use super::{Fact, Invariant};

/// The leader of each term.
#[derive(Debug, Default)]
pub(super) struct OneLeader(BTreeMap<u64, usize>);

impl Invariant for OneLeader {
    fn name(&self) -> &'static str {
        "one leader per term"
    }

    fn observe(&mut self, fact: &Fact<'_>) -> Result<(), String> {
        let Fact::Elected { server, term } = fact else { return Ok(()) };
        let known = *self.0.entry(*term).or_insert(*server);
        if known == *server {
            return Ok(());
        }
        Err(format!("servers {known} and {server} both lead term {term}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariants::testing::check;

    #[test]
    fn two_leaders_of_a_term_are_found() {
        let elected = |server, term| Fact::Elected { server, term };
        check(OneLeader::default(), &[elected(0, 1), elected(1, 2), elected(1, 2)], false);
        check(OneLeader::default(), &[elected(0, 1), elected(1, 1)], true);
    }
}
