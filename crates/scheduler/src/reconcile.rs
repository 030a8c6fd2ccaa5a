//! Reconciling one group of a service or batch job: which instances are missing, superfluous,
//! outdated, lost or due for a replacement?
//!
//! Nothing is placed here. The answer, [`GroupChanges`], says what to stop at once, what to place,
//! and what to replace where a replacement finds room; `generic` carries it out.
//!
//! # Invariants
//!
//! - An instance that failed and may not be replaced keeps its place in the count, so that giving up
//!   is final; so does a batch instance that completed.
//! - While a deployment waits for promotion, is paused or has failed, no outdated instance is
//!   touched; lost and migrating ones are replaced all the same.
//! - During a rolling update, missing, not yet healthy and newly replaced instances together are at
//!   most `max_parallel`; one unhealthy instance holds everything.
//! - A replacement that found no room is still a replacement when it is looked for again: it finds
//!   back to what it replaces by its number.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use cos_model::{
    AllocId, Allocation, ClientStatus, Deployment, DeploymentGroup, DesiredStatus, Job, JobKind,
    TaskGroup, Timestamp, Update,
};

use crate::demand::Demand;
use crate::difference;
use crate::feasibility::{fixed_rejection, is_in_datacenter, is_in_pool};
use crate::names::Names;
use crate::nodes::NodeTable;
use crate::problem::Problem;
use crate::words;

mod absence;
mod fate;
mod missing;
mod rollout;

/// What all groups of the job share.
#[derive(Debug)]
pub(crate) struct Context<'p> {
    /// The problem.
    pub(crate) problem: &'p Problem,
    /// The job as it is asked for now.
    pub(crate) job: &'p Arc<Job>,
    /// The deployment of this version, unless it succeeded.
    pub(crate) deployment: Option<&'p Deployment>,
    /// A deployment whose unpromoted canaries nobody needs any more.
    pub(crate) overtaken: Option<&'p Deployment>,
    /// Allocations that have a replacement.
    pub(crate) replaced: BTreeSet<AllocId>,
}

/// What one group needs.
#[derive(Debug, Default)]
pub(crate) struct GroupChanges {
    /// Instances to stop at once.
    pub(crate) stops: Vec<Stop>,
    /// Instances to place.
    pub(crate) place: Vec<Wanted>,
    /// Outdated instances to replace where the replacement finds room, in this order.
    pub(crate) replace: Vec<Wanted>,
    /// How many of those may be replaced now.
    pub(crate) replace_limit: usize,
    /// Instances that take over the new version as they run.
    pub(crate) in_place: Vec<Arc<Allocation>>,
    /// Failed and lost instances that are replaced later, and when.
    pub(crate) later: Vec<(Timestamp, Arc<Allocation>)>,
    /// Instances that are waited for from now on, and when they are given up.
    pub(crate) expiring: Vec<(Timestamp, Arc<Allocation>)>,
    /// The group's part of a deployment to create.
    pub(crate) rollout: Option<DeploymentGroup>,
}

/// An instance to stop.
#[derive(Debug)]
pub(crate) struct Stop {
    /// Which one.
    pub(crate) alloc: Arc<Allocation>,
    /// Why.
    pub(crate) words: &'static str,
    /// Set where its agent can no longer say so itself; one that becomes unknown goes on being
    /// wanted.
    pub(crate) client_status: Option<ClientStatus>,
}

/// An instance to place.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    /// The version to run.
    pub(crate) job: Arc<Job>,
    /// The group.
    pub(crate) group: Arc<str>,
    /// Its number.
    pub(crate) index: u32,
    /// What it replaces.
    pub(crate) previous: Option<Arc<Allocation>>,
    /// Why it is wanted.
    pub(crate) cause: Cause,
    /// Whether it runs beside old instances until promotion.
    pub(crate) canary: bool,
}

/// Why an instance is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// There are too few.
    Missing,
    /// The one before is lost.
    Lost,
    /// The one before is out of reach.
    Disconnected,
    /// The one before leaves its node.
    Migrated,
    /// The one before failed.
    Rescheduled,
    /// The one before is outdated.
    Updated,
    /// It is a canary.
    Canary,
}

/// One group while it is reconciled.
#[derive(Debug)]
struct Work<'c, 'p> {
    context: &'c Context<'p>,
    table: &'c NodeTable<'p>,
    group: &'c TaskGroup,
    name: Arc<str>,
    /// All allocations of the group that still mean something.
    all: Vec<Arc<Allocation>>,
    /// Instances that count, canaries included.
    counted: Vec<Arc<Allocation>>,
    /// Instances that leave their node.
    migrating: Vec<Arc<Allocation>>,
    /// Instances on nodes that are lost, to be replaced now.
    lost: Vec<Arc<Allocation>>,
    /// Instances that are waited for, and to be replaced meanwhile.
    absent: Vec<Arc<Allocation>>,
    /// Lost instances that may still run; their places stay empty.
    held: Vec<Arc<Allocation>>,
    /// How many of the absent, from the last, are beyond the count.
    needless_absent: usize,
    /// Failed instances to replace now.
    due: Vec<Arc<Allocation>>,
    /// Canaries of the deployment under way.
    canaries: BTreeSet<AllocId>,
    /// Counted instances that must be replaced to be of the new version.
    outdated: Vec<Arc<Allocation>>,
    names: Names,
    rollout: DeploymentGroup,
    /// Whether `rollout` belongs to a deployment that exists.
    has_rollout: bool,
    changes: GroupChanges,
}

