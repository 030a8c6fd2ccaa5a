//! A task that runs under its agent's eyes is not started a second time.
//!
//! Source: "never two tasks of one allocation at the same time"; Nomad #5883 and #10449, tasks that
//! were started twice around a restart of the agent.

use super::{Fact, Invariant};

/// Nothing has to be remembered.
#[derive(Debug, Default)]
pub(super) struct NoDoubleStart;

impl Invariant for NoDoubleStart {
    fn name(&self) -> &'static str {
        "no task is started twice"
    }

    fn observe(&mut self, fact: &Fact<'_>) -> Result<(), String> {
        match fact {
            Fact::Launched { agent, alloc, is_double: true } => {
                Err(format!("agent {agent} started {alloc} while it ran"))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use cos_model::AllocId;

    use super::*;
    use crate::invariants::testing::check;

    #[test]
    fn a_second_start_is_found() {
        let alloc = AllocId::from_bits(1);
        let launched = |is_double| Fact::Launched { agent: 0, alloc, is_double };
        check(NoDoubleStart, &[launched(false), launched(false)], false);
        check(NoDoubleStart, &[launched(true)], true);
    }
}
