//! Deciding what becomes of each allocation of a group: does it count, does it leave, is it lost,
//! is it to be replaced?

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use cos_model::{AllocId, Allocation, ClientStatus, Deployment, DesiredStatus, Timestamp};

use super::Work;
use crate::{reschedule, words};

/// A replacement that is due within this time is made at once.
const DUE_SOON: Duration = Duration::from_secs(1);

/// What becomes of a failed instance.
enum Verdict {
    /// It is replaced now.
    Now,
    /// It is replaced at this time, and counts until then.
    Later(Timestamp),
    /// It counts and is not replaced.
    Never,
}

impl Work<'_, '_> {
    /// Stops canaries of deployments that are over without having been promoted, and canaries that
    /// cannot stay where they are; notes the others.
    pub(super) fn drop_unneeded_canaries(&mut self) {
        let failed = self.context.deployment.filter(|d| !d.is_active());
        let over: Vec<&Deployment> = self.context.overtaken.into_iter().chain(failed).collect();
        let mut gone: BTreeSet<AllocId> = BTreeSet::new();
        for alloc in &self.all.clone() {
            let is_needless = over.iter().any(|d| is_unpromoted_canary(alloc, d));
            let is_current = self.context.deployment.is_some_and(|d| is_canary(alloc, d));
            if is_needless {
                gone.insert(alloc.id);
                if !alloc.is_desired_terminal() {
                    // One that failed is stopped too, or it would count as an instance later.
                    let lost = self.table.is_lost(alloc.node_id) && !alloc.is_client_terminal();
                    let words = if lost { words::LOST } else { words::NOT_NEEDED };
                    self.stop(alloc, words, lost);
                }
            } else if is_current && self.is_canarying() && !alloc.is_terminal() {
                // A canary that must go is not moved; the deployment asks for another one.
                let lost = self.table.is_lost(alloc.node_id);
                if lost || alloc.transition.migrate {
                    gone.insert(alloc.id);
                    let words = if lost { words::LOST } else { words::MIGRATING };
                    self.stop(alloc, words, lost);
                } else {
                    self.canaries.insert(alloc.id);
                }
            } else if is_current {
                self.canaries.insert(alloc.id);
            }
        }
        self.all.retain(|alloc| !gone.contains(&alloc.id));
    }

    /// Sorts allocations that are over by what becomes of them.
    pub(super) fn decide_fates(&mut self) {
        for alloc in &self.all.clone() {
            if !alloc.is_terminal() {
                // Sorted with its line.
            } else if self.is_done(alloc)
                && (alloc.was_unknown() || !self.context.replaced.contains(&alloc.id))
            {
                self.counted.push(Arc::clone(alloc));
            } else if self.context.replaced.contains(&alloc.id) {
                self.canaries.remove(&alloc.id);
            } else if self.is_held(alloc) {
                self.held.push(Arc::clone(alloc));
            } else if alloc.desired == DesiredStatus::Run
                && alloc.client_status == ClientStatus::Failed
            {
                match self.judge(alloc) {
                    Verdict::Now => self.due.push(Arc::clone(alloc)),
                    Verdict::Later(at) => {
                        self.changes.later.push((at, Arc::clone(alloc)));
                        self.counted.push(Arc::clone(alloc));
                    }
                    Verdict::Never => self.counted.push(Arc::clone(alloc)),
                }
            } else {
                self.canaries.remove(&alloc.id);
            }
        }
    }

    /// Whether an instance has done what it was for.
    pub(super) fn is_done(&self, alloc: &Allocation) -> bool {
        self.context.is_batch() && alloc.client_status == ClientStatus::Complete
    }

    fn judge(&self, alloc: &Allocation) -> Verdict {
        if alloc.transition.force_reschedule {
            return Verdict::Now;
        }
        if let Some(deployment) = self.context.deployment
            && alloc.deployment_id == Some(deployment.id)
            && (!deployment.is_active() || self.rollout.progress_deadline.is_zero())
        {
            // A failed rollout tries no further; one without a deadline fails by this instance.
            return Verdict::Never;
        }
        let problem = self.context.problem;
        match reschedule::due_at(alloc) {
            None => Verdict::Never,
            Some(_) if alloc.followup_eval == Some(problem.eval.id) => Verdict::Now,
            Some(at) if at <= problem.now + DUE_SOON => Verdict::Now,
            Some(at) if alloc.followup_eval.is_none() => Verdict::Later(at),
            Some(_) => Verdict::Never,
        }
    }
}

/// Orders instances by how much would be lost with them: nothing if they are over, little if they
/// are not healthy.
pub(super) fn usefulness(alloc: &Allocation) -> u8 {
    if alloc.is_client_terminal() {
        0
    } else if alloc.is_unhealthy() {
        1
    } else if alloc.client_status != ClientStatus::Running
        || (alloc.deployment_id.is_some() && !alloc.is_healthy())
    {
        2
    } else {
        3
    }
}

fn is_canary(alloc: &Allocation, deployment: &Deployment) -> bool {
    let is_placed = deployment
        .groups
        .get(&*alloc.group)
        .is_some_and(|group| group.placed_canaries.contains(&alloc.id));
    is_placed || (alloc.canary && alloc.deployment_id == Some(deployment.id))
}

fn is_unpromoted_canary(alloc: &Allocation, deployment: &Deployment) -> bool {
    let unpromoted = deployment
        .groups
        .get(&*alloc.group)
        .is_some_and(|group| group.desired_canaries > 0 && !group.promoted);
    unpromoted && is_canary(alloc, deployment)
}
