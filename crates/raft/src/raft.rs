//! One server's part in consensus.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use bytes::Bytes;
use cos_model::ServerId;
use cos_platform::{Disk, Fate, Tasks};
use openraft::async_runtime::WatchReceiver;
use openraft::errors::{
    ClientWriteError, Fatal, ForwardToLeader, LinearizableReadError, RaftError,
};
use openraft::{RaftMetrics, ReadPolicy, ServerState};
use tokio::sync::{Mutex, watch};
use tokio::time::{Instant, Sleep, sleep, sleep_until};
use tokio_util::time::FutureExt as _;

pub use incoming::HandleError;
pub use members::{MembershipError, TransferError};

use crate::campaign::Campaign;
use crate::config::{self, Config};
use crate::log::{Layout, Log};
use crate::machine::{Applier, StateMachine};
use crate::metrics::{Contact, Metrics};
use crate::network::{Network, Transport};
use crate::recovery;
use crate::snapshot::Snapshots;
use crate::store::Store;
use crate::types::{Engine, LogId, Payload, Types};

mod incoming;
mod members;
mod suspicion;

/// The largest payload of a proposal. It fits into a message with room to spare.
pub const PROPOSAL_BYTES_MAX: usize = 32 * 1024 * 1024;

/// How long a leader that was just elected may need until it takes proposals.
const WARM_UP: Duration = Duration::from_secs(2);

/// How often the indexes in the metrics are brought up to date while entries come.
const INDEXES_EVERY: Duration = Duration::from_millis(10);

/// How often within its lease a leader asks itself whether it has lost the majority.
const LEASE_LOOKS: u32 = 4;

/// One server's part in consensus. Clones are handles to the same.
#[derive(Clone)]
pub struct Raft {
    inner: Arc<Inner>,
}

struct Inner {
    id: ServerId,
    engine: Engine,
    log: Log,
    progress: watch::Receiver<u64>,
    metrics: watch::Receiver<Metrics>,
    assembly: Mutex<Option<incoming::Assembly>>,
    campaign: Arc<Campaign>,
    /// How many messages of a leader have arrived.
    heard: AtomicU64,
    tasks: Tasks,
}

/// Why consensus cannot start on this server.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The directory cannot be used.
    #[error("cannot open {path}")]
    Directory {
        /// Which directory.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The log is unusable; the message says where and what helps.
    #[error("the raft log cannot be opened: {0}")]
    Log(String),
    /// The snapshots are unusable; the message says what helps.
    #[error("the raft snapshots cannot be used: {0}")]
    Snapshot(String),
    /// The group cannot be made what an operator says that is left of it.
    #[error("the consensus group cannot be recovered: {0}")]
    Recovery(String),
    /// The timings contradict each other.
    #[error("the raft timings are impossible: {0}")]
    Timings(String),
    /// The state could not be rebuilt.
    #[error("raft cannot start: {0}")]
    Engine(String),
}

/// Why a proposal has no reply.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// It was not accepted and will never take effect; try the leader, if one is known.
    #[error("not the leader")]
    NotLeader {
        /// The leader and its address.
        leader: Option<(ServerId, String)>,
    },
    /// The leader changed while it was under way: it may or may not take effect.
    #[error("the leader changed, the outcome is unknown")]
    Unknown {
        /// The leader and its address.
        leader: Option<(ServerId, String)>,
    },
    /// It is larger than [`PROPOSAL_BYTES_MAX`].
    #[error("a proposal of {0} bytes is too large")]
    TooLarge(usize),
    /// This server takes part no more; the outcome is unknown.
    #[error("raft has stopped: {0}")]
    Stopped(String),
}

/// Why a barrier cannot be passed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BarrierError {
    /// Only the leader can tell; try it, if one is known.
    #[error("not the leader")]
    NotLeader {
        /// The leader and its address.
        leader: Option<(ServerId, String)>,
    },
    /// The leader does not reach a majority at the moment.
    #[error("no majority answers")]
    NoQuorum,
    /// This server takes part no more.
    #[error("raft has stopped: {0}")]
    Stopped(String),
}

/// Why a wait ended without what was waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WaitError {
    /// The time is up.
    #[error("not applied in time")]
    Timeout,
    /// This server takes part no more.
    #[error("raft has stopped")]
    Stopped,
}

