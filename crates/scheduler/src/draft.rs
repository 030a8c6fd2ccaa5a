//! The plan while it is written: placements that found room, stops, and what could not be placed.
//!
//! # Invariants
//!
//! - A placement is taken into account by the next one at once.
//! - An allocation is stopped at most once.
//! - Whatever is wanted and not placed is counted in `queued`, and its reasons are in
//!   `failed_groups`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use cos_model::plan::{DeploymentUpdate, PlannedStop};
use cos_model::{
    AllocId, AllocMetric, AllocatedPort, Allocation, ClientStatus, Deployment, DeploymentStatus,
    DesiredStatus, DesiredTransition, EvalId, EvalStatus, Evaluation, Job, NodeId, Plan, Timestamp,
};

use crate::demand::Demand;
use crate::evaluation;
use crate::nodes::NodeTable;
use crate::ports;
use crate::problem::Problem;
use crate::ranking::{Ranker, mix};
use crate::reconcile::{Cause, Stop, Wanted};
use crate::reschedule;
use crate::words;

/// The plan while it is written.
pub(crate) struct Draft<'p, 'i> {
    /// The problem.
    pub(crate) problem: &'p Problem,
    /// The nodes as the plan has changed them so far.
    pub(crate) table: NodeTable<'p>,
    /// The deployment that placements of the current version belong to.
    pub(crate) deployment: Option<Arc<Deployment>>,
    ids: &'i mut dyn FnMut() -> u128,
    seed: u64,
    rankers: BTreeMap<(u64, Arc<str>), Ranker>,
    placements: Vec<Allocation>,
    stops: Vec<PlannedStop>,
    stopped: BTreeSet<AllocId>,
    followups: BTreeMap<AllocId, EvalId>,
    new_deployment: Option<Deployment>,
    deployment_updates: Vec<DeploymentUpdate>,
    new_evals: Vec<Evaluation>,
    next_eval: Option<EvalId>,
    failed_groups: BTreeMap<String, AllocMetric>,
    queued: BTreeMap<String, u32>,
    waits_for_room: bool,
}

/// What became of a wanted instance.
enum Outcome {
    /// It has a place.
    Placed,
    /// It waits for the room of what it replaces, which is stopped for that.
    Waits(Box<AllocMetric>),
    /// There is no place.
    Stuck(Box<AllocMetric>),
}

/// Where an instance goes.
pub(crate) struct Seat {
    /// The node.
    slot: usize,
    ports: Vec<AllocatedPort>,
    metric: AllocMetric,
}

impl<'p, 'i> Draft<'p, 'i> {
    /// Starts an empty plan.
    pub(crate) fn new(problem: &'p Problem, ids: &'i mut dyn FnMut() -> u128) -> Self {
        Self {
            problem,
            table: NodeTable::new(problem),
            deployment: None,
            ids,
            seed: mix(0, NodeId::from_bits(problem.eval.id.bits())),
            rankers: BTreeMap::new(),
            placements: Vec::new(),
            stops: Vec::new(),
            stopped: BTreeSet::new(),
            followups: BTreeMap::new(),
            new_deployment: None,
            deployment_updates: Vec::new(),
            new_evals: Vec::new(),
            next_eval: None,
            failed_groups: BTreeMap::new(),
            queued: BTreeMap::new(),
            waits_for_room: false,
        }
    }

    /// Draws an id.
    pub(crate) fn id(&mut self) -> u128 {
        (self.ids)()
    }

    /// Stops an allocation, or records that its node took it along.
    pub(crate) fn stop(&mut self, stop: &Stop) {
        if self.record_stop(stop) && !stop.alloc.is_terminal() {
            self.table.leave(&stop.alloc);
        }
    }

    /// Hands a new version to an instance that goes on running.
    pub(crate) fn update_in_place(&mut self, alloc: &Allocation, job: &Arc<Job>) {
        let deployment_id = self.deployment_for(job, &alloc.group);
        let keeps_health = deployment_id == alloc.deployment_id;
        self.placements.push(Allocation {
            job: Arc::clone(job),
            eval_id: self.problem.eval.id,
            deployment_id,
            health: alloc.health.filter(|_| keeps_health),
            canary: alloc.canary && keeps_health,
            modify_time: self.problem.now,
            ..alloc.clone()
        });
    }

    /// Places an instance on the best node, and stops what it replaces.
    pub(crate) fn place(&mut self, wanted: &Wanted) {
        if let Outcome::Waits(metric) | Outcome::Stuck(metric) = self.try_place(wanted) {
            self.fail(&wanted.group, *metric, true);
        }
    }

