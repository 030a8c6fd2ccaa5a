//! What is observed of an allocation only goes forward, and what is to stop is not wanted again.
//!
//! Source: "allocation status only forward", STYLE.md rule 10; Nomad #15484 and its kin, where a
//! late report brought a lost allocation back.

use std::collections::BTreeMap;

use cos_model::{AllocId, ClientStatus};
use cos_state::Event;

use super::{Fact, Invariant};

/// Where each allocation stood last, and whether it was to stop.
#[derive(Debug, Default)]
pub(super) struct ForwardOnly(BTreeMap<AllocId, (ClientStatus, bool)>);

impl Invariant for ForwardOnly {
    fn name(&self) -> &'static str {
        "allocations go forward only"
    }

    fn observe(&mut self, fact: &Fact<'_>) -> Result<(), String> {
        let Fact::Applied(applied) = fact else { return Ok(()) };
        if !applied.is_first {
            return Ok(());
        }
        for event in &applied.applied.events {
            let (Event::AllocPlanned(alloc) | Event::AllocReported(alloc)) = event else {
                continue;
            };
            let new = (alloc.client_status, alloc.is_desired_terminal());
            let Some((status, is_stopped)) = self.0.insert(alloc.id, new) else { continue };
            let goes_back = match (status, alloc.client_status) {
                (ClientStatus::Unknown, _) | (_, ClientStatus::Unknown) => status.is_terminal(),
                (old, new) if old.is_terminal() => old != new,
                (old, new) => new < old,
            };
            if goes_back {
                let (old, new) = (status.name(), alloc.client_status.name());
                return Err(format!("{} went from {old} to {new}", alloc.id));
            }
            if is_stopped && !alloc.is_desired_terminal() {
                return Err(format!("{} was to stop and is to run again", alloc.id));
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
    fn an_allocation_that_comes_back_is_found() {
        let mut history = History::with_node();
        let at = |history: &History, status| {
            let mut history = history.clone();
            history.show(1, |alloc| alloc.client_status = status);
            history
        };
        history.place(1, |_| {});
        let [running, complete] =
            [ClientStatus::Running, ClientStatus::Complete].map(|status| at(&history, status));
        check(ForwardOnly::default(), &[running.last(), complete.last()], false);
        check(ForwardOnly::default(), &[complete.last(), running.last()], true);
    }
}
