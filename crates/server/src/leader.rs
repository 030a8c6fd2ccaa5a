//! What the leader does besides leading: one task that feeds [`Duties`] and carries out what they
//! decide.
//!
//! It learns of changes from the events of its own state, and starts workers and errands, which
//! propose and report back. It never waits for a proposal itself.
//!
//! # Invariants
//!
//! - Duties begin after a barrier, so that they see everything that was ever committed.
//! - No timer lies between a change and the reaction to it.

use std::sync::Arc;
use std::time::Duration;

use cos_model::EvalId;
use cos_platform::Fate;
use cos_state::Command;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::duties::{Duties, Effect, Settings, Sight, Subject};
use crate::metrics;
use crate::publish::Batch;
use crate::shared::{Shared, new_id};
use crate::wire::Liveness;
use crate::work::Verdict;

mod errands;
mod worker;

/// How many reports of workers and errands may wait.
const REPORTS_MAX: usize = 1024;

/// The wait before a server that leads without a quorum looks again.
const BARRIER_WAIT: Duration = Duration::from_millis(100);

/// The shortest time between two measurements of the queues.
const MEASURE_EVERY: Duration = Duration::from_secs(1);

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
    let consensus = metrics.clone();
    let still_leads = || {
        let now = consensus.borrow();
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
    let mut office = Office::begin(shared, report);
    while still_leads() {
        office.act();
        let look_at = tokio::time::Instant::now() + office.next_look();
        // Each arm may be dropped: events, reports and liveness stay in their channels.
        tokio::select! {
            batch = events.recv() => match batch {
                Ok(batch) if !batch.is_reset => office.take_batch(&batch),
                Ok(_) => office.start_over(),
                Err(RecvError::Lagged(_)) => {
                    events = shared.published.follow();
                    office.restore();
                }
                Err(RecvError::Closed) => break,
            },
            Some(report) = reports.recv() => office.take_report(report),
            Some(liveness) = liveness.recv() => office.take_liveness(&liveness),
            changed = peers.changed() => match changed {
                Ok(()) => office.duties.members_changed(),
                Err(_) => break,
            },
            changed = metrics.changed() => if changed.is_err() { break },
            () = tokio::time::sleep_until(look_at) => {}
            () = stop.cancelled() => break,
        }
    }
    office.end.cancel();
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

/// What workers and errands report.
#[derive(Clone, Copy, Debug)]
enum Report {
    Worked(EvalId, Verdict),
    Ran(Subject),
}

/// The duties of one term and what carries them out.
struct Office {
    shared: Arc<Shared>,
    duties: Duties,
    report: mpsc::Sender<Report>,
    /// Cancelled when the term ends.
    end: CancellationToken,
    /// When, by the monotonic clock, is measured next.
    measure_at: Duration,
}

impl Office {
    fn begin(shared: &Arc<Shared>, report: mpsc::Sender<Report>) -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let settings = Settings {
            workers: if shared.config.workers == 0 { processors } else { shared.config.workers },
            heartbeats: shared.config.timing.heartbeats,
            gc_interval: shared.config.timing.gc_interval,
            gc: shared.config.gc,
        };
        Self {
            duties: see(shared, |sight| Duties::begin(settings, sight)),
            shared: Arc::clone(shared),
            report,
            end: CancellationToken::new(),
            measure_at: Duration::ZERO,
        }
    }

    fn start_over(&mut self) {
        see(&self.shared, |sight| self.duties.start_over(sight));
    }

    fn restore(&mut self) {
        see(&self.shared, |sight| self.duties.restore(sight));
    }

    /// Starts all that can be started now.
    fn act(&mut self) {
        for effect in see(&self.shared, |sight| self.duties.act(sight)) {
            match effect {
                Effect::Work(eval) => self.start_worker(eval),
                Effect::Errand(subject, commands) => self.run_errand(subject, commands),
                Effect::Propose(command) => self.spawn_proposal(*command),
                Effect::Members => self.look_at_members(),
            }
        }
        self.measure();
    }

    fn take_report(&mut self, report: Report) {
        match report {
            Report::Ran(subject) => self.duties.ran(subject),
            Report::Worked(id, verdict) => {
                see(&self.shared, |sight| self.duties.worked(id, verdict, sight));
            }
        }
    }

    fn take_batch(&mut self, batch: &Batch) {
        see(&self.shared, |sight| self.duties.happened(batch.index, &batch.events, sight));
    }

    fn take_liveness(&mut self, liveness: &Liveness) {
        see(&self.shared, |sight| {
            for id in &liveness.heard {
                self.duties.heard(*id, sight);
            }
            for id in &liveness.closed {
                self.duties.closed(*id, sight);
            }
            for id in &liveness.leaving {
                self.duties.leaving(*id, sight);
            }
        });
    }

    fn next_look(&self) -> Duration {
        see(&self.shared, |sight| self.duties.next_look(sight))
    }

    fn start_worker(&self, eval: Arc<cos_model::Evaluation>) {
        let (shared, report) = (Arc::clone(&self.shared), self.report.clone());
        let end = self.end.clone();
        self.shared.tasks.spawn("scheduler worker", Fate::Ends, async move {
            let told = ReportOnDrop { report: Some(report), id: eval.id };
            // Dropping the work half done is safe: the next leader does it again.
            let verdict = tokio::select! {
                verdict = Box::pin(worker::work(&shared, eval)) => verdict,
                () = end.cancelled() => Verdict::Again,
            };
            told.tell(verdict).await;
        });
    }

    /// Proposes commands in order and reports when they are done.
    fn run_errand(&self, subject: Subject, commands: Vec<Command>) {
        let (shared, report) = (Arc::clone(&self.shared), self.report.clone());
        self.shared.tasks.spawn("leader's errand", Fate::Ends, async move {
            errands::propose_all(&shared, subject, commands).await;
            let _ = report.send(Report::Ran(subject)).await;
        });
    }

    fn spawn_proposal(&self, command: Command) {
        let shared = Arc::clone(&self.shared);
        self.shared.tasks.spawn("leader's proposal", Fate::Ends, async move {
            if let Err(error) = shared.propose_as_leader(command).await {
                // The next leader finds the same to do in the state.
                tracing::debug!(%error, "proposal of the leader not done");
            }
        });
    }

    fn look_at_members(&mut self) {
        let Some(errand) = errands::members(&self.shared) else {
            return self.duties.ran(Subject::Members);
        };
        let report = self.report.clone();
        self.shared.tasks.spawn("membership", Fate::Ends, async move {
            errand.await;
            let _ = report.send(Report::Ran(Subject::Members)).await;
        });
    }

    fn measure(&mut self) {
        let now = self.shared.clock.monotonic();
        if now < self.measure_at {
            return;
        }
        self.measure_at = now + MEASURE_EVERY;
        let counts = self.duties.queued();
        for (name, value) in [
            (metrics::BROKER_READY, counts.ready),
            (metrics::BROKER_UNACKED, counts.outstanding),
            (metrics::BROKER_PENDING, counts.held),
            (metrics::BROKER_WAITING, counts.delayed),
            (metrics::BLOCKED, self.duties.blocked()),
            (metrics::HEARTBEATS_ACTIVE, self.duties.expected()),
        ] {
            ::metrics::gauge!(name).set(f64::from(u32::try_from(value).unwrap_or(u32::MAX)));
        }
    }
}

/// Calls something pure with what there is to see now.
fn see<T>(shared: &Shared, call: impl FnOnce(&mut Sight<'_>) -> T) -> T {
    let state = shared.published.state();
    call(&mut Sight {
        state: &state,
        date: shared.now(),
        clock: shared.clock.monotonic(),
        ids: &mut new_id,
    })
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
