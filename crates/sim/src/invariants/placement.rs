//! Nothing new is placed on a node that drains, is ineligible or is down.
//!
//! Source: Nomad's node drain and eligibility, "the scheduler does not place new allocations on the
//! node".

use cos_model::NodeStatus;
use cos_state::Event;

use super::{Fact, Invariant};

/// Nothing has to be remembered.
#[derive(Debug, Default)]
pub(super) struct Placement;

impl Invariant for Placement {
    fn name(&self) -> &'static str {
        "placements only where work is taken"
    }

    fn observe(&mut self, fact: &Fact<'_>) -> Result<(), String> {
        let Fact::Applied(applied) = fact else { return Ok(()) };
        if !applied.is_first {
            return Ok(());
        }
        for event in &applied.applied.events {
            let Event::AllocPlanned(alloc) = event else { continue };
            // By its own definition, not by the one that plans are made and checked with.
            let takes = applied.state.node(alloc.node_id).is_some_and(|node| {
                node.status == NodeStatus::Ready && node.eligible && node.drain.is_none()
            });
            if alloc.create_index == applied.index && !takes {
                return Err(format!("{} was placed on {}", alloc.name(), alloc.node_name));
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
    fn a_placement_on_an_ineligible_node_is_found() {
        let mut history = History::with_node();
        history.place(1, |_| {});
        check(Placement, &[history.last()], false);
        history.make_ineligible_silently();
        check(Placement, &[history.last()], true);
    }
}
