//! What all tasks of one server share: its configuration, its state, consensus, gossip.
//!
//! Proposing lives here: a command goes to the leader wherever it is.
//!
//! # Invariants
//!
//! - A command goes out under one number however often it is sent, and is done once (ADR 0010). So
//!   what became unknown when a leader was lost is sent to the next one.
//! - When a proposal returns, this server has applied it.
//! - What a server of the group would not understand is not proposed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use cos_model::link::ServerAddress;
use cos_model::{ServerId, Timestamp};
use cos_platform::rpc::{Client, Peer as RpcPeer, RpcError, Who};
use cos_platform::{Clock, Tasks, entropy};
use cos_raft::Raft;
use cos_state::{
    Command, Committed, Leadership, Origin, ProposeError, Refused, Request, encode_request,
    format_of,
};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::Instant;

use crate::autopilot::Healths;
use crate::config::Config;
use crate::gossip::{Gossip, Peer};
use crate::liveness::Sign;
use crate::proposals::Proposals;
use crate::publish::Published;
use crate::reports::Report;
use crate::shares::Shares;
use crate::trust::Members;
use crate::wire::{self, Answer, Confirmed, Liveness, Proposed};

/// The first wait before a proposal is tried again; a new leader ends it early.
const FIRST_WAIT: Duration = Duration::from_millis(5);

/// The longest wait before a proposal is tried again.
const LONGEST_WAIT: Duration = Duration::from_millis(50);

/// After how many of the longest election timeouts a silent leader is not known any more.
const LEADER_LOST_TIMEOUTS: u32 = 3;
/// How many KiB of clients' commands may be under way. Each takes at least one.
pub(crate) const ROOM_KIB: usize = 64 * 1024;
/// The tag by which a server says which format of log entries it knows.
pub(crate) const FORMAT_TAG: &str = "format";

