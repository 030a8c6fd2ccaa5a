//! The deployment: one rollout of a job version, and how far it got.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::id::{AllocId, DeploymentId, JobKey};
use crate::time::Timestamp;

/// One rollout of a job version.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Deployment {
    /// Which deployment this is.
    pub id: DeploymentId,
    /// The job.
    pub job: JobKey,
    /// The version that is rolled out.
    pub job_version: u64,
    /// The job's `modify_index` at the start.
    pub job_modify_index: u64,
    /// The job's `job_modify_index` at the start.
    pub job_spec_modify_index: u64,
    /// The job's `create_index`.
    pub job_create_index: u64,
    /// How far each group got.
    pub groups: BTreeMap<String, DeploymentGroup>,
    /// Where it stands.
    pub status: DeploymentStatus,
    /// Why, in the words that clients match on.
    pub status_description: String,
    /// When it began.
    pub create_time: Timestamp,
    /// When it last changed.
    pub modify_time: Timestamp,
    /// Index of its first record.
    pub create_index: u64,
    /// Index of its last change.
    pub modify_index: u64,
}

/// How far one group got.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeploymentGroup {
    /// Whether failure brings the last stable version back.
    pub auto_revert: bool,
    /// Whether healthy canaries are promoted without a user's word.
    pub auto_promote: bool,
    /// Whether the canaries were promoted; true from the start where there are none.
    pub promoted: bool,
    /// How long may pass without progress.
    pub progress_deadline: Duration,
    /// When progress is due.
    pub require_progress_by: Timestamp,
    /// How many canaries are wanted.
    pub desired_canaries: u32,
    /// How many instances are wanted.
    pub desired_total: u32,
    /// The canaries that were placed.
    pub placed_canaries: Vec<AllocId>,
    /// How many instances were placed.
    pub placed: u32,
    /// How many of them are healthy.
    pub healthy: u32,
    /// How many of them are unhealthy.
    pub unhealthy: u32,
}

/// Where a deployment stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum DeploymentStatus {
    /// Under way.
    Running,
    /// Held by a user.
    Paused,
    /// Given up.
    Failed,
    /// Done.
    Successful,
    /// Overtaken by a newer version or a stop.
    Cancelled,
}

impl Deployment {
    /// Whether it can still change.
    pub fn is_active(&self) -> bool {
        matches!(self.status, DeploymentStatus::Running | DeploymentStatus::Paused)
    }

    /// Whether a group waits for promotion.
    pub fn requires_promotion(&self) -> bool {
        self.is_active()
            && self.groups.values().any(|group| group.desired_canaries > 0 && !group.promoted)
    }

    /// The description of a rollout that waits for nobody.
    pub const RUNNING: &'static str = "Deployment is running";

    /// What a running rollout says of itself, in the words that clients match on.
    pub fn running_description(&self) -> &'static str {
        match (self.requires_promotion(), self.has_auto_promote()) {
            (false, _) => Self::RUNNING,
            (true, false) => "Deployment is running but requires manual promotion",
            (true, true) => "Deployment is running pending automatic promotion",
        }
    }

    /// Whether every group that waits for promotion promotes itself.
    pub fn has_auto_promote(&self) -> bool {
        self.groups
            .values()
            .filter(|group| group.desired_canaries > 0)
            .all(|group| group.auto_promote)
    }
}

impl DeploymentStatus {
    /// The word that clients show.
    pub fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Failed => "failed",
            Self::Successful => "successful",
            Self::Cancelled => "cancelled",
        }
    }
}
