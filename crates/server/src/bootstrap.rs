//! How a first consensus group comes about.
//!
//! Servers that expect as many as they see ask each other whether anybody belongs to a group
//! already and whom they see. When all see the same, the one with the lowest id begins with all.
//!
//! # Invariants
//!
//! - A server with data never begins a group.
//! - Two servers begin only if each saw all expected servers agree that it has the lowest id, which
//!   cannot be true of both.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cos_model::ServerId;

use crate::shared::Shared;
use crate::wire::{self, Status};

/// The wait before servers that did not agree are asked again.
const ROUND_WAIT: Duration = Duration::from_millis(250);

/// Says how this server stands, for another that wants to begin.
pub(crate) async fn status(shared: &Shared) -> Status {
    Status {
        id: shared.id,
        is_initialized: shared.raft.is_initialized().await,
        candidates: candidates(shared).into_keys().collect(),
        members: shared.members().into_keys().collect(),
    }
}

/// Waits until this server belongs to a group, and begins one if that falls to it.
pub(crate) async fn run(shared: Arc<Shared>) {
    let stop = shared.tasks.stopping();
    let mut peers = shared.gossip.watch();
    while !shared.raft.is_initialized().await {
        peers.mark_unchanged();
        if may_begin(&shared).await {
            begin(&shared).await;
            continue;
        }
        // Each arm may be dropped: nothing is lost but a wait.
        tokio::select! {
            changed = peers.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(ROUND_WAIT) => {}
            () = stop.cancelled() => return,
        }
    }
}

/// The servers that would form the group: id and RPC address.
fn candidates(shared: &Shared) -> BTreeMap<ServerId, String> {
    let expect = shared.config.bootstrap_expect.to_string();
    shared
        .gossip
        .peers()
        .iter()
        .filter(|peer| peer.is_alive() && peer.tag("region") == shared.config.region)
        .filter(|peer| peer.tag("expect") == expect)
        .filter_map(|peer| Some((peer.id()?, peer.tag("rpc_addr").to_owned())))
        .collect()
}

/// Where the other servers of the region are that answer, whatever they expect.
fn others(shared: &Shared) -> Vec<String> {
    let peers = shared.gossip.peers();
    let others = peers
        .iter()
        .filter(|peer| peer.is_alive() && peer.tag("region") == shared.config.region)
        .filter(|peer| peer.id() != Some(shared.id));
    others.map(|peer| peer.tag("rpc_addr").to_owned()).collect()
}

async fn may_begin(shared: &Shared) -> bool {
    let expect = shared.config.bootstrap_expect as usize;
    let candidates = candidates(shared);
    let is_first = candidates.first_key_value().is_some_and(|(id, _)| *id == shared.id);
    if expect == 0 || candidates.len() < expect || !is_first {
        return false;
    }
    // A group that exists takes this server in; the leader finds it by gossip.
    for address in others(shared) {
        let reply =
            shared.client.call(&address, wire::STATUS, Bytes::new(), wire::QUICK_CALL).await;
        let status = reply.ok().and_then(|reply| wire::decode::<Status>(&reply).ok());
        let agrees = status.is_some_and(|status| {
            !status.is_initialized
                && (status.candidates.iter().eq(candidates.keys())
                    || !candidates.contains_key(&status.id))
        });
        if !agrees {
            return false;
        }
    }
    true
}

async fn begin(shared: &Shared) {
    let members = candidates(shared);
    let count = members.len();
    match shared.raft.initialize(members).await {
        Ok(()) => tracing::info!(servers = count, "consensus group begun"),
        Err(error) => {
            tracing::warn!(%error, "consensus group not begun");
            tokio::time::sleep(ROUND_WAIT).await;
        }
    }
}
