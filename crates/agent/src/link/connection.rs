//! Keeps a session with one of the servers going, whichever answers.

use std::sync::Arc;
use std::time::Duration;

use cos_model::Node;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::session::{self, Ended, Session};
use super::{ChangeRequest, LinkError, Published, Shared};

/// The wait after all servers were tried once…
const BACKOFF_MIN: Duration = Duration::from_millis(100);
/// …which doubles up to this.
const BACKOFF_MAX: Duration = Duration::from_secs(3);

/// Runs until it is told to stop.
pub(super) async fn run(
    shared: Arc<Shared>,
    published: Published,
    node: watch::Receiver<Arc<Node>>,
    mut requests: mpsc::Receiver<ChangeRequest>,
    stop: CancellationToken,
) {
    let mut backoff = BACKOFF_MIN;
    let mut turn = 0;
    while !stop.is_cancelled() {
        let candidates = candidates(&shared, &published);
        let address = candidates.get(turn % candidates.len().max(1));
        if let Some(address) = address {
            let session =
                Session::new(Arc::clone(&shared), &published, node.clone(), address.clone());
            let ended = session.run(&mut requests, &stop).await;
            published.connected.send_replace(false);
            match ended {
                Ended::AfterWelcome => {
                    tracing::warn!(%address, "connection to server lost");
                    backoff = BACKOFF_MIN;
                    // All agents of a server that died look for another one now.
                    tokio::select! {
                        () = stop.cancelled() => return,
                        () = tokio::time::sleep(session::spread(shared.spread())) => {}
                    }
                }
                Ended::Stopped => return,
                Ended::Before(why) => tracing::debug!(%address, %why, "server not available"),
                Ended::Refused(why) => {
                    tracing::error!(%address, %why, "server refused this node");
                    backoff = BACKOFF_MAX;
                }
            }
        }
        turn += 1;
        refuse_all(&mut requests);
        // The first round is made at once, so that the loss of one server costs no waiting.
        if turn % candidates.len().max(1) == 0 {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(backoff) => {}
            }
            backoff = (backoff * 2).min(BACKOFF_MAX);
        }
    }
}

/// The servers to try, those that servers named before those of the configuration.
fn candidates(shared: &Shared, published: &Published) -> Vec<String> {
    let mut list: Vec<String> = published.servers.borrow().iter().map(|s| s.rpc.clone()).collect();
    for address in &shared.first_servers {
        if !list.contains(address) {
            list.push(address.clone());
        }
    }
    list
}

fn refuse_all(requests: &mut mpsc::Receiver<ChangeRequest>) {
    while let Ok(request) = requests.try_recv() {
        // Whoever asked may have gone.
        drop(request.reply.send(Err(LinkError::Disconnected)));
    }
}
