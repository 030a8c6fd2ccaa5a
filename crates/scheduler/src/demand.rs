//! What one instance of a task group needs of a node, compiled once per plan.
//!
//! # Invariants
//!
//! - Everything that feasibility and ranking ask about the job is here; neither looks into the job
//!   again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use cos_model::{AllocatedTask, Constraint, Job, Network, Node, Operator, Resources, TaskGroup};

use crate::constraint::{Rule, Target};

/// What one instance of a task group needs of a node.
#[derive(Debug)]
pub(crate) struct Demand {
    /// The job version it is an instance of.
    pub(crate) job: Arc<Job>,
    /// The group's name.
    pub(crate) group: Arc<str>,
    /// How many instances the group should have.
    pub(crate) count: u32,
    /// Rules of the job.
    pub(crate) job_rules: Vec<Rule>,
    /// Rules of the group and its tasks.
    pub(crate) group_rules: Vec<Rule>,
    /// Drivers that the tasks name.
    pub(crate) drivers: BTreeSet<String>,
    /// Host volumes: name and whether reading is enough.
    pub(crate) host_volumes: Vec<(String, bool)>,
    /// The first thing asked for that no node can give, in words.
    pub(crate) impossible: Option<Arc<str>>,
    /// Amounts, without what whole cores amount to.
    pub(crate) resources: Resources,
    /// Whole cores asked for.
    pub(crate) cores: u32,
    /// Network blocks with the task they belong to.
    pub(crate) networks: Vec<(Option<String>, Network)>,
    /// Whether no two instances of the job, or of the group, may share a node.
    pub(crate) distinct_hosts: Option<Scope>,
    /// Limits on instances that share a property.
    pub(crate) distinct_properties: Vec<DistinctProperty>,
    /// Preferences, with their weights.
    pub(crate) affinities: Vec<(Rule, f64)>,
    /// Whether an instance would rather stay on the node of the one it replaces.
    pub(crate) sticky: bool,
}

/// Whose instances are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// All of the job.
    Job,
    /// Those of the group.
    Group,
}

/// A limit on instances that share one value of a property.
#[derive(Clone, Debug)]
pub(crate) struct DistinctProperty {
    /// The property.
    pub(crate) target: Target,
    /// The property in the words of the job file.
    pub(crate) text: String,
    /// Whose instances are counted.
    pub(crate) scope: Scope,
    /// How many may share a value.
    pub(crate) limit: u32,
}

impl Demand {
    /// Compiles the demand of one group.
    pub(crate) fn new(job: &Arc<Job>, group: &TaskGroup) -> Self {
        let task_constraints = group.tasks.iter().flat_map(|task| &task.constraints);
        let group_constraints: Vec<&Constraint> =
            group.constraints.iter().chain(task_constraints).collect();
        let job_constraints: Vec<&Constraint> = job.constraints.iter().collect();
        let task_affinities = group.tasks.iter().flat_map(|task| &task.affinities);
        let affinities = job.affinities.iter().chain(&group.affinities).chain(task_affinities);
        Self {
            job: Arc::clone(job),
            group: group.name.as_str().into(),
            count: group.count,
            job_rules: rules(&job_constraints),
            group_rules: rules(&group_constraints),
            drivers: group.tasks.iter().map(|task| task.driver.clone()).collect(),
            host_volumes: group
                .volumes
                .values()
                .filter(|volume| volume.kind == "host")
                .map(|volume| (volume.source.clone(), volume.read_only))
                .collect(),
            impossible: impossible(group),
            resources: group.total_resources(),
            cores: group.tasks.iter().fold(0_u32, |sum, task| sum.saturating_add(task.cores)),
            networks: group
                .all_networks()
                .map(|(task, network)| (task.map(str::to_owned), network.clone()))
                .collect(),
            distinct_hosts: distinct_hosts(&job_constraints, &group_constraints),
            distinct_properties: distinct_properties(&job_constraints, Scope::Job)
                .chain(distinct_properties(&group_constraints, Scope::Group))
                .collect(),
            affinities: affinities
                .map(|a| (Rule::new(&a.attribute, a.operator, &a.value), f64::from(a.weight)))
                .collect(),
            sticky: group.sticky_disk,
        }
    }

