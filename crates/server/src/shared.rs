//! What all tasks of one server share: its configuration, its state, consensus, gossip.
//!
//! Proposing lives here: a command goes to the leader wherever it is.
//!
//! # Invariants
//!
//! - A command that was not sent, or that a server refused to take because it does not lead, may be
//!   sent again. One whose outcome is unknown is sent again only if doing it twice is doing it once.
//! - When a proposal returns, this server has applied it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use cos_model::link::ServerAddress;
use cos_model::{ServerId, Timestamp};
use cos_platform::rpc::{Client, RpcError};
use cos_platform::{Clock, Tasks, entropy};
use cos_raft::Raft;
use cos_state::{Command, Committed, Leadership, ProposeError, Refused, Request, encode_request};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::config::Config;
use crate::gossip::{Gossip, Peer};
use crate::liveness::Sign;
use crate::publish::Published;
use crate::reports::Report;
use crate::wire::{self, Confirmed, Liveness, Outcome, Proposed};

/// The first wait before a proposal is tried again; a new leader ends it early.
const FIRST_WAIT: Duration = Duration::from_millis(5);

/// The longest wait before a proposal is tried again.
const LONGEST_WAIT: Duration = Duration::from_millis(250);

/// What all tasks of one server share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) id: ServerId,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) tasks: Tasks,
    pub(crate) published: Arc<Published>,
    pub(crate) raft: Raft,
    pub(crate) client: Client,
    pub(crate) gossip: Gossip,
    /// To the task that relays agents' heartbeats.
    pub(crate) signs: mpsc::Sender<Sign>,
    /// To the task that proposes agents' reports.
    pub(crate) reports: mpsc::Sender<Report>,
    /// How often agents send heartbeats now.
    pub(crate) pace: watch::Sender<Duration>,
    /// To the leader's duties, if this server leads.
    pub(crate) liveness: mpsc::Sender<Liveness>,
    /// When consensus last heard of another server, in milliseconds of the monotonic clock.
    pub(crate) contact_millis: AtomicU64,
    /// Whether this server stops on purpose.
    pub(crate) is_leaving: AtomicBool,
}

/// What came of one attempt to propose.
enum Attempt {
    Done(u64, Outcome),
    NotDone,
    TooLarge(String),
    Unknown(String),
    Stopping,
}

impl Shared {
    /// The consensus group: voters and learners with their addresses.
    pub(crate) fn members(&self) -> BTreeMap<ServerId, String> {
        let metrics = self.raft.metrics().borrow().clone();
        metrics.voters.into_iter().chain(metrics.learners).collect()
    }

    /// Reads the clock.
    pub(crate) fn now(&self) -> Timestamp {
        Timestamp(self.clock.unix_nanos())
    }

    /// Commits a command through the leader, wherever it is.
    pub(crate) async fn propose(&self, command: Command) -> Result<Committed, ProposeError> {
        let may_repeat = is_repeatable(&command);
        let payload = self.encode(command);
        let deadline = Instant::now() + self.config.timing.propose_deadline;
        let mut metrics = self.raft.metrics();
        let mut wait = FIRST_WAIT;
        loop {
            metrics.mark_unchanged();
            let failure = match self.attempt(payload.clone(), deadline).await {
                Attempt::Done(index, outcome) => {
                    return self.committed(index, outcome, deadline).await;
                }
                Attempt::Stopping => return Err(ProposeError::Stopping),
                Attempt::TooLarge(why) => return Err(Refused::Invalid(why).into()),
                Attempt::Unknown(why) if !may_repeat => return Err(ProposeError::Unknown(why)),
                Attempt::Unknown(why) => ProposeError::Unknown(why),
                Attempt::NotDone => ProposeError::NoLeader,
            };
            if Instant::now() + wait >= deadline {
                return Err(failure);
            }
            // Either ends the wait; a change of anything in consensus may mean a leader.
            drop(tokio::time::timeout(wait, metrics.changed()).await);
            wait = LONGEST_WAIT.min(wait * 2);
        }
    }

    /// Commits a command if this server leads, and else does nothing.
    pub(crate) async fn propose_as_leader(
        &self,
        command: Command,
    ) -> Result<Committed, ProposeError> {
        let deadline = Instant::now() + self.config.timing.propose_deadline;
        match self.attempt_here(self.encode(command), deadline).await {
            Ok(Attempt::Done(index, outcome)) => self.committed(index, outcome, deadline).await,
            Ok(Attempt::NotDone) | Err(_) => Err(ProposeError::NoLeader),
            Ok(Attempt::TooLarge(why)) => Err(Refused::Invalid(why).into()),
            Ok(Attempt::Unknown(why)) => Err(ProposeError::Unknown(why)),
            Ok(Attempt::Stopping) => Err(ProposeError::Stopping),
        }
    }

