//! The evaluation, in full and as a relative of another.

use std::collections::BTreeMap;

use cos_model as model;
use serde::Serialize;
use serde_json::Value;

use super::metric::{AllocMetric, by_group};
use super::{Time, text, without_empty};

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Evaluation {
    #[serde(flatten)]
    stub: EvaluationStub,
    job_modify_index: u64,
    related_evals: Vec<EvaluationStub>,
    #[serde(rename = "FailedTGAllocs")]
    failed_groups: Option<BTreeMap<String, AllocMetric>>,
    queued_allocations: BTreeMap<String, u32>,
    snapshot_index: u64,
}

/// An evaluation as a relative of another.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct EvaluationStub {
    #[serde(rename = "ID")]
    id: String,
    namespace: String,
    priority: u8,
    #[serde(rename = "Type")]
    kind: &'static str,
    triggered_by: &'static str,
    #[serde(rename = "JobID")]
    job_id: String,
    #[serde(rename = "NodeID")]
    node_id: String,
    #[serde(rename = "DeploymentID")]
    deployment_id: String,
    status: &'static str,
    status_description: String,
    wait_until: Time,
    next_eval: String,
    previous_eval: String,
    blocked_eval: String,
    create_index: u64,
    modify_index: u64,
    create_time: i64,
    modify_time: i64,
}

impl From<&model::Evaluation> for EvaluationStub {
    fn from(eval: &model::Evaluation) -> Self {
        Self {
            id: eval.id.to_string(),
            namespace: eval.job.namespace.to_string(),
            priority: eval.priority,
            kind: eval.kind.name(),
            triggered_by: eval.trigger.name(),
            job_id: eval.job.id.to_string(),
            node_id: text(eval.node_id),
            deployment_id: text(eval.deployment_id),
            status: eval.status.name(),
            status_description: eval.status_description.clone(),
            wait_until: Time(eval.wait_until),
            next_eval: text(eval.next),
            previous_eval: text(eval.previous),
            blocked_eval: text(eval.blocked),
            create_index: eval.create_index,
            modify_index: eval.modify_index,
            create_time: eval.create_time.unix_nanos(),
            modify_time: eval.modify_time.unix_nanos(),
        }
    }
}

/// Shows an evaluation in full, with the stubs of its relatives if they are asked for.
pub(crate) fn detail(eval: &model::Evaluation, related: Vec<EvaluationStub>) -> Value {
    without_empty(&Evaluation {
        stub: EvaluationStub::from(eval),
        job_modify_index: eval.job_modify_index,
        related_evals: related,
        failed_groups: by_group(&eval.failed_groups),
        queued_allocations: eval.queued.clone(),
        snapshot_index: eval.snapshot_index,
    })
}
