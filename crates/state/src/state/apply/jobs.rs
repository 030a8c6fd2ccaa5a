//! Jobs: registering, stopping, versions.
//!
//! # Invariants
//!
//! - The version of a job grows by one with each registration that changes what was asked for, a
//!   stop included, and stays otherwise.
//! - At most [`VERSIONS_MAX`] versions are kept, the current one always, and the last stable one as
//!   long as there is no newer stable one.
//!
//! # Deliberately absent
//!
//! - Whether a job makes sense. Edges and `jobspec` validate; here is only checked what depends on
//!   what is already registered.

use std::sync::Arc;

use cos_model::{Evaluation, Job, JobKey, JobStatus};

use super::Step;
use crate::command::{Refused, Reply};
use crate::event::Event;

/// How many versions of a job are kept.
const VERSIONS_MAX: usize = 6;

impl Step<'_> {
    pub(super) fn register_job(
        &mut self,
        job: &Job,
        expected_index: Option<u64>,
        eval: Option<&Evaluation>,
    ) -> Result<Reply, Refused> {
        if self.state.scheduler_config.reject_job_registration {
            return Err(Refused::Invalid(
                "job registration, dispatch, and scale are disabled by the scheduler configuration"
                    .to_owned(),
            ));
        }
        let existing = self.state.jobs.get(&job.key).map(|job| &**job);
        if let Some(expected) = expected_index {
            check_index(existing, expected)?;
        }
        if let Some(existing) = existing {
            check_transition(existing, job)?;
        }
        let job = self.put_version(Job { stop: false, ..job.clone() });
        self.put_eval_of_job(eval, job.job_modify_index);
        Ok(reply(&job))
    }

    pub(super) fn stop_job(
        &mut self,
        key: &JobKey,
        purge: bool,
        eval: Option<&Evaluation>,
    ) -> Result<Reply, Refused> {
        let job = self.state.jobs.get(key).cloned().ok_or_else(|| not_found(key))?;
        if purge {
            self.remove_job(key);
            self.put_eval_of_job(eval, self.index);
            return Ok(Reply::Job { job_modify_index: self.index, version: job.version });
        }
        let stopped = self.put_version(Job { stop: true, ..Job::clone(&job) });
        self.put_eval_of_job(eval, stopped.job_modify_index);
        Ok(reply(&stopped))
    }

    pub(super) fn set_job_stability(
        &mut self,
        key: &JobKey,
        version: u64,
        stable: bool,
    ) -> Result<Reply, Refused> {
        if self.state.job_version(key, version).is_none() {
            let what = format!("version {version} of job \"{}\"", key.id);
            return Err(Refused::NotFound(what));
        }
        self.mark_stability(key, version, stable);
        Ok(Reply::Done)
    }

    /// Says whether a kept version is stable. A version that is not kept needs no mark.
    pub(super) fn mark_stability(&mut self, key: &JobKey, version: u64, stable: bool) {
        let row = (key.clone(), version);
        let Some(kept) = self.state.job_versions.get(&row).filter(|job| job.stable != stable)
        else {
            return;
        };
        let marked =
            |job: &Arc<Job>| Arc::new(Job { stable, modify_index: self.index, ..Job::clone(job) });
        let kept = marked(kept);
        let current = self.state.jobs.get(key).filter(|job| job.version == version).map(marked);
        self.state.job_versions.insert(row, kept);
        if let Some(current) = current {
            self.state.jobs.insert(key.clone(), current);
        }
        self.state.tables.jobs = self.index;
        self.events.push(Event::JobChanged(key.clone()));
    }

    /// Makes `request` the current version of its job, unless it already is. Returns the current
    /// version.
    pub(super) fn put_version(&mut self, request: Job) -> Arc<Job> {
        let existing = self.state.jobs.get(&request.key).map(Arc::clone);
        if let Some(existing) = existing.as_ref().filter(|existing| existing.same_request(&request))
        {
            return Arc::clone(existing);
        }
        let existing = existing.as_deref();
        let job = Arc::new(Job {
            key: self.state.shared_key(&request.key),
            stable: false,
            status: existing.map_or(JobStatus::Pending, |existing| existing.status),
            version: existing.map_or(0, |existing| existing.version + 1),
            submit_time: self.at,
            create_index: existing.map_or(self.index, |existing| existing.create_index),
            modify_index: self.index,
            job_modify_index: self.index,
            ..request
        });
        self.state.insert_version(Arc::clone(&job));
        self.drop_old_versions(&job.key);
        self.state.tables.jobs = self.index;
        self.events.push(Event::JobChanged(job.key.clone()));
        self.touch(&job.key);
        job
    }

    /// Removes a job with its history.
    pub(super) fn remove_job(&mut self, key: &JobKey) {
        if self.state.remove_job(key).is_some() {
            self.state.tables.jobs = self.index;
            self.events.push(Event::JobRemoved(key.clone()));
        }
    }

    fn drop_old_versions(&mut self, key: &JobKey) {
        let mut versions: Vec<(u64, bool)> =
            self.state.job_versions(key).map(|job| (job.version, job.stable)).collect();
        let surplus = versions.len().saturating_sub(VERSIONS_MAX);
        // The version to come back to takes the place of the oldest that would be kept.
        if let Some(stable) = versions.iter().rposition(|(_, stable)| *stable)
            && stable < surplus
        {
            versions.swap(stable, surplus);
        }
        for (version, _) in versions.drain(..surplus) {
            self.state.job_versions.remove(&(key.clone(), version));
        }
    }
}

/// Refuses what the caller did not expect, in the words that clients match on.
fn check_index(existing: Option<&Job>, expected: u64) -> Result<(), Refused> {
    let found = match existing.map(|job| job.job_modify_index) {
        None if expected == 0 => return Ok(()),
        None => "job does not exist".to_owned(),
        Some(_) if expected == 0 => "job already exists".to_owned(),
        Some(index) if index == expected => return Ok(()),
        Some(index) => format!("job exists with conflicting job modify index: {index}"),
    };
    Err(Refused::IndexMismatch { expected, found })
}

/// Refuses to make another kind of job of one that exists.
fn check_transition(existing: &Job, job: &Job) -> Result<(), Refused> {
    if existing.kind != job.kind {
        let (from, to) = (existing.kind.name(), job.kind.name());
        return Err(Refused::Invalid(format!(
            "cannot update job from type \"{from}\" to \"{to}\""
        )));
    }
    let is_parameterized = |job: &Job| job.extras.contains_key("ParameterizedJob");
    let traits = [
        ("periodic", existing.periodic.is_some(), job.periodic.is_some()),
        ("parameterized", is_parameterized(existing), is_parameterized(job)),
    ];
    for (name, before, after) in traits {
        let message = match (before, after) {
            (true, false) => format!("cannot update {name} job to being non-{name}"),
            (false, true) => format!("cannot update non-{name} job to being {name}"),
            _ => continue,
        };
        return Err(Refused::Invalid(message));
    }
    Ok(())
}

fn reply(job: &Job) -> Reply {
    Reply::Job { job_modify_index: job.job_modify_index, version: job.version }
}

fn not_found(key: &JobKey) -> Refused {
    Refused::NotFound(format!("job \"{}\" in namespace \"{}\"", key.id, key.namespace))
}
