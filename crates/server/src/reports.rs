//! Proposes what agents report of their allocations.
//!
//! Everything that arrives while one proposal is under way goes into the next, over all streams, so
//! that a thousand agents cost as many log entries as the log can take, and one agent waits for one.
//!
//! # Invariants
//!
//! - Of several reports of one allocation the newest wins.
//! - A report is acknowledged after it was committed, never before.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use cos_model::AllocId;
use cos_model::link::AllocUpdate;
use cos_state::ProposeError;
use tokio::sync::{mpsc, oneshot};

use crate::dialogue;
use crate::shared::{Shared, new_id};

/// How many reports may wait for the proposer.
pub(crate) const REPORTS_MAX: usize = 4096;

/// The wait after a proposal that found no leader.
const RETRY_WAIT: Duration = Duration::from_millis(100);

/// A report that waits to be committed.
#[derive(Debug)]
pub(crate) struct Report {
    /// What an agent says.
    pub(crate) updates: Vec<AllocUpdate>,
    /// Told once it is committed.
    pub(crate) done: oneshot::Sender<()>,
}

/// Proposes reports until the server stops.
pub(crate) async fn run(shared: Arc<Shared>, mut reports: mpsc::Receiver<Report>) {
    let stop = shared.tasks.stopping();
    let mut merged: BTreeMap<AllocId, AllocUpdate> = BTreeMap::new();
    let mut waiting: Vec<oneshot::Sender<()>> = Vec::new();
    loop {
        if merged.is_empty() {
            // Either arm may be dropped: a report stays in the channel.
            tokio::select! {
                report = reports.recv() => match report {
                    Some(report) => take(report, &mut merged, &mut waiting),
                    None => return,
                },
                () = stop.cancelled() => return,
            }
        }
        while let Ok(report) = reports.try_recv() {
            take(report, &mut merged, &mut waiting);
        }
        let updates = merged.values().cloned().collect();
        let state = shared.published.state();
        let command = dialogue::reports(&state, updates, &mut new_id, shared.now());
        drop(state);
        match shared.propose(command).await {
            Ok(_) | Err(ProposeError::Refused(_)) => {
                merged.clear();
                for done in waiting.drain(..) {
                    // The agent may be gone.
                    let _ = done.send(());
                }
            }
            Err(error) => {
                tracing::debug!(%error, "reports of agents not committed yet");
                // Either arm may be dropped; what is merged is tried again.
                tokio::select! {
                    () = tokio::time::sleep(RETRY_WAIT) => {}
                    () = stop.cancelled() => return,
                }
            }
        }
    }
}

fn take(
    report: Report,
    merged: &mut BTreeMap<AllocId, AllocUpdate>,
    waiting: &mut Vec<oneshot::Sender<()>>,
) {
    merged.extend(report.updates.into_iter().map(|update| (update.id, update)));
    waiting.push(report.done);
}
