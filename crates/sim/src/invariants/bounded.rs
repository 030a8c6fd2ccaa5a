//! Queues are bounded.
//!
//! Source: "queues bounded with backpressure"; STYLE.md rule 17, everything has a limit.

use super::{Fact, Invariant};

/// Nothing has to be remembered.
#[derive(Debug, Default)]
pub(super) struct Bounded;

impl Invariant for Bounded {
    fn name(&self) -> &'static str {
        "queues are bounded"
    }

    fn observe(&mut self, fact: &Fact<'_>) -> Result<(), String> {
        match fact {
            Fact::Queue { what, length, limit } if length > limit => {
                Err(format!("{what}: {length} of at most {limit}"))
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
    fn a_queue_that_is_too_long_is_found() {
        check(Bounded, &[Fact::Queue { what: "x", length: 2, limit: 2 }], false);
        check(Bounded, &[Fact::Queue { what: "x", length: 3, limit: 2 }], true);
    }
}
