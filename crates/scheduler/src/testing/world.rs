//! A cluster in a box: applies plans the naive way and checks after each that nothing is
//! over-committed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use cos_model::{
    AllocHealth, AllocId, Allocation, ClientStatus, Deployment, DesiredStatus, Evaluation, Job,
    JobKey, JobKind, Node, NodeId, Plan, Resources, Timestamp, samples,
};

use crate::problem::Problem;

/// A cluster in a box.
#[derive(Clone, Debug)]
pub(crate) struct World {
    pub(crate) nodes: BTreeMap<NodeId, Arc<Node>>,
    pub(crate) job: Option<Arc<Job>>,
    pub(crate) allocs: BTreeMap<AllocId, Arc<Allocation>>,
    /// Allocations of other jobs.
    pub(crate) others: Vec<Arc<Allocation>>,
    pub(crate) deployment: Option<Deployment>,
    pub(crate) now: Timestamp,
    pub(crate) index: u64,
    pub(crate) spread: bool,
    /// Evaluations that wait for a time.
    pub(crate) waiting: Vec<Evaluation>,
    next_id: u128,
}

impl Default for World {
    fn default() -> Self {
        Self {
            nodes: BTreeMap::new(),
            job: None,
            allocs: BTreeMap::new(),
            others: Vec::new(),
            deployment: None,
            now: Timestamp(1_000_000_000_000),
            index: 10,
            spread: false,
            waiting: Vec::new(),
            next_id: 1_000,
        }
    }
}

impl World {
    /// Registers the next version of the job.
    pub(crate) fn register(&mut self, job: &Job) {
        self.index += 1;
        let version = self.job.as_ref().map_or(0, |known| known.version + 1);
        let create_index = self.job.as_ref().map_or(self.index, |known| known.create_index);
        self.job = Some(Arc::new(Job {
            version,
            create_index,
            job_modify_index: self.index,
            modify_index: self.index,
            ..job.clone()
        }));
    }

    /// The problem as an evaluation of the job sees it now.
    pub(crate) fn problem(&mut self) -> Problem {
        let due = self.waiting.iter().position(|eval| eval.wait_until <= self.now);
        let eval = match due {
            Some(at) => self.waiting.remove(at),
            None => self.fresh_eval(),
        };
        let job_allocs: Vec<_> = self.allocs.values().cloned().collect();
        let mut node_allocs: BTreeMap<NodeId, Vec<Arc<Allocation>>> = BTreeMap::new();
        for alloc in job_allocs.iter().chain(&self.others).filter(|alloc| alloc.occupies_node()) {
            node_allocs.entry(alloc.node_id).or_default().push(Arc::clone(alloc));
        }
        Problem {
            eval: Arc::new(eval),
            job: self.job.clone(),
            nodes: self.nodes.values().cloned().collect(),
            job_allocs,
            node_allocs,
            deployment: self.deployment.clone().map(Arc::new),
            spread: self.spread,
            now: self.now,
            based_on: self.index,
        }
    }

    /// Plans and applies.
    pub(crate) fn plan(&mut self) -> Plan {
        let problem = self.problem();
        let plan = self.plan_for(&problem);
        self.apply(&plan);
        plan
    }

    /// Plans without applying.
    pub(crate) fn plan_for(&mut self, problem: &Problem) -> Plan {
        let mut next = self.next_id;
        let plan = crate::plan(problem, &mut || {
            next += 1;
            next
        });
        self.next_id = next;
        plan
    }

    pub(crate) fn apply(&mut self, plan: &Plan) {
        self.index += 1;
        for stop in &plan.stops {
            let alloc = Arc::make_mut(self.allocs.get_mut(&stop.id).unwrap());
            alloc.desired = stop.desired;
            alloc.desired_description.clone_from(&stop.description);
            if let Some(status) = stop.client_status.filter(|status| *status != alloc.client_status)
            {
                alloc.client_status = status;
                alloc.push_state(status, self.now);
            }
        }
        self.deployment = plan.deployment.clone().or_else(|| self.deployment.take());
        for update in &plan.deployment_updates {
            let deployment = self.deployment.as_mut().filter(|d| d.id == update.id);
            if let Some(deployment) = deployment {
                deployment.status = update.status;
            }
        }
        for placement in &plan.placements {
            self.put(placement);
        }
        for (alloc, eval) in &plan.followups {
            Arc::make_mut(self.allocs.get_mut(alloc).unwrap()).followup_eval = Some(*eval);
        }
        let timed = plan.new_evals.iter().filter(|eval| !eval.wait_until.is_never());
        self.waiting.extend(timed.cloned());
        self.check_room(plan);
    }

