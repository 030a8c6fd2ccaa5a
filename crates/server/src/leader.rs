//! What the leader does besides leading: one task that notices what has to be done and starts it.
//!
//! The task owns all pure state machines (queue, blocked, heartbeats). It learns of changes from the
//! events of its own state, asks the pure modules, and starts workers and errands, which propose
//! and report back. It never waits for a proposal itself.
//!
//! # Invariants
//!
//! - Duties begin after a barrier, so that they see everything that was ever committed.
//! - At most one errand per subject is under way; what changes meanwhile is looked at afterwards.
//! - No timer lies between a change and the reaction to it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use cos_model::{DeploymentId, EvalId, EvalStatus, Evaluation, NodeId, NodeStatus, Timestamp};
use cos_platform::Fate;
use cos_state::{Event, State};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::alarms::Alarms;
use crate::blocked::Blocked;
use crate::broker::{Broker, Nack};
use crate::heartbeat::Heartbeats;
use crate::metrics;
use crate::publish::Batch;
use crate::shared::Shared;
use crate::wire::Liveness;
use crate::{deployments, drain};

mod errands;
mod worker;

pub use worker::problem;

use worker::Verdict;

/// How many reports of workers and errands may wait.
const REPORTS_MAX: usize = 1024;

/// The wait before a server that leads without a quorum looks again.
const BARRIER_WAIT: Duration = Duration::from_millis(100);

/// How often plans that lost against others are tried again although no room appeared.
const CONFLICTS_EVERY: Duration = Duration::from_mins(1);

/// The shortest time between two measurements of the queues.
const MEASURE_EVERY: Duration = Duration::from_secs(1);

/// The longest time between two looks at everything that depends on time.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Does the leader's duties whenever this server leads, until it stops.
pub(crate) async fn run(shared: Arc<Shared>, mut liveness: mpsc::Receiver<Liveness>) {
    let stop = shared.tasks.stopping();
    let mut metrics = shared.raft.metrics();
    loop {
        let is_leader = metrics.borrow_and_update().is_leader;
        if is_leader {
            Box::pin(lead(&shared, &mut liveness, &stop)).await;
        }
        // Each arm may be dropped: nothing is lost but what only a leader needs.
        tokio::select! {
            changed = metrics.changed() => if changed.is_err() {
                // Consensus has ended; why, and whether the rest has to end, others look after.
                return stop.cancelled().await;
            },
            _not_for_us = liveness.recv() => {}
            () = stop.cancelled() => return,
        }
    }
}

/// Does the duties of one term.
async fn lead(
    shared: &Arc<Shared>,
    liveness: &mut mpsc::Receiver<Liveness>,
    stop: &CancellationToken,
) {
    let mut metrics = shared.raft.metrics();
    let term = metrics.borrow_and_update().term;
    let still_leads = || {
        let now = shared.raft.metrics().borrow().clone();
        now.is_leader && now.term == term
    };
    if !catch_up(shared, stop, still_leads).await {
        return;
    }
    tracing::info!(term, "leading");
    ::metrics::counter!(metrics::LEADER_GAINED).increment(1);
    let (report, mut reports) = mpsc::channel(REPORTS_MAX);
    let mut events = shared.published.follow();
    let mut peers = shared.gossip.watch();
    let mut duties = Duties::begin(shared, report);
    while still_leads() {
        duties.act();
        let look_at = tokio::time::Instant::now() + duties.next_look();
        // Each arm may be dropped: events, reports and liveness stay in their channels.
        tokio::select! {
            batch = events.recv() => match batch {
                Ok(batch) if !batch.is_reset => duties.take_batch(&batch),
                Ok(_) => duties.start_over(),
                Err(RecvError::Lagged(_)) => {
                    events = shared.published.follow();
                    duties.restore();
                }
                Err(RecvError::Closed) => break,
            },
            Some(report) = reports.recv() => duties.take_report(report),
            Some(liveness) = liveness.recv() => duties.take_liveness(&liveness),
            changed = peers.changed() => match changed {
                Ok(()) => duties.members_changed = true,
                Err(_) => break,
            },
            changed = metrics.changed() => if changed.is_err() { break },
            () = tokio::time::sleep_until(look_at) => {}
            () = stop.cancelled() => break,
        }
    }
    duties.end.cancel();
    tracing::info!(term, "no longer leading");
}