    /// Replaces outdated instances until `limit` of them are replaced or about to be. One that
    /// cannot be replaced does not hold up the others.
    pub(crate) fn replace(&mut self, outdated: &[Wanted], limit: usize) {
        let (mut replaced, mut stuck) = (0, 0);
        for wanted in outdated {
            if replaced == limit {
                return;
            }
            match self.try_place(wanted) {
                Outcome::Placed => replaced += 1,
                Outcome::Waits(metric) => {
                    replaced += 1;
                    self.fail(&wanted.group, *metric, true);
                }
                Outcome::Stuck(metric) => {
                    // Beyond the limit they were not due yet.
                    stuck += 1;
                    if stuck <= limit {
                        self.fail(&wanted.group, *metric, true);
                    }
                }
            }
        }
    }

    fn try_place(&mut self, wanted: &Wanted) -> Outcome {
        self.set_out(wanted);
        self.ready_ranker(wanted);
        match self.find_seat(wanted) {
            Ok(seat) => {
                self.stop_previous(wanted);
                self.seat(wanted, seat);
                Outcome::Placed
            }
            Err(metric) if self.turn_back(wanted) => Outcome::Waits(metric),
            Err(metric) => Outcome::Stuck(metric),
        }
    }

    /// Treats an outdated instance as gone while its replacement looks for a node: it is neither a
    /// sibling nor a neighbour of its own replacement.
    pub(crate) fn set_out(&mut self, wanted: &Wanted) {
        if let Some(alloc) = outdated_live(wanted) {
            self.table.leave(alloc);
        }
    }

    /// Ends a search that found no node: an outdated instance that holds just the room that its
    /// replacement lacks is stopped, any other one stays. Says whether it is stopped.
    pub(crate) fn turn_back(&mut self, wanted: &Wanted) -> bool {
        let Some(alloc) = outdated_live(wanted) else { return false };
        let makes_room = self.previous_makes_room(wanted, alloc);
        if makes_room {
            self.stop_previous(wanted);
        } else {
            self.table.come_back(alloc);
        }
        makes_room
    }

    /// Places an instance on one node, or says why that node cannot take it.
    pub(crate) fn place_on(&mut self, wanted: &Wanted, slot: usize, seat: Vec<AllocatedPort>) {
        let ranker = &self.rankers[&ranker_key(wanted)];
        let mut metric = ranker.bare_metric();
        metric.scores = vec![ranker.describe_single(&self.table, slot)];
        self.seat(wanted, Seat { slot, ports: seat, metric });
    }

    /// Returns the ranker for a group of a job version, up to date.
    pub(crate) fn ready_ranker(&mut self, wanted: &Wanted) -> &mut Ranker {
        let (table, problem, seed) = (&self.table, self.problem, self.seed);
        let ranker = self.rankers.entry(ranker_key(wanted)).or_insert_with(|| {
            let group = wanted.job.group(&wanted.group);
            let group = group.expect("an instance is wanted only of a group that its job has");
            Ranker::new(Demand::new(&wanted.job, group), table, problem.spread, seed)
        });
        ranker.catch_up(table);
        ranker
    }

    /// Assigns ports on one node.
    pub(crate) fn ports_on(
        &self,
        wanted: &Wanted,
        slot: usize,
    ) -> Result<Vec<AllocatedPort>, crate::feasibility::Rejection> {
        let ranker = &self.rankers[&ranker_key(wanted)];
        let slot = &self.table.slots()[slot];
        let seed = mix(self.seed ^ u64::from(wanted.index), slot.node.id);
        ports::assign(slot.node, &slot.usage, &ranker.demand.networks, seed)
    }

    /// Counts an instance that is wanted and was not placed.
    pub(crate) fn fail(&mut self, group: &str, metric: AllocMetric, waits_for_room: bool) {
        match self.failed_groups.get_mut(group) {
            Some(known) => known.coalesced_failures += 1,
            None => drop(self.failed_groups.insert(group.to_owned(), metric)),
        }
        if waits_for_room {
            self.waits_for_room = true;
            *self.queued.entry(group.to_owned()).or_default() += 1;
        }
    }

    /// Makes an entry for a group in the counts, so that "nothing queued" is said too.
    pub(crate) fn mention(&mut self, group: &str) {
        self.queued.entry(group.to_owned()).or_default();
    }

    /// Creates a deployment.
    pub(crate) fn begin(&mut self, deployment: Deployment) {
        self.deployment = Some(Arc::new(deployment.clone()));
        self.new_deployment = Some(deployment);
    }

    /// Ends a deployment that can still change.
    pub(crate) fn cancel(&mut self, deployment: &Deployment, words: &str) {
        if deployment.is_active() {
            self.deployment_updates.push(DeploymentUpdate {
                id: deployment.id,
                status: DeploymentStatus::Cancelled,
                description: words.to_owned(),
            });
        }
    }

