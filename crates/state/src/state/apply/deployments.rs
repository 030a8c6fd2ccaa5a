//! Deployments: how far a rollout got, promotion, health by a user's word, its end.
//!
//! # Invariants
//!
//! - A deployment that ended stays as it ended; only its counts follow what its instances do.
//! - `placed` counts arrivals; `healthy` and `unhealthy` follow each allocation's present verdict.
//! - A version is stable once a deployment of it succeeded.
//!
//! # Deliberately absent
//!
//! - When a deployment succeeds or fails. The server's deployment watcher decides.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use cos_model::plan::DeploymentUpdate;
use cos_model::{
    AllocHealth, AllocId, Allocation, Deployment, DeploymentGroup, DeploymentId, DeploymentStatus,
    Evaluation, Job, Timestamp,
};

use super::Step;
use super::allocs::Writer;
use crate::command::{Refused, Reply};

impl Step<'_> {
    pub(super) fn set_deployment_status(
        &mut self,
        update: &DeploymentUpdate,
        revert: Option<&Job>,
        eval: Option<&Evaluation>,
    ) -> Result<Reply, Refused> {
        let deployment = self.active_deployment(update.id, act_of(update.status))?;
        self.change_status(update);
        let current = self.state.jobs.get(&deployment.job).filter(|job| !job.stop).cloned();
        // A job that was stopped or purged meanwhile is not brought back.
        let current = match (revert, current) {
            (Some(revert), Some(_)) if revert.key == deployment.job => {
                Some(self.put_version(Job { stop: false, ..revert.clone() }))
            }
            (_, current) => current,
        };
        let known = eval.map_or(0, |eval| eval.job_modify_index);
        self.put_eval_of_job(eval, current.map_or(known, |job| job.job_modify_index));
        Ok(Reply::Done)
    }

    pub(super) fn promote_deployment(
        &mut self,
        id: DeploymentId,
        groups: Option<&[String]>,
        eval: Option<&Evaluation>,
    ) -> Result<Reply, Refused> {
        let deployment = self.active_deployment(id, "promote")?;
        if let Some(unknown) =
            groups.into_iter().flatten().find(|name| !deployment.groups.contains_key(*name))
        {
            let message = format!("Task group \"{unknown}\" is not part of the deployment");
            return Err(Refused::Invalid(message));
        }
        let is_meant = |name: &str| groups.is_none_or(|names| names.iter().any(|n| n == name));
        let canaries = self.healthy_canaries(&deployment, is_meant);
        check_canaries(&deployment, &canaries, is_meant)?;
        self.mark_promoted(id, is_meant);
        for canary in canaries {
            let promoted = Allocation { canary: false, ..Allocation::clone(&canary) };
            self.write_alloc(Some(&canary), promoted, Writer::Scheduler);
        }
        self.put_evals(eval.map_or(&[], std::slice::from_ref));
        Ok(Reply::Done)
    }

    pub(super) fn set_alloc_health(
        &mut self,
        id: DeploymentId,
        healthy: &[AllocId],
        unhealthy: &[AllocId],
        eval: Option<&Evaluation>,
    ) -> Result<Reply, Refused> {
        self.active_deployment(id, "set health of allocations for a")?;
        let healthy = healthy.iter().map(|alloc| (*alloc, true));
        // Whoever names an allocation in both lists doubts it.
        let verdicts: BTreeMap<AllocId, bool> =
            healthy.chain(unhealthy.iter().map(|alloc| (*alloc, false))).collect();
        let mut judged = Vec::with_capacity(verdicts.len());
        for (alloc, healthy) in verdicts {
            let Some(known) = self.state.allocs.get(&alloc) else {
                return Err(Refused::Invalid(format!("unknown alloc \"{alloc}\"")));
            };
            if known.deployment_id != Some(id) {
                let message = format!("alloc \"{alloc}\" is not part of deployment \"{id}\"");
                return Err(Refused::Invalid(message));
            }
            if known.health.map(|health| health.healthy) != Some(healthy) {
                judged.push((Arc::clone(known), healthy));
            }
        }
        for (known, healthy) in judged {
            let health = Some(AllocHealth { healthy, at: self.at });
            let alloc = Allocation { health, ..Allocation::clone(&known) };
            self.write_alloc(Some(&known), alloc, Writer::Observer);
        }
        self.put_evals(eval.map_or(&[], std::slice::from_ref));
        Ok(Reply::Done)
    }

    /// Records a deployment. Its counts begin at zero, whatever the plan says.
    pub(super) fn create_deployment(&mut self, planned: &Deployment) {
        if self.state.deployments.contains_key(&planned.id) {
            return;
        }
        let mut deployment = Deployment {
            job: self.state.shared_key(&planned.job),
            create_time: self.at,
            modify_time: self.at,
            create_index: self.index,
            modify_index: self.index,
            ..planned.clone()
        };
        for group in deployment.groups.values_mut() {
            group.placed_canaries.clear();
            (group.placed, group.healthy, group.unhealthy) = (0, 0, 0);
        }
        self.deployments.insert(deployment.id);
        self.state.insert_deployment(Arc::new(deployment));
        self.state.tables.deployments = self.index;
    }

    /// Changes the status of a deployment that has not ended, and what follows from it.
    pub(super) fn change_status(&mut self, update: &DeploymentUpdate) {
        let at = self.at;
        let Some(deployment) = self.deployment_to_change(update.id, Deployment::is_active) else {
            return;
        };
        let was_paused = deployment.status == DeploymentStatus::Paused;
        deployment.status = update.status;
        deployment.status_description.clone_from(&update.description);
        if was_paused && update.status == DeploymentStatus::Running {
            // The pause does not count as time without progress.
            for group in deployment.groups.values_mut() {
                expect_progress(group, at);
            }
        }
        if update.status == DeploymentStatus::Successful {
            let (job, version) = (deployment.job.clone(), deployment.job_version);
            self.mark_stability(&job, version, true);
        }
    }

    /// Counts a change of an allocation into its deployment.
    pub(super) fn count_into_deployment(&mut self, old: Option<&Allocation>, new: &Allocation) {
        let Some(id) = new.deployment_id else { return };
        let at = self.at;
        let old = old.filter(|old| old.deployment_id == new.deployment_id);
        let before = old.and_then(|old| old.health).map(|health| health.healthy);
        let after = new.health.map(|health| health.healthy);
        if old.is_some() && before == after {
            return;
        }
        let Some(deployment) =
            self.deployment_to_change(id, |known| known.groups.contains_key(&*new.group))
        else {
            return;
        };
        let Some(group) = deployment.groups.get_mut(&*new.group) else { return };
        count_health(group, before, |count| count.saturating_sub(1));
        count_health(group, after, |count| count.saturating_add(1));
        if old.is_none() {
            group.placed += 1;
            if new.canary && !group.placed_canaries.contains(&new.id) {
                group.placed_canaries.push(new.id);
            }
        }
        let begins = old.is_none() && group.require_progress_by.is_never();
        if begins && group.progress_deadline > Duration::ZERO {
            group.require_progress_by = at + group.progress_deadline;
        } else if after == Some(true) {
            expect_progress(group, at);
        }
    }

    fn mark_promoted(&mut self, id: DeploymentId, is_meant: impl Fn(&str) -> bool) {
        let at = self.at;
        let Some(deployment) = self.deployment_to_change(id, Deployment::is_active) else { return };
        for (_, group) in deployment.groups.iter_mut().filter(|(name, _)| is_meant(name)) {
            group.promoted = true;
            expect_progress(group, at);
        }
        if !deployment.requires_promotion() && deployment.status == DeploymentStatus::Running {
            "Deployment is running".clone_into(&mut deployment.status_description);
        }
    }

    fn healthy_canaries(
        &self,
        deployment: &Deployment,
        is_meant: impl Fn(&str) -> bool,
    ) -> Vec<Arc<Allocation>> {
        let meant = deployment.groups.iter().filter(|(name, _)| is_meant(name));
        meant
            .flat_map(|(_, group)| &group.placed_canaries)
            .filter_map(|id| self.state.allocs.get(id))
            .filter(|alloc| alloc.deployment_id == Some(deployment.id))
            .filter(|alloc| !alloc.is_terminal() && alloc.is_healthy())
            .cloned()
            .collect()
    }

    fn active_deployment(&self, id: DeploymentId, act: &str) -> Result<Arc<Deployment>, Refused> {
        let deployment = self.state.deployments.get(&id);
        let deployment =
            deployment.ok_or_else(|| Refused::NotFound(format!("deployment \"{id}\"")))?;
        if deployment.is_active() {
            Ok(Arc::clone(deployment))
        } else {
            Err(Refused::Invalid(format!("can't {act} terminal deployment")))
        }
    }

    /// Opens a deployment for change, if there is one and `is_right` says so of it.
    fn deployment_to_change(
        &mut self,
        id: DeploymentId,
        is_right: impl FnOnce(&Deployment) -> bool,
    ) -> Option<&mut Deployment> {
        self.state.deployments.get(&id).filter(|known| is_right(known))?;
        self.deployments.insert(id);
        self.state.tables.deployments = self.index;
        let deployment = Arc::make_mut(self.state.deployments.get_mut(&id)?);
        deployment.modify_time = self.at;
        deployment.modify_index = self.index;
        Some(deployment)
    }
}