/// Waits until this server has applied all that was ever committed. Says whether it still leads.
async fn catch_up(
    shared: &Shared,
    stop: &CancellationToken,
    still_leads: impl Fn() -> bool,
) -> bool {
    while shared.barrier().await.is_err() {
        if stop.is_cancelled() || !still_leads() {
            return false;
        }
        tokio::time::sleep(BARRIER_WAIT).await;
    }
    still_leads()
}

/// Whom an errand is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Subject {
    Deployment(DeploymentId),
    Drains,
    Node(NodeId),
    Members,
    Garbage,
}

/// What workers and errands report.
#[derive(Clone, Copy, Debug)]
enum Report {
    Worked(EvalId, Verdict),
    Ran(Subject),
}

/// The leader's own state; nothing of it is worth keeping beyond the term.
struct Duties {
    shared: Arc<Shared>,
    report: mpsc::Sender<Report>,
    /// Cancelled when the term ends.
    end: CancellationToken,
    broker: Broker,
    blocked: Blocked,
    heartbeats: Heartbeats,
    workers: usize,
    working: usize,
    /// Errands under way.
    running: BTreeSet<Subject>,
    /// Deployments to look at.
    deployments: BTreeSet<DeploymentId>,
    /// When deployments have to be looked at although nothing happens.
    deadlines: Alarms<DeploymentId, Timestamp>,
    drains_changed: bool,
    /// Whether any node is being emptied.
    has_drains: bool,
    members_changed: bool,
    /// When, by the monotonic clock, garbage is collected next.
    collect_at: Duration,
    /// When, by the monotonic clock, conflicts are tried again.
    conflicts_at: Duration,
    /// When, by the monotonic clock, is measured next.
    measure_at: Duration,
    /// Index up to which events were taken.
    seen: u64,
}

impl Duties {
    fn begin(shared: &Arc<Shared>, report: mpsc::Sender<Report>) -> Self {
        let now = shared.clock.monotonic();
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let workers = if shared.config.workers == 0 { processors } else { shared.config.workers };
        let mut duties = Self {
            shared: Arc::clone(shared),
            report,
            end: CancellationToken::new(),
            broker: Broker::default(),
            blocked: Blocked::default(),
            heartbeats: Heartbeats::new(shared.config.timing.heartbeats),
            workers,
            working: 0,
            running: BTreeSet::new(),
            deployments: BTreeSet::new(),
            deadlines: Alarms::default(),
            drains_changed: true,
            has_drains: true,
            members_changed: true,
            collect_at: now + shared.config.timing.gc_interval,
            conflicts_at: now + CONFLICTS_EVERY,
            measure_at: now,
            seen: 0,
        };
        duties.restore();
        duties
    }

    /// Forgets what was noted of a state that another one has replaced.
    fn start_over(&mut self) {
        self.broker = Broker::default();
        self.blocked = Blocked::default();
        self.heartbeats = Heartbeats::new(self.shared.config.timing.heartbeats);
        self.deployments.clear();
        self.deadlines = Alarms::default();
        self.restore();
    }

    /// Takes everything from the state, as after an election.
    fn restore(&mut self) {
        let state = self.shared.published.state();
        let (now, monotonic) = (self.shared.now(), self.shared.clock.monotonic());
        for eval in state.evals().filter(|eval| !eval.is_terminal()) {
            // Whether a blocked one missed room cannot be known; one look settles it.
            self.broker.enqueue(eval, now);
        }
        self.heartbeats.resize(state.node_count());
        for node in state.nodes().filter(|node| node.status != NodeStatus::Down) {
            self.heartbeats.expect(node.id, monotonic);
        }
        self.deployments.extend(state.deployments().filter(|d| d.is_active()).map(|d| d.id));
        self.drains_changed = true;
        self.has_drains = drain::is_under_way(&state);
        self.members_changed = true;
        self.seen = state.index();
    }

    /// Starts all that can be started now.
    fn act(&mut self) {
        self.start_workers();
        self.look_at_deployments();
        self.look_at_drains();
        self.look_at_nodes();
        self.look_at_members();
        self.look_at_time();
        self.measure();
    }

