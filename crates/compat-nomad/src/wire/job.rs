//! The job in lists, its summary and its scale. The job in full is written by `jobspec`.

use std::collections::BTreeMap;

use cos_model as model;
use cos_state::{GroupSummary, State};
use serde::Serialize;

/// A job in a list.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct JobStub {
    #[serde(rename = "ID")]
    id: String,
    #[serde(rename = "ParentID")]
    parent_id: String,
    name: String,
    namespace: String,
    datacenters: Vec<String>,
    node_pool: String,
    multiregion: Option<()>,
    #[serde(rename = "Type")]
    kind: &'static str,
    priority: u8,
    periodic: bool,
    parameterized_job: bool,
    stop: bool,
    status: &'static str,
    status_description: &'static str,
    job_summary: JobSummary,
    create_index: u64,
    modify_index: u64,
    job_modify_index: u64,
    submit_time: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    meta: Option<BTreeMap<String, String>>,
}

impl JobStub {
    /// Shows a job in a list.
    pub(crate) fn new(state: &State, job: &model::Job, with_meta: bool) -> Self {
        Self {
            id: job.key.id.to_string(),
            parent_id: job.parent_id.clone(),
            name: job.name.clone(),
            namespace: job.key.namespace.to_string(),
            datacenters: job.datacenters.clone(),
            node_pool: job.node_pool.clone(),
            multiregion: None,
            kind: job.kind.name(),
            priority: job.priority,
            periodic: job.periodic.is_some(),
            parameterized_job: job.extras.contains_key("ParameterizedJob"),
            stop: job.stop,
            status: job.status.name(),
            status_description: "",
            job_summary: JobSummary::new(state, job),
            create_index: job.create_index,
            modify_index: job.modify_index,
            job_modify_index: job.job_modify_index,
            submit_time: job.submit_time.unix_nanos(),
            meta: with_meta.then(|| job.meta.clone()),
        }
    }
}

/// How many instances are in which state.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct JobSummary {
    #[serde(rename = "JobID")]
    job_id: String,
    namespace: String,
    summary: BTreeMap<String, Group>,
    children: Children,
    create_index: u64,
    modify_index: u64,
}

#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Group {
    queued: u32,
    complete: u32,
    failed: u32,
    running: u32,
    starting: u32,
    lost: u32,
    unknown: u32,
}

#[derive(Clone, Copy, Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Children {
    pending: i64,
    running: i64,
    dead: i64,
}

impl JobSummary {
    /// Counts the instances of a job, and the jobs that it launched.
    pub(crate) fn new(state: &State, job: &model::Job) -> Self {
        let counts = state.job_summary(&job.key);
        let shown = counts.iter().map(|(name, counts)| (name.to_string(), Group::from(*counts)));
        let newest = state.allocs_of_job(&job.key).map(|alloc| alloc.modify_index).max();
        Self {
            job_id: job.key.id.to_string(),
            namespace: job.key.namespace.to_string(),
            summary: shown.collect(),
            children: if job.is_template() { children(state, job) } else { Children::default() },
            create_index: job.create_index,
            modify_index: job.modify_index.max(newest.unwrap_or(0)),
        }
    }
}

fn children(state: &State, job: &model::Job) -> Children {
    let mut counts = Children::default();
    let own = |child: &&std::sync::Arc<model::Job>| {
        child.parent_id == *job.key.id && child.key.namespace == job.key.namespace
    };
    for child in state.jobs().filter(own) {
        match child.status {
            model::JobStatus::Pending => counts.pending += 1,
            model::JobStatus::Running => counts.running += 1,
            model::JobStatus::Dead => counts.dead += 1,
        }
    }
    counts
}

impl From<GroupSummary> for Group {
    fn from(counts: GroupSummary) -> Self {
        Self {
            queued: counts.queued,
            complete: counts.complete,
            failed: counts.failed,
            running: counts.running,
            starting: counts.starting,
            lost: counts.lost,
            unknown: counts.unknown,
        }
    }
}

/// How many instances a job wants and has.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct JobScaleStatus {
    #[serde(rename = "JobID")]
    job_id: String,
    namespace: String,
    job_create_index: u64,
    job_modify_index: u64,
    job_stopped: bool,
    task_groups: BTreeMap<String, GroupScaleStatus>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct GroupScaleStatus {
    desired: u32,
    placed: usize,
    running: usize,
    healthy: usize,
    unhealthy: usize,
    events: Option<()>,
}

impl JobScaleStatus {
    /// Counts what a job wants and has.
    pub(crate) fn new(state: &State, job: &model::Job) -> Self {
        let alive: Vec<_> =
            state.allocs_of_job(&job.key).filter(|alloc| !alloc.is_terminal()).collect();
        let count = |group: &str, wanted: &dyn Fn(&model::Allocation) -> bool| {
            alive.iter().filter(|alloc| *alloc.group == *group && wanted(alloc)).count()
        };
        let shown = job.groups.iter().map(|group| {
            let name = group.name.as_str();
            let runs =
                |alloc: &model::Allocation| alloc.client_status == model::ClientStatus::Running;
            let status = GroupScaleStatus {
                desired: group.count,
                placed: count(name, &|_| true),
                running: count(name, &runs),
                healthy: count(name, &model::Allocation::is_healthy),
                unhealthy: count(name, &model::Allocation::is_unhealthy),
                events: None,
            };
            (group.name.clone(), status)
        });
        Self {
            job_id: job.key.id.to_string(),
            namespace: job.key.namespace.to_string(),
            job_create_index: job.create_index,
            job_modify_index: job.job_modify_index,
            job_stopped: job.stop,
            task_groups: shown.collect(),
        }
    }
}