impl<'p> Context<'p> {
    /// Sorts out what the latest deployment means to this version.
    pub(crate) fn new(problem: &'p Problem, job: &'p Arc<Job>) -> Self {
        let (mut deployment, mut overtaken) = (problem.deployment.as_deref(), None);
        let is_current = |d: &&Deployment| {
            d.job_version == job.version
                && d.job_create_index == job.create_index
                && d.status != cos_model::DeploymentStatus::Successful
        };
        if deployment.is_some_and(|d| !is_current(&d)) {
            (deployment, overtaken) = (None, deployment);
        }
        let linked = problem.job_allocs.iter().filter_map(|alloc| alloc.previous);
        let marked = problem.job_allocs.iter().filter(|a| a.next.is_some()).map(|a| a.id);
        Self { problem, job, deployment, overtaken, replaced: linked.chain(marked).collect() }
    }

    fn is_batch(&self) -> bool {
        self.job.kind == JobKind::Batch
    }

    fn is_paused(&self) -> bool {
        self.deployment.is_some_and(|d| d.status == cos_model::DeploymentStatus::Paused)
    }

    fn has_failed(&self) -> bool {
        self.deployment.is_some_and(|d| !d.is_active())
    }
}

/// Says what one group needs.
pub(crate) fn group(
    context: &Context<'_>,
    table: &NodeTable<'_>,
    group: &TaskGroup,
) -> GroupChanges {
    let mut work = Work::new(context, table, group);
    work.drop_unneeded_canaries();
    work.sort_lines();
    work.decide_fates();
    work.stop_surplus();
    work.compare_versions();
    work.want_canaries();
    work.want_missing();
    work.replace_outdated();
    work.drop_unneeded_absent();
    work.want_migrating();
    work.offer_rollout();
    work.changes
}

impl<'c, 'p> Work<'c, 'p> {
    fn new(context: &'c Context<'p>, table: &'c NodeTable<'p>, group: &'c TaskGroup) -> Self {
        let known = context.deployment.and_then(|d| d.groups.get(&group.name));
        let mut all: Vec<Arc<Allocation>> = context
            .problem
            .job_allocs
            .iter()
            .filter(|alloc| *alloc.group == *group.name)
            .filter(|alloc| !(context.is_batch() && is_history(alloc, context.job)))
            .cloned()
            .collect();
        all.sort_by_key(|alloc| (alloc.index, alloc.id));
        Self {
            context,
            table,
            group,
            name: group.name.as_str().into(),
            all,
            counted: Vec::new(),
            migrating: Vec::new(),
            lost: Vec::new(),
            absent: Vec::new(),
            held: Vec::new(),
            needless_absent: 0,
            due: Vec::new(),
            canaries: BTreeSet::new(),
            outdated: Vec::new(),
            names: Names::default(),
            rollout: known.cloned().unwrap_or_else(|| rollout::fresh(rolling(group))),
            has_rollout: known.is_some(),
            changes: GroupChanges::default(),
        }
    }

    /// Whether canaries run, or are about to, beside old instances.
    fn is_canarying(&self) -> bool {
        self.rollout.desired_canaries > 0 && !self.rollout.promoted
    }

    /// Whether new instances of the new version may be placed beyond canaries.
    fn may_roll(&self) -> bool {
        !self.context.is_paused() && !self.context.has_failed() && !self.is_canarying()
    }

    fn stop(&mut self, alloc: &Arc<Allocation>, words: &'static str, lost: bool) {
        let client_status = lost.then_some(ClientStatus::Lost);
        self.changes.stops.push(Stop { alloc: Arc::clone(alloc), words, client_status });
    }

