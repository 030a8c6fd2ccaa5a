//! The problem: everything that one planning run may look at.
//!
//! The server fills it from one snapshot, so that all of it is true at the same moment.

use std::collections::BTreeMap;
use std::sync::Arc;

use cos_model::{Allocation, Deployment, Evaluation, Job, Node, NodeId, Timestamp};

/// Everything that one planning run may look at.
#[derive(Clone, Debug)]
pub struct Problem {
    /// Why the job is looked at.
    pub eval: Arc<Evaluation>,
    /// The job as it is asked for now; absent if it was purged.
    pub job: Option<Arc<Job>>,
    /// All nodes of the cluster, in any order.
    pub nodes: Vec<Arc<Node>>,
    /// All allocations of this job, of every version.
    pub job_allocs: Vec<Arc<Allocation>>,
    /// The allocations of all jobs that occupy nodes, by node.
    pub node_allocs: BTreeMap<NodeId, Vec<Arc<Allocation>>>,
    /// The job's latest deployment.
    pub deployment: Option<Arc<Deployment>>,
    /// Whether instances are spread over nodes instead of packed.
    pub spread: bool,
    /// The proposer's clock.
    pub now: Timestamp,
    /// The index of the snapshot.
    pub based_on: u64,
}
