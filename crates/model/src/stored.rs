//! Allocations as they are stored and sent: what many of them share is written once.
//!
//! An allocation holds its whole job. Written one by one, ten thousand allocations of a job would
//! carry ten thousand copies of it; this module writes a table of jobs and a table of metrics, and
//! each allocation names its rows. Use it as `#[serde(with = "crate::stored")]` on a list of
//! allocations, owned or shared.
//!
//! # Invariants
//!
//! - What is read equals what was written; rows that were one `Arc` are one `Arc` again.
//! - A row that is not there is an error, never a panic.
//! - Fields at their default are left out, and what is left out is read as the default.
//!
//! # Deliberately absent
//!
//! - Finding equal jobs that are not the same `Arc`. Comparing them would cost more than it saves;
//!   the state machine sees to it that allocations of one version share their job.

use std::borrow::{Borrow, Cow};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::allocation::{
    AllocHealth, AllocState, AllocatedPort, AllocatedTask, Allocation, ClientStatus, DesiredStatus,
    DesiredTransition, RescheduleEvent, TaskState,
};
use crate::id::{AllocId, DeploymentId, EvalId, NodeId};
use crate::job::Job;
use crate::metric::AllocMetric;
use crate::resources::Resources;
use crate::time::Timestamp;

/// Writes a list of allocations.
pub fn serialize<A, S>(allocs: &[A], serializer: S) -> Result<S::Ok, S::Error>
where
    A: Borrow<Allocation>,
    S: Serializer,
{
    let mut jobs = Rows::default();
    let mut metrics = Rows::default();
    let mut records = Vec::with_capacity(allocs.len());
    for alloc in allocs {
        let alloc: &Allocation = alloc.borrow();
        records.push(Record::new(alloc, jobs.row_of(&alloc.job), metrics.row_of(&alloc.metric)));
    }
    Table { jobs: jobs.rows, metrics: metrics.rows, allocs: records }.serialize(serializer)
}

/// Reads a list of allocations.
pub fn deserialize<'de, A, D>(deserializer: D) -> Result<Vec<A>, D::Error>
where
    A: From<Allocation>,
    D: Deserializer<'de>,
{
    let table = Table::deserialize(deserializer)?;
    let jobs: Vec<Arc<Job>> = table.jobs.into_iter().map(share).collect();
    let metrics: Vec<Arc<AllocMetric>> = table.metrics.into_iter().map(share).collect();
    let mut names = BTreeSet::new();
    let mut allocs = Vec::with_capacity(table.allocs.len());
    for record in table.allocs {
        let job = row("job", &jobs, record.job)?;
        let metric = row("metric", &metrics, record.metric)?;
        allocs.push(A::from(record.into_allocation(job, metric, &mut names)));
    }
    Ok(allocs)
}

/// The written form of a list.
#[derive(Serialize, Deserialize)]
struct Table<'a> {
    jobs: Vec<Cow<'a, Job>>,
    metrics: Vec<Cow<'a, AllocMetric>>,
    allocs: Vec<Record<'a>>,
}

/// The written form of one allocation. The fields mean what they mean in [`Allocation`].
#[derive(Serialize, Deserialize)]
struct Record<'a> {
    id: AllocId,
    eval_id: EvalId,
    node_id: NodeId,
    node_name: Cow<'a, str>,
    /// A row of the table of jobs.
    job: u32,
    group: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "is_default")]
    index: u32,
    resources: Resources,
    #[serde(default, skip_serializing_if = "is_default")]
    tasks: Cow<'a, BTreeMap<String, AllocatedTask>>,
    #[serde(default, skip_serializing_if = "is_default")]
    ports: Cow<'a, [AllocatedPort]>,
    #[serde(default, skip_serializing_if = "is_default")]
    desired: DesiredStatus,
    #[serde(default, skip_serializing_if = "is_default")]
    desired_description: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "is_default")]
    transition: DesiredTransition,
    #[serde(default, skip_serializing_if = "is_default")]
    client_status: ClientStatus,
    #[serde(default, skip_serializing_if = "is_default")]
    client_description: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "is_default")]
    task_states: Cow<'a, BTreeMap<String, TaskState>>,
    #[serde(default, skip_serializing_if = "is_default")]
    deployment_id: Option<DeploymentId>,
    #[serde(default, skip_serializing_if = "is_default")]
    health: Option<AllocHealth>,
    #[serde(default, skip_serializing_if = "is_default")]
    canary: bool,
    #[serde(default, skip_serializing_if = "is_default")]
    previous: Option<AllocId>,
    #[serde(default, skip_serializing_if = "is_default")]
    next: Option<AllocId>,
    #[serde(default, skip_serializing_if = "is_default")]
    reschedules: Cow<'a, [RescheduleEvent]>,
    #[serde(default, skip_serializing_if = "is_default")]
    followup_eval: Option<EvalId>,
    #[serde(default, skip_serializing_if = "is_default")]
    states: Cow<'a, [AllocState]>,
    /// A row of the table of metrics.
    metric: u32,
    #[serde(default, skip_serializing_if = "is_default")]
    create_time: Timestamp,
    #[serde(default, skip_serializing_if = "is_default")]
    modify_time: Timestamp,
    #[serde(default, skip_serializing_if = "is_default")]
    create_index: u64,
    #[serde(default, skip_serializing_if = "is_default")]
    modify_index: u64,
    #[serde(default, skip_serializing_if = "is_default")]
    alloc_modify_index: u64,
}

