//! The job: what a user asks to run.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::constraint::{Affinity, Constraint, Spread};
use crate::id::JobKey;
use crate::network::Network;
use crate::policy::{Disconnect, Migrate, Reschedule, Update};
use crate::resources::Resources;
use crate::service::Service;
use crate::task::Task;
use crate::time::Timestamp;
use crate::value::Value;

/// Blocks that a job file may hold and cos keeps and shows but does not execute yet, by the name
/// that the job's JSON form gives them. Registration warns of each by name.
pub type Extras = BTreeMap<String, Value>;

/// A job and its place in history.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// Namespace and id.
    pub key: JobKey,
    /// Shown name; the id unless said otherwise.
    pub name: String,
    /// The id of the periodic or parameterized job that launched this one.
    pub parent_id: String,
    /// Region the job belongs to.
    pub region: String,
    /// What kind of life its instances have.
    pub kind: JobKind,
    /// From 1 to 100; higher goes first.
    pub priority: u8,
    /// Whether a plan that fits only in part is refused.
    pub all_at_once: bool,
    /// Globs of datacenters in which it may run.
    pub datacenters: Vec<String>,
    /// Node pool in which it may run; `all` means any.
    pub node_pool: String,
    /// Rules for all groups.
    pub constraints: Vec<Constraint>,
    /// Preferences of all groups.
    pub affinities: Vec<Affinity>,
    /// Spread wishes of all groups.
    pub spreads: Vec<Spread>,
    /// What runs.
    pub groups: Vec<TaskGroup>,
    /// `update` of the job level as the file gave it; groups hold the merged result.
    pub update: Option<Update>,
    /// When it is launched again and again.
    pub periodic: Option<Periodic>,
    /// Free facts.
    pub meta: BTreeMap<String, String>,
    /// Blocks that are kept but not executed, such as `multiregion`.
    #[serde(default)]
    pub extras: Extras,

    // What follows is set by the cluster, not by the user.
    /// Whether the job was asked to stop.
    pub stop: bool,
    /// Counts registrations that changed something.
    pub version: u64,
    /// Whether a deployment of this version succeeded.
    pub stable: bool,
    /// Pending, running or dead.
    pub status: JobStatus,
    /// When this version was submitted.
    pub submit_time: Timestamp,
    /// Index of the first registration.
    pub create_index: u64,
    /// Index of the last change of anything, status included.
    pub modify_index: u64,
    /// Index of the last change of what the user asked for.
    pub job_modify_index: u64,
}

/// What kind of life a job's instances have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum JobKind {
    /// Kept running.
    Service,
    /// Runs to its end.
    Batch,
    /// One on every eligible node, kept running.
    System,
    /// One on every eligible node, to its end.
    SysBatch,
}

/// Where a job stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum JobStatus {
    /// Nothing runs yet.
    #[default]
    Pending,
    /// Something runs, or is to run.
    Running,
    /// Stopped or done.
    Dead,
}

/// Launches at given times.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Periodic {
    /// Whether launches happen.
    pub enabled: bool,
    /// Cron expressions.
    pub specs: Vec<String>,
    /// Whether a launch is skipped while the last one runs.
    pub prohibit_overlap: bool,
    /// IANA time zone, `UTC` by default.
    pub time_zone: String,
}

