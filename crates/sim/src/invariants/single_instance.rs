//! Of each instance of a group at most one is wanted and alive, but for canaries and for what is out
//! of reach.
//!
//! Source: "never two allocations with the same name and index running at the same time on connected
//! nodes"; Nomad's `overlap` end-to-end suite.

use std::collections::{BTreeMap, BTreeSet};

use cos_model::{Allocation, ClientStatus, JobKey};
use cos_state::{Event, State};

use super::{Fact, Invariant};

/// Nothing has to be remembered.
#[derive(Debug, Default)]
pub(super) struct SingleInstance;

impl Invariant for SingleInstance {
    fn name(&self) -> &'static str {
        "one instance of each name"
    }

    fn observe(&mut self, fact: &Fact<'_>) -> Result<(), String> {
        let Fact::Applied(applied) = fact else { return Ok(()) };
        if !applied.is_first {
            return Ok(());
        }
        let touched: BTreeSet<&JobKey> = applied
            .applied
            .events
            .iter()
            .filter_map(|event| match event {
                Event::AllocPlanned(alloc) => Some(alloc.job_key()),
                _ => None,
            })
            .collect();
        touched.into_iter().try_for_each(|job| check_job(applied.state, job))
    }
}

fn check_job(state: &State, job: &JobKey) -> Result<(), String> {
    let mut seen: BTreeMap<(&str, u32), &Allocation> = BTreeMap::new();
    for alloc in state.allocs_of_job(job).filter(|alloc| counts(state, alloc)) {
        if let Some(other) = seen.insert((&alloc.group, alloc.index), alloc) {
            let (one, other) = (words(alloc), words(other));
            return Err(format!("{} is {one} and {other}", alloc.name()));
        }
    }
    Ok(())
}

fn words(alloc: &Allocation) -> String {
    let (node, version, created) = (&alloc.node_name, alloc.job.version, alloc.create_index);
    let status = alloc.client_status.name();
    format!("{} (v{version}, {status}, of {created}) on {node}", alloc.id.short())
}

fn counts(state: &State, alloc: &Allocation) -> bool {
    !alloc.is_terminal()
        && !alloc.job.is_system()
        && alloc.client_status != ClientStatus::Unknown
        && !was_canary(state, alloc)
}

/// Whether it was placed beside the one that it is to replace, which goes after the promotion.
fn was_canary(state: &State, alloc: &Allocation) -> bool {
    let deployment = alloc.deployment_id.and_then(|id| state.deployment(id));
    let group = deployment.and_then(|deployment| deployment.groups.get(&*alloc.group));
    alloc.canary || group.is_some_and(|group| group.placed_canaries.contains(&alloc.id))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariants::testing::{History, check};

    #[test]
    fn two_instances_of_a_name_are_found() {
        let mut history = History::with_node();
        history.place(1, |alloc| alloc.index = 1);
        history.place(2, |alloc| alloc.index = 2);
        check(SingleInstance, &[history.last()], false);
        history.place(3, |alloc| alloc.index = 2);
        check(SingleInstance, &[history.last()], true);
    }
}
