//! The nouns of cos: what is replicated, scheduled, run, named and routed.
//!
//! Every other crate speaks in these types. A type enters here when two crates need it and it is
//! part of the replicated state.
//!
//! # Invariants
//!
//! - **Plain data.** No I/O, no clock, no entropy; nothing here can fail except parsing an id.
//! - **Ordered.** Maps are `BTreeMap` or ordered persistent maps, so that two replicas iterate alike.
//! - **Stored by name.** Types derive serde for the log and for snapshots, which are encoded with
//!   field names; a new field takes `#[serde(default)]` and old logs still load.
//!
//! # Deliberately absent
//!
//! - Wire formats of Nomad, Consul or Docker. Their edges translate.
//! - Behaviour of scheduling or running. `scheduler` and `agent` decide; this crate names.

pub mod allocation;
pub mod catalog;
pub mod constraint;
pub mod deployment;
pub mod evaluation;
pub mod fit;
pub mod id;
pub mod job;
pub mod kv;
pub mod link;
pub mod metric;
pub mod network;
pub mod node;
pub mod plan;
pub mod policy;
pub mod resources;
#[cfg(feature = "samples")]
pub mod samples;
pub mod service;
pub mod stored;
pub mod task;
pub mod time;
pub mod trust;
pub mod value;
pub mod version;

pub use allocation::{
    AllocHealth, AllocState, AllocatedPort, AllocatedTask, Allocation, ClientStatus, DesiredStatus,
    DesiredTransition, RescheduleEvent, TaskEvent, TaskPhase, TaskState,
};
pub use constraint::{Affinity, Constraint, Operator, Spread, SpreadTarget};
pub use deployment::{Deployment, DeploymentGroup, DeploymentStatus};
pub use evaluation::{EvalStatus, Evaluation, Trigger};
pub use id::{AllocId, DeploymentId, EvalId, JobKey, NodeId, ProposerId, RestoreId, ServerId};
pub use job::{Extras, Job, JobKind, JobStatus, Periodic, TaskGroup};
pub use metric::AllocMetric;
pub use network::{Network, Port};
pub use node::{DrainSpec, DrainState, DriverState, Node, NodeStatus};
pub use plan::{Plan, PlanOutcome};
pub use policy::{
    DelayFunction, Disconnect, HealthCheckKind, Migrate, Reschedule, Restart, RestartMode, Update,
};
pub use resources::{Dimension, Resources};
pub use service::{Check, CheckKind, CheckRestart, Service};
pub use task::{Artifact, ChangeMode, Lifecycle, Logs, Task, Template};
pub use time::Timestamp;
pub use value::Value;
