//! The tables.
//!
//! Reading is in `query`, changing in `apply` and its parts, storing in `snapshot`. Fields are
//! private to this module tree, and tables with indexes are written only by `write`, so nothing
//! else can break an index.

use std::sync::Arc;

use cos_model::catalog::Catalog;
use cos_model::session::Session;
use cos_model::trust::Trust;
use cos_model::{
    AllocId, Allocation, Deployment, DeploymentId, EvalId, Evaluation, Job, JobKey, Node, NodeId,
    SessionId,
};
use imbl::OrdMap;
use serde::{Deserialize, Serialize};

use self::apply::Restoring;
use self::kv_table::KvTable;
use self::proposers::Proposers;
use self::tally::Tally;
use crate::autopilot::AutopilotConfig;
use crate::command::SchedulerConfig;

mod apply;
mod hash;
mod kv_table;
mod proposers;
mod query;
mod snapshot;
mod tally;
mod write;

pub use apply::{Applied, RESTORE_BYTES_MAX, RESTORE_GAP};
pub use query::GroupSummary;

/// Everything that is replicated. A clone is cheap and does not change any more.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    /// The index of the last applied entry.
    index: u64,
    /// How far the index is ahead of the log's, because of restores.
    base: u64,
    /// The index of the last restore, which changed everything.
    floor: u64,
    /// Rolls over every applied entry; equal on all servers at equal index.
    hash: u64,
    nodes: OrdMap<NodeId, Arc<Node>>,
    jobs: OrdMap<JobKey, Arc<Job>>,
    /// Older and current versions of each job, as they were registered: what allocations refer to.
    /// The current one in `jobs` carries the status and goes on changing.
    job_versions: OrdMap<(JobKey, u64), Arc<Job>>,
    /// What there is of each job, by count; a job without anything is absent.
    tallies: OrdMap<JobKey, Arc<Tally>>,
    evals: OrdMap<EvalId, Arc<Evaluation>>,
    evals_by_job: OrdMap<(JobKey, EvalId), ()>,
    allocs: OrdMap<AllocId, Arc<Allocation>>,
    allocs_by_node: OrdMap<(NodeId, AllocId), ()>,
    allocs_by_job: OrdMap<(JobKey, AllocId), ()>,
    allocs_by_eval: OrdMap<(EvalId, AllocId), ()>,
    deployments: OrdMap<DeploymentId, Arc<Deployment>>,
    deployments_by_job: OrdMap<(JobKey, DeploymentId), ()>,
    catalog: Catalog,
    kv: KvTable,
    sessions: OrdMap<SessionId, Arc<Session>>,
    sessions_by_node: OrdMap<(Arc<str>, SessionId), ()>,
    scheduler_config: SchedulerConfig,
    autopilot_config: AutopilotConfig,
    proposers: Proposers,
    /// What has come of a state that is being restored.
    restoring: Option<Restoring>,
    trust: Arc<Trust>,
    tables: TableIndexes,
}

/// The index at which each table last changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct TableIndexes {
    nodes: u64,
    jobs: u64,
    evals: u64,
    allocs: u64,
    deployments: u64,
    kv: u64,
    #[serde(default)]
    sessions: u64,
    scheduler_config: u64,
    #[serde(default)]
    autopilot_config: u64,
}
