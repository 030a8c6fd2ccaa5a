//! What must be so once faults have ended: the second half of every run.
//!
//! Source: "no plan is rejected for ever, every feasible pending allocation is placed" (Nomad #9506,
//! #18645); liveness after faults stop, as the simulator of `TigerBeetle` demands it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use cos_agent::services::ID_PREFIX;
use cos_model::node::NodeStatus;
use cos_model::{ClientStatus, EvalStatus, JobKind, Trigger};
use cos_server::work::make_plan;
use cos_state::State;
use cos_state::evaluations::eval_for_job;

use super::World;

impl World {
    /// What is not yet as it should be, if anything.
    pub(super) fn missing(&self) -> Option<String> {
        if !self.workload.is_fresh_done {
            return Some("a fresh write is not done".to_owned());
        }
        let leader = self.servers.iter().find(|server| server.is_up && server.is_on_duty());
        let Some(leader) = leader else { return Some("nobody leads".to_owned()) };
        let state = &leader.state;
        for server in self.servers.iter().filter(|server| server.is_up) {
            let is_member = leader.raft.members().contains(&server_number(server.peer()));
            if is_member
                && (server.state.index(), server.state.hash()) != (state.index(), state.hash())
            {
                return Some(format!("{:?} lags behind the leader", server.peer()));
            }
        }
        if !leader.is_idle() {
            return Some("the leader works".to_owned());
        }
        self.missing_in(state)
            .or_else(|| self.missing_plans(state))
            .or_else(|| self.missing_here(state))
    }

    /// What the state itself says is still to be done.
    fn missing_in(&self, state: &State) -> Option<String> {
        if let Some(eval) = state.evals().find(|eval| eval.status == EvalStatus::Pending) {
            return Some(format!("evaluation {} of {} is pending", eval.id, eval.job.id));
        }
        if let Some(node) = state.nodes().find(|node| node.status != NodeStatus::Ready) {
            return Some(format!("{} is {}", node.name, node.status.name()));
        }
        if let Some(node) = state.nodes().find(|node| node.drain.is_some()) {
            return Some(format!("{} drains", node.name));
        }
        if state.nodes().count() != self.agents.len() {
            return Some("an agent has not registered".to_owned());
        }
        let deployment = state.deployments().find(|deployment| {
            deployment.is_active() && state.job(&deployment.job).is_some_and(|job| !job.stop)
        })?;
        let blocked =
            state.evals_of_job(&deployment.job).any(|eval| eval.status == EvalStatus::Blocked);
        // One that waits for room may take until its deadline, and then longer if that moves.
        (!blocked).then(|| format!("deployment {} of {}", deployment.id, deployment.job.id))
    }

    /// Whether the scheduler would still change anything.
    fn missing_plans(&self, state: &State) -> Option<String> {
        for job in state.jobs() {
            let date = self.context.date(0);
            let eval = Arc::new(eval_for_job(job, Trigger::JobRegister, 1, date));
            let mut drawn = 1;
            let plan = make_plan(state, &eval, date, &mut || {
                drawn += 1;
                drawn
            });
            match plan {
                Ok(plan) if plan.placements.is_empty() && plan.stops.is_empty() => {}
                Ok(plan) => {
                    let (placed, stopped) = (plan.placements.len(), plan.stops.len());
                    return Some(format!("{}: {placed} to place, {stopped} to stop", job.key.id));
                }
                Err(why) => return Some(why),
            }
        }
        None
    }

    /// Whether what runs is what should, and is found as what it is.
    fn missing_here(&self, state: &State) -> Option<String> {
        let mut expected: BTreeSet<(usize, String)> = BTreeSet::new();
        let mut names: BTreeSet<String> = BTreeSet::new();
        for alloc in state.allocs().filter(|alloc| !alloc.is_client_terminal()) {
            if alloc.is_desired_terminal() || alloc.client_status != ClientStatus::Running {
                let status = alloc.client_status.name();
                return Some(format!("{} {} is {status}", alloc.name(), alloc.id));
            }
            let machine = self.nodes.iter().position(|node| *node == alloc.node_id)?;
            if matches!(alloc.job.kind, JobKind::Service | JobKind::System) {
                expected.insert((machine, alloc.id.to_string()));
            }
            if !alloc.job.is_system() && !names.insert(alloc.name()) {
                return Some(format!("{} runs twice", alloc.name()));
            }
        }
        let mut found: BTreeMap<(usize, String), usize> = BTreeMap::new();
        for (number, machine) in self.context.machines.iter().enumerate() {
            for process in machine.processes() {
                *found.entry((number, process.alloc.to_string())).or_default() += 1;
            }
        }
        if let Some((place, count)) = found.iter().find(|(_, count)| **count > 1) {
            return Some(format!("{place:?} has {count} processes"));
        }
        let found: BTreeSet<(usize, String)> = found.into_keys().collect();
        if let Some(lacking) = expected.difference(&found).next() {
            return Some(format!("{lacking:?} should run"));
        }
        if let Some(surplus) = found.difference(&expected).next() {
            return Some(format!("{surplus:?} should not run"));
        }
        self.missing_in_catalog(state)
    }

    fn missing_in_catalog(&self, state: &State) -> Option<String> {
        for agent in &self.agents {
            let there: BTreeSet<&str> = state
                .catalog()
                .services_on(&agent.node.name)
                .map(|service| &*service.id)
                .filter(|id| id.starts_with(ID_PREFIX))
                .collect();
            let here: BTreeSet<&str> = agent.wanted().map(|wanted| &*wanted.service.id).collect();
            if here != there {
                return Some(format!("{} wants {here:?} and has {there:?}", agent.node.name));
            }
            let name = &agent.node.name;
            if !agent.is_connected() {
                return Some(format!("{name} is not connected"));
            }
            if agent.catalog() != state.catalog() {
                let (here, there) = (agent.catalog().index(), state.catalog().index());
                return Some(format!(
                    "{name}'s copy of the catalog at {here} is not that at {there}"
                ));
            }
        }
        None
    }
}

fn server_number(peer: crate::network::Peer) -> usize {
    match peer {
        crate::network::Peer::Server(number) => number,
        _ => usize::MAX,
    }
}
