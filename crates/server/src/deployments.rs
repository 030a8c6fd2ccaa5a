//! The deployment watcher: decides when a rollout has succeeded, failed, or promotes itself.
//!
//! Pure: (state, now) in, commands out. Asked again about the same state it says the same.
//!
//! # Invariants
//!
//! - Only a running deployment gets commands, and at most one at a time; the next follows from the
//!   state that the first one leaves.
//!
//! # Deliberately absent
//!
//! - Placing the next batch. The evaluation made by [`for_health`] lets the scheduler do it.
//! - Cancelling what a newer version overtook. The scheduler does so in its plan.

use std::collections::BTreeSet;
use std::sync::Arc;

use cos_model::link::AllocUpdate;
use cos_model::plan::DeploymentUpdate;
use cos_model::{
    Allocation, Deployment, DeploymentGroup, DeploymentId, DeploymentStatus, Evaluation, Job,
    Timestamp, Trigger,
};
use cos_state::evaluations::eval_for_job;
use cos_state::rollback::rollback;
use cos_state::{Command, State};

use crate::evals::Ids;

/// Descriptions in the words that clients match on.
const SUCCESSFUL: &str = "Deployment completed successfully";
const UNHEALTHY: &str = "Failed due to unhealthy allocations";
const TOO_SLOW: &str = "Failed due to progress deadline";

/// Decides what is to be done about one deployment now, if anything.
pub fn decide(state: &State, id: DeploymentId, now: Timestamp, ids: Ids<'_>) -> Option<Command> {
    let deployment = state.deployment(id)?;
    if deployment.status != DeploymentStatus::Running {
        return None;
    }
    let job = state.job(&deployment.job)?;
    if job.stop || job.version != deployment.job_version {
        // The scheduler cancels it with the plan for the stop or the newer version.
        return None;
    }
    if deployment.groups.values().all(is_done) {
        return Some(succeed(state, deployment, job, ids, now));
    }
    if let Some(cause) = failure(state, deployment, now) {
        return Some(fail(state, deployment, job, cause, ids, now));
    }
    if promotes_itself(state, deployment) {
        let eval = for_deployment(job, deployment, ids, now);
        return Some(Command::PromoteDeployment { id, groups: None, eval: Some(eval) });
    }
    describe_promotion(deployment)
}

/// When the deployment has to be looked at again although nothing happens.
pub fn next_deadline(deployment: &Deployment) -> Option<Timestamp> {
    if deployment.status != DeploymentStatus::Running {
        return None;
    }
    deployment
        .groups
        .values()
        .filter(|group| !is_satisfied(group) && !group.require_progress_by.is_never())
        .map(|group| group.require_progress_by)
        .min()
}

/// Returns one evaluation for each rollout that may go on because these reports brought health.
pub fn for_health(
    state: &State,
    updates: &[AllocUpdate],
    ids: Ids<'_>,
    now: Timestamp,
) -> Vec<Evaluation> {
    let progressed: BTreeSet<DeploymentId> = updates
        .iter()
        .filter_map(|update| {
            let (id, healthy) = update.health?;
            let known = state.alloc(update.id)?.health.map(|health| health.healthy);
            (healthy && known != Some(true)).then_some(id)
        })
        .collect();
    progressed
        .iter()
        .filter_map(|id| state.deployment(*id))
        .filter(|deployment| deployment.status == DeploymentStatus::Running)
        .filter(|deployment| is_incomplete(state, deployment))
        .filter_map(|deployment| {
            let job = state.job(&deployment.job)?;
            Some(for_deployment(job, deployment, &mut *ids, now))
        })
        .collect()
}

/// Whether all that a group needs to succeed has happened.
fn is_done(group: &DeploymentGroup) -> bool {
    !awaits_promotion(group) && group.healthy >= group.desired_total
}

/// Whether a group has made the progress that it can make without a user's word.
fn is_satisfied(group: &DeploymentGroup) -> bool {
    if awaits_promotion(group) {
        group.healthy >= group.desired_canaries
    } else {
        group.healthy >= group.desired_total
    }
}

fn awaits_promotion(group: &DeploymentGroup) -> bool {
    group.desired_canaries > 0 && !group.promoted
}