    /// Makes an evaluation that replaces failed instances at a later time.
    pub(crate) fn delay(&mut self, at: Timestamp, allocs: &[AllocId]) {
        let id = EvalId::from_bits(self.id());
        self.followups.extend(allocs.iter().map(|alloc| (*alloc, id)));
        self.new_evals.push(evaluation::delayed(&self.problem.eval, id, at, self.problem.now));
    }

    /// Makes an evaluation that gives unknown instances up once their time is over.
    pub(crate) fn expire(&mut self, at: Timestamp, allocs: &[AllocId]) {
        let id = EvalId::from_bits(self.id());
        self.followups.extend(allocs.iter().map(|alloc| (*alloc, id)));
        self.new_evals.push(evaluation::expiring(&self.problem.eval, id, at, self.problem.now));
    }

    /// Makes the evaluation that updates the next batch of a system job.
    pub(crate) fn roll_on(&mut self, at: Timestamp) {
        let id = EvalId::from_bits(self.id());
        self.next_eval = Some(id);
        self.new_evals.push(evaluation::rolling(&self.problem.eval, id, at, self.problem.now));
    }

    /// Completes the plan.
    pub(crate) fn finish(mut self, all_at_once: bool) -> Plan {
        let problem = self.problem;
        let mut eval = Evaluation {
            status: EvalStatus::Complete,
            status_description: String::new(),
            next: self.next_eval.or(problem.eval.next),
            deployment_id: self.deployment.as_ref().map(|d| d.id).or(problem.eval.deployment_id),
            failed_groups: std::mem::take(&mut self.failed_groups),
            queued: std::mem::take(&mut self.queued),
            snapshot_index: problem.based_on,
            modify_time: problem.now,
            ..(*problem.eval).clone()
        };
        if self.waits_for_room && evaluation::waits_again(&problem.eval) {
            eval.status = EvalStatus::Blocked;
            words::BLOCKED.clone_into(&mut eval.status_description);
        } else if self.waits_for_room {
            let id = EvalId::from_bits(self.id());
            eval.blocked = Some(id);
            self.new_evals.push(evaluation::blocked(&eval, id, problem.now));
        }
        Plan {
            eval_id: problem.eval.id,
            based_on: problem.based_on,
            all_at_once,
            placements: self.placements,
            stops: self.stops,
            followups: self.followups,
            deployment: self.new_deployment,
            deployment_updates: self.deployment_updates,
            new_evals: self.new_evals,
            eval,
            at: problem.now,
        }
    }

    /// Finds the best node for an instance, or the reasons why there is none.
    fn find_seat(&mut self, wanted: &Wanted) -> Result<Seat, Box<AllocMetric>> {
        let key = ranker_key(wanted);
        if let Some(seat) = self.sticky_seat(wanted) {
            return Ok(seat);
        }
        let penalised = penalised_nodes(wanted);
        loop {
            let Some(ranker) = self.rankers.get_mut(&key) else {
                return Err(Box::default());
            };
            let ranked = ranker.best(&self.table, &penalised);
            if ranked.is_empty() {
                return Err(Box::new(ranker.metric(&self.table, &[])));
            }
            ranker.give_back(ranked.iter().cloned());
            let mut found = None;
            let mut refused = Vec::new();
            for (at, candidate) in ranked.iter().enumerate() {
                match self.ports_on(wanted, candidate.slot) {
                    Ok(ports) => {
                        found = Some((at, ports));
                        break;
                    }
                    Err(reason) => refused.push((candidate.slot, reason)),
                }
            }
            let Some(ranker) = self.rankers.get_mut(&key) else { continue };
            for (slot, reason) in refused {
                ranker.leave_out(slot, self.table.slots()[slot].node, reason);
            }
            if let Some((at, ports)) = found {
                let metric = ranker.metric(&self.table, &ranked[at..]);
                return Ok(Seat { slot: ranked[at].slot, ports, metric });
            }
        }
    }

    /// The node of the instance that is replaced, if the group's data should stay there and it can.
    fn sticky_seat(&self, wanted: &Wanted) -> Option<Seat> {
        let ranker = &self.rankers[&ranker_key(wanted)];
        let previous = wanted.previous.as_ref().filter(|_| ranker.demand.sticky)?;
        let slot = self.table.slot_of(previous.node_id)?;
        if !ranker.concerns(slot) || ranker.rejection(slot).is_some() {
            return None;
        }
        let ports = self.ports_on(wanted, slot).ok()?;
        let mut metric = ranker.bare_metric();
        metric.scores = vec![ranker.describe_single(&self.table, slot)];
        Some(Seat { slot, ports, metric })
    }