    fn put(&mut self, placement: &Allocation) {
        let mut alloc = placement.clone();
        let is_new = !self.allocs.contains_key(&alloc.id);
        if is_new {
            alloc.create_index = self.index;
            if let Some(previous) = alloc.previous.and_then(|id| self.allocs.get_mut(&id)) {
                Arc::make_mut(previous).next = Some(alloc.id);
            }
        }
        let deployment = self.deployment.as_mut().filter(|d| Some(d.id) == alloc.deployment_id);
        if let Some(deployment) = deployment {
            let group = deployment.groups.get_mut(&*alloc.group).unwrap();
            group.placed += 1;
            if alloc.canary {
                group.placed_canaries.push(alloc.id);
            }
        }
        self.allocs.insert(alloc.id, Arc::new(alloc));
    }

    /// Agents start what is pending and end what should stop.
    pub(crate) fn run_agents(&mut self) {
        let down: BTreeSet<NodeId> =
            self.nodes.values().filter(|n| !is_up(n)).map(|n| n.id).collect();
        for alloc in self.allocs.values_mut().filter(|alloc| !down.contains(&alloc.node_id)) {
            if alloc.is_client_terminal() {
                continue;
            }
            let alloc = Arc::make_mut(alloc);
            if alloc.client_status == ClientStatus::Unknown {
                alloc.push_state(ClientStatus::Running, self.now);
                alloc.followup_eval = None;
            }
            alloc.client_status = if alloc.desired == DesiredStatus::Run {
                ClientStatus::Running
            } else {
                ClientStatus::Complete
            };
        }
    }

    /// Everything that runs is found healthy.
    pub(crate) fn become_healthy(&mut self) {
        let Some(deployment) = &mut self.deployment else { return };
        for alloc in self.allocs.values_mut() {
            let counts = alloc.deployment_id == Some(deployment.id) && alloc.health.is_none();
            if counts && !alloc.is_terminal() && alloc.client_status == ClientStatus::Running {
                Arc::make_mut(alloc).health = Some(AllocHealth { healthy: true, at: self.now });
                deployment.groups.get_mut(&*alloc.group).unwrap().healthy += 1;
            }
        }
    }

    /// The live instance with this number.
    pub(crate) fn live(&mut self, index: u32) -> &mut Allocation {
        let found = self.allocs.values_mut().find(|a| a.index == index && !a.is_terminal());
        Arc::make_mut(found.unwrap_or_else(|| panic!("no live instance {index}")))
    }

    pub(crate) fn wait(&mut self, time: Duration) {
        self.now = self.now + time;
    }

    pub(crate) fn live_count(&self) -> usize {
        self.allocs.values().filter(|alloc| !alloc.is_terminal()).count()
    }

    fn fresh_eval(&mut self) -> Evaluation {
        self.next_id += 1;
        let job = self.job.as_ref();
        let key = job.map_or_else(|| JobKey::new("default", "web"), |job| job.key.clone());
        Evaluation {
            kind: job.map_or(JobKind::Service, |job| job.kind),
            create_time: self.now,
            modify_time: self.now,
            create_index: self.index,
            modify_index: self.index,
            ..samples::eval(self.next_id, key)
        }
    }

    /// The naive recount: what occupies each node that got something, ports included, fits it.
    fn check_room(&self, plan: &Plan) {
        let touched: BTreeSet<NodeId> = plan.placements.iter().map(|a| a.node_id).collect();
        for id in touched {
            let node = &self.nodes[&id];
            let here: Vec<_> = self
                .allocs
                .values()
                .chain(&self.others)
                .filter(|alloc| alloc.node_id == id && !alloc.client_status.is_terminal())
                .collect();
            let sum = |amount: fn(&Resources) -> u64| -> u64 {
                here.iter().map(|alloc| amount(&alloc.resources)).sum()
            };
            assert!(sum(|r| r.cpu_mhz) <= node.capacity.cpu_mhz, "cpu of {}", node.name);
            assert!(sum(|r| r.memory_mib) <= node.capacity.memory_mib, "memory of {}", node.name);
            assert!(sum(|r| r.disk_mib) <= node.capacity.disk_mib, "disk of {}", node.name);
            let ports: Vec<u16> =
                here.iter().flat_map(|a| a.ports.iter().map(|p| p.host_port)).collect();
            let distinct: BTreeSet<u16> = ports.iter().copied().collect();
            assert_eq!(ports.len(), distinct.len(), "ports of {}: {ports:?}", node.name);
            assert!(node.reserved_ports.iter().all(|port| !distinct.contains(port)));
        }
    }
}

fn is_up(node: &Node) -> bool {
    node.status == cos_model::NodeStatus::Ready
}
