//! Rolling out a new version: canaries first if there are any, then a few instances at a time, and
//! a deployment that records how far it got.

use std::collections::BTreeSet;
use std::sync::Arc;

use cos_model::{Allocation, DeploymentGroup, JobKind, Update};

use super::{Cause, Wanted, Work, rolling};

impl Work<'_, '_> {
    /// Begins the canary phase if outdated instances call for one, and asks for missing canaries.
    pub(super) fn want_canaries(&mut self) {
        let Some(update) = rolling(self.group) else { return };
        let known = self
            .canaries_of(&self.counted)
            .chain(self.canaries_of(&self.due))
            .map(|alloc| alloc.index)
            .collect::<Vec<u32>>();
        let is_over = self.has_rollout && self.rollout.promoted;
        if self.outdated.is_empty() || is_over || known.len() >= update.canary as usize {
            return;
        }
        self.rollout.desired_canaries = update.canary;
        self.rollout.promoted = false;
        if self.context.is_paused() || self.context.has_failed() {
            return;
        }
        let missing = update.canary as usize - known.len();
        let stood_in_for: BTreeSet<u32> = known.into_iter().collect();
        let mut free: Vec<u32> = self.outdated.iter().map(|alloc| alloc.index).collect();
        free.retain(|index| !stood_in_for.contains(index));
        free.sort_unstable();
        free.dedup();
        free.truncate(missing);
        while free.len() < missing {
            free.push(self.names.take_lowest());
        }
        let canaries: Vec<Wanted> =
            free.into_iter().map(|index| self.fresh(index, Cause::Canary)).collect();
        self.changes.place.extend(canaries);
    }

    /// Offers outdated instances for replacement, as many as the update policy allows now.
    pub(super) fn replace_outdated(&mut self) {
        if !self.may_roll() {
            return;
        }
        self.changes.replace_limit = self.update_limit().saturating_sub(self.changes.place.len());
        self.changes.replace =
            self.outdated.iter().map(|alloc| self.replacement(alloc, Cause::Updated)).collect();
    }

    /// How many instances may be away or on trial at once, less those that are on trial.
    fn update_limit(&self) -> usize {
        let Some(update) = rolling(self.group) else { return usize::MAX };
        let Some(deployment) = self.context.deployment else { return update.max_parallel as usize };
        let of_this = |alloc: &&Arc<Allocation>| alloc.deployment_id == Some(deployment.id);
        let mut limit = update.max_parallel as usize;
        for alloc in self.counted.iter().filter(of_this) {
            if alloc.is_unhealthy() {
                return 0;
            }
            if !alloc.is_healthy() {
                limit = limit.saturating_sub(1);
            }
        }
        limit
    }

    /// Offers the group's part of a deployment, if this version needs one and has none.
    pub(super) fn offer_rollout(&mut self) {
        let Some(update) = rolling(self.group) else { return };
        let job = self.context.job;
        if self.has_rollout || self.context.deployment.is_some() || job.kind != JobKind::Service {
            return;
        }
        let has_run = self.all.iter().any(|alloc| {
            alloc.job.version == job.version && alloc.job.create_index == job.create_index
        });
        let changes = self.outdated.len() + self.changes.in_place.len();
        if has_run && changes == 0 {
            return;
        }
        let is_counted = |wanted: &&Wanted| !wanted.canary;
        let placed = self.changes.place.iter().filter(is_counted).count();
        let total = u32::try_from(changes + placed).unwrap_or(u32::MAX);
        if total == 0 {
            return;
        }
        self.rollout.desired_total = total;
        if !update.progress_deadline.is_zero() {
            self.rollout.require_progress_by = self.context.problem.now + update.progress_deadline;
        }
        self.changes.rollout = Some(self.rollout.clone());
    }
}

/// The state of a rollout that has not begun.
pub(super) fn fresh(update: Option<&Update>) -> DeploymentGroup {
    let Some(update) = update else {
        return DeploymentGroup { promoted: true, ..DeploymentGroup::default() };
    };
    DeploymentGroup {
        auto_revert: update.auto_revert,
        auto_promote: update.auto_promote,
        promoted: true,
        progress_deadline: update.progress_deadline,
        ..DeploymentGroup::default()
    }
}
