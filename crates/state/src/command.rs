//! Everything that can be asked of the replicated state, and what it answers.

use std::collections::BTreeMap;

use cos_model::catalog::CatalogChange;
use cos_model::kv::KvOp;
use cos_model::link::AllocUpdate;
use cos_model::node::{DrainState, NodeStatus};
use cos_model::plan::{DeploymentUpdate, Plan, PlanOutcome};
use cos_model::session::SessionOp;
use cos_model::trust::TrustChange;
use cos_model::{
    AllocId, DeploymentId, DesiredTransition, EvalId, Evaluation, Job, JobKey, Node, NodeId,
    ProposerId, RestoreId, Timestamp,
};
use serde::{Deserialize, Serialize};

use crate::autopilot::AutopilotConfig;

/// One log entry: a command and the time at which it was proposed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// The proposer's clock; the only time that applying may use.
    pub at: Timestamp,
    /// What is asked.
    pub command: Command,
    /// Who asks, so that a request that comes twice is done once; absent where it cannot come
    /// twice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
}

impl Request {
    /// A request that is sent once and not again.
    pub fn new(at: Timestamp, command: Command) -> Self {
        Self { at, command, origin: None }
    }
}

/// Who asks, and which of its requests this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The server that proposes, since its start.
    pub proposer: ProposerId,
    /// Counts its requests. All copies of one request have the same number.
    pub number: u64,
    /// Below this number it waits for no answer any more.
    pub settled: u64,
}

/// What can be asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Command {
    /// Adds a node or takes over its new facts. Eligibility, drain and events of a known node stay
    /// as they are, and so does its status, unless it was down: then it is as the node says. The
    /// node and its service `nomad-client` enter the catalog.
    RegisterNode {
        /// The node.
        node: Box<Node>,
        /// Evaluations to record with it.
        evals: Vec<Evaluation>,
    },
    /// Says whether a node can be reached. Down loses its running allocations' claim to be alive
    /// only through the evaluations that follow.
    SetNodeStatus {
        /// The node.
        id: NodeId,
        /// Its new status.
        status: NodeStatus,
        /// The event to record, in words.
        message: String,
        /// Evaluations to record with it.
        evals: Vec<Evaluation>,
    },
    /// Says whether new work may be placed on a node.
    SetNodeEligibility {
        /// The node.
        id: NodeId,
        /// Whether it takes work.
        eligible: bool,
        /// Evaluations to record with it.
        evals: Vec<Evaluation>,
    },
    /// Begins, changes or ends a drain. Beginning makes the node ineligible.
    SetNodeDrain {
        /// The node.
        id: NodeId,
        /// The drain, or none to end it.
        drain: Option<DrainState>,
        /// Whether the node takes work again when the drain ends.
        mark_eligible: bool,
        /// Evaluations to record with it.
        evals: Vec<Evaluation>,
    },
    /// Adds a job or a new version of it. A request that changes nothing keeps the version.
    RegisterJob {
        /// The job; what the cluster sets is ignored.
        job: Box<Job>,
        /// The `job_modify_index` the caller expects; 0 expects that there is no such job.
        expected_index: Option<u64>,
        /// The evaluation to record with it; absent for jobs that only launch others.
        eval: Option<Evaluation>,
    },
    /// Stops a job, or removes it with its history.
    StopJob {
        /// The job.
        key: JobKey,
        /// Whether it is removed.
        purge: bool,
        /// The evaluation to record with it.
        eval: Option<Evaluation>,
    },
    /// Says whether a version is one to come back to.
    SetJobStability {
        /// The job.
        key: JobKey,
        /// The version.
        version: u64,
        /// Whether it is stable.
        stable: bool,
    },
    /// Records evaluations. One that is over stays as it is. One that is done and left nothing
    /// unplaced, or waits for room itself, cancels what was blocked of its job before.
    PutEvals {
        /// Evaluations, new or changed.
        evals: Vec<Evaluation>,
    },
    /// Applies a plan as far as it still fits. Refused if its evaluation is over.
    ApplyPlan {
        /// The plan.
        plan: Box<Plan>,
    },
    /// Takes over what agents report.
    UpdateAllocs {
        /// The reports. Health counts into the deployment.
        updates: Vec<AllocUpdate>,
        /// Evaluations to record with them.
        evals: Vec<Evaluation>,
    },
    /// Sets hints on allocations, beside those that are set. Allocations that are gone are passed
    /// over.
    SetTransitions {
        /// The hints, by allocation.
        transitions: BTreeMap<AllocId, DesiredTransition>,
        /// Evaluations to record with them.
        evals: Vec<Evaluation>,
    },
    /// Changes a deployment's status.
    SetDeploymentStatus {
        /// The new status.
        update: DeploymentUpdate,
        /// The job version to register again, when a failure brings it back. Passed over if the
        /// job was stopped meanwhile.
        revert: Option<Box<Job>>,
        /// The evaluation to record with it.
        eval: Option<Evaluation>,
    },
    /// Ends the canary phase of a deployment.
    PromoteDeployment {
        /// The deployment.
        id: DeploymentId,
        /// The groups to promote; absent means all.
        groups: Option<Vec<String>>,
        /// The evaluation to record with it.
        eval: Option<Evaluation>,
    },
    /// Sets health by a user's word.
    SetAllocHealth {
        /// The deployment.
        id: DeploymentId,
        /// Allocations that are healthy.
        healthy: Vec<AllocId>,
        /// Allocations that are not.
        unhealthy: Vec<AllocId>,
        /// The evaluation to record with it.
        eval: Option<Evaluation>,
    },
    /// Removes what is over and old enough.
    Collect {
        /// Evaluations.
        evals: Vec<EvalId>,
        /// Allocations; one that is not terminal stays.
        allocs: Vec<AllocId>,
        /// Deployments.
        deployments: Vec<DeploymentId>,
        /// Dead jobs.
        jobs: Vec<JobKey>,
        /// Nodes that are down.
        nodes: Vec<NodeId>,
    },
    /// Changes the catalog. A change that is refused does not stop the others.
    Catalog {
        /// The changes, applied in order.
        changes: Vec<CatalogChange>,
    },
    /// Changes the key-value store, all or nothing.
    Kv {
        /// The changes, applied in order.
        ops: Vec<KvOp>,
    },
    /// Changes the sessions, and with them the locks on keys.
    Session(SessionOp),
    /// Changes how the scheduler works.
    SetSchedulerConfig(SchedulerConfig),
    /// Changes how the consensus group is looked after.
    SetAutopilotConfig(AutopilotConfig),
    /// Replaces everything by a saved state, with the last of its parts.
    Restore(RestorePart),
    /// Changes who may become a member of the cluster.
    Trust(TrustChange),
}