    /// Takes a proposal that another server forwards.
    pub(crate) async fn propose_forwarded(&self, payload: Bytes) -> Proposed {
        let deadline = Instant::now() + self.config.timing.propose_deadline;
        match self.attempt_here(payload, deadline).await {
            Ok(Attempt::Done(index, outcome)) => Proposed::Done(index, outcome),
            Ok(Attempt::Unknown(why)) => Proposed::Unknown(why),
            Ok(Attempt::TooLarge(why)) => Proposed::TooLarge(why),
            Ok(Attempt::NotDone | Attempt::Stopping) | Err(_) => Proposed::NotLeader,
        }
    }

    /// Returns once this server has applied all that was committed anywhere before the call.
    pub(crate) async fn barrier(&self) -> Result<(), ProposeError> {
        let deadline = Instant::now() + self.config.timing.propose_deadline;
        let mut metrics = self.raft.metrics();
        let mut wait = FIRST_WAIT;
        loop {
            metrics.mark_unchanged();
            if let Some(index) = self.confirmed_index().await {
                return self.applied(index, deadline).await;
            }
            if self.tasks.stopping().is_cancelled() {
                return Err(ProposeError::Stopping);
            }
            if Instant::now() + wait >= deadline {
                return Err(ProposeError::NoLeader);
            }
            drop(tokio::time::timeout(wait, metrics.changed()).await);
            wait = LONGEST_WAIT.min(wait * 2);
        }
    }

    /// Confirms leadership for another server.
    pub(crate) async fn barrier_forwarded(&self) -> Confirmed {
        match self.raft.barrier().await {
            Ok(index) => Confirmed::At(index),
            Err(_) => Confirmed::NotLeader,
        }
    }

    /// The other server that leads, if one is known.
    pub(crate) fn other_leader(&self) -> Option<(ServerId, String)> {
        let leader = self.raft.metrics().borrow().leader.clone();
        leader.filter(|(id, _)| *id != self.id)
    }

    /// Who leads and how fresh this server's state is.
    pub(crate) fn leadership(&self) -> Leadership {
        let metrics = self.raft.metrics().borrow().clone();
        let leader_id = metrics.leader.as_ref().map(|(id, _)| *id);
        let leader = metrics.leader.as_ref().map(|(id, rpc)| {
            let known = self.gossip.peers().iter().find(|p| p.id() == Some(*id)).map(address_of);
            known.unwrap_or_else(|| ServerAddress {
                name: String::new(),
                rpc: rpc.clone(),
                http: String::new(),
                consul_http: String::new(),
            })
        });
        Leadership {
            leader,
            leader_id,
            is_leader: metrics.is_leader,
            last_contact: if metrics.is_leader { Duration::ZERO } else { self.since_contact() },
            term: metrics.term,
            last_log_index: metrics.last_log_index,
            applied_index: metrics.applied_index,
        }
    }

    /// The servers of this region that answer, this one first.
    pub(crate) fn servers(&self) -> Vec<ServerAddress> {
        let own = self.config.address();
        let peers = self.gossip.peers();
        let others = peers
            .iter()
            .filter(|peer| peer.is_alive() && peer.tag("region") == self.config.region)
            .map(address_of)
            .filter(|address| address.rpc != own.rpc);
        std::iter::once(own.clone()).chain(others).collect()
    }

    /// Notes that consensus heard of another server.
    pub(crate) fn note_contact(&self) {
        let millis = u64::try_from(self.clock.monotonic().as_millis()).unwrap_or(u64::MAX);
        self.contact_millis.store(millis, Ordering::Relaxed);
    }

    fn since_contact(&self) -> Duration {
        let last = Duration::from_millis(self.contact_millis.load(Ordering::Relaxed));
        self.clock.monotonic().saturating_sub(last)
    }

    fn encode(&self, command: Command) -> Bytes {
        encode_request(&Request { at: self.now(), command }).into()
    }

    /// Tries once, here or at the leader.
    async fn attempt(&self, payload: Bytes, deadline: Instant) -> Attempt {
        match self.attempt_here(payload.clone(), deadline).await {
            Ok(attempt) => attempt,
            Err(Some((id, address))) if id != self.id => {
                self.forward(&address, payload, deadline).await
            }
            Err(_) => Attempt::NotDone,
        }
    }

