//! The state as one piece of bytes: a version byte, a checksum, then `MessagePack` with field
//! names.
//!
//! # Invariants
//!
//! - What is read equals what was written, indexes included; the rolling hash goes on from there.
//! - A changed byte is found before anything is read from it.
//! - What is shared in memory is written once and shared again when it is read: a job by all its
//!   allocations, a job's names by everything that refers to it.
//!
//! # Deliberately absent
//!
//! - Indexes. They are made anew, so that they cannot disagree with the tables.

use std::collections::BTreeMap;
use std::sync::Arc;

use cos_model::catalog::Catalog;
use cos_model::session::Session;
use cos_model::trust::Trust;
use cos_model::{Allocation, Deployment, Evaluation, Job, JobKey, Node, stored};
use serde::{Deserialize, Serialize};

use super::apply::Restoring;
use super::kv_table::{KvTable, StoredKv};
use super::proposers::{Proposers, StoredProposer};
use super::{State, TableIndexes};
use crate::autopilot::AutopilotConfig;
use crate::codec::{self, DecodeError};
use crate::command::SchedulerConfig;
use crate::digest::Digest;

/// The tables as they are written.
#[derive(Serialize, Deserialize)]
struct Image {
    index: u64,
    hash: u64,
    nodes: Vec<Arc<Node>>,
    jobs: Vec<Arc<Job>>,
    job_versions: Vec<Arc<Job>>,
    evals: Vec<Arc<Evaluation>>,
    #[serde(with = "stored")]
    allocs: Vec<Arc<Allocation>>,
    deployments: Vec<Arc<Deployment>>,
    catalog: Catalog,
    kv: StoredKv,
    #[serde(default)]
    sessions: Vec<Arc<Session>>,
    scheduler_config: SchedulerConfig,
    // Below: absent in what the first versions wrote.
    #[serde(default)]
    base: u64,
    #[serde(default)]
    floor: u64,
    #[serde(default)]
    autopilot_config: AutopilotConfig,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    restoring: Option<Restoring>,
    #[serde(default)]
    proposers: Vec<StoredProposer>,
    #[serde(default)]
    trust: Arc<Trust>,
    tables: TableIndexes,
}

impl Image {
    /// The format that a program has to know to read this without losing anything.
    fn format(&self) -> u8 {
        let is_first = self.sessions.is_empty()
            && self.kv.has_no_delays()
            && self.base == 0
            && self.autopilot_config == AutopilotConfig::default()
            && self.restoring.is_none()
            && self.proposers.is_empty()
            && *self.trust == Trust::default();
        if is_first { codec::FIRST_FORMAT } else { codec::FORMAT }
    }
}

impl State {
    /// Writes the whole state. Takes long; call it on a clone, away from the applying of commands.
    pub fn encode_snapshot(&self) -> Vec<u8> {
        let image = self.image();
        codec::seal(image.format(), &image)
    }

    /// A digest of what is in the tables, however it came there: equal for a state and what was
    /// restored from a snapshot of it. Takes as long as writing a snapshot.
    pub fn content_hash(&self) -> u64 {
        let image = Image {
            index: 0,
            base: 0,
            floor: 0,
            hash: 0,
            restoring: None,
            proposers: Vec::new(),
            // A restore leaves membership to the cluster that it is done in.
            trust: Arc::default(),
            tables: TableIndexes::default(),
            catalog: Catalog::default(),
            ..self.image()
        };
        let mut digest = Digest::new(0);
        digest.bytes(&codec::seal(codec::FORMAT, &image));
        // Its indexes are raised by a restore; what is in it stays.
        for node in self.catalog.nodes() {
            digest.bytes(&codec::seal(codec::FORMAT, node));
        }
        for service in self.catalog.services() {
            digest.bytes(&codec::seal(codec::FORMAT, service));
        }
        for check in self.catalog.checks() {
            digest.bytes(&codec::seal(codec::FORMAT, check));
        }
        digest.finish()
    }

