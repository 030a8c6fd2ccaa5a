//! An agent never does what an older generation wants than one that it has taken.
//!
//! Source: "an agent never obeys an older generation", STYLE.md rule 11; stale reads of Consul and
//! etcd of 2014 as seen by who acts on them.

use super::{Fact, Invariant};

/// Nothing has to be remembered.
#[derive(Debug, Default)]
pub(super) struct Fenced;

impl Invariant for Fenced {
    fn name(&self) -> &'static str {
        "agents are fenced"
    }

    fn observe(&mut self, fact: &Fact<'_>) -> Result<(), String> {
        match fact {
            Fact::Obeyed { agent, before, generation, acts }
                if generation < before && *acts > 0 =>
            {
                Err(format!("agent {agent} had taken {before} and obeyed {generation}"))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariants::testing::check;

    #[test]
    fn an_old_order_that_is_obeyed_is_found() {
        let obeyed = |before, generation, acts| Fact::Obeyed { agent: 0, before, generation, acts };
        check(Fenced, &[obeyed(5, 6, 1), obeyed(6, 6, 1), obeyed(6, 5, 0)], false);
        check(Fenced, &[obeyed(6, 5, 1)], true);
    }
}