impl std::fmt::Debug for Raft {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Raft").field("id", &self.inner.id).finish_non_exhaustive()
    }
}

impl Raft {
    /// Recovers what is on disk and starts to take part.
    ///
    /// The machine is at the latest snapshot then, plus what was known to be committed.
    pub async fn start(
        config: Config,
        machine: Box<dyn StateMachine>,
        transport: Arc<dyn Transport>,
    ) -> Result<Self, StartError> {
        let open = |name: &str| -> Result<Arc<dyn Disk>, StartError> {
            let path = config.data_dir.join(name);
            cos_platform::disk::open(&path).map_err(|source| StartError::Directory {
                path: path.display().to_string(),
                source,
            })
        };
        let disks = Disks { log: open("log")?, snapshots: open("snapshots")? };
        Self::start_on(disks, Layout::default(), config, machine, transport).await
    }

    pub(crate) async fn start_on(
        disks: Disks,
        layout: Layout,
        config: Config,
        machine: Box<dyn StateMachine>,
        transport: Arc<dyn Transport>,
    ) -> Result<Self, StartError> {
        let engine_config = config::engine(&config);
        let engine_config =
            engine_config.validate().map_err(|error| StartError::Timings(error.to_string()))?;
        let (id, snapshots) = (config.id, Snapshots::new(disks.snapshots));
        let checked = snapshots.clone();
        let open = move || -> Result<Log, StartError> {
            let log =
                Log::open(disks.log, id, layout).map_err(|error| StartError::Log(chain(&error)))?;
            checked.check(log.purged()).map_err(|error| StartError::Snapshot(chain(&error)))?;
            Ok(log)
        };
        let log = tokio::task::spawn_blocking(open)
            .await
            .map_err(|error| StartError::Engine(error.to_string()))??;
        if let Some(wanted) = &config.recover {
            recovery::apply(&log, id, wanted).await.map_err(StartError::Recovery)?;
        }
        let (progress_sender, progress) = watch::channel(0);
        let applier = Applier::new(machine, snapshots, progress_sender);
        let campaign = Arc::new(Campaign::default());
        let network = Network::new(id, transport, Arc::clone(&campaign));
        let store = Store::new(log.clone());
        let engine = Engine::new(id, Arc::new(engine_config), network, store, applier)
            .await
            .map_err(|error| StartError::Engine(error.to_string()))?;
        let (metrics_sender, metrics) =
            watch::channel(Metrics::of(&engine.metrics().borrow_watched()));
        let tasks = Tasks::new();
        let lease = config.timings.election_max;
        tasks.spawn("raft metrics", Fate::Ends, forward(engine.clone(), metrics_sender, lease));
        let assembly = Mutex::new(None);
        let heard = AtomicU64::new(0);
        let inner = Inner { id, engine, log, progress, metrics, assembly, campaign, heard, tasks };
        let raft = Self { inner: Arc::new(inner) };
        raft.begin(&config.address).await?;
        Ok(raft)
    }

    /// A server that is the only voter needs nobody's silence to stand for election.
    async fn begin(&self, address: &str) -> Result<(), StartError> {
        let metrics = self.inner.metrics.borrow().clone();
        if let Some(known) = metrics.address(self.inner.id).filter(|known| *known != address) {
            tracing::warn!(known, address, "other servers know this one by another address");
        }
        if metrics.voters.len() == 1 && metrics.voters.contains_key(&self.inner.id) {
            let elected = self.inner.engine.trigger().elect(false).await;
            elected.map_err(|error| StartError::Engine(error.to_string()))?;
        }
        Ok(())
    }

    /// Who this server is.
    pub fn id(&self) -> ServerId {
        self.inner.id
    }

