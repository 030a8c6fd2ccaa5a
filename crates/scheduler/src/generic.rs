//! Planning service and batch jobs: so many instances, wherever they fit.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use cos_model::{
    AllocId, Allocation, ClientStatus, Deployment, DeploymentGroup, DeploymentId, DeploymentStatus,
    Job, Timestamp,
};

use crate::draft::Draft;
use crate::reconcile::{self, Context, GroupChanges, Stop};
use crate::words;

/// What is due within this time of each other shares an evaluation.
const DELAY_BATCH: Duration = Duration::from_secs(5);

/// Plans a service or batch job.
pub(crate) fn plan(draft: &mut Draft<'_, '_>, job: &Arc<Job>) {
    let problem = draft.problem;
    let context = Context::new(problem, job);
    if let Some(overtaken) = context.overtaken {
        draft.cancel(overtaken, words::DEPLOYMENT_OVERTAKEN);
    }
    draft.deployment = problem.deployment.clone().filter(|_| context.deployment.is_some());
    stop_removed_groups(draft, job);
    let changes: Vec<GroupChanges> =
        job.groups.iter().map(|group| reconcile::group(&context, &draft.table, group)).collect();
    begin_deployment(draft, job, &changes);
    for (group, changes) in job.groups.iter().zip(&changes) {
        draft.mention(&group.name);
        for stop in &changes.stops {
            draft.stop(stop);
        }
        for alloc in &changes.in_place {
            draft.update_in_place(alloc, job);
        }
    }
    for changes in &changes {
        for wanted in &changes.place {
            draft.place(wanted);
        }
        draft.replace(&changes.replace, changes.replace_limit);
    }
    delay(draft, changes.iter().flat_map(|c| &c.later), Draft::delay);
    delay(draft, changes.iter().flat_map(|c| &c.expiring), Draft::expire);
}

/// Stops instances of groups that the job no longer has.
fn stop_removed_groups(draft: &mut Draft<'_, '_>, job: &Job) {
    let problem = draft.problem;
    let removed = problem.job_allocs.iter().filter(|alloc| job.group(&alloc.group).is_none());
    for alloc in removed.filter(|alloc| !alloc.is_terminal()) {
        let lost = draft.table.is_lost(alloc.node_id);
        draft.stop(&Stop {
            alloc: Arc::clone(alloc),
            words: if lost { words::LOST } else { words::NOT_NEEDED },
            client_status: lost.then_some(ClientStatus::Lost),
        });
    }
}

fn begin_deployment(draft: &mut Draft<'_, '_>, job: &Job, changes: &[GroupChanges]) {
    let groups: BTreeMap<String, DeploymentGroup> = job
        .groups
        .iter()
        .zip(changes)
        .filter_map(|(group, changes)| Some((group.name.clone(), changes.rollout.clone()?)))
        .collect();
    if groups.is_empty() {
        return;
    }
    let now = draft.problem.now;
    let mut deployment = Deployment {
        id: DeploymentId::from_bits(draft.id()),
        job: job.key.clone(),
        job_version: job.version,
        job_modify_index: job.modify_index,
        job_spec_modify_index: job.job_modify_index,
        job_create_index: job.create_index,
        groups,
        status: DeploymentStatus::Running,
        status_description: String::new(),
        create_time: now,
        modify_time: now,
        create_index: 0,
        modify_index: 0,
    };
    deployment.running_description().clone_into(&mut deployment.status_description);
    draft.begin(deployment);
}

/// Makes evaluations for what is due later, one for all that is due together.
pub(crate) fn delay<'c, 'p, 'i>(
    draft: &mut Draft<'p, 'i>,
    later: impl Iterator<Item = &'c (Timestamp, Arc<Allocation>)>,
    make: impl Fn(&mut Draft<'p, 'i>, Timestamp, &[AllocId]),
) {
    let mut later: Vec<(Timestamp, AllocId)> = later.map(|(at, alloc)| (*at, alloc.id)).collect();
    later.sort_unstable();
    let mut rest = later.as_slice();
    while let Some((first, _)) = rest.first() {
        let together = rest.partition_point(|(at, _)| *at <= *first + DELAY_BATCH);
        let (batch, others) = rest.split_at(together);
        let due = batch.last().map_or(*first, |(at, _)| *at);
        let allocs: Vec<AllocId> = batch.iter().map(|(_, alloc)| *alloc).collect();
        make(draft, due, &allocs);
        rest = others;
    }
}
