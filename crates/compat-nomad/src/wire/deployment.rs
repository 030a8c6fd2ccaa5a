//! The deployment.

use std::collections::BTreeMap;

use cos_model as model;
use serde::Serialize;

use super::{Time, nanos};

/// One rollout of a job version.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Deployment {
    #[serde(rename = "ID")]
    id: String,
    namespace: String,
    #[serde(rename = "JobID")]
    job_id: String,
    job_version: u64,
    job_modify_index: u64,
    job_spec_modify_index: u64,
    job_create_index: u64,
    is_multiregion: bool,
    task_groups: BTreeMap<String, Group>,
    status: &'static str,
    status_description: String,
    eval_priority: u8,
    create_index: u64,
    modify_index: u64,
    create_time: i64,
    modify_time: i64,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Group {
    auto_revert: bool,
    auto_promote: bool,
    progress_deadline: i64,
    require_progress_by: Time,
    promoted: bool,
    placed_canaries: Option<Vec<String>>,
    desired_canaries: u32,
    desired_total: u32,
    placed_allocs: u32,
    healthy_allocs: u32,
    unhealthy_allocs: u32,
}

impl From<&model::Deployment> for Deployment {
    fn from(deployment: &model::Deployment) -> Self {
        let shown = |(name, group): (&String, _)| (name.clone(), Group::from(group));
        Self {
            id: deployment.id.to_string(),
            namespace: deployment.job.namespace.to_string(),
            job_id: deployment.job.id.to_string(),
            job_version: deployment.job_version,
            job_modify_index: deployment.job_modify_index,
            job_spec_modify_index: deployment.job_spec_modify_index,
            job_create_index: deployment.job_create_index,
            is_multiregion: false,
            task_groups: deployment.groups.iter().map(shown).collect(),
            status: deployment.status.name(),
            status_description: deployment.status_description.clone(),
            eval_priority: 0,
            create_index: deployment.create_index,
            modify_index: deployment.modify_index,
            create_time: deployment.create_time.unix_nanos(),
            modify_time: deployment.modify_time.unix_nanos(),
        }
    }
}

impl From<&model::DeploymentGroup> for Group {
    fn from(group: &model::DeploymentGroup) -> Self {
        let canaries: Vec<String> = group.placed_canaries.iter().map(ToString::to_string).collect();
        Self {
            auto_revert: group.auto_revert,
            auto_promote: group.auto_promote,
            progress_deadline: nanos(group.progress_deadline),
            require_progress_by: Time(group.require_progress_by),
            promoted: group.promoted,
            placed_canaries: (!canaries.is_empty()).then_some(canaries),
            desired_canaries: group.desired_canaries,
            desired_total: group.desired_total,
            placed_allocs: group.placed,
            healthy_allocs: group.healthy,
            unhealthy_allocs: group.unhealthy,
        }
    }
}
