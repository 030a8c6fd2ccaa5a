//! Questions to the tables. Each is answered from an index, in order, without a scan of the rest.

use std::collections::BTreeMap;
use std::sync::Arc;

use cos_model::catalog::Catalog;
use cos_model::kv::KvEntry;
use cos_model::session::{LockDelay, Session};
use cos_model::trust::Trust;
use cos_model::{
    AllocId, Allocation, Deployment, DeploymentId, EvalId, EvalStatus, Evaluation, Job, JobKey,
    Node, NodeId, SessionId,
};

use super::State;
use crate::autopilot::AutopilotConfig;
use crate::command::SchedulerConfig;
use crate::control_plane::Topic;

/// How many instances of one group are in which state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GroupSummary {
    /// Wait for room.
    pub queued: u32,
    /// Ended well.
    pub complete: u32,
    /// Ended badly.
    pub failed: u32,
    /// Run.
    pub running: u32,
    /// Placed and not running yet.
    pub starting: u32,
    /// Gone with their node.
    pub lost: u32,
    /// On a node that cannot be reached.
    pub unknown: u32,
}

impl State {
    /// The index of the last applied entry.
    pub fn index(&self) -> u64 {
        self.index
    }

    /// The rolling hash over everything applied.
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// The index at which a topic last changed; zero if it never did.
    pub fn topic_index(&self, topic: &Topic) -> u64 {
        let changed = match topic {
            Topic::Nodes => self.tables.nodes,
            Topic::Jobs => self.tables.jobs,
            Topic::Evals => self.tables.evals,
            Topic::Allocs => self.tables.allocs,
            Topic::Deployments => self.tables.deployments,
            Topic::Catalog => self.catalog.index(),
            Topic::Service(name) => self.catalog.service_index(name),
            Topic::Kv(prefix) => self.kv_index(prefix),
            Topic::Sessions => self.tables.sessions,
            Topic::SchedulerConfig => self.tables.scheduler_config,
            Topic::AutopilotConfig => self.tables.autopilot_config,
        };
        changed.max(self.floor)
    }

    /// The index of the last restore, at which everything changed; zero if there was none.
    pub fn floor(&self) -> u64 {
        self.floor
    }

    /// How the consensus group is looked after.
    pub fn autopilot_config(&self) -> &AutopilotConfig {
        &self.autopilot_config
    }

    /// One node.
    pub fn node(&self, id: NodeId) -> Option<&Arc<Node>> {
        self.nodes.get(&id)
    }

    /// All nodes, by id.
    pub fn nodes(&self) -> impl Iterator<Item = &Arc<Node>> {
        self.nodes.values()
    }

    /// How many nodes there are.
    pub fn node_count(&self) -> usize {
        self.nodes.len()
    }

    /// The current version of a job.
    pub fn job(&self, key: &JobKey) -> Option<&Arc<Job>> {
        self.jobs.get(key)
    }

    /// All jobs, by namespace and id.
    pub fn jobs(&self) -> impl Iterator<Item = &Arc<Job>> {
        self.jobs.values()
    }

    /// The kept versions of a job as they were registered, oldest first, the current one included.
    /// Only the one that [`State::job`] returns has a status that is kept up.
    pub fn job_versions(&self, key: &JobKey) -> impl Iterator<Item = &Arc<Job>> {
        self.job_versions.range((key.clone(), 0)..=(key.clone(), u64::MAX)).map(|(_, job)| job)
    }

    /// One kept version of a job.
    pub fn job_version(&self, key: &JobKey, version: u64) -> Option<&Arc<Job>> {
        self.job_versions.get(&(key.clone(), version))
    }

    /// One evaluation.
    pub fn eval(&self, id: EvalId) -> Option<&Arc<Evaluation>> {
        self.evals.get(&id)
    }

    /// All evaluations, by id.
    pub fn evals(&self) -> impl Iterator<Item = &Arc<Evaluation>> {
        self.evals.values()
    }

    /// The evaluations of a job, by id.
    pub fn evals_of_job(&self, key: &JobKey) -> impl Iterator<Item = &Arc<Evaluation>> {
        let ends =
            (key.clone(), EvalId::from_bits(0))..=(key.clone(), EvalId::from_bits(u128::MAX));
        self.evals_by_job.range(ends).filter_map(|((_, id), ())| self.evals.get(id))
    }

    /// One allocation.
    pub fn alloc(&self, id: AllocId) -> Option<&Arc<Allocation>> {
        self.allocs.get(&id)
    }

    /// All allocations, by id.
    pub fn allocs(&self) -> impl Iterator<Item = &Arc<Allocation>> {
        self.allocs.values()
    }

    /// The allocations on a node, by id.
    pub fn allocs_on_node(&self, node: NodeId) -> impl Iterator<Item = &Arc<Allocation>> {
        let ends = (node, AllocId::from_bits(0))..=(node, AllocId::from_bits(u128::MAX));
        self.allocs_by_node.range(ends).filter_map(|((_, id), ())| self.allocs.get(id))
    }