    fn start_workers(&mut self) {
        while self.working < self.workers
            && let Some(eval) = self.broker.dequeue(self.shared.now())
        {
            self.working += 1;
            let (shared, report) = (Arc::clone(&self.shared), self.report.clone());
            let end = self.end.clone();
            self.shared.tasks.spawn("scheduler worker", Fate::Ends, async move {
                let told = ReportOnDrop { report: Some(report), id: eval.id };
                // Dropping the work half done is safe: the next leader does it again.
                let verdict = tokio::select! {
                    verdict = Box::pin(worker::work(&shared, &eval)) => verdict,
                    () = end.cancelled() => Verdict::Again,
                };
                told.tell(verdict).await;
            });
        }
    }

    fn take_report(&mut self, report: Report) {
        match report {
            Report::Ran(subject) => {
                self.running.remove(&subject);
            }
            Report::Worked(id, Verdict::Done) => {
                self.working -= 1;
                let surplus = self.broker.ack(id);
                self.cancel(&surplus, "overtaken by a newer evaluation of the job");
                self.reblock(id);
            }
            Report::Worked(id, Verdict::Again) => {
                self.working -= 1;
                if let Nack::GiveUp(eval) = self.broker.nack(id, self.shared.now()) {
                    self.give_up(&eval);
                }
            }
        }
    }

    /// One that stays blocked may be recorded as it was, which is no event.
    fn reblock(&mut self, id: EvalId) {
        let state = self.shared.published.state();
        if let Some(eval) = state.eval(id).filter(|eval| eval.status == EvalStatus::Blocked) {
            self.take_eval(&state, eval);
        }
    }

    fn take_batch(&mut self, batch: &Batch) {
        if batch.index <= self.seen {
            return;
        }
        self.seen = batch.index;
        let state = self.shared.published.state();
        for (index, event) in &batch.events {
            self.take_event(&state, *index, event);
        }
    }

    fn take_event(&mut self, state: &State, index: u64, event: &Event) {
        match event {
            Event::EvalChanged(eval) => self.take_eval(state, eval),
            Event::EvalRemoved(id) => {
                self.broker.remove(*id);
                self.blocked.remove(*id);
            }
            Event::NodeChanged(id) => self.take_node(state, index, *id),
            Event::NodeRemoved(id) => self.heartbeats.forget(*id),
            Event::AllocPlanned(alloc) => {
                self.deployments.extend(alloc.deployment_id);
                self.drains_changed |= self.has_drains;
            }
            Event::AllocReported(alloc) => {
                self.deployments.extend(alloc.deployment_id);
                // A replacement that runs lets the next one of its group move.
                self.drains_changed |= self.has_drains;
                if alloc.is_client_terminal() {
                    self.wake(state, index, alloc.node_id);
                }
            }
            Event::AllocRemoved { .. } => self.drains_changed |= self.has_drains,
            Event::DeploymentChanged(deployment) => {
                self.deployments.insert(deployment.id);
            }
            Event::DeploymentRemoved(id) => {
                self.deadlines.cancel(*id);
            }
            Event::CatalogChanged(_) => self.members_changed = true,
            Event::JobChanged(_)
            | Event::JobRemoved(_)
            | Event::KvChanged(_)
            | Event::SchedulerConfigChanged
            | Event::Restored => {}
            Event::AutopilotConfigChanged => self.members_changed = true,
        }
    }

    fn take_eval(&mut self, state: &State, eval: &Arc<Evaluation>) {
        let now = self.shared.now();
        self.broker.put(eval, now);
        if eval.status == EvalStatus::Blocked && self.broker.is_outstanding(eval.id) {
            // Its worker is about to say so; then it is looked at with the state of that moment.
            return;
        }
        let admission = self.blocked.put(state, eval);
        if let Some(woken) = admission.wake {
            self.broker.enqueue(&woken, now);
        }
        self.cancel(admission.cancel.as_slice(), "a newer one of the job is blocked");
    }

    fn take_node(&mut self, state: &State, index: u64, id: NodeId) {
        self.drains_changed = true;
        self.has_drains = drain::is_under_way(state);
        let Some(node) = state.node(id) else { return };
        if node.status == NodeStatus::Down {
            self.heartbeats.forget(id);
        } else {
            self.heartbeats.expect(id, self.shared.clock.monotonic());
        }
        if node.takes_work() {
            self.wake(state, index, id);
        }
    }

