//! The loop that keeps a prober per check going and tells the catalog what it does not know.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use cos_model::Timestamp;
use cos_model::catalog::{Catalog, CatalogChange, CheckDefinition, Health, Probe};
use cos_platform::{Fate, Tasks};
use tokio::sync::{broadcast, mpsc};
use tokio_util::sync::CancellationToken;

use super::ledger::{Ledger, Probing};
use super::probe::{Outcome, Prober};
use super::{CatalogSink, Options, Ran, Request};

/// How often time-outs are looked after.
const TICK: Duration = Duration::from_millis(500);

/// The shortest time between two runs of a check.
const INTERVAL_MIN: Duration = Duration::from_secs(1);

/// How many outcomes wait for the loop.
const OUTCOMES_MAX: usize = 256;

/// How many reports wait while one is being sent.
const REPORTS_MAX: usize = 64;

struct Loop {
    ledger: Ledger,
    probers: BTreeMap<Arc<str>, CancellationToken>,
    prober: Option<Prober>,
    options: Options,
    outcomes: mpsc::Sender<(Arc<str>, Outcome)>,
    results: broadcast::Sender<Ran>,
    tasks: Tasks,
}

/// Runs until the tasks are stopped.
pub(super) async fn run(
    options: Options,
    mut requests: mpsc::Receiver<Request>,
    results: broadcast::Sender<Ran>,
    tasks: Tasks,
) {
    let stop = tasks.stopping();
    let (outcomes, mut inbox) = mpsc::channel(OUTCOMES_MAX);
    let (reports, reporter) = mpsc::channel(REPORTS_MAX);
    tasks.spawn(
        "health reports",
        Fate::Vital,
        report(reporter, Arc::clone(&options.sink), stop.clone()),
    );
    let mut catalog = options.catalog.clone();
    let mut state = Loop {
        ledger: Ledger::new(Arc::clone(&options.node)),
        probers: BTreeMap::new(),
        prober: None,
        options,
        outcomes,
        results,
        tasks,
    };
    let mut tick = tokio::time::interval(TICK);
    catalog.mark_changed();
    loop {
        // Every arm may be cancelled: each waits for a queue, a level or the clock and takes nothing
        // before it is ready.
        tokio::select! {
            () = stop.cancelled() => return,
            changed = catalog.changed() => {
                if changed.is_err() {
                    return;
                }
            }
            Some(request) = requests.recv() => state.answer(request),
            Some((id, outcome)) = inbox.recv() => state.take(&id, outcome),
            _ = tick.tick() => {}
        }
        let now = state.now();
        let current = Arc::clone(&catalog.borrow_and_update());
        state.follow(&current, now);
        for id in state.ledger.expire(now) {
            state.announce(&id, Health::Critical, Health::Critical);
        }
        let changes = state.ledger.changes(&current, now);
        if !changes.is_empty() {
            // A report that finds no room is repeated by the ledger.
            drop(reports.try_send(changes));
        }
    }
}

impl Loop {
    fn now(&self) -> Timestamp {
        Timestamp(self.options.clock.unix_nanos())
    }

    fn answer(&mut self, request: Request) {
        let now = self.now();
        let Request::Ttl { id, status, output, reply } = request;
        let answer = self.ledger.report_ttl(&id, status, output, now);
        if answer.is_ok() {
            self.announce(&Arc::from(id), status, status);
        }
        // Whoever asked may have gone; the report counts all the same.
        drop(reply.send(answer));
    }

    fn take(&mut self, id: &Arc<str>, outcome: Outcome) {
        let result = outcome.health;
        let now = self.now();
        if let Some(status) = self.ledger.observe(id, result, outcome.output, now) {
            self.announce(id, result, status);
        }
    }

    fn announce(&self, id: &Arc<str>, result: Health, status: Health) {
        // No listener is no error.
        drop(self.results.send(Ran { id: Arc::clone(id), result, status }));
    }

    fn follow(&mut self, catalog: &Catalog, now: Timestamp) {
        for change in self.ledger.sync(catalog, now) {
            match change {
                Probing::Begin(id, definition) => self.begin(&id, definition),
                Probing::End(id) => {
                    if let Some(token) = self.probers.remove(&id) {
                        token.cancel();
                    }
                }
            }
        }
    }

    fn begin(&mut self, id: &Arc<str>, definition: CheckDefinition) {
        if let Some(old) = self.probers.remove(id) {
            old.cancel();
        }
        if matches!(definition.probe, Probe::Ttl(_)) {
            return;
        }
        let scripts = &self.options.scripts;
        let prober = self.prober.get_or_insert_with(|| Prober::new(Arc::clone(scripts))).clone();
        let token = self.tasks.stopping().child_token();
        self.probers.insert(Arc::clone(id), token.clone());
        let work = probe_again(Arc::clone(id), definition, prober, self.outcomes.clone());
        self.tasks.spawn("health check", Fate::Ends, async move {
            // The check may be given up at any moment: a run leaves nothing behind.
            tokio::select! {
                () = token.cancelled() => {}
                () = work => {}
            }
        });
    }
}

async fn probe_again(
    id: Arc<str>,
    definition: CheckDefinition,
    prober: Prober,
    outcomes: mpsc::Sender<(Arc<str>, Outcome)>,
) {
    let mut due = tokio::time::interval(definition.interval.max(INTERVAL_MIN));
    due.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        due.tick().await;
        let Some(outcome) = prober.ask(&definition.probe, definition.timeout).await else { return };
        if outcomes.send((Arc::clone(&id), outcome)).await.is_err() {
            return;
        }
    }
}

/// Sends what waits, one request at a time; what comes meanwhile goes with the next.
async fn report(
    mut waiting: mpsc::Receiver<Vec<CatalogChange>>,
    sink: Arc<dyn CatalogSink>,
    stop: CancellationToken,
) {
    loop {
        // Waiting for the queue may be cancelled.
        let mut batch = tokio::select! {
            () = stop.cancelled() => return,
            batch = waiting.recv() => match batch {
                Some(batch) => batch,
                None => return,
            },
        };
        while let Ok(more) = waiting.try_recv() {
            batch.extend(more);
        }
        // A failed report is repeated by the ledger, which compares with the catalog.
        if let Err(why) = sink.change(batch).await {
            tracing::debug!(%why, "health report not taken");
        }
    }
}
