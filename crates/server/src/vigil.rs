//! Keeps a stream open to the leader, only to notice at once when it ends.
//!
//! When a process dies, its machine closes its connections at once, long before silence could be
//! told from a pause. What follows from a closed stream is a hint to consensus and no more
//! (ADR 0011).
//!
//! # Invariants
//!
//! - The follower dials, so that it knows whom it watches, by whatever proves the leader's name.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cos_model::ServerId;
use cos_platform::rpc::{Client, RpcError};
use cos_platform::tls::Protocol;
use tokio::sync::mpsc;

use crate::shared::Shared;
use crate::wire;

/// The wait before a leader that could not be watched is tried again.
const RETRY_WAIT: Duration = Duration::from_millis(100);

/// Watches whoever leads until the server stops.
pub(crate) async fn run(shared: Arc<Shared>) {
    // A connection of its own, which nobody else breaks or waits on.
    let client = Client::secured(shared.config.security.rpc(), Protocol::Servers);
    let stop = shared.tasks.stopping();
    let mut missed = None;
    loop {
        // Either arm may be dropped: nothing is lost but a stream that is opened again.
        tokio::select! {
            () = watch_one(&shared, &client, &mut missed) => {}
            () = stop.cancelled() => return,
        }
    }
}

/// Watches one leader until it is gone or another one leads. `missed` is the leader, with its term,
/// that could not be reached and is suspected for that already.
async fn watch_one(shared: &Shared, client: &Client, missed: &mut Option<(ServerId, u64)>) {
    let mut metrics = shared.raft.metrics();
    let Some((leader, address)) = shared.other_leader() else {
        if metrics.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
        return;
    };
    let (keep, mut ended) = match client.stream(&address, wire::LEADER_WATCH).await {
        Ok(stream) => stream,
        Err(error) => {
            // It may have died before it could be watched. One hint per term: who cannot reach a
            // leader that the others hear would go on disturbing them.
            let term = metrics.borrow().term;
            let is_gone = matches!(error, RpcError::Unreachable(_));
            if is_gone && missed.replace((leader, term)) != Some((leader, term)) {
                shared.raft.suspect(leader).await;
            }
            tokio::time::sleep(RETRY_WAIT).await;
            return;
        }
    };
    // Either arm may be dropped: the leader says nothing on this stream.
    tokio::select! {
        () = drain(&mut ended) => {
            drop(keep);
            if shared.other_leader().is_some_and(|(id, _)| id == leader) {
                shared.raft.suspect(leader).await;
            }
        }
        () = replaced(&mut metrics, leader) => {}
    }
}

/// Returns when the stream has ended.
async fn drain(stream: &mut mpsc::Receiver<Bytes>) {
    while stream.recv().await.is_some() {}
}

/// Returns when somebody else leads, or nobody.
async fn replaced(metrics: &mut tokio::sync::watch::Receiver<cos_raft::Metrics>, leader: ServerId) {
    let is_other =
        |now: &cos_raft::Metrics| now.leader.as_ref().is_none_or(|(id, _)| *id != leader);
    drop(metrics.wait_for(is_other).await);
}

/// The leader's end: keeps the stream open, and says nothing, until the follower lets go of it.
pub(crate) async fn be_watched(
    mut inbound: mpsc::Receiver<Bytes>,
    _open: mpsc::Sender<Bytes>,
) -> Result<(), RpcError> {
    drain(&mut inbound).await;
    Ok(())
}