    /// The amounts that an instance takes of a node, cores turned into MHz.
    pub(crate) fn resources_on(&self, node: &Node) -> Resources {
        let cpu_mhz = core_share(node, self.cores);
        self.resources.saturating_add(&Resources { cpu_mhz, ..Resources::default() })
    }

    /// The amounts that each task takes of a node.
    pub(crate) fn tasks_on(&self, node: &Node) -> BTreeMap<String, AllocatedTask> {
        let tasks = self.job.group(&self.group).map_or(&[][..], |group| &group.tasks);
        tasks
            .iter()
            .map(|task| {
                let cpu_mhz = core_share(node, task.cores);
                let cores = Resources { cpu_mhz, ..Resources::default() };
                let own = Resources { disk_mib: 0, ..task.resources };
                let resources = own.saturating_add(&cores);
                let memory_max_mib = task.memory_max_mib;
                (task.name.clone(), AllocatedTask { resources, memory_max_mib })
            })
            .collect()
    }

    /// The fixed host ports, with their labels.
    pub(crate) fn static_ports(&self) -> impl Iterator<Item = (&str, u16)> {
        self.networks
            .iter()
            .flat_map(|(_, network)| &network.ports)
            .filter(|port| port.host_port != 0)
            .map(|port| (port.label.as_str(), port.host_port))
    }
}

/// What a number of cores is in MHz on a node.
fn core_share(node: &Node, cores: u32) -> u64 {
    if cores == 0 || node.cores == 0 {
        return 0;
    }
    node.capacity.cpu_mhz.saturating_mul(u64::from(cores)) / u64::from(node.cores)
}

fn rules(constraints: &[&Constraint]) -> Vec<Rule> {
    constraints
        .iter()
        .filter(|c| !matches!(c.operator, Operator::DistinctHosts | Operator::DistinctProperty))
        .map(|c| Rule::new(&c.attribute, c.operator, &c.value))
        .collect()
}

/// Names the first thing that cos does not offer on any node.
fn impossible(group: &TaskGroup) -> Option<Arc<str>> {
    let volume = group.volumes.values().find_map(|volume| {
        if volume.kind != "host" {
            Some(format!(
                "missing {} volume {} (only host volumes exist)",
                volume.kind, volume.source
            ))
        } else if volume.per_alloc {
            Some(format!("host volume {} cannot be per_alloc", volume.source))
        } else {
            None
        }
    });
    let host_network = || {
        group.all_networks().flat_map(|(_, network)| &network.ports).find_map(|port| {
            let named = !port.host_network.is_empty() && port.host_network != "default";
            let network = &port.host_network;
            named.then(|| format!("missing host network \"{network}\" for port \"{}\"", port.label))
        })
    };
    volume.or_else(host_network).map(Into::into)
}

fn distinct_hosts(job: &[&Constraint], group: &[&Constraint]) -> Option<Scope> {
    let asks = |constraints: &[&Constraint]| {
        constraints.iter().any(|c| c.operator == Operator::DistinctHosts && c.value != "false")
    };
    if asks(job) { Some(Scope::Job) } else { asks(group).then_some(Scope::Group) }
}

fn distinct_properties<'a>(
    constraints: &'a [&'a Constraint],
    scope: Scope,
) -> impl Iterator<Item = DistinctProperty> + 'a {
    constraints.iter().filter(|c| c.operator == Operator::DistinctProperty).map(move |c| {
        DistinctProperty {
            target: Target::parse(&c.attribute),
            text: c.attribute.clone(),
            scope,
            // A limit that is no number allows nothing, and the reason names the property.
            limit: if c.value.is_empty() { 1 } else { c.value.trim().parse().unwrap_or(0) },
        }
    })
}