    fn image(&self) -> Image {
        Image {
            index: self.index,
            hash: self.hash,
            nodes: self.nodes.values().cloned().collect(),
            jobs: self.jobs.values().cloned().collect(),
            job_versions: self.job_versions.values().cloned().collect(),
            evals: self.evals.values().cloned().collect(),
            allocs: self.allocs.values().cloned().collect(),
            deployments: self.deployments.values().cloned().collect(),
            catalog: self.catalog.clone(),
            kv: self.kv.to_stored(),
            sessions: self.sessions.values().cloned().collect(),
            scheduler_config: self.scheduler_config.clone(),
            base: self.base,
            floor: self.floor,
            autopilot_config: self.autopilot_config.clone(),
            restoring: self.restoring.clone(),
            proposers: self.proposers.to_stored(),
            trust: Arc::clone(&self.trust),
            tables: self.tables,
        }
    }

    /// Reads a state that [`State::encode_snapshot`] wrote.
    pub fn decode_snapshot(bytes: &[u8]) -> Result<Self, DecodeError> {
        codec::unseal::<Image>(bytes).map(Self::from)
    }
}

impl From<Image> for State {
    fn from(image: Image) -> Self {
        let mut state = Self {
            index: image.index,
            hash: image.hash,
            nodes: image.nodes.into_iter().map(|node| (node.id, node)).collect(),
            catalog: image.catalog,
            kv: KvTable::from_stored(image.kv),
            scheduler_config: image.scheduler_config,
            base: image.base,
            floor: image.floor,
            autopilot_config: image.autopilot_config,
            restoring: image.restoring,
            proposers: Proposers::from_stored(image.proposers),
            trust: image.trust,
            tables: image.tables,
            ..Self::default()
        };
        for session in image.sessions {
            state.insert_session(session);
        }
        let mut shared = Shared::default();
        for job in image.job_versions.into_iter().map(|job| shared.job(job)) {
            state.job_versions.insert((job.key.clone(), job.version), job);
        }
        for job in image.jobs.into_iter().map(|job| shared.job(job)) {
            state.jobs.insert(job.key.clone(), job);
        }
        for alloc in image.allocs {
            state.insert_alloc(&shared.alloc(alloc));
        }
        for eval in image.evals {
            let job = shared.key(&eval.job);
            state.insert_eval(&Arc::new(Evaluation { job, ..Arc::unwrap_or_clone(eval) }));
        }
        for deployment in image.deployments {
            let job = shared.key(&deployment.job);
            let deployment = Deployment { job, ..Arc::unwrap_or_clone(deployment) };
            state.insert_deployment(Arc::new(deployment));
        }
        state
    }
}

/// What was read so far and can be shared by what is read next.
#[derive(Default)]
struct Shared {
    /// The jobs that were read, by key. All versions of one job share its key.
    jobs: BTreeMap<JobKey, Vec<Arc<Job>>>,
    /// For each job as allocations were read with it, by address: that job, which keeps the
    /// address taken, and the equal one above.
    rows: BTreeMap<*const Job, (Arc<Job>, Arc<Job>)>,
}

impl Shared {
    /// Returns the equal job that is known, or makes this one known.
    fn job(&mut self, job: Arc<Job>) -> Arc<Job> {
        let known = self.jobs.entry(job.key.clone()).or_default();
        if let Some(equal) = known.iter().find(|known| ***known == *job) {
            return Arc::clone(equal);
        }
        let key = known.first().map_or_else(|| job.key.clone(), |first| first.key.clone());
        let job = Arc::new(Job { key, ..Arc::unwrap_or_clone(job) });
        known.push(Arc::clone(&job));
        job
    }

    /// Returns the key of the job that is known by it, or the key itself.
    fn key(&self, key: &JobKey) -> JobKey {
        self.jobs.get_key_value(key).map_or_else(|| key.clone(), |(known, _)| known.clone())
    }

    /// Returns the allocation with a known job.
    fn alloc(&mut self, alloc: Arc<Allocation>) -> Arc<Allocation> {
        let row = Arc::as_ptr(&alloc.job);
        let job = if let Some((_, job)) = self.rows.get(&row) {
            Arc::clone(job)
        } else {
            let job = self.job(Arc::clone(&alloc.job));
            self.rows.insert(row, (Arc::clone(&alloc.job), Arc::clone(&job)));
            job
        };
        Arc::new(Allocation { job, ..Arc::unwrap_or_clone(alloc) })
    }
}
