//! Health checks of everything on one node: instances that the agent registered for its tasks and
//! those that registered themselves.
//!
//! The catalog is the only source: every check on this node that carries a definition is run here.
//! So a restarted agent goes on where the last one stopped, and a server without a client part runs
//! the checks of what registered with it.
//!
//! # Invariants
//!
//! - **Level, not edge.** What is reported is compared with the catalog again and again until both
//!   agree; a lost report is repeated.
//! - **Quiet.** A change of status is reported at once, a change of the words alone only every
//!   [`OUTPUT_EVERY`].
//!
//! # Deliberately absent
//!
//! - Restart of tasks whose checks stay bad. The allocation's runner listens to
//!   [`Runner::subscribe`] and decides.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use cos_model::catalog::{Catalog, CatalogChange, Health};
use cos_platform::{Clock, Fate, Tasks};
use tokio::sync::{broadcast, mpsc, oneshot, watch};

mod ledger;
mod probe;
mod runner;

/// How often a change of nothing but the words is reported.
pub const OUTPUT_EVERY: Duration = Duration::from_mins(5);

/// How many results wait for a slow listener before it misses some.
const RESULTS_MAX: usize = 1024;

/// How many requests wait for the runner.
const REQUESTS_MAX: usize = 64;

/// Where changes of the catalog go.
#[async_trait]
pub trait CatalogSink: Debug + Send + Sync + 'static {
    /// Commits changes in order. Returns, by position, those that were refused and why.
    async fn change(&self, changes: Vec<CatalogChange>) -> Result<BTreeMap<u32, String>, String>;
}

/// Where scripts of checks run.
#[async_trait]
pub trait ScriptHost: Debug + Send + Sync + 'static {
    /// Runs a program where `target` (`allocation/task`) runs, or on the machine if it is empty.
    /// Returns its exit code and what it wrote.
    async fn run(
        &self,
        target: &str,
        args: &[String],
        timeout: Duration,
    ) -> Result<(i32, String), String>;
}

/// A script host that refuses, for agents without tasks.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoScripts;

#[async_trait]
impl ScriptHost for NoScripts {
    async fn run(&self, _: &str, _: &[String], _: Duration) -> Result<(i32, String), String> {
        Err("script checks are not run by this agent".to_owned())
    }
}

/// What a runner needs.
#[derive(Debug)]
pub struct Options {
    /// The node whose checks are run.
    pub node: Arc<str>,
    /// The catalog.
    pub catalog: watch::Receiver<Arc<Catalog>>,
    /// Where changes go.
    pub sink: Arc<dyn CatalogSink>,
    /// Where scripts run.
    pub scripts: Arc<dyn ScriptHost>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
}

/// One result of a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ran {
    /// The check's id.
    pub id: Arc<str>,
    /// What this run said.
    pub result: Health,
    /// Where the check stands, thresholds considered.
    pub status: Health,
}

/// Why a TTL check could not be updated, in the words of Consul.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TtlError {
    /// There is no such check on this node.
    #[error("Unknown check ID {0:?}. Ensure that the check ID is passed, not the check name.")]
    Unknown(String),
    /// The check asks by itself.
    #[error("CheckID {0:?} does not have associated TTL")]
    NotTtl(String),
    /// The runner has stopped.
    #[error("the agent is stopping")]
    Stopping,
}

/// A handle to the running checks of one node.
#[derive(Clone, Debug)]
pub struct Runner {
    requests: mpsc::Sender<Request>,
    results: broadcast::Sender<Ran>,
}

/// What others ask of the runner.
#[derive(Debug)]
pub(crate) enum Request {
    /// A TTL check reports.
    Ttl {
        /// The check.
        id: String,
        /// How it stands.
        status: Health,
        /// What it says.
        output: String,
        /// Where the answer goes.
        reply: oneshot::Sender<Result<(), TtlError>>,
    },
}

impl Runner {
    /// Starts to run the checks of a node.
    pub fn start(options: Options, tasks: &Tasks) -> Self {
        let (requests, inbox) = mpsc::channel(REQUESTS_MAX);
        let (results, _) = broadcast::channel(RESULTS_MAX);
        let work = runner::run(options, inbox, results.clone(), tasks.clone());
        tasks.spawn("health checks", Fate::Vital, work);
        Self { requests, results }
    }

    /// Reports for a TTL check. The answer comes once it is decided what goes to the catalog, which
    /// follows at once.
    pub async fn update_ttl(&self, id: &str, status: Health, output: &str) -> Result<(), TtlError> {
        let (reply, answer) = oneshot::channel();
        let request = Request::Ttl { id: id.to_owned(), status, output: output.to_owned(), reply };
        if self.requests.send(request).await.is_err() {
            return Err(TtlError::Stopping);
        }
        answer.await.unwrap_or(Err(TtlError::Stopping))
    }

    /// Listens to results as they come.
    pub fn subscribe(&self) -> broadcast::Receiver<Ran> {
        self.results.subscribe()
    }
}
