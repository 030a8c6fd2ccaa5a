//! Why a node was chosen, or why none was: counts kept with each decision.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::id::NodeId;

/// The record of one placement decision, successful or not.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct AllocMetric {
    /// Nodes that were looked at.
    pub nodes_evaluated: u32,
    /// Nodes that broke a rule.
    pub nodes_filtered: u32,
    /// Nodes of the job's pool.
    pub nodes_in_pool: u32,
    /// The job's pool.
    pub node_pool: String,
    /// Ready nodes by datacenter, those of the job only.
    pub nodes_available: BTreeMap<String, u32>,
    /// Nodes that broke a rule, by node class.
    pub class_filtered: BTreeMap<String, u32>,
    /// Nodes that broke a rule, by the rule's words.
    pub constraint_filtered: BTreeMap<String, u32>,
    /// Nodes that had too little left.
    pub nodes_exhausted: u32,
    /// Nodes that had too little left, by node class.
    pub class_exhausted: BTreeMap<String, u32>,
    /// Nodes that had too little left, by what they lacked.
    pub dimension_exhausted: BTreeMap<String, u32>,
    /// The best nodes and their scores, best first, five at most.
    pub scores: Vec<NodeScore>,
    /// How long the decision took; stamped by the worker.
    pub allocation_time: Duration,
    /// Further instances of the group that failed for the same reasons.
    pub coalesced_failures: u32,
}

/// One node's scores.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeScore {
    /// The node.
    pub node_id: NodeId,
    /// Each scorer's value, such as `binpack`.
    pub scores: BTreeMap<String, f64>,
    /// Their mean, by which nodes are ordered.
    pub normalized: f64,
}