    /// The allocations of a job, all versions, by id.
    pub fn allocs_of_job(&self, key: &JobKey) -> impl Iterator<Item = &Arc<Allocation>> {
        let ends =
            (key.clone(), AllocId::from_bits(0))..=(key.clone(), AllocId::from_bits(u128::MAX));
        self.allocs_by_job.range(ends).filter_map(|((_, id), ())| self.allocs.get(id))
    }

    /// The allocations that an evaluation placed or last changed, by id.
    pub fn allocs_of_eval(&self, eval: EvalId) -> impl Iterator<Item = &Arc<Allocation>> {
        let ends = (eval, AllocId::from_bits(0))..=(eval, AllocId::from_bits(u128::MAX));
        self.allocs_by_eval.range(ends).filter_map(|((_, id), ())| self.allocs.get(id))
    }

    /// One deployment.
    pub fn deployment(&self, id: DeploymentId) -> Option<&Arc<Deployment>> {
        self.deployments.get(&id)
    }

    /// All deployments, by id.
    pub fn deployments(&self) -> impl Iterator<Item = &Arc<Deployment>> {
        self.deployments.values()
    }

    /// The deployments of a job, by id.
    pub fn deployments_of_job(&self, key: &JobKey) -> impl Iterator<Item = &Arc<Deployment>> {
        let ends = (key.clone(), DeploymentId::from_bits(0))
            ..=(key.clone(), DeploymentId::from_bits(u128::MAX));
        self.deployments_by_job.range(ends).filter_map(|((_, id), ())| self.deployments.get(id))
    }

    /// The deployment of a job that began last.
    pub fn latest_deployment(&self, key: &JobKey) -> Option<&Arc<Deployment>> {
        self.deployments_of_job(key).max_by_key(|deployment| deployment.create_index)
    }

    /// The catalog.
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// One key.
    pub fn kv_get(&self, key: &str) -> Option<&Arc<KvEntry>> {
        self.kv.get(key)
    }

    /// The keys that begin so, in order.
    pub fn kv_list(&self, prefix: &str) -> impl Iterator<Item = &Arc<KvEntry>> + use<'_> {
        self.kv.list(prefix)
    }

    /// The index at which a key that begins so was last written or deleted. It may be later where
    /// old deletions are forgotten, and never goes back.
    pub fn kv_index(&self, prefix: &str) -> u64 {
        self.kv.last_change(prefix)
    }

    /// Who may become a member of the cluster.
    pub fn trust(&self) -> &Arc<Trust> {
        &self.trust
    }

    /// One session.
    pub fn session(&self, id: SessionId) -> Option<&Arc<Session>> {
        self.sessions.get(&id)
    }

    /// All sessions, by id.
    pub fn sessions(&self) -> impl Iterator<Item = &Arc<Session>> {
        self.sessions.values()
    }

    /// The sessions on a node of the catalog, by id.
    pub fn sessions_on_node(&self, node: &Arc<str>) -> impl Iterator<Item = &Arc<Session>> {
        let ends = (Arc::clone(node), SessionId::from_bits(0))
            ..=(Arc::clone(node), SessionId::from_bits(u128::MAX));
        self.sessions_by_node.range(ends).filter_map(|((_, id), ())| self.sessions.get(id))
    }

    /// The keys that a session holds, in order.
    pub fn keys_held_by(&self, session: SessionId) -> impl Iterator<Item = &Arc<str>> {
        self.kv.held_by(session)
    }

    /// The lock delays that last, each once for each of its keys.
    pub fn lock_delays(&self) -> impl Iterator<Item = LockDelay> {
        self.kv.delays()
    }

    /// How the scheduler works.
    pub fn scheduler_config(&self) -> &SchedulerConfig {
        &self.scheduler_config
    }

    /// Counts a job's instances by group and state. A group of the current version always appears.
    pub fn job_summary(&self, key: &JobKey) -> BTreeMap<Arc<str>, GroupSummary> {
        let mut summary: BTreeMap<Arc<str>, GroupSummary> = BTreeMap::new();
        if let Some(job) = self.job(key) {
            for group in &job.groups {
                summary.insert(Arc::from(group.name.as_str()), GroupSummary::default());
            }
        }
        for (group, counts) in self.tallies.get(key).iter().flat_map(|tally| &tally.groups) {
            summary.insert(Arc::clone(group), *counts);
        }
        let newest = self
            .evals_of_job(key)
            .filter(|eval| matches!(eval.status, EvalStatus::Blocked))
            .max_by_key(|eval| eval.modify_index);
        for (group, queued) in newest.map(|eval| &eval.queued).into_iter().flatten() {
            summary.entry(Arc::from(group.as_str())).or_default().queued = *queued;
        }
        summary
    }
}
