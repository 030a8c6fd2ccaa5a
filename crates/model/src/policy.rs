//! How a group is updated, restarted, rescheduled, migrated and treated when its node vanishes.
//!
//! Defaults differ by the kind of job and are filled in when a job is read, so a policy stored in
//! a job is always complete.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How new versions of a group are rolled out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Update {
    /// Time between batches; kept for old files, where it paces system jobs.
    pub stagger: Duration,
    /// How many instances change at once. Zero changes all at once, without a deployment.
    pub max_parallel: u32,
    /// What makes an instance healthy.
    pub health_check: HealthCheckKind,
    /// How long an instance must stay healthy to count.
    pub min_healthy_time: Duration,
    /// By when an instance must be healthy.
    pub healthy_deadline: Duration,
    /// By when the deployment must have made progress. Zero fails at the first unhealthy instance.
    pub progress_deadline: Duration,
    /// How many new instances run beside the old ones until promotion.
    pub canary: u32,
    /// Whether a failed deployment brings the last stable version back.
    pub auto_revert: bool,
    /// Whether healthy canaries are promoted without a user's word.
    pub auto_promote: bool,
}

/// What makes an instance healthy during a deployment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HealthCheckKind {
    /// All tasks run and all service checks pass.
    Checks,
    /// All tasks run.
    TaskStates,
    /// A user says so.
    Manual,
}

/// What the agent does when a task ends and should not have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restart {
    /// How many restarts are allowed within `interval`.
    pub attempts: u32,
    /// The window in which restarts are counted.
    pub interval: Duration,
    /// The wait before a restart; up to a quarter is added at random.
    pub delay: Duration,
    /// What happens when attempts are used up.
    pub mode: RestartMode,
    /// Whether templates are rendered anew at each restart.
    pub render_templates: bool,
}

/// What happens when restart attempts are used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RestartMode {
    /// The task fails, and the allocation may be rescheduled.
    Fail,
    /// The agent waits for the interval to end and tries again.
    Delay,
}

/// When and how often a failed allocation is replaced, possibly on another node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reschedule {
    /// How many replacements are allowed within `interval`, unless `unlimited`.
    pub attempts: u32,
    /// The window in which replacements are counted.
    pub interval: Duration,
    /// The first wait.
    pub delay: Duration,
    /// How the wait grows.
    pub delay_function: DelayFunction,
    /// The longest wait.
    pub max_delay: Duration,
    /// Whether replacements go on for ever.
    pub unlimited: bool,
}

/// How the wait between replacements grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DelayFunction {
    /// It stays.
    Constant,
    /// It doubles.
    Exponential,
    /// It is the sum of the last two.
    Fibonacci,
}

/// How instances leave a draining node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Migrate {
    /// How many instances of the group move at once.
    pub max_parallel: u32,
    /// What makes the replacement healthy.
    pub health_check: HealthCheckKind,
    /// How long the replacement must stay healthy.
    pub min_healthy_time: Duration,
    /// By when the replacement must be healthy.
    pub healthy_deadline: Duration,
}

/// What happens to instances on a node that cannot be reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disconnect {
    /// How long they are only "unknown" before they are lost.
    pub lost_after: Option<Duration>,
    /// After how long without servers the agent itself stops them.
    pub stop_on_client_after: Option<Duration>,
    /// Whether a replacement is placed meanwhile.
    pub replace: bool,
    /// Which of the two stays when the node returns, in the job file's word.
    pub reconcile: String,
}

impl Default for Disconnect {
    fn default() -> Self {
        Self {
            lost_after: None,
            stop_on_client_after: None,
            replace: true,
            reconcile: "best_score".to_owned(),
        }
    }
}

impl Default for Update {
    fn default() -> Self {
        Self {
            stagger: Duration::from_secs(30),
            max_parallel: 1,
            health_check: HealthCheckKind::Checks,
            min_healthy_time: Duration::from_secs(10),
            healthy_deadline: Duration::from_mins(5),
            progress_deadline: Duration::from_mins(10),
            canary: 0,
            auto_revert: false,
            auto_promote: false,
        }
    }
}

impl Default for Migrate {
    fn default() -> Self {
        Self {
            max_parallel: 1,
            health_check: HealthCheckKind::Checks,
            min_healthy_time: Duration::from_secs(10),
            healthy_deadline: Duration::from_mins(5),
        }
    }
}
