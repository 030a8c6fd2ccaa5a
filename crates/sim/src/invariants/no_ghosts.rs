//! What its agent reported as ended has no process.
//!
//! Source: `docs/adr/0008-resources-free-on-word.md`: room is free when the agent says so, hence the
//! agent may not say so too early.

use cos_model::ClientStatus;
use cos_state::Event;

use super::{Fact, Invariant};
use crate::machine::Machine;

/// Nothing has to be remembered.
#[derive(Debug, Default)]
pub(super) struct NoGhosts;

impl Invariant for NoGhosts {
    fn name(&self) -> &'static str {
        "what has ended does not run"
    }

    fn observe(&mut self, fact: &Fact<'_>) -> Result<(), String> {
        let Fact::Applied(applied) = fact else { return Ok(()) };
        if !applied.is_first {
            return Ok(());
        }
        for event in &applied.applied.events {
            let Event::AllocReported(alloc) = event else { continue };
            let has_ended =
                matches!(alloc.client_status, ClientStatus::Complete | ClientStatus::Failed);
            let mut processes = applied.machines.iter().flat_map(Machine::processes);
            if has_ended && processes.any(|process| process.alloc == alloc.id) {
                return Err(format!("{} was reported as ended and runs", alloc.id));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariants::testing::{History, check};

    #[test]
    fn a_process_of_an_ended_allocation_is_found() {
        let mut history = History::with_node();
        history.place(1, |_| {});
        history.show(1, |alloc| alloc.client_status = ClientStatus::Failed);
        check(NoGhosts, &[history.last()], false);
        history.start_process(1);
        check(NoGhosts, &[history.last()], true);
    }
}
