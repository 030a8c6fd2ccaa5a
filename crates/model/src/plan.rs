//! The plan: what one evaluation wants changed. The state machine re-checks it when it is applied.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::allocation::{Allocation, ClientStatus, DesiredStatus};
use crate::deployment::{Deployment, DeploymentStatus};
use crate::evaluation::Evaluation;
use crate::id::{AllocId, DeploymentId, EvalId, NodeId};
use crate::time::Timestamp;

/// What one evaluation wants changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// The evaluation that made it.
    pub eval_id: EvalId,
    /// The state index it was computed on.
    pub based_on: u64,
    /// Whether a plan that fits only in part is refused whole.
    pub all_at_once: bool,
    /// New allocations, and new versions of allocations updated in place (same id). Stored with
    /// each job once.
    #[serde(with = "crate::stored")]
    pub placements: Vec<Allocation>,
    /// Allocations to stop.
    pub stops: Vec<PlannedStop>,
    /// Allocations whose replacement waits for this evaluation.
    pub followups: BTreeMap<AllocId, EvalId>,
    /// The deployment to create.
    pub deployment: Option<Deployment>,
    /// Deployments whose status changes, such as one overtaken by a newer version.
    pub deployment_updates: Vec<DeploymentUpdate>,
    /// Evaluations to create: blocked, delayed, rolling.
    pub new_evals: Vec<Evaluation>,
    /// The evaluation itself as it should be recorded, counts and reasons included. It is recorded
    /// only if the plan fits in full.
    pub eval: Evaluation,
    /// When the plan was made.
    pub at: Timestamp,
}

/// One allocation to stop.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlannedStop {
    /// The allocation.
    pub id: AllocId,
    /// Stop or evict.
    pub desired: DesiredStatus,
    /// Why, in words.
    pub description: String,
    /// Set where the cluster knows better than the agent, as for a lost node.
    pub client_status: Option<ClientStatus>,
}

/// A change of a deployment's status.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeploymentUpdate {
    /// The deployment.
    pub id: DeploymentId,
    /// Its new status.
    pub status: DeploymentStatus,
    /// Why, in the words that clients match on.
    pub description: String,
}

/// What became of a plan.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanOutcome {
    /// Placements that no longer fitted, by node, with the reason in words. Empty means that the
    /// plan was applied in full.
    pub refused: BTreeMap<NodeId, String>,
    /// The index at which it was applied; plan again on at least this.
    pub index: u64,
}

impl Plan {
    /// Whether applying it would change nothing but the evaluation.
    pub fn is_no_op(&self) -> bool {
        self.placements.is_empty()
            && self.stops.is_empty()
            && self.followups.is_empty()
            && self.deployment.is_none()
            && self.deployment_updates.is_empty()
            && self.new_evals.is_empty()
    }
}