/// A part of a saved state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestorePart {
    /// Which restore it belongs to. A new one ends what an earlier one left unfinished.
    pub id: RestoreId,
    /// Counts the parts from zero.
    pub number: u32,
    /// Whether it is the last.
    pub is_last: bool,
    /// The bytes.
    #[serde(with = "cos_model::kv::bytes")]
    pub bytes: Vec<u8>,
}

/// How the scheduler works.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SchedulerConfig {
    /// Whether instances are spread over nodes instead of packed.
    pub spread: bool,
    /// Whether tasks may take more memory than they reserve.
    pub memory_oversubscription: bool,
    /// Whether new jobs are refused.
    pub reject_job_registration: bool,
    /// Index of its creation.
    pub create_index: u64,
    /// Index of the last change.
    pub modify_index: u64,
}

/// What a command that was done answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Reply {
    /// Nothing more to say.
    Done,
    /// A job was registered or stopped; its `job_modify_index` and `version`.
    Job {
        /// Index of the last change of what the user asked for.
        job_modify_index: u64,
        /// The version.
        version: u64,
    },
    /// A plan was applied, perhaps in part.
    Plan(PlanOutcome),
    /// The key-value changes were made (true), or one of them failed and none was made.
    Kv(bool),
    /// Everything was replaced by a saved state.
    Restored {
        /// The index at which that seems to have happened; later than any before.
        index: u64,
        /// The saved state's [`crate::State::content_hash`].
        hash: u64,
    },
    /// What the catalog refused, by position.
    Catalog(BTreeMap<u32, String>),
}

/// Why a command was not done. It changed nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Refused {
    /// There is no such thing; the words name it.
    #[error("{0} not found")]
    NotFound(String),
    /// Somebody else changed it first.
    #[error("Enforcing job modify index {expected}: {found}")]
    IndexMismatch {
        /// What the caller expected.
        expected: u64,
        /// What there is, in the words of the API.
        found: String,
    },
    /// It cannot be done in the present state; the words say why.
    #[error("{0}")]
    Invalid(String),
}