    /// Proposes a payload and waits until it is committed and applied here. Returns its index
    /// and the reply of the state machine.
    pub async fn propose(&self, payload: Bytes) -> Result<(u64, Bytes), ProposeError> {
        if payload.len() > PROPOSAL_BYTES_MAX {
            return Err(ProposeError::TooLarge(payload.len()));
        }
        let mut patience = Patience::new(self.metrics());
        loop {
            patience.look();
            let written = self.inner.engine.client_write(Payload(payload.clone())).await;
            match written.map_err(propose_error) {
                Ok(written) => return Ok((written.log_id.index(), written.data)),
                Err(ProposeError::NotLeader { .. }) if patience.is_worth_it().await => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Confirms with a majority that this server leads and returns an index: whoever has applied
    /// up to there sees everything that was acknowledged before this call.
    pub async fn barrier(&self) -> Result<u64, BarrierError> {
        let mut patience = Patience::new(self.metrics());
        loop {
            patience.look();
            let read = self.inner.engine.get_read_linearizer(ReadPolicy::ReadIndex).await;
            match read.map_err(barrier_error) {
                Ok(read) => return Ok(read.read_log_id().index()),
                Err(BarrierError::NotLeader { .. }) if patience.is_worth_it().await => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Waits until the state machine here has seen entry `index`.
    pub async fn wait_applied(&self, index: u64, timeout: Duration) -> Result<(), WaitError> {
        let mut progress = self.inner.progress.clone();
        let reached = progress.wait_for(|applied| *applied > index).timeout(timeout).await;
        match reached {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_closed)) => Err(WaitError::Stopped),
            Err(_elapsed) => Err(WaitError::Timeout),
        }
    }

    /// The state of consensus here, as it changes from this call on.
    pub fn metrics(&self) -> watch::Receiver<Metrics> {
        let mut metrics = self.inner.metrics.clone();
        // A clone has seen what the original has, which is nothing: it would find a change at once.
        metrics.mark_unchanged();
        metrics
    }

    /// On the leader: how long ago it heard of others, now.
    pub fn contact(&self) -> Contact {
        Contact::of(&self.inner.engine.metrics().borrow_watched())
    }

    /// Waits until this server can take part no more, for instance because its disk failed, and
    /// says why. The process must end then: what is on disk is only known after a restart.
    pub async fn failed(&self) -> String {
        let mut metrics = self.metrics();
        match metrics.wait_for(|metrics| metrics.failure.is_some()).await {
            Ok(metrics) => metrics.failure.clone().unwrap_or_default(),
            Err(_closed) => "raft has stopped".to_owned(),
        }
    }

    /// Stops to take part. Everything that was acknowledged is on disk.
    pub async fn shutdown(&self) {
        if let Err(error) = self.inner.engine.shutdown().await {
            tracing::warn!(%error, "raft did not stop cleanly");
        }
        self.inner.log.stop().await;
        self.inner.tasks.stop();
    }
}

/// Says whether to repeat what was refused although this server knows that it leads: right after
/// an election the engine does not take up all of its work yet. What was refused leaves no trace,
/// so that a repeat is harmless.
struct Patience {
    metrics: watch::Receiver<Metrics>,
    end: Option<Pin<Box<Sleep>>>,
}

impl Patience {
    fn new(metrics: watch::Receiver<Metrics>) -> Self {
        Self { metrics, end: None }
    }

    /// Begins an attempt: whatever changes from now on is a reason for the next one.
    fn look(&mut self) {
        self.metrics.mark_unchanged();
    }

    /// Waits for a change. `false` if this server does not lead or has had time enough.
    async fn is_worth_it(&mut self) -> bool {
        if !self.metrics.borrow().is_leader {
            return false;
        }
        let end = self.end.get_or_insert_with(|| Box::pin(sleep(WARM_UP)));
        // Losing the leadership and having its first entry committed both show here.
        tokio::select! {
            changed = self.metrics.changed() => changed.is_ok(),
            () = end => false,
        }
    }
}

/// Where log and snapshots are.
#[derive(Clone, Debug)]
pub(crate) struct Disks {
    pub(crate) log: Arc<dyn Disk>,
    pub(crate) snapshots: Arc<dyn Disk>,
}

/// Keeps our metrics in step with the engine's.
///
/// A leader that no majority has answered for as long as its `lease` may have a successor that it
/// does not know of. The engine takes no proposals then; here it is no leader at all.
///
/// That entries come and go is told now and then; what else changes, at once.
async fn forward(engine: Engine, sender: watch::Sender<Metrics>, lease: Duration) {
    let mut source = engine.metrics();
    drop(engine);
    let (mut known, mut tell_at) = (None, Instant::now());
    loop {
        let is_news = {
            let seen = source.borrow_and_update();
            let what_matters = Some(Shape::of(&seen));
            let is_news = what_matters != known;
            known = what_matters;
            is_news
        };
        if !is_news && Instant::now() < tell_at {
            // Either arm may be dropped: all is looked at anew.
            tokio::select! {
                changed = source.changed() => if changed.is_err() { return },
                () = sleep_until(tell_at) => {}
            }
            continue;
        }
        tell_at = Instant::now() + INDEXES_EVERY;
        let (now, was_told_to) = {
            let seen = source.borrow_and_update();
            let mut now = Metrics::of(&seen);
            let is_alone = Contact::of(&seen).quorum.is_some_and(|since| since > lease);
            if now.is_leader && is_alone && now.voters.len() > 1 {
                now.step_down();
            }
            (now, matches!(seen.running_state, Err(Fatal::Stopped)))
        };
        let may_lose_quorum = now.is_leader;
        announce(&sender.borrow(), &now, was_told_to);
        sender.send_if_modified(|metrics| {
            let changed = *metrics != now;
            *metrics = now;
            changed
        });
        // Either arm may be dropped: all is looked at anew.
        tokio::select! {
            changed = source.changed() => if changed.is_err() { return },
            () = sleep(lease / LEASE_LOOKS), if may_lose_quorum => {}
        }
    }
}

/// What others wait for in the engine's metrics, as opposed to how far entries are.
#[derive(PartialEq)]
struct Shape {
    term: u64,
    leader: Option<ServerId>,
    state: ServerState,
    membership: Option<LogId>,
    /// Whether an entry of this term is known to be committed, from which on a leader can do all
    /// of its work.
    has_begun: bool,
    has_failed: bool,
}

impl Shape {
    fn of(source: &RaftMetrics<Types>) -> Self {
        Self {
            term: source.current_term,
            leader: source.current_leader,
            state: source.state,
            membership: *source.membership_config.log_id(),
            has_begun: source
                .local_committed
                .is_some_and(|last| last.committed_leader_id().term == source.current_term),
            has_failed: source.running_state.is_err(),
        }
    }
}

/// Logs what an operator wants to know of the change.
fn announce(before: &Metrics, now: &Metrics, was_told_to: bool) {
    if before.leader != now.leader {
        if let Some((id, address)) = &now.leader {
            tracing::info!(%id, address, term = now.term, "raft has a leader");
        } else {
            tracing::warn!(term = now.term, "raft has no leader");
        }
    }
    if before.voters != now.voters {
        tracing::info!(voters = ?now.voters, "the raft group has changed");
    }
    if let Some(failure) = now.failure.as_ref().filter(|_| before.failure.is_none()) {
        if was_told_to {
            tracing::info!("raft has stopped");
        } else {
            tracing::error!(failure, "raft has stopped");
        }
    }
}

fn leader(forward: ForwardToLeader<Types>) -> Option<(ServerId, String)> {
    Some((forward.leader_id?, forward.leader_node?.addr))
}

fn propose_error(error: RaftError<Types, ClientWriteError<Types>>) -> ProposeError {
    match error {
        RaftError::APIError(ClientWriteError::ForwardToLeader(forward)) => {
            ProposeError::NotLeader { leader: leader(forward) }
        }
        RaftError::APIError(ClientWriteError::LogEntryDiscarded(forward)) => {
            ProposeError::Unknown { leader: leader(forward) }
        }
        RaftError::APIError(error) => ProposeError::Stopped(error.to_string()),
        RaftError::Fatal(fatal) => ProposeError::Stopped(reason(&fatal)),
    }
}

fn barrier_error(error: RaftError<Types, LinearizableReadError<Types>>) -> BarrierError {
    match error {
        RaftError::APIError(LinearizableReadError::ForwardToLeader(forward)) => {
            BarrierError::NotLeader { leader: leader(forward) }
        }
        RaftError::APIError(LinearizableReadError::QuorumNotEnough(_)) => BarrierError::NoQuorum,
        RaftError::Fatal(fatal) => BarrierError::Stopped(reason(&fatal)),
    }
}

fn reason(fatal: &Fatal<Types>) -> String {
    fatal.to_string()
}

/// An error with all its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