    /// Stops what is beyond the count: first what canaries stand in for, then what has failed or
    /// leaves its node anyway, then the highest numbers.
    fn stop_surplus(&mut self) {
        let canarying = self.is_canarying();
        let stays = |alloc: &Arc<Allocation>| canarying && self.canaries.contains(&alloc.id);
        let lines = self.counted.iter().chain(&self.due).filter(|alloc| !stays(alloc));
        let surplus =
            (lines.count() + self.migrating.len()).saturating_sub(self.group.count as usize);
        if surplus == 0 {
            return;
        }
        let stood_in_for: BTreeSet<u32> = if canarying {
            BTreeSet::new()
        } else {
            self.canaries_of(&self.counted).map(|canary| canary.index).collect()
        };
        let is_batch = self.context.is_batch();
        let mut candidates: Vec<(u8, Arc<Allocation>)> = self
            .counted
            .iter()
            .filter(|alloc| !(stays(alloc) || is_batch && alloc.is_terminal()))
            .map(|alloc| {
                let has_stand_in =
                    stood_in_for.contains(&alloc.index) && !self.canaries.contains(&alloc.id);
                let rank = match (has_stand_in, alloc.is_terminal()) {
                    (true, _) => 0,
                    (false, true) => 1,
                    (false, false) => 3,
                };
                (rank, Arc::clone(alloc))
            })
            .chain(self.due.iter().filter(|alloc| !stays(alloc)).map(|a| (1, Arc::clone(a))))
            .chain(self.migrating.iter().map(|alloc| (2, Arc::clone(alloc))))
            .collect();
        candidates.sort_by_key(|(rank, alloc)| {
            (*rank, std::cmp::Reverse(alloc.index), alloc.job.version, alloc.id)
        });
        candidates.truncate(surplus);
        let gone: BTreeSet<AllocId> = candidates.iter().map(|(_, alloc)| alloc.id).collect();
        for (_, alloc) in &candidates {
            self.stop(alloc, words::NOT_NEEDED, false);
        }
        self.counted.retain(|alloc| !gone.contains(&alloc.id));
        self.migrating.retain(|alloc| !gone.contains(&alloc.id));
        self.due.retain(|alloc| !gone.contains(&alloc.id));
        self.changes.later.retain(|(_, alloc)| !gone.contains(&alloc.id));
    }

    /// Sorts out which counted instances are of an older version, and which of those can take over
    /// the new one as they run.
    fn compare_versions(&mut self) {
        let job = self.context.job;
        let mut demand: Option<Demand> = None;
        for alloc in &self.counted {
            if alloc.job.job_modify_index == job.job_modify_index
                && alloc.job.create_index == job.create_index
            {
                continue;
            }
            if difference::is_destructive(&alloc.job, job, &self.group.name) {
                self.outdated.push(Arc::clone(alloc));
            } else if !alloc.is_terminal() {
                let demand = demand.get_or_insert_with(|| Demand::new(job, self.group));
                let suits = self.table.node(alloc.node_id).is_some_and(|node| {
                    is_in_pool(job, node)
                        && is_in_datacenter(job, node)
                        && fixed_rejection(demand, node).is_none()
                });
                let heap = if suits { &mut self.changes.in_place } else { &mut self.outdated };
                heap.push(Arc::clone(alloc));
            }
        }
        // Instances that do no good now are replaced first, so that those that do are spared as
        // long as possible.
        self.outdated.sort_by_key(|alloc| (fate::usefulness(alloc), alloc.index, alloc.id));
        let lines =
            [&self.counted, &self.migrating, &self.due, &self.lost, &self.absent, &self.held];
        self.names = lines.into_iter().flatten().map(|alloc| alloc.index).collect();
    }

    fn want_migrating(&mut self) {
        for alloc in &self.migrating.clone() {
            self.stop(alloc, words::MIGRATING, false);
            let wanted = self.replacement(alloc, Cause::Migrated);
            self.changes.place.push(wanted);
        }
    }

    fn canaries_of<'a>(
        &'a self,
        allocs: &'a [Arc<Allocation>],
    ) -> impl Iterator<Item = &'a Arc<Allocation>> {
        allocs.iter().filter(|alloc| self.canaries.contains(&alloc.id))
    }
}

/// The update policy of a group that is rolled out step by step.
fn rolling(group: &TaskGroup) -> Option<&Update> {
    group.update.as_ref().filter(|update| update.max_parallel > 0)
}

/// Whether a batch instance ended under an older version, which says nothing about this one.
fn is_history(alloc: &Allocation, job: &Job) -> bool {
    let is_older = alloc.job.version < job.version || alloc.job.create_index < job.create_index;
    is_older && alloc.is_terminal()
}

/// Replacements that were wanted before and found no room, by number: the instance to replace, and
/// why.
fn unfinished(
    allocs: &[Arc<Allocation>],
    replaced: &BTreeSet<AllocId>,
) -> BTreeMap<u32, (Arc<Allocation>, Cause)> {
    let mut latest: BTreeMap<u32, &Arc<Allocation>> = BTreeMap::new();
    for alloc in allocs {
        let known = latest.entry(alloc.index).or_insert(alloc);
        if (known.create_index, known.create_time) < (alloc.create_index, alloc.create_time) {
            *known = alloc;
        }
    }
    latest
        .into_iter()
        .filter(|(_, alloc)| alloc.desired != DesiredStatus::Run && !replaced.contains(&alloc.id))
        .filter_map(|(index, alloc)| {
            let cause = match alloc.desired_description.as_str() {
                words::LOST => Cause::Lost,
                words::MIGRATING => Cause::Migrated,
                words::UPDATING => Cause::Missing,
                _ => return None,
            };
            Some((index, (Arc::clone(alloc), cause)))
        })
        .collect()
}