/// Whether instances of the new version are still missing.
fn is_incomplete(state: &State, deployment: &Deployment) -> bool {
    deployment.groups.iter().any(|(name, group)| {
        let living = allocs_of(state, deployment)
            .filter(|alloc| *alloc.group == **name && !alloc.is_terminal())
            .count();
        living < group.desired_total as usize
    })
}

fn allocs_of<'a>(
    state: &'a State,
    deployment: &'a Deployment,
) -> impl Iterator<Item = &'a Arc<Allocation>> {
    state.allocs_of_job(&deployment.job).filter(|alloc| alloc.deployment_id == Some(deployment.id))
}

/// Ends a rollout well. Instances that were healthy once and are gone count, so one of the old
/// version may be left; then the job is looked at once more.
fn succeed(
    state: &State,
    deployment: &Deployment,
    job: &Job,
    ids: Ids<'_>,
    now: Timestamp,
) -> Command {
    let is_left =
        |alloc: &Arc<Allocation>| !alloc.is_terminal() && alloc.job.version != job.version;
    let has_left = state.allocs_of_job(&deployment.job).any(is_left);
    Command::SetDeploymentStatus {
        update: DeploymentUpdate {
            id: deployment.id,
            status: DeploymentStatus::Successful,
            description: SUCCESSFUL.to_owned(),
        },
        revert: None,
        eval: has_left.then(|| for_deployment(job, deployment, ids, now)),
    }
}

/// Returns why the deployment has failed, in words, or `None` if it has not.
fn failure(state: &State, deployment: &Deployment, now: Timestamp) -> Option<&'static str> {
    let is_overdue = |group: &DeploymentGroup| {
        !group.require_progress_by.is_never() && group.require_progress_by <= now
    };
    let cannot_wait =
        |group: &DeploymentGroup| group.progress_deadline.is_zero() && !is_satisfied(group);
    let has_unhealthy = |name: &str| {
        allocs_of(state, deployment).any(|alloc| *alloc.group == *name && alloc.is_unhealthy())
    };
    let groups = || deployment.groups.iter();
    if groups().any(|(name, group)| cannot_wait(group) && has_unhealthy(name)) {
        Some(UNHEALTHY)
    } else if groups().any(|(_, group)| is_overdue(group) && !is_satisfied(group)) {
        Some(TOO_SLOW)
    } else {
        None
    }
}

fn fail(
    state: &State,
    deployment: &Deployment,
    job: &Job,
    cause: &str,
    ids: Ids<'_>,
    now: Timestamp,
) -> Command {
    let auto_revert =
        deployment.groups.values().any(|group| group.auto_revert && !is_satisfied(group));
    let (ending, revert) =
        if auto_revert { rollback(state, deployment, job) } else { (String::new(), None) };
    Command::SetDeploymentStatus {
        update: DeploymentUpdate {
            id: deployment.id,
            status: DeploymentStatus::Failed,
            description: format!("{cause}{ending}"),
        },
        revert: revert.map(|job| Box::new(Job::clone(job))),
        eval: Some(for_deployment(job, deployment, ids, now)),
    }
}

/// Whether every group that waits promotes itself and has all its canaries healthy.
fn promotes_itself(state: &State, deployment: &Deployment) -> bool {
    let mut waiting = deployment.groups.values().filter(|group| awaits_promotion(group)).peekable();
    waiting.peek().is_some()
        && waiting.all(|group| {
            let healthy = group
                .placed_canaries
                .iter()
                .filter_map(|id| state.alloc(*id))
                .filter(|alloc| !alloc.is_terminal() && alloc.is_healthy())
                .count();
            group.auto_promote && healthy >= group.desired_canaries as usize
        })
}

/// Says that a promotion is awaited, once.
fn describe_promotion(deployment: &Deployment) -> Option<Command> {
    if !deployment.requires_promotion() || deployment.status_description != Deployment::RUNNING {
        return None;
    }
    Some(Command::SetDeploymentStatus {
        update: DeploymentUpdate {
            id: deployment.id,
            status: DeploymentStatus::Running,
            description: deployment.running_description().to_owned(),
        },
        revert: None,
        eval: None,
    })
}

fn for_deployment(job: &Job, deployment: &Deployment, ids: Ids<'_>, now: Timestamp) -> Evaluation {
    Evaluation {
        deployment_id: Some(deployment.id),
        ..eval_for_job(job, Trigger::DeploymentWatcher, ids(), now)
    }
}

#[cfg(test)]
mod tests;
