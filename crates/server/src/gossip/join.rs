//! Finding the first others: announcing oneself to addresses that an operator names.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::Gossip;

/// How long an announced member may take to show up.
const ANSWER_WAIT: Duration = Duration::from_secs(2);

/// The first waits between rounds, short because servers of a cluster start together.
const FIRST_ROUND_WAIT: Duration = Duration::from_millis(200);

/// Where the waits stop growing during [`QUICK_ROUNDS`].
const QUICK_ROUND_WAIT: Duration = Duration::from_secs(1);

/// How many rounds are quick.
const QUICK_ROUNDS: u32 = 60;

/// Announces this server to `addresses` (`host:port`) and returns how many of them answered.
pub(crate) async fn join(gossip: &Gossip, addresses: &[String]) -> usize {
    let targets = announce(gossip, addresses).await;
    let mut peers = gossip.watch();
    let answered = |peers: &super::Peers| {
        targets
            .iter()
            .filter(|names| {
                names.iter().any(|at| peers.iter().any(|p| p.is_alive() && p.address == *at))
            })
            .count()
    };
    let all = targets.len();
    drop(tokio::time::timeout(ANSWER_WAIT, peers.wait_for(|peers| answered(peers) == all)).await);
    answered(&gossip.peers())
}

/// Announces this server to `addresses` until somebody else is known, and again whenever nobody is.
pub(crate) async fn retry_join(
    gossip: Gossip,
    addresses: Vec<String>,
    interval: Duration,
    stop: CancellationToken,
) {
    let mut peers = gossip.watch();
    let mut rounds = 0_u32;
    loop {
        let is_alone = !peers
            .borrow_and_update()
            .iter()
            .any(|peer| peer.is_alive() && peer.address != gossip.address());
        if is_alone {
            announce(&gossip, &addresses).await;
            rounds = rounds.saturating_add(1);
        }
        let wait = if rounds > QUICK_ROUNDS {
            interval
        } else {
            QUICK_ROUND_WAIT.min(FIRST_ROUND_WAIT * rounds.max(1))
        };
        // Each arm may be dropped: nothing is lost but a wait.
        tokio::select! {
            () = tokio::time::sleep(wait), if is_alone => {}
            changed = peers.changed(), if !is_alone => if changed.is_err() { return },
            () = stop.cancelled() => return,
        }
    }
}

/// Sends one announcement per address and returns what each name stood for.
async fn announce(gossip: &Gossip, addresses: &[String]) -> Vec<BTreeSet<SocketAddr>> {
    let mut targets = Vec::new();
    for address in addresses {
        let resolved: BTreeSet<SocketAddr> = match tokio::net::lookup_host(address.as_str()).await {
            Ok(found) => found.collect(),
            Err(error) => {
                tracing::debug!(address, %error, "gossip address not resolved");
                BTreeSet::new()
            }
        };
        for to in resolved.iter().filter(|to| **to != gossip.address()) {
            gossip.announce(*to).await;
        }
        targets.push(resolved);
    }
    targets
}
