//! Allocations: what agents report, and hints to the scheduler.
//!
//! # Invariants
//!
//! - Agents write what they observe and nothing else; the scheduler's wishes stay.
//! - Observed state goes forward only. What has ended does not run again: an agent that comes back
//!   after its allocations were given up as lost is told to stop them, not believed.
//! - Health is a verdict: an agent may take back "healthy", and only a user takes back "unhealthy".

use std::collections::BTreeMap;
use std::sync::Arc;

use cos_model::link::AllocUpdate;
use cos_model::{AllocHealth, AllocId, Allocation, ClientStatus, DesiredTransition, Evaluation};

use super::Step;
use crate::command::{Refused, Reply};
use crate::event::Event;

/// Whose change an allocation is written for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Writer {
    /// The scheduler, or a user through it: the agent must know.
    Scheduler,
    /// An agent, or a verdict about health.
    Observer,
}

impl Step<'_> {
    pub(super) fn update_allocs(&mut self, updates: &[AllocUpdate], evals: &[Evaluation]) -> Reply {
        for update in updates {
            // An allocation that was collected meanwhile needs no report any more.
            if let Some(known) = self.state.allocs.get(&update.id).cloned() {
                let observed = self.observe(&known, update);
                self.write_alloc(Some(&known), observed, Writer::Observer);
            }
        }
        self.put_evals(evals)
    }

    pub(super) fn set_transitions(
        &mut self,
        transitions: &BTreeMap<AllocId, DesiredTransition>,
        evals: &[Evaluation],
    ) -> Result<Reply, Refused> {
        let is_known = |id: &AllocId| self.state.allocs.contains_key(id);
        if let Some(id) = transitions.keys().next()
            && !transitions.keys().any(is_known)
        {
            return Err(Refused::NotFound(format!("allocation \"{id}\"")));
        }
        for (id, wanted) in transitions {
            if let Some(known) = self.state.allocs.get(id).cloned() {
                let transition = merge(known.transition, *wanted);
                let hinted = Allocation { transition, ..Allocation::clone(&known) };
                self.write_alloc(Some(&known), hinted, Writer::Scheduler);
            }
        }
        Ok(self.put_evals(evals))
    }

    /// Writes an allocation, unless nothing about it changed. The only place that does.
    pub(super) fn write_alloc(
        &mut self,
        old: Option<&Allocation>,
        mut alloc: Allocation,
        writer: Writer,
    ) {
        if old.is_some_and(|old| *old == alloc) {
            return;
        }
        alloc.modify_time = self.at;
        alloc.modify_index = self.index;
        if writer == Writer::Scheduler {
            alloc.alloc_modify_index = self.index;
        }
        self.count_into_deployment(old, &alloc);
        self.touch(alloc.job_key());
        let alloc = Arc::new(alloc);
        self.state.insert_alloc(&alloc);
        self.state.tables.allocs = self.index;
        self.events.push(match writer {
            Writer::Scheduler => Event::AllocPlanned(alloc),
            Writer::Observer => Event::AllocReported(alloc),
        });
    }

    fn observe(&self, known: &Allocation, update: &AllocUpdate) -> Allocation {
        let mut observed = Allocation { task_states: update.task_states.clone(), ..known.clone() };
        if follows(known.client_status, update.client_status) {
            observed.client_status = update.client_status;
            observed.client_description.clone_from(&update.client_description);
            if known.client_status == ClientStatus::Unknown {
                // Its agent is back: nobody needs to look again when its time would have been up.
                observed.push_state(update.client_status, self.at);
                observed.followup_eval = None;
            }
        }
        if let Some((deployment, healthy)) = update.health
            && known.deployment_id == Some(deployment)
            && known.health.is_none_or(|known| known.healthy && !healthy)
        {
            observed.health = Some(AllocHealth { healthy, at: self.at });
        }
        observed
    }
}

/// Whether an agent may report `new` after `old`.
fn follows(old: ClientStatus, new: ClientStatus) -> bool {
    match (old, new) {
        // Only the cluster can say that an agent is gone.
        (_, ClientStatus::Lost | ClientStatus::Unknown) => false,
        (ClientStatus::Unknown, _) => true,
        (old, new) if old.is_terminal() => old == new && old != ClientStatus::Lost,
        (old, new) => new >= old,
    }
}

/// Hints add up until the scheduler has acted on them.
fn merge(old: DesiredTransition, new: DesiredTransition) -> DesiredTransition {
    DesiredTransition {
        migrate: old.migrate || new.migrate,
        force_reschedule: old.force_reschedule || new.force_reschedule,
        no_shutdown_delay: old.no_shutdown_delay || new.no_shutdown_delay,
    }
}
