//! What a follower does on word that its leader has gone, before its silence would tell.
//!
//! A hint is no proof. It makes this server forget the leader's lease and ask the others for a
//! pre-vote; only when a majority says that it would vote, because it has had the same hint or has
//! heard nothing for long enough, an election follows (ADR 0011). A wrong hint costs a few
//! messages and changes no term.
//!
//! Invariant: servers that have had the same hint ask one after the other, so that they do not
//! split the votes.

use std::sync::atomic::Ordering;
use std::time::Duration;

use cos_model::ServerId;
use openraft::async_runtime::WatchReceiver;
use openraft::raft::TransferLeaderRequest;
use tokio::time::{Instant, timeout};

use super::Raft;
use crate::campaign::CAMPAIGN;
use crate::metrics::Metrics;

/// How long one server leaves the next to be elected; several times what an election takes.
const TURN: Duration = Duration::from_millis(20);
/// How often the others are asked before the election timeout is left to decide.
const ROUNDS_MAX: u32 = 12;

impl Raft {
    /// Hears that `leader` has gone, for instance because its connection broke. Returns once
    /// there is another leader, the hint proves wrong, or nobody else believes it.
    pub async fn suspect(&self, leader: ServerId) {
        let heard = self.inner.heard.load(Ordering::Relaxed);
        let known = self.inner.metrics.borrow().clone();
        let Some(turn) = turn(&known, self.inner.id, leader) else { return };
        tracing::info!(%leader, term = known.term, "the leader seems to be gone");
        if self.forget_lease(leader).await.is_none() {
            return;
        }
        let others = u32::try_from(known.voters.len() - 1).unwrap_or(1);
        let mut metrics = self.metrics();
        let (mut term, mut wait) = (known.term, TURN * turn);
        for _ in 0..ROUNDS_MAX {
            let news = metrics.wait_for(|now| {
                now.term != term || now.leader.as_ref().is_some_and(|(id, _)| *id != leader)
            });
            let has_news = matches!(timeout(wait, news).await, Ok(Ok(_)));
            let now = metrics.borrow_and_update().clone();
            let is_led = now.leader.as_ref().is_some_and(|(id, _)| *id != leader);
            if is_led || self.inner.heard.load(Ordering::Relaxed) != heard {
                return;
            }
            if has_news {
                (term, wait) = (now.term, CAMPAIGN + TURN * turn);
                continue;
            }
            if let Some(left) = self.inner.campaign.rivals(self.inner.id, Instant::now()) {
                wait = left + TURN * turn;
                continue;
            }
            if self.inner.engine.trigger().elect(true).await.is_err() {
                return;
            }
            wait = TURN * others;
        }
    }

    /// Stands for election at once, as a test that waits for nobody's silence wants it.
    #[cfg(test)]
    pub(crate) async fn campaign_for_tests(&self) {
        self.inner.engine.trigger().elect(false).await.expect("raft runs");
    }

    /// Lets go of the promise to vote for nobody while `leader` may still lead. `None` if it does
    /// not lead any more, or if this server takes part no more.
    async fn forget_lease(&self, leader: ServerId) -> Option<()> {
        let vote = self.inner.engine.metrics().borrow_watched().vote;
        if !vote.committed || vote.leader_id.voted_for != leader {
            return None;
        }
        // The engine's word for it: a leadership that is being handed over, to nobody here.
        let handed_over = TransferLeaderRequest::new(vote, leader, None);
        self.inner.engine.handle_transfer_leader(handed_over).await.ok()?.ok()
    }
}

/// The how-manieth of those that may stand for election this server is; `None` if it may not.
fn turn(known: &Metrics, own: ServerId, leader: ServerId) -> Option<u32> {
    let is_led = known.leader.as_ref().is_some_and(|(id, _)| *id == leader);
    if !is_led || own == leader || known.voters.len() < 2 {
        return None;
    }
    let mut others = known.voters.keys().filter(|id| **id != leader);
    u32::try_from(others.position(|id| *id == own)?).ok()
}