    fn previous_makes_room(&self, wanted: &Wanted, previous: &Allocation) -> bool {
        let ranker = &self.rankers[&ranker_key(wanted)];
        let Some(at) = self.table.slot_of(previous.node_id) else { return false };
        let Some(slot) = self.table.slot_without(previous, &self.placements) else { return false };
        let networks = &ranker.demand.networks;
        ranker.would_fit(at, &slot)
            && ports::assign(slot.node, &slot.usage, networks, self.seed).is_ok()
    }

    /// Stops what a placement replaces, where that was not done before.
    pub(crate) fn stop_previous(&mut self, wanted: &Wanted) {
        let words = match wanted.cause {
            Cause::Updated => words::UPDATING,
            Cause::Rescheduled => words::RESCHEDULED,
            Cause::Missing
            | Cause::Lost
            | Cause::Disconnected
            | Cause::Migrated
            | Cause::Canary => return,
        };
        if let Some(alloc) = wanted.previous.clone() {
            self.record_stop(&Stop { alloc, words, client_status: None });
        }
    }

    fn record_stop(&mut self, stop: &Stop) -> bool {
        let alloc = &stop.alloc;
        let is_new = self.stopped.insert(alloc.id);
        if is_new {
            let is_wanted = stop.client_status == Some(ClientStatus::Unknown);
            let desired = if alloc.is_desired_terminal() || is_wanted {
                alloc.desired
            } else {
                DesiredStatus::Stop
            };
            self.stops.push(PlannedStop {
                id: alloc.id,
                desired,
                description: stop.words.to_owned(),
                client_status: stop.client_status,
            });
        }
        is_new
    }

    fn seat(&mut self, wanted: &Wanted, seat: Seat) {
        let id = AllocId::from_bits(self.id());
        let deployment_id = self.deployment_for(&wanted.job, &wanted.group);
        let demand = &self.rankers[&ranker_key(wanted)].demand;
        let node = self.table.slots()[seat.slot].node;
        let now = self.problem.now;
        let reschedules = match (&wanted.previous, wanted.cause) {
            (Some(previous), Cause::Rescheduled) => reschedule::continued(previous, now),
            (Some(previous), Cause::Lost | Cause::Disconnected | Cause::Migrated) => {
                previous.reschedules.clone()
            }
            _ => Vec::new(),
        };
        let alloc = Allocation {
            id,
            eval_id: self.problem.eval.id,
            node_id: node.id,
            node_name: node.name.as_str().into(),
            job: Arc::clone(&wanted.job),
            group: Arc::clone(&wanted.group),
            index: wanted.index,
            resources: demand.resources_on(node),
            tasks: demand.tasks_on(node),
            ports: seat.ports,
            desired: DesiredStatus::Run,
            desired_description: String::new(),
            transition: DesiredTransition::default(),
            client_status: ClientStatus::Pending,
            client_description: String::new(),
            task_states: BTreeMap::new(),
            deployment_id,
            health: None,
            canary: wanted.canary && deployment_id.is_some(),
            previous: wanted.previous.as_ref().map(|previous| previous.id),
            next: None,
            reschedules,
            followup_eval: None,
            states: Vec::new(),
            metric: Arc::new(seat.metric),
            create_time: now,
            modify_time: now,
            create_index: 0,
            modify_index: 0,
            alloc_modify_index: 0,
        };
        self.table.place(seat.slot, &alloc);
        self.placements.push(alloc);
    }

    /// The deployment that an instance belongs to, if its version is being rolled out.
    fn deployment_for(&self, job: &Job, group: &str) -> Option<cos_model::DeploymentId> {
        let deployment = self.deployment.as_ref().filter(|d| d.is_active())?;
        let is_part =
            deployment.job_version == job.version && deployment.groups.contains_key(group);
        is_part.then_some(deployment.id)
    }
}

impl std::fmt::Debug for Draft<'_, '_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Draft")
            .field("eval", &self.problem.eval.id)
            .field("placements", &self.placements.len())
            .field("stops", &self.stops.len())
            .finish_non_exhaustive()
    }
}

fn ranker_key(wanted: &Wanted) -> (u64, Arc<str>) {
    (wanted.job.version, Arc::clone(&wanted.group))
}

/// The running instance that is to be replaced because it is outdated, if that is the case.
fn outdated_live(wanted: &Wanted) -> Option<&Allocation> {
    let previous = wanted.previous.as_deref().filter(|_| wanted.cause == Cause::Updated);
    previous.filter(|alloc| !alloc.is_terminal())
}

/// The nodes on which earlier instances of this line failed.
fn penalised_nodes(wanted: &Wanted) -> BTreeSet<NodeId> {
    let Some(previous) = &wanted.previous else { return BTreeSet::new() };
    let failed = (previous.client_status == ClientStatus::Failed).then_some(previous.node_id);
    previous.reschedules.iter().map(|event| event.previous_node).chain(failed).collect()
}
