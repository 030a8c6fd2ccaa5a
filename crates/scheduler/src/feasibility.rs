//! Feasibility: which nodes could take one more instance of a task group at all?
//!
//! A "no" always carries its reason, because the reasons, counted, are what is shown when a job
//! cannot be placed. Reasons are of two kinds: a node is *filtered* if it broke a rule, and
//! *exhausted* if it had too little left.
//!
//! # Invariants
//!
//! - **Sound and complete.** A node that may take an instance breaks no rule, and one that may not
//!   broke one and is charged to the first.
//! - **Fixed before changing.** [`fixed_rejection`] depends on the node alone and holds for a whole
//!   plan; [`passing_rejection`] depends on what the plan has already placed.
//!
//! # Deliberately absent
//!
//! - Preferences. A rule that would rather than must (affinity, spread) is a score; see `ranking`.
//! - The counts of `distinct_property`. They are about other nodes; `ranking` keeps them. That the
//!   node has the property at all is a rule here.
//! - Dynamic ports. Whether one is free is found out when it is assigned; see `ports`.

use std::fmt;
use std::sync::Arc;

use cos_model::{Dimension, Job, Node, Resources};

use crate::demand::{Demand, Scope};
use crate::glob;
use crate::nodes::Slot;

/// The rules that depend on the node alone, in the order in which a node is charged to them.
const FIXED_RULES: [FixedRule; 6] = [
    offers_everything,
    meets_job_rules,
    has_drivers,
    meets_group_rules,
    has_host_volumes,
    has_properties,
];

/// The rules that depend on what else is on the node.
const PASSING_RULES: [PassingRule; 4] = [has_distinct_hosts, has_static_ports, has_cores, has_room];

/// Returns the reason why a node can never take an instance, or none.
type FixedRule = fn(&Demand, &Node) -> Option<Rejection>;

/// Returns the reason why a node cannot take an instance now, or none.
type PassingRule = fn(&Demand, &Slot<'_>) -> Option<Rejection>;

/// Why a node cannot take an instance. Ordered, so that reports list reasons the same way always.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rejection {
    /// The job asks for something that no node offers.
    Impossible(Arc<str>),
    /// A constraint is not met.
    Constraint(Arc<str>),
    /// A task names a driver that the node lacks.
    MissingDrivers,
    /// A host volume is absent, or cannot be written.
    MissingHostVolumes,
    /// Another instance is on the node.
    DistinctHosts,
    /// Too many instances share a property, or the node lacks it.
    DistinctProperty(Arc<str>),
    /// A fixed port is taken.
    PortTaken(Arc<str>),
    /// No port of the dynamic range is free.
    NoDynamicPort,
    /// The node has fewer cores than one instance takes.
    Cores,
    /// Too little is left of one resource.
    Exhausted(Dimension),
}

impl Rejection {
    /// Whether the node broke a rule, as opposed to having too little left.
    pub(crate) fn is_filter(&self) -> bool {
        match self {
            Self::Impossible(_)
            | Self::Constraint(_)
            | Self::MissingDrivers
            | Self::MissingHostVolumes
            | Self::DistinctHosts
            | Self::DistinctProperty(_) => true,
            Self::PortTaken(_) | Self::NoDynamicPort | Self::Cores | Self::Exhausted(_) => false,
        }
    }
}

/// Whether a node is in the job's node pool.
pub(crate) fn is_in_pool(job: &Job, node: &Node) -> bool {
    matches!(job.node_pool.as_str(), "" | "all") || job.node_pool == node.node_pool
}

/// Whether a node is in one of the job's datacenters.
pub(crate) fn is_in_datacenter(job: &Job, node: &Node) -> bool {
    job.datacenters.iter().any(|pattern| glob::matches(pattern, &node.datacenter))
}

