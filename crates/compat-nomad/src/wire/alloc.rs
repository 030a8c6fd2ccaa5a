//! The allocation, in lists and in full.

use std::collections::BTreeMap;

use cos_model as model;
use serde::Serialize;
use serde_json::Value;

use super::metric::AllocMetric;
use super::resources::{AllocatedResources, LegacyResources};
use super::task_state::TaskState;
use super::{Time, nanos, text, without_empty};
use crate::spec::job_json;

/// An allocation in a list.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct AllocStub {
    #[serde(rename = "ID")]
    id: String,
    #[serde(rename = "EvalID")]
    eval_id: String,
    name: String,
    namespace: String,
    #[serde(rename = "NodeID")]
    node_id: String,
    node_name: String,
    #[serde(rename = "JobID")]
    job_id: String,
    job_type: &'static str,
    job_version: u64,
    task_group: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    allocated_resources: Option<AllocatedResources>,
    desired_status: &'static str,
    desired_description: String,
    client_status: &'static str,
    client_description: String,
    desired_transition: DesiredTransition,
    task_states: Option<BTreeMap<String, TaskState>>,
    deployment_status: Option<DeploymentStatus>,
    #[serde(rename = "FollowupEvalID")]
    followup_eval_id: String,
    next_allocation: String,
    reschedule_tracker: Option<RescheduleTracker>,
    preempted_allocations: Option<Vec<String>>,
    preempted_by_allocation: String,
    create_index: u64,
    modify_index: u64,
    create_time: i64,
    modify_time: i64,
}

/// What lists show of an allocation beyond the always shown.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StubFields {
    /// Whether resources are shown.
    pub(crate) resources: bool,
    /// Whether task states are shown.
    pub(crate) task_states: bool,
}

impl Default for StubFields {
    fn default() -> Self {
        Self { resources: false, task_states: true }
    }
}

/// An allocation in full.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct AllocDetail {
    #[serde(flatten)]
    stub: AllocStub,
    job: Value,
    resources: LegacyResources,
    shared_resources: LegacyResources,
    task_resources: BTreeMap<String, LegacyResources>,
    metrics: AllocMetric,
    previous_allocation: String,
    #[serde(rename = "DeploymentID")]
    deployment_id: String,
    alloc_modify_index: u64,
    alloc_states: Option<Vec<AllocState>>,
}

/// When the node was out of reach, and back.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct AllocState {
    field: &'static str,
    value: &'static str,
    time: Time,
}

#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct DesiredTransition {
    migrate: Option<bool>,
    reschedule: Option<bool>,
    force_reschedule: Option<bool>,
    no_shutdown_delay: Option<bool>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct DeploymentStatus {
    healthy: Option<bool>,
    timestamp: Time,
    canary: bool,
    modify_index: u64,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct RescheduleTracker {
    events: Vec<RescheduleEvent>,
    last_reschedule: &'static str,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct RescheduleEvent {
    reschedule_time: i64,
    #[serde(rename = "PrevAllocID")]
    prev_alloc_id: String,
    #[serde(rename = "PrevNodeID")]
    prev_node_id: String,
    delay: i64,
}

impl AllocStub {
    /// Shows an allocation in a list.
    pub(crate) fn new(alloc: &model::Allocation, fields: StubFields) -> Self {
        let states = || {
            let shown = |(name, state): (&String, _)| (name.clone(), TaskState::from(state));
            alloc.task_states.iter().map(shown).collect::<BTreeMap<_, _>>()
        };
        Self {
            id: alloc.id.to_string(),
            eval_id: alloc.eval_id.to_string(),
            name: alloc.name(),
            namespace: alloc.job.key.namespace.to_string(),
            node_id: alloc.node_id.to_string(),
            node_name: alloc.node_name.to_string(),
            job_id: alloc.job.key.id.to_string(),
            job_type: alloc.job.kind.name(),
            job_version: alloc.job.version,
            task_group: alloc.group.to_string(),
            allocated_resources: fields.resources.then(|| AllocatedResources::from(alloc)),
            desired_status: alloc.desired.name(),
            desired_description: alloc.desired_description.clone(),
            client_status: alloc.client_status.name(),
            client_description: alloc.client_description.clone(),
            desired_transition: DesiredTransition::from(alloc.transition),
            task_states: (fields.task_states && !alloc.task_states.is_empty()).then(states),
            deployment_status: deployment_status(alloc),
            followup_eval_id: text(alloc.followup_eval),
            next_allocation: text(alloc.next),
            reschedule_tracker: reschedule_tracker(alloc),
            preempted_allocations: None,
            preempted_by_allocation: String::new(),
            create_index: alloc.create_index,
            modify_index: alloc.modify_index,
            create_time: alloc.create_time.unix_nanos(),
            modify_time: alloc.modify_time.unix_nanos(),
        }
    }
}

/// Shows an allocation in full, with its job.
pub(crate) fn detail(alloc: &model::Allocation) -> Value {
    let fields = StubFields { resources: true, task_states: true };
    let mut shown = without_empty(&AllocDetail {
        stub: AllocStub::new(alloc, fields),
        job: job_json(&alloc.job),
        resources: LegacyResources::of_alloc(alloc),
        shared_resources: LegacyResources::shared(alloc),
        task_resources: LegacyResources::by_task(alloc),
        metrics: AllocMetric::from(alloc.metric.as_ref()),
        previous_allocation: text(alloc.previous),
        deployment_id: text(alloc.deployment_id),
        alloc_modify_index: alloc.alloc_modify_index,
        alloc_states: (!alloc.states.is_empty()).then(|| alloc_states(alloc)),
    });
    if let Value::Object(fields) = &mut shown {
        // Lists have these two beside the allocation; in full they are inside the job.
        fields.remove("JobType");
        fields.remove("JobVersion");
    }
    shown
}

fn alloc_states(alloc: &model::Allocation) -> Vec<AllocState> {
    let shown = |state: &model::AllocState| AllocState {
        field: "client_status",
        value: state.status.name(),
        time: Time(state.at),
    };
    alloc.states.iter().map(shown).collect()
}

impl From<model::DesiredTransition> for DesiredTransition {
    fn from(transition: model::DesiredTransition) -> Self {
        Self {
            migrate: transition.migrate.then_some(true),
            reschedule: None,
            force_reschedule: transition.force_reschedule.then_some(true),
            no_shutdown_delay: transition.no_shutdown_delay.then_some(true),
        }
    }
}

fn deployment_status(alloc: &model::Allocation) -> Option<DeploymentStatus> {
    let known = alloc.health.is_some() || alloc.canary;
    known.then(|| DeploymentStatus {
        healthy: alloc.health.map(|health| health.healthy),
        timestamp: Time(alloc.health.map(|health| health.at).unwrap_or_default()),
        canary: alloc.canary,
        modify_index: alloc.modify_index,
    })
}

fn reschedule_tracker(alloc: &model::Allocation) -> Option<RescheduleTracker> {
    let events: Vec<RescheduleEvent> = alloc
        .reschedules
        .iter()
        .map(|event| RescheduleEvent {
            reschedule_time: event.at.unix_nanos(),
            prev_alloc_id: event.previous.to_string(),
            prev_node_id: event.previous_node.to_string(),
            delay: nanos(event.delay),
        })
        .collect();
    (!events.is_empty()).then_some(RescheduleTracker { events, last_reschedule: "ok" })
}
