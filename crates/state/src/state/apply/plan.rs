//! Plans: checked once more against the present state, then applied as far as they fit.
//!
//! A worker plans on a snapshot, and others change the state meanwhile. Here is the one place where
//! all plans meet in order, so here is decided what fits, with the same [`Usage`] that the worker
//! asked.
//!
//! # Invariants
//!
//! - A node never takes more than it has by a plan. An allocation that is to stop counts until its
//!   agent says that it has stopped, as for the scheduler.
//! - A node takes all placements of a plan or none, and with them the stops on it: a plan that
//!   swaps one allocation for another there does not end one without starting the other.
//! - What is not stopped, because its node refused, is not replaced elsewhere either: two instances
//!   would bear one name.
//! - The evaluation, its follow-ups and the marks that name them are recorded only with a plan that
//!   was applied in full; else the worker plans again and makes them anew.
//! - Applying a plan again changes nothing more.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use cos_model::fit::Usage;
use cos_model::plan::{Plan, PlanOutcome, PlannedStop};
use cos_model::{AllocId, Allocation, ClientStatus, Job, Node, NodeId};

use super::Step;
use super::allocs::Writer;
use crate::command::{Refused, Reply};

impl Step<'_> {
    pub(super) fn apply_plan(&mut self, plan: &Plan) -> Result<Reply, Refused> {
        if let Some(eval) = self.state.evals.get(&plan.eval_id).filter(|eval| eval.is_terminal()) {
            let status = eval.status.name();
            let message = format!("evaluation \"{}\" is already {status}", plan.eval_id);
            return Err(Refused::Invalid(message));
        }
        let refused = self.refused_nodes(plan);
        let in_full = refused.is_empty();
        if in_full || !plan.all_at_once {
            self.make_changes(plan, &refused);
        }
        if in_full {
            self.make_followups(plan);
        }
        Ok(Reply::Plan(PlanOutcome { refused, index: self.index }))
    }

    fn make_changes(&mut self, plan: &Plan, refused: &BTreeMap<NodeId, String>) {
        if let Some(deployment) = &plan.deployment {
            self.create_deployment(deployment);
        }
        for update in &plan.deployment_updates {
            self.change_status(update);
        }
        for stop in &plan.stops {
            self.stop(plan, stop, refused);
        }
        let mut jobs = SharedJobs::default();
        let kept = self.kept(plan, refused);
        for planned in plan.placements.iter().filter(|p| !refused.contains_key(&p.node_id)) {
            if planned.previous.is_some_and(|previous| kept.contains(&previous)) {
                continue;
            }
            let job = jobs.share(self, &planned.job);
            self.place(planned, job);
        }
    }

    /// What the plan would have stopped and does not, because its node refused.
    fn kept(&self, plan: &Plan, refused: &BTreeMap<NodeId, String>) -> BTreeSet<AllocId> {
        let is_kept = |id: &AllocId| {
            let known = self.state.allocs.get(id);
            known.is_some_and(|known| refused.contains_key(&known.node_id))
        };
        plan.stops.iter().map(|stop| stop.id).filter(is_kept).collect()
    }

    fn make_followups(&mut self, plan: &Plan) {
        for (id, eval) in &plan.followups {
            if let Some(known) = self.state.allocs.get(id).cloned() {
                let followup_eval = Some(*eval);
                let waiting = Allocation { followup_eval, ..Allocation::clone(&known) };
                self.write_alloc(Some(&known), waiting, Writer::Scheduler);
            }
        }
        self.put_eval(plan.eval.clone());
        // After the evaluation itself: recording it as done cancels what was blocked before.
        self.put_evals(&plan.new_evals);
    }

    fn stop(&mut self, plan: &Plan, stop: &PlannedStop, refused: &BTreeMap<NodeId, String>) {
        let Some(known) = self.state.allocs.get(&stop.id).cloned() else { return };
        if refused.contains_key(&known.node_id) {
            return;
        }
        let mut stopped = Allocation {
            eval_id: plan.eval_id,
            desired: stop.desired,
            desired_description: stop.description.clone(),
            ..Allocation::clone(&known)
        };
        if let Some(status) = stop.client_status.filter(|status| may_declare(&known, *status)) {
            stopped.client_status = status;
            stopped.client_description.clone_from(&stop.description);
        }
        self.write_alloc(Some(&known), stopped, Writer::Scheduler);
    }

    fn place(&mut self, planned: &Allocation, job: Arc<Job>) {
        let known = self.state.allocs.get(&planned.id).cloned();
        let alloc = match &known {
            Some(known) => updated_in_place(known, planned, job),
            None => self.placed(planned, job),
        };
        self.write_alloc(known.as_deref(), alloc, Writer::Scheduler);
        if known.is_none()
            && let Some(previous) =
                planned.previous.and_then(|id| self.state.allocs.get(&id)).cloned()
        {
            let next = Some(planned.id);
            let followed = Allocation { next, ..Allocation::clone(&previous) };
            self.write_alloc(Some(&previous), followed, Writer::Observer);
        }
    }

    /// A new allocation. What is observed begins here, whatever the plan says of it.
    fn placed(&self, planned: &Allocation, job: Arc<Job>) -> Allocation {
        let neighbour = self.state.allocs_on_node(planned.node_id).next();
        let node_name = neighbour.map(|alloc| &alloc.node_name);
        let tally = self.state.tallies.get(&job.key);
        let group = tally.and_then(|tally| tally.groups.get_key_value(&planned.group));
        Allocation {
            node_name: share(node_name, &planned.node_name),
            group: share(group.map(|(name, _)| name), &planned.group),
            job,
            client_status: ClientStatus::Pending,
            client_description: String::new(),
            task_states: BTreeMap::new(),
            health: None,
            next: None,
            create_time: self.at,
            create_index: self.index,
            ..planned.clone()
        }
    }

    /// The nodes that cannot take what the plan puts on them, with the reason.
    fn refused_nodes(&self, plan: &Plan) -> BTreeMap<NodeId, String> {
        let mut by_node: BTreeMap<NodeId, Vec<&Allocation>> = BTreeMap::new();
        let mut ids = BTreeSet::new();
        let mut refused = BTreeMap::new();
        for planned in &plan.placements {
            by_node.entry(planned.node_id).or_default().push(planned);
            if !ids.insert(planned.id) {
                let reason = format!("allocation \"{}\" is planned twice", planned.id);
                refused.insert(planned.node_id, reason);
            }
        }
        for (id, planned) in by_node {
            if let Err(reason) = self.check_node(plan, id, &planned) {
                refused.entry(id).or_insert(reason);
            }
        }
        refused
    }

    fn check_node(&self, plan: &Plan, id: NodeId, planned: &[&Allocation]) -> Result<(), String> {
        let node = self.state.nodes.get(&id).ok_or("node does not exist")?;
        let (updates, new): (Vec<&Allocation>, Vec<&Allocation>) =
            planned.iter().partition(|planned| self.state.allocs.contains_key(&planned.id));
        let mut usage = self.usage_without(plan, node, &updates);
        // Those that stay as they are come first: what the others get is what these leave.
        let (same, other): (Vec<&Allocation>, Vec<&Allocation>) =
            updates.into_iter().partition(|update| self.takes_the_same(update));
        for update in same.into_iter().chain(other) {
            self.check_update(&mut usage, node, update)?;
        }
        if !new.is_empty() && !node.takes_work() {
            return Err("node is not ready for placements".to_owned());
        }
        for alloc in new {
            usage.check(node, alloc).map_err(|misfit| misfit.to_string())?;
            occupy(&mut usage, alloc, ClientStatus::Pending);
        }
        Ok(())
    }

    /// What a node's allocations take, without those that are updated, and without those of which
    /// the plan itself says that they are over.
    fn usage_without(&self, plan: &Plan, node: &Node, updates: &[&Allocation]) -> Usage {
        let over = plan
            .stops
            .iter()
            .filter(|stop| stop.client_status.is_some_and(ClientStatus::is_terminal));
        let mut gone: BTreeSet<AllocId> = over.map(|stop| stop.id).collect();
        gone.extend(updates.iter().map(|update| update.id));
        let mut usage = Usage::of_node(node);
        for alloc in self.state.allocs_on_node(node.id).filter(|alloc| !gone.contains(&alloc.id)) {
            usage.add(alloc);
        }
        usage
    }

    /// Whether an update in place asks for exactly what the allocation has.
    fn takes_the_same(&self, update: &Allocation) -> bool {
        let known = self.state.allocs.get(&update.id);
        known
            .is_some_and(|known| known.resources == update.resources && known.ports == update.ports)
    }

    /// Checks an update in place. One that takes no more than before is never refused for room: it
    /// would not be better off as it was.
    fn check_update(
        &self,
        usage: &mut Usage,
        node: &Node,
        update: &Allocation,
    ) -> Result<(), String> {
        let Some(known) = self.state.allocs.get(&update.id) else { return Ok(()) };
        if known.node_id != node.id || known.job_key() != update.job_key() {
            return Err(format!("allocation \"{}\" is another one", update.id));
        }
        if known.occupies_node() && !self.takes_the_same(update) {
            usage.check(node, update).map_err(|misfit| misfit.to_string())?;
        }
        occupy(usage, update, known.client_status);
        Ok(())
    }
}