    /// Room appeared on a node.
    fn wake(&mut self, state: &State, index: u64, node: NodeId) {
        let Some(node) = state.node(node).filter(|node| node.takes_work()) else { return };
        let now = self.shared.now();
        for eval in self.blocked.wake(state, node, index) {
            self.broker.enqueue(&eval, now);
        }
    }

    fn take_liveness(&mut self, liveness: &Liveness) {
        let state = self.shared.published.state();
        let now = self.shared.clock.monotonic();
        self.heartbeats.resize(state.node_count());
        for id in liveness.heard.iter().copied() {
            match state.node(id).map(|node| node.status) {
                Some(NodeStatus::Ready) => self.heartbeats.heard(id, now),
                // It was given up and is there all the same.
                Some(NodeStatus::Down | NodeStatus::Initializing) => self.bring_up(id),
                None => {}
            }
        }
        for id in liveness.closed.iter().copied() {
            self.heartbeats.closed(id, now);
        }
        for id in liveness.leaving.iter().copied() {
            self.heartbeats.leaving(id, now);
        }
    }

    fn look_at_deployments(&mut self) {
        let (state, now) = (self.shared.published.state(), self.shared.now());
        self.deployments.extend(self.deadlines.take_due(now));
        let due: Vec<DeploymentId> = self
            .deployments
            .iter()
            .copied()
            .filter(|id| !self.running.contains(&Subject::Deployment(*id)))
            .collect();
        for id in due {
            self.deployments.remove(&id);
            self.deadlines.cancel(id);
            let Some(deployment) = state.deployment(id) else { continue };
            if let Some(at) = deployments::next_deadline(deployment).filter(|at| *at > now) {
                self.deadlines.set(id, at);
            }
            self.watch_deployment(&state, id, now);
        }
    }

    /// How long nothing has to be done unless something happens.
    fn next_look(&self) -> Duration {
        let (now, monotonic) = (self.shared.now(), self.shared.clock.monotonic());
        let by_date = [
            self.broker.next_due().filter(|_| self.working < self.workers),
            self.deadlines.next(),
            self.has_drains
                .then(|| drain::next_deadline(&self.shared.published.state(), now))
                .flatten(),
        ];
        let by_clock = [self.heartbeats.next_due(), Some(self.collect_at), Some(self.conflicts_at)];
        let dates = by_date.into_iter().flatten().map(|at| at.since(now));
        let clocks = by_clock.into_iter().flatten().map(|at| at.saturating_sub(monotonic));
        dates.chain(clocks).min().unwrap_or(LOOK_EVERY).clamp(Duration::from_millis(1), LOOK_EVERY)
    }

    fn measure(&mut self) {
        let now = self.shared.clock.monotonic();
        if now < self.measure_at {
            return;
        }
        self.measure_at = now + MEASURE_EVERY;
        let counts = self.broker.counts();
        let blocked = self.blocked.count();
        for (name, value) in [
            (metrics::BROKER_READY, counts.ready),
            (metrics::BROKER_UNACKED, counts.outstanding),
            (metrics::BROKER_PENDING, counts.held),
            (metrics::BROKER_WAITING, counts.delayed),
            (metrics::BLOCKED, blocked),
            (metrics::HEARTBEATS_ACTIVE, self.heartbeats.count()),
        ] {
            ::metrics::gauge!(name).set(f64::from(u32::try_from(value).unwrap_or(u32::MAX)));
        }
    }
}

/// Reports a worker's end even if the worker panics.
struct ReportOnDrop {
    report: Option<mpsc::Sender<Report>>,
    id: EvalId,
}

impl ReportOnDrop {
    async fn tell(mut self, verdict: Verdict) {
        if let Some(report) = self.report.take() {
            // The term may be over.
            let _ = report.send(Report::Worked(self.id, verdict)).await;
        }
    }
}

impl Drop for ReportOnDrop {
    fn drop(&mut self) {
        if let Some(report) = self.report.take() {
            let _ = report.try_send(Report::Worked(self.id, Verdict::Again));
        }
    }
}