/// What all tasks of one server share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) id: ServerId,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) tasks: Tasks,
    pub(crate) published: Arc<Published>,
    pub(crate) raft: Raft,
    pub(crate) proposals: Proposals,
    /// Confirmations of who leads, one for all that ask at the same time.
    pub(crate) confirmations: Shares<Option<u64>>,
    /// How the servers do, as this one has seen them while it led.
    pub(crate) healths: watch::Sender<Healths>,
    pub(crate) client: Client,
    pub(crate) gossip: Gossip,
    /// What was heard of members' certificates.
    pub(crate) members: Members,
    /// Room for clients' commands that are under way, in KiB.
    pub(crate) room: Semaphore,
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
    Done(u64, Answer),
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

    /// Commits a client's command through the leader, wherever it is, unless too much is under way.
    pub(crate) async fn propose_for_client(
        &self,
        command: Command,
    ) -> Result<Committed, ProposeError> {
        self.check_format(&command)?;
        let ticket = self.proposals.open();
        let payload = self.encode(command, Some(ticket.origin()));
        let kib = u32::try_from(payload.len() / 1024).unwrap_or(u32::MAX).saturating_add(1);
        let Ok(_room) = self.room.try_acquire_many(kib) else {
            metrics::counter!(crate::metrics::TURNED_AWAY).increment(1);
            return Err(ProposeError::Busy);
        };
        self.propose_payload(payload).await
    }

    /// Commits a command through the leader, wherever it is.
    pub(crate) async fn propose(&self, command: Command) -> Result<Committed, ProposeError> {
        self.check_format(&command)?;
        let ticket = self.proposals.open();
        let payload = self.encode(command, Some(ticket.origin()));
        self.propose_payload(payload).await
    }

    async fn propose_payload(&self, payload: Bytes) -> Result<Committed, ProposeError> {
        let deadline = Instant::now() + self.config.timing.propose_deadline;
        let mut metrics = self.raft.metrics();
        let mut wait = FIRST_WAIT;
        let mut failure = ProposeError::NoLeader;
        loop {
            metrics.mark_unchanged();
            match self.attempt(payload.clone(), deadline).await {
                Attempt::Done(index, answer) => {
                    return self.committed(index, answer, deadline).await;
                }
                Attempt::Stopping => return Err(ProposeError::Stopping),
                Attempt::TooLarge(why) => return Err(Refused::Invalid(why).into()),
                // Once it is unknown it stays so: that the next leader was not found is no news
                // of what the last one did.
                Attempt::Unknown(why) => failure = ProposeError::Unknown(why),
                Attempt::NotDone => {}
            }
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
        self.check_format(&command)?;
        let deadline = Instant::now() + self.config.timing.propose_deadline;
        match self.attempt_here(self.encode(command, None), deadline).await {
            Ok(Attempt::Done(index, answer)) => self.committed(index, answer, deadline).await,
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
            Ok(Attempt::Done(index, answer)) => Proposed::Done(index, answer),
            Ok(Attempt::Unknown(why)) => Proposed::Unknown(why),
            Ok(Attempt::TooLarge(why)) => Proposed::TooLarge(why),
            Ok(Attempt::NotDone | Attempt::Stopping) | Err(_) => Proposed::NotLeader,
        }
    }

    /// Refuses what a server of the group is too old for. One that gossip has never seen says
    /// nothing about itself and is passed over.
    fn check_format(&self, command: &Command) -> Result<(), Refused> {
        let format = format_of(command);
        if format <= cos_state::FIRST_FORMAT {
            return Ok(());
        }
        let members = self.members();
        let peers = self.gossip.peers();
        let too_old = peers.iter().find(|peer| {
            let known = peer.tag(FORMAT_TAG).parse().unwrap_or(1_u8);
            known < format
                && peer.tag("id").parse().is_ok_and(|id: ServerId| members.contains_key(&id))
        });
        too_old.map_or(Ok(()), |peer| {
            let name = peer.tag("name");
            Err(Refused::Invalid(format!(
                "not before every server is upgraded: {name} runs a version that does not know this"
            )))
        })
    }

    /// Returns once this server has applied all that was committed anywhere before the call.
    pub(crate) async fn barrier(&self) -> Result<(), ProposeError> {
        let deadline = Instant::now() + self.config.timing.propose_deadline;
        let mut metrics = self.raft.metrics();
        let mut wait = FIRST_WAIT;
        loop {
            metrics.mark_unchanged();
            // What is confirmed after this call began serves every call that began before.
            if let Some(index) = self.confirmations.share(|| self.confirmed_index()).await {
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
        let mut metrics = self.raft.metrics().borrow().clone();
        let last_contact = if metrics.is_leader { Duration::ZERO } else { self.since_contact() };
        // Whoever was not heard of for so long may lead, and may not; nobody here knows.
        if last_contact > self.config.timing.raft_election.1 * LEADER_LOST_TIMEOUTS {
            metrics.leader = None;
        }
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
            last_contact,
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

    /// Tells the log that a peer was refused something.
    pub(crate) fn complain(&self, peer: &RpcPeer, method: &str, why: &str) {
        if let Some(held_back) = self.members.gate.pass(self.clock.monotonic()) {
            let who = match &peer.who {
                Who::Member(member) => member.to_string(),
                Who::Trusted | Who::Stranger | Who::Introduced => String::new(),
            };
            let from = peer.address;
            tracing::warn!(%from, who, method, why, held_back, "rpc call refused");
        }
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

    fn encode(&self, command: Command, origin: Option<Origin>) -> Bytes {
        encode_request(&Request { at: self.now(), command, origin }).into()
    }

    /// Tries once, here or at the leader.
    async fn attempt(&self, payload: Bytes, deadline: Instant) -> Attempt {
        match self.attempt_here(payload.clone(), deadline).await {
            Ok(attempt) => attempt,
            Err(Some((id, address))) if id != self.id => {
                // Either arm may be dropped: what is sent to the next leader is the same proposal.
                tokio::select! {
                    attempt = self.forward(&address, payload, deadline) => attempt,
                    () = self.overtaken(id) => {
                        Attempt::Unknown("the leader changed".to_owned())
                    }
                }
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
                Ok(answer) => Attempt::Done(index, answer),
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
                Ok(Proposed::Done(index, answer)) => Attempt::Done(index, answer),
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
        answer: Answer,
        deadline: Instant,
    ) -> Result<Committed, ProposeError> {
        self.applied(index, deadline).await?;
        Ok(Committed { index: answer.index, reply: answer.reply? })
    }

    async fn applied(&self, index: u64, deadline: Instant) -> Result<(), ProposeError> {
        let left = deadline.saturating_duration_since(Instant::now());
        self.raft.wait_applied(index, left).await.map_err(|error| {
            ProposeError::Unknown(format!("committed, but not applied here in time: {error}"))
        })
    }

    /// Returns when another server leads than `leader`, which need not answer any more.
    async fn overtaken(&self, leader: ServerId) {
        let mut metrics = self.raft.metrics();
        let is_overtaken = |known: &Option<(ServerId, String)>| {
            known.as_ref().is_some_and(|(id, _)| *id != leader)
        };
        if metrics.wait_for(|now| is_overtaken(&now.leader)).await.is_err() {
            // Consensus has ended; the call ends by itself.
            std::future::pending::<()>().await;
        }
    }

    async fn confirmed_index(&self) -> Option<u64> {
        if let Ok(index) = self.raft.barrier().await {
            return Some(index);
        }
        let (id, address) = self.other_leader()?;
        // Either arm may be dropped: a question has no effect.
        let reply = tokio::select! {
            reply = self.client.call(&address, wire::BARRIER, Bytes::new(), wire::QUICK_CALL) => {
                reply.ok()?
            }
            () = self.overtaken(id) => return None,
        };
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