/// Whether the cluster may say this of an allocation in place of its agent: that it is over, or out
/// of reach, as long as the agent has not said that it is over.
fn may_declare(known: &Allocation, status: ClientStatus) -> bool {
    !known.is_client_terminal() && (status.is_terminal() || status == ClientStatus::Unknown)
}

/// Adds an allocation with the status that it will have, whatever the plan says of it.
fn occupy(usage: &mut Usage, alloc: &Allocation, client_status: ClientStatus) {
    if alloc.client_status == client_status {
        usage.add(alloc);
    } else {
        usage.add(&Allocation { client_status, ..alloc.clone() });
    }
}

/// An allocation with the scheduler's new wishes. What is observed, what users hinted and where it
/// stands in its line stay.
fn updated_in_place(known: &Allocation, planned: &Allocation, job: Arc<Job>) -> Allocation {
    let joins = known.deployment_id != planned.deployment_id;
    Allocation {
        node_name: Arc::clone(&known.node_name),
        group: Arc::clone(&known.group),
        job,
        transition: known.transition,
        client_status: known.client_status,
        client_description: known.client_description.clone(),
        task_states: known.task_states.clone(),
        // A verdict belongs to the rollout it was given in, and so does being a canary of it.
        health: known.health.filter(|_| !joins),
        canary: planned.canary && (joins || known.canary),
        next: known.next,
        create_time: known.create_time,
        modify_time: known.modify_time,
        create_index: known.create_index,
        modify_index: known.modify_index,
        alloc_modify_index: known.alloc_modify_index,
        ..planned.clone()
    }
}

/// The jobs of one plan as the tables have them, so that all allocations of a version share one.
#[derive(Default)]
struct SharedJobs {
    /// A job of the plan and the one to use for it.
    known: Vec<(Arc<Job>, Arc<Job>)>,
}

impl SharedJobs {
    fn share(&mut self, step: &Step<'_>, job: &Arc<Job>) -> Arc<Job> {
        if let Some((_, shared)) = self.known.iter().find(|(planned, _)| Arc::ptr_eq(planned, job))
        {
            return Arc::clone(shared);
        }
        let kept = step.state.job_version(&job.key, job.version);
        // A purged job that was registered again counts its versions anew.
        let shared = kept
            .filter(|kept| kept.create_index == job.create_index && kept.same_request(job))
            .unwrap_or(job);
        self.known.push((Arc::clone(job), Arc::clone(shared)));
        Arc::clone(shared)
    }
}

/// Returns `known` if it is equal, so that equal names share memory.
fn share(known: Option<&Arc<str>>, name: &Arc<str>) -> Arc<str> {
    Arc::clone(known.filter(|known| *known == name).unwrap_or(name))
}
