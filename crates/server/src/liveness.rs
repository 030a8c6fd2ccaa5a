//! Tells the leader which agents this server hears of.
//!
//! Heartbeats are gathered and sent at intervals, closed connections at once. Neither is a log
//! entry; a loss costs nothing but a fresh look at the next heartbeat.

use std::collections::BTreeSet;
use std::sync::Arc;

use cos_model::NodeId;
use cos_platform::Fate;
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

use crate::shared::Shared;
use crate::wire::{self, Liveness};

/// A change of the pace is told when it is more than this part of it.
const PACE_STEP: u32 = 4;

/// What was noticed of an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sign {
    /// It said something.
    Heard(NodeId),
    /// Its connection closed without good-bye.
    Closed(NodeId),
    /// It stops and means to be back soon.
    Leaving(NodeId),
}

/// Relays signs until the server stops.
pub(crate) async fn run(shared: Arc<Shared>, mut signs: mpsc::Receiver<Sign>) {
    let mut tick = tokio::time::interval(shared.config.timing.heartbeat_relay_every);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let stop = shared.tasks.stopping();
    let mut heard = BTreeSet::new();
    loop {
        // Each arm may be dropped: a sign stays in the channel, a tick comes again.
        tokio::select! {
            sign = signs.recv() => match sign {
                Some(Sign::Heard(node)) => {
                    heard.insert(node);
                }
                Some(Sign::Closed(node)) => {
                    heard.remove(&node);
                    relay(&shared, Liveness { closed: vec![node], ..Liveness::default() });
                }
                Some(Sign::Leaving(node)) => {
                    heard.remove(&node);
                    relay(&shared, Liveness { leaving: vec![node], ..Liveness::default() });
                }
                None => return,
            },
            _ = tick.tick(), if !heard.is_empty() => {
                let heard = std::mem::take(&mut heard).into_iter().collect();
                relay(&shared, Liveness { heard, ..Liveness::default() });
                set_pace(&shared);
            }
            () = stop.cancelled() => return,
        }
    }
}

/// Tells the agents of this server how often to send heartbeats, once that changes much.
fn set_pace(shared: &Shared) {
    let nodes = shared.published.state().node_count();
    let now = shared.config.timing.heartbeats.heartbeat_every(nodes);
    shared.pace.send_if_modified(|told| {
        let differs = now > *told + *told / PACE_STEP || now + *told / PACE_STEP < *told;
        if differs {
            *told = now;
        }
        differs
    });
}

fn relay(shared: &Arc<Shared>, liveness: Liveness) {
    let Some((_, leader)) = shared.other_leader() else {
        // Without a leader nobody is taken down; the next one grants everybody a fresh wait.
        drop(shared.liveness.try_send(liveness));
        return;
    };
    let client = shared.client.clone();
    shared.tasks.spawn("heartbeat relay", Fate::Ends, async move {
        let body = wire::encode(&liveness);
        if let Err(error) = client.call(&leader, wire::HEARTBEATS, body, wire::QUICK_CALL).await {
            tracing::debug!(leader, %error, "heartbeats not relayed");
        }
    });
}