/// Refuses a promotion for which canaries are missing, in the words that clients match on.
fn check_canaries(
    deployment: &Deployment,
    canaries: &[Arc<Allocation>],
    is_meant: impl Fn(&str) -> bool,
) -> Result<(), Refused> {
    let missing: Vec<String> = deployment
        .groups
        .iter()
        .filter(|(name, group)| is_meant(name) && group.desired_canaries > 0)
        .filter_map(|(name, group)| {
            let healthy = canaries.iter().filter(|alloc| *alloc.group == **name).count();
            let wanted = group.desired_canaries;
            let too_few = u32::try_from(healthy).is_ok_and(|healthy| healthy < wanted);
            let words = format!("Task group \"{name}\" has {healthy}/{wanted} healthy allocations");
            too_few.then_some(words)
        })
        .collect();
    if missing.is_empty() { Ok(()) } else { Err(Refused::Invalid(missing.join("; "))) }
}

/// Moves the deadline of a group that has one to a full deadline from now.
fn expect_progress(group: &mut DeploymentGroup, now: Timestamp) {
    if group.progress_deadline > Duration::ZERO && !group.require_progress_by.is_never() {
        group.require_progress_by = group.require_progress_by.max(now + group.progress_deadline);
    }
}

fn count_health(group: &mut DeploymentGroup, verdict: Option<bool>, change: impl Fn(u32) -> u32) {
    match verdict {
        Some(true) => group.healthy = change(group.healthy),
        Some(false) => group.unhealthy = change(group.unhealthy),
        None => {}
    }
}

/// What a user does who sets this status.
fn act_of(status: DeploymentStatus) -> &'static str {
    match status {
        DeploymentStatus::Running => "resume",
        DeploymentStatus::Paused => "pause",
        DeploymentStatus::Failed => "fail",
        DeploymentStatus::Successful => "complete",
        DeploymentStatus::Cancelled => "cancel",
    }
}
