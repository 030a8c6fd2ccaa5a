//! The only writers of the tables that have indexes: whoever puts or takes a row through these
//! cannot leave an index behind.
//!
//! # Invariants
//!
//! - Each index holds exactly the rows of its table, and each tally the sum over a job's rows.
//! - An allocation keeps its node and its job for life, and an evaluation its job; `apply` lets
//!   nothing through that would change them.
//!
//! # Deliberately absent
//!
//! - Indexes of change and events. `apply` sets both.

use std::sync::Arc;

use cos_model::session::Session;
use cos_model::{
    AllocId, Allocation, Deployment, DeploymentId, EvalId, Evaluation, Job, JobKey, SessionId,
};

use super::State;
use super::tally::Tally;

impl State {
    /// Puts an allocation in place of the one with its id, if there is one.
    pub(super) fn insert_alloc(&mut self, alloc: &Arc<Allocation>) {
        let key = alloc.job_key().clone();
        let old = self.allocs.insert(alloc.id, Arc::clone(alloc));
        match &old {
            None => {
                self.allocs_by_node.insert((alloc.node_id, alloc.id), ());
                self.allocs_by_job.insert((key.clone(), alloc.id), ());
                self.allocs_by_eval.insert((alloc.eval_id, alloc.id), ());
            }
            Some(old) if old.eval_id != alloc.eval_id => {
                self.allocs_by_eval.remove(&(old.eval_id, old.id));
                self.allocs_by_eval.insert((alloc.eval_id, alloc.id), ());
            }
            Some(_) => {}
        }
        self.count(&key, |tally| {
            if let Some(old) = &old {
                tally.remove_alloc(old);
            }
            tally.add_alloc(alloc);
        });
    }

    /// Takes an allocation out.
    pub(super) fn remove_alloc(&mut self, id: AllocId) -> Option<Arc<Allocation>> {
        let old = self.allocs.remove(&id)?;
        self.allocs_by_node.remove(&(old.node_id, id));
        self.allocs_by_job.remove(&(old.job_key().clone(), id));
        self.allocs_by_eval.remove(&(old.eval_id, id));
        self.count(old.job_key(), |tally| tally.remove_alloc(&old));
        Some(old)
    }

    /// Puts an evaluation in place of the one with its id, if there is one.
    pub(super) fn insert_eval(&mut self, eval: &Arc<Evaluation>) {
        let old = self.evals.insert(eval.id, Arc::clone(eval));
        if old.is_none() {
            self.evals_by_job.insert((eval.job.clone(), eval.id), ());
        }
        self.count(&eval.job, |tally| {
            if let Some(old) = &old {
                tally.remove_eval(old);
            }
            tally.add_eval(eval);
        });
    }

    /// Takes an evaluation out.
    pub(super) fn remove_eval(&mut self, id: EvalId) -> Option<Arc<Evaluation>> {
        let old = self.evals.remove(&id)?;
        self.evals_by_job.remove(&(old.job.clone(), id));
        self.count(&old.job, |tally| tally.remove_eval(&old));
        Some(old)
    }

    /// Puts a deployment that is not there yet.
    pub(super) fn insert_deployment(&mut self, deployment: Arc<Deployment>) {
        self.deployments_by_job.insert((deployment.job.clone(), deployment.id), ());
        self.deployments.insert(deployment.id, deployment);
    }

    /// Takes a deployment out.
    pub(super) fn remove_deployment(&mut self, id: DeploymentId) -> Option<Arc<Deployment>> {
        let old = self.deployments.remove(&id)?;
        self.deployments_by_job.remove(&(old.job.clone(), id));
        Some(old)
    }

    /// Puts a job version that is not there yet; it is the current one from now on.
    pub(super) fn insert_version(&mut self, job: Arc<Job>) {
        self.job_versions.insert((job.key.clone(), job.version), Arc::clone(&job));
        self.jobs.insert(job.key.clone(), job);
    }

    /// Takes a job out with its history.
    pub(super) fn remove_job(&mut self, key: &JobKey) -> Option<Arc<Job>> {
        let old = self.jobs.remove(key)?;
        let versions: Vec<u64> = self.job_versions(key).map(|job| job.version).collect();
        for version in versions {
            self.job_versions.remove(&(key.clone(), version));
        }
        Some(old)
    }

    /// Puts a session in place of the one with its id, which is on the same node.
    pub(super) fn insert_session(&mut self, session: Arc<Session>) {
        self.sessions_by_node.insert((Arc::clone(&session.node), session.id), ());
        self.sessions.insert(session.id, session);
    }

    /// Takes a session out.
    pub(super) fn remove_session(&mut self, id: SessionId) -> Option<Arc<Session>> {
        let old = self.sessions.remove(&id)?;
        self.sessions_by_node.remove(&(Arc::clone(&old.node), id));
        Some(old)
    }

    /// What is counted of a job.
    pub(super) fn tally(&self, key: &JobKey) -> Tally {
        self.tallies.get(key).map_or_else(Tally::default, |tally| Tally::clone(tally))
    }

    /// Returns the key as the tables have it, so that equal names share memory.
    pub(super) fn shared_key(&self, key: &JobKey) -> JobKey {
        let job = self.jobs.get(key).map(|job| &job.key);
        job.or_else(|| self.tallies.get_key_value(key).map(|(key, _)| key)).unwrap_or(key).clone()
    }

    fn count(&mut self, key: &JobKey, change: impl FnOnce(&mut Tally)) {
        let tally = Arc::make_mut(self.tallies.entry(key.clone()).or_default());
        change(tally);
        if tally.is_empty() {
            self.tallies.remove(key);
        }
    }
}