    /// Tries once on this server. An error names the leader, if one is known.
    async fn attempt_here(
        &self,
        payload: Bytes,
        deadline: Instant,
    ) -> Result<Attempt, Option<(ServerId, String)>> {
        let proposed = tokio::time::timeout_at(deadline, self.raft.propose(payload)).await;
        let Ok(proposed) = proposed else {
            return Ok(Attempt::Unknown("no quorum in time".to_owned()));
        };
        match proposed {
            Ok((index, reply)) => Ok(match wire::decode(&reply) {
                Ok(outcome) => Attempt::Done(index, outcome),
                Err(error) => Attempt::Unknown(format!("unreadable reply: {error}")),
            }),
            Err(cos_raft::ProposeError::NotLeader { leader }) => Err(leader),
            Err(cos_raft::ProposeError::Stopped(_)) => Ok(Attempt::Stopping),
            Err(error @ cos_raft::ProposeError::TooLarge(_)) => {
                Ok(Attempt::TooLarge(error.to_string()))
            }
            Err(error @ cos_raft::ProposeError::Unknown { .. }) => {
                Ok(Attempt::Unknown(error.to_string()))
            }
        }
    }

    async fn forward(&self, address: &str, payload: Bytes, deadline: Instant) -> Attempt {
        let left = deadline.saturating_duration_since(Instant::now());
        metrics::counter!(crate::metrics::RPC_FORWARDED).increment(1);
        match self.client.call(address, wire::PROPOSE, payload, left).await {
            Ok(reply) => match wire::decode(&reply) {
                Ok(Proposed::Done(index, outcome)) => Attempt::Done(index, outcome),
                Ok(Proposed::NotLeader) => Attempt::NotDone,
                Ok(Proposed::Unknown(why)) => Attempt::Unknown(why),
                Ok(Proposed::TooLarge(why)) => Attempt::TooLarge(why),
                Err(error) => Attempt::Unknown(format!("unreadable answer: {error}")),
            },
            Err(RpcError::Unreachable(_) | RpcError::Refused(_)) => Attempt::NotDone,
            Err(error @ (RpcError::Timeout | RpcError::Closed)) => {
                Attempt::Unknown(error.to_string())
            }
        }
    }

    async fn committed(
        &self,
        index: u64,
        outcome: Outcome,
        deadline: Instant,
    ) -> Result<Committed, ProposeError> {
        self.applied(index, deadline).await?;
        Ok(Committed { index, reply: outcome? })
    }

    async fn applied(&self, index: u64, deadline: Instant) -> Result<(), ProposeError> {
        let left = deadline.saturating_duration_since(Instant::now());
        self.raft.wait_applied(index, left).await.map_err(|error| {
            ProposeError::Unknown(format!("committed, but not applied here in time: {error}"))
        })
    }

    async fn confirmed_index(&self) -> Option<u64> {
        if let Ok(index) = self.raft.barrier().await {
            return Some(index);
        }
        let (_, address) = self.other_leader()?;
        let reply =
            self.client.call(&address, wire::BARRIER, Bytes::new(), wire::QUICK_CALL).await.ok()?;
        match wire::decode(&reply).ok()? {
            Confirmed::At(index) => Some(index),
            Confirmed::NotLeader => None,
        }
    }
}

/// Draws a fresh id.
pub(crate) fn new_id() -> u128 {
    entropy::draw()
}

fn address_of(peer: &Peer) -> ServerAddress {
    ServerAddress {
        name: peer.tag("name").to_owned(),
        rpc: peer.tag("rpc_addr").to_owned(),
        http: peer.tag("http").to_owned(),
        consul_http: peer.tag("consul").to_owned(),
    }
}

/// Whether doing it twice is doing it once. What depends on the state that it finds is not, as
/// somebody else may have acted between the two.
fn is_repeatable(command: &Command) -> bool {
    match command {
        Command::RegisterNode { .. }
        | Command::SetNodeStatus { .. }
        | Command::SetNodeEligibility { .. }
        | Command::SetJobStability { .. }
        | Command::PutEvals { .. }
        | Command::UpdateAllocs { .. }
        | Command::SetTransitions { .. }
        | Command::Collect { .. }
        | Command::Catalog { .. } => true,
        Command::SetNodeDrain { .. }
        | Command::RegisterJob { .. }
        | Command::StopJob { .. }
        | Command::ApplyPlan { .. }
        | Command::SetDeploymentStatus { .. }
        | Command::PromoteDeployment { .. }
        | Command::SetAllocHealth { .. }
        | Command::Kv { .. }
        | Command::SetSchedulerConfig(_) => false,
    }
}