/// Returns the first reason why a node can never take an instance, or none if it could.
pub(crate) fn fixed_rejection(demand: &Demand, node: &Node) -> Option<Rejection> {
    FIXED_RULES.iter().find_map(|rule| rule(demand, node))
}

/// Returns the first reason why a node cannot take an instance now, or none if it can.
pub(crate) fn passing_rejection(demand: &Demand, slot: &Slot<'_>) -> Option<Rejection> {
    PASSING_RULES.iter().find_map(|rule| rule(demand, slot))
}

fn offers_everything(demand: &Demand, _node: &Node) -> Option<Rejection> {
    demand.impossible.clone().map(Rejection::Impossible)
}

fn meets_job_rules(demand: &Demand, node: &Node) -> Option<Rejection> {
    let broken = demand.job_rules.iter().find(|rule| !rule.is_met_by(node));
    broken.map(|rule| Rejection::Constraint(rule.text()))
}

fn has_drivers(demand: &Demand, node: &Node) -> Option<Rejection> {
    let works = |name: &String| {
        node.drivers.get(name).is_some_and(|driver| driver.detected && driver.healthy)
    };
    (!demand.drivers.iter().all(works)).then_some(Rejection::MissingDrivers)
}

fn meets_group_rules(demand: &Demand, node: &Node) -> Option<Rejection> {
    let broken = demand.group_rules.iter().find(|rule| !rule.is_met_by(node));
    broken.map(|rule| Rejection::Constraint(rule.text()))
}

fn has_host_volumes(demand: &Demand, node: &Node) -> Option<Rejection> {
    let offers = |(name, read_only): &(String, bool)| {
        node.host_volumes.get(name).is_some_and(|volume| *read_only || !volume.read_only)
    };
    (!demand.host_volumes.iter().all(offers)).then_some(Rejection::MissingHostVolumes)
}

fn has_properties(demand: &Demand, node: &Node) -> Option<Rejection> {
    let mut properties = demand.distinct_properties.iter();
    let missing = properties.find(|property| property.target.resolve(node).is_none())?;
    let words = format!("missing property {}", missing.text);
    Some(Rejection::DistinctProperty(words.into()))
}

fn has_distinct_hosts(demand: &Demand, slot: &Slot<'_>) -> Option<Rejection> {
    let neighbours = match demand.distinct_hosts? {
        Scope::Job => slot.live_of_job(),
        Scope::Group => slot.live_of_group(&demand.group),
    };
    (neighbours > 0).then_some(Rejection::DistinctHosts)
}

fn has_static_ports(demand: &Demand, slot: &Slot<'_>) -> Option<Rejection> {
    demand
        .static_ports()
        .find(|(_, port)| slot.usage.holds(&slot.node.address, *port))
        .map(|(label, port)| Rejection::PortTaken(format!("{label}={port}").into()))
}

fn has_cores(demand: &Demand, slot: &Slot<'_>) -> Option<Rejection> {
    (demand.cores > slot.node.cores).then_some(Rejection::Cores)
}

fn has_room(demand: &Demand, slot: &Slot<'_>) -> Option<Rejection> {
    let room: Resources = slot.node.capacity.saturating_sub(&slot.usage.resources);
    demand.resources_on(slot.node).first_excess_over(&room).map(Rejection::Exhausted)
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Impossible(words) | Self::Constraint(words) => f.write_str(words),
            Self::MissingDrivers => f.write_str("missing drivers"),
            Self::MissingHostVolumes => f.write_str("missing compatible host volumes"),
            Self::DistinctHosts => f.write_str("distinct_hosts"),
            Self::DistinctProperty(words) => write!(f, "distinct_property: {words}"),
            Self::PortTaken(port) => write!(f, "network: reserved port collision {port}"),
            Self::NoDynamicPort => f.write_str("network: dynamic port selection failed"),
            Self::Cores => f.write_str("cores"),
            Self::Exhausted(dimension) => write!(f, "{dimension}"),
        }
    }
}