/// Tasks that run together on one node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskGroup {
    /// Unique within the job.
    pub name: String,
    /// How many instances; for system jobs 0 or 1 per node.
    pub count: u32,
    /// Rules for the node.
    pub constraints: Vec<Constraint>,
    /// Preferences for the node.
    pub affinities: Vec<Affinity>,
    /// Spread wishes.
    pub spreads: Vec<Spread>,
    /// At least one.
    pub tasks: Vec<Task>,
    /// At most one; old files put networks into tasks.
    pub networks: Vec<Network>,
    /// Services of the group.
    pub services: Vec<Service>,
    /// Disk shared by the tasks, in MiB.
    pub ephemeral_disk_mib: u64,
    /// Whether a replacement on the same node keeps the shared directory.
    pub sticky_disk: bool,
    /// Whether a replacement on another node gets a copy of it.
    pub migrate_disk: bool,
    /// How new versions are rolled out; absent means all at once.
    pub update: Option<Update>,
    /// When failed instances are replaced; absent means never.
    pub reschedule: Option<Reschedule>,
    /// How instances leave a draining node.
    pub migrate: Option<Migrate>,
    /// What happens when the node cannot be reached.
    pub disconnect: Option<Disconnect>,
    /// The group's restart block as the file gave it; tasks hold the merged result.
    pub restart: crate::policy::Restart,
    /// Volumes that tasks may mount, by label.
    pub volumes: BTreeMap<String, VolumeRequest>,
    /// Free facts.
    pub meta: BTreeMap<String, String>,
    /// Time between leaving discovery and the kill signals.
    pub shutdown_delay: Duration,
    /// Limits of `scaling`; the policy itself is in `extras`.
    pub scaling: Option<Scaling>,
    /// Blocks that are kept but not executed.
    #[serde(default)]
    pub extras: Extras,
}

/// A volume that a group asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeRequest {
    /// `host` or `csi`.
    pub kind: String,
    /// Name of the node's host volume, or id of the CSI volume.
    pub source: String,
    /// Whether writing is refused.
    pub read_only: bool,
    /// Whether the instance index is appended to the source.
    pub per_alloc: bool,
    /// Access mode in the volume's words.
    pub access_mode: String,
    /// Attachment mode in the volume's words.
    pub attachment_mode: String,
}

/// Bounds within which a group's count may be changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scaling {
    /// Smallest count.
    pub min: u32,
    /// Largest count.
    pub max: u32,
    /// Whether the policy acts.
    pub enabled: bool,
    /// The policy, in the autoscaler's words.
    pub policy: Extras,
}

impl Job {
    /// Finds a group by name.
    pub fn group(&self, name: &str) -> Option<&TaskGroup> {
        self.groups.iter().find(|group| group.name == name)
    }

    /// Whether the user asked for the same in both, whatever the cluster recorded.
    pub fn same_request(&self, other: &Self) -> bool {
        let bare = |job: &Self| Self {
            version: 0,
            stable: false,
            status: JobStatus::Pending,
            submit_time: Timestamp::NEVER,
            create_index: 0,
            modify_index: 0,
            job_modify_index: 0,
            ..job.clone()
        };
        bare(self) == bare(other)
    }

    /// Whether instances of this job live on every node instead of by count.
    pub fn is_system(&self) -> bool {
        matches!(self.kind, JobKind::System | JobKind::SysBatch)
    }

    /// Whether this job only launches others and has no instances of its own.
    pub fn is_template(&self) -> bool {
        self.periodic.is_some() || self.extras.contains_key("ParameterizedJob")
    }
}

impl TaskGroup {
    /// Finds a task by name.
    pub fn task(&self, name: &str) -> Option<&Task> {
        self.tasks.iter().find(|task| task.name == name)
    }

    /// Adds up what one instance takes.
    pub fn total_resources(&self) -> Resources {
        let disk = Resources { disk_mib: self.ephemeral_disk_mib, ..Resources::default() };
        self.tasks.iter().fold(disk, |sum, task| {
            sum.saturating_add(&Resources { disk_mib: 0, ..task.resources })
        })
    }

    /// Every network block that asks for ports, the group's first, with the task it belongs to.
    pub fn all_networks(&self) -> impl Iterator<Item = (Option<&str>, &Network)> {
        let own = self.networks.iter().map(|network| (None, network));
        let legacy = self
            .tasks
            .iter()
            .flat_map(|task| task.networks.iter().map(|n| (Some(task.name.as_str()), n)));
        own.chain(legacy)
    }
}

impl JobKind {
    /// The word in job files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Service => "service",
            Self::Batch => "batch",
            Self::System => "system",
            Self::SysBatch => "sysbatch",
        }
    }
}

impl JobStatus {
    /// The word that clients show.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Dead => "dead",
        }
    }
}

/// A job as it is shared between everything that refers to it.
pub type SharedJob = Arc<Job>;