impl<'a> Record<'a> {
    fn new(alloc: &'a Allocation, job: u32, metric: u32) -> Self {
        Self {
            id: alloc.id,
            eval_id: alloc.eval_id,
            node_id: alloc.node_id,
            node_name: Cow::Borrowed(&alloc.node_name),
            job,
            group: Cow::Borrowed(&alloc.group),
            index: alloc.index,
            resources: alloc.resources,
            tasks: Cow::Borrowed(&alloc.tasks),
            ports: Cow::Borrowed(&alloc.ports),
            desired: alloc.desired,
            desired_description: Cow::Borrowed(&alloc.desired_description),
            transition: alloc.transition,
            client_status: alloc.client_status,
            client_description: Cow::Borrowed(&alloc.client_description),
            task_states: Cow::Borrowed(&alloc.task_states),
            deployment_id: alloc.deployment_id,
            health: alloc.health,
            canary: alloc.canary,
            previous: alloc.previous,
            next: alloc.next,
            reschedules: Cow::Borrowed(&alloc.reschedules),
            followup_eval: alloc.followup_eval,
            states: Cow::Borrowed(&alloc.states),
            metric,
            create_time: alloc.create_time,
            modify_time: alloc.modify_time,
            create_index: alloc.create_index,
            modify_index: alloc.modify_index,
            alloc_modify_index: alloc.alloc_modify_index,
        }
    }

    fn into_allocation(
        self,
        job: Arc<Job>,
        metric: Arc<AllocMetric>,
        names: &mut BTreeSet<Arc<str>>,
    ) -> Allocation {
        Allocation {
            id: self.id,
            eval_id: self.eval_id,
            node_id: self.node_id,
            node_name: intern(names, &self.node_name),
            job,
            group: intern(names, &self.group),
            index: self.index,
            resources: self.resources,
            tasks: self.tasks.into_owned(),
            ports: self.ports.into_owned(),
            desired: self.desired,
            desired_description: self.desired_description.into_owned(),
            transition: self.transition,
            client_status: self.client_status,
            client_description: self.client_description.into_owned(),
            task_states: self.task_states.into_owned(),
            deployment_id: self.deployment_id,
            health: self.health,
            canary: self.canary,
            previous: self.previous,
            next: self.next,
            reschedules: self.reschedules.into_owned(),
            followup_eval: self.followup_eval,
            states: self.states.into_owned(),
            metric,
            create_time: self.create_time,
            modify_time: self.modify_time,
            create_index: self.create_index,
            modify_index: self.modify_index,
            alloc_modify_index: self.alloc_modify_index,
        }
    }
}

/// A table under construction: each `Arc` gets one row, in the order of first use.
struct Rows<'a, T: Clone> {
    rows: Vec<Cow<'a, T>>,
    /// Row by address. Only looked up, never walked, so addresses do not reach the output.
    known: BTreeMap<*const T, u32>,
}

impl<T: Clone> Default for Rows<'_, T> {
    fn default() -> Self {
        Self { rows: Vec::new(), known: BTreeMap::new() }
    }
}

impl<'a, T: Clone> Rows<'a, T> {
    fn row_of(&mut self, value: &'a Arc<T>) -> u32 {
        *self.known.entry(Arc::as_ptr(value)).or_insert_with(|| {
            self.rows.push(Cow::Borrowed(&**value));
            u32::try_from(self.rows.len() - 1).expect("a list in memory has fewer than 2^32 rows")
        })
    }
}

fn row<T, E: serde::de::Error>(what: &str, rows: &[Arc<T>], at: u32) -> Result<Arc<T>, E> {
    let found = usize::try_from(at).ok().and_then(|at| rows.get(at));
    found.cloned().ok_or_else(|| E::custom(format_args!("there is no {what} {at}")))
}

fn share<T: Clone>(value: Cow<'_, T>) -> Arc<T> {
    Arc::new(value.into_owned())
}

/// Names repeat in long lists, so that each is kept once.
fn intern(names: &mut BTreeSet<Arc<str>>, name: &str) -> Arc<str> {
    if let Some(known) = names.get(name) {
        return Arc::clone(known);
    }
    let new: Arc<str> = Arc::from(name);
    names.insert(Arc::clone(&new));
    new
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
