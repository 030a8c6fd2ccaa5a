//! Who belongs to the group, and who leads it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use cos_model::ServerId;
use openraft::ChangeMembers;
use openraft::errors::{
    ChangeMembershipError, ClientWriteError, Fatal, InitializeError, RaftError,
};
use openraft::impls::BasicNode;
use tokio_util::time::FutureExt as _;

use super::{Raft, leader};
use crate::types::Types;

/// How long a new leader may take after a transfer began.
const TRANSFER_TIMEOUT: Duration = Duration::from_secs(5);

/// Why the group is not changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MembershipError {
    /// Only the leader changes it; try it, if one is known.
    #[error("not the leader")]
    NotLeader {
        /// The leader and its address.
        leader: Option<(ServerId, String)>,
    },
    /// Another change is under way; try again.
    #[error("another change is under way")]
    InProgress,
    /// It cannot be changed like this.
    #[error("{0}")]
    Refused(String),
    /// This server takes part no more.
    #[error("raft has stopped: {0}")]
    Stopped(String),
}

/// Why the leadership stays where it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransferError {
    /// This server has no leadership to give.
    #[error("not the leader")]
    NotLeader,
    /// The chosen server is no other voter of the group.
    #[error("no other voter to take over")]
    NoTarget,
    /// The chosen server did not take over in time.
    #[error("the leadership was not taken over in time")]
    Timeout,
    /// This server takes part no more.
    #[error("raft has stopped: {0}")]
    Stopped(String),
}

impl Raft {
    /// Whether this server belongs to a group, or did at some time.
    pub async fn is_initialized(&self) -> bool {
        self.inner.engine.is_initialized().await.unwrap_or(false)
    }

    /// Founds a group of these servers. All of them may do so at the same time, with the same
    /// members. Nothing happens on a server that belongs to a group already.
    pub async fn initialize(
        &self,
        members: BTreeMap<ServerId, String>,
    ) -> Result<(), MembershipError> {
        let nodes: BTreeMap<ServerId, BasicNode> =
            members.into_iter().map(|(id, address)| (id, BasicNode::new(address))).collect();
        match self.inner.engine.initialize(nodes).await {
            Ok(()) | Err(RaftError::APIError(InitializeError::NotAllowed(_))) => Ok(()),
            Err(RaftError::APIError(error)) => Err(MembershipError::Refused(error.to_string())),
            Err(RaftError::Fatal(error)) => Err(stopped(&error)),
        }
    }

    /// Takes a server in that follows without a vote, or notes a member's new address. Does not
    /// wait until it has caught up.
    pub async fn add_learner(&self, id: ServerId, address: String) -> Result<(), MembershipError> {
        let known = self.inner.metrics.borrow().clone();
        let node = BasicNode::new(&address);
        match known.address(id) {
            Some(known) if known == address => Ok(()),
            Some(_) => self.change(ChangeMembers::SetNodes(BTreeMap::from([(id, node)]))).await,
            None => {
                let added = self.inner.engine.add_learner(id, node, false).await;
                added.map(drop).map_err(membership_error)
            }
        }
    }

    /// Lets a member vote that has followed so far.
    pub async fn promote(&self, id: ServerId) -> Result<(), MembershipError> {
        let known = self.inner.metrics.borrow().clone();
        if known.voters.contains_key(&id) {
            return Ok(());
        }
        self.change(ChangeMembers::AddVoterIds(BTreeSet::from([id]))).await
    }

    /// Takes a member's vote; it goes on to follow.
    pub async fn demote(&self, id: ServerId) -> Result<(), MembershipError> {
        let known = self.inner.metrics.borrow().clone();
        if !known.voters.contains_key(&id) {
            return Ok(());
        }
        if known.voters.len() == 1 {
            return Err(last_voter());
        }
        let change = ChangeMembers::RemoveVoters(BTreeSet::from([id]));
        self.change_keeping(change, true).await
    }

    /// Removes a server from the group. Nothing happens if it is no member.
    pub async fn remove_server(&self, id: ServerId) -> Result<(), MembershipError> {
        let known = self.inner.metrics.borrow().clone();
        let ids = BTreeSet::from([id]);
        if known.voters.contains_key(&id) {
            if known.voters.len() == 1 {
                return Err(last_voter());
            }
            return self.change(ChangeMembers::RemoveVoters(ids)).await;
        }
        if known.learners.contains_key(&id) {
            return self.change(ChangeMembers::RemoveNodes(ids)).await;
        }
        Ok(())
    }

    /// Gives the leadership to `target`, or to the voter whose log is longest. Returns the new
    /// leader.
    pub async fn transfer_leadership(
        &self,
        target: Option<ServerId>,
    ) -> Result<ServerId, TransferError> {
        let known = self.inner.metrics.borrow().clone();
        if !known.is_leader {
            return Err(TransferError::NotLeader);
        }
        let others = known.voters.keys().filter(|id| **id != self.inner.id);
        let target = match target {
            Some(target) => others.into_iter().find(|id| **id == target),
            None => others.max_by_key(|id| known.matched.get(id)),
        };
        let target = *target.ok_or(TransferError::NoTarget)?;
        let triggered = self.inner.engine.trigger().transfer_leader(target).await;
        triggered.map_err(|error| TransferError::Stopped(error.to_string()))?;
        let mut metrics = self.metrics();
        let is_taken = |leader: &Option<(ServerId, String)>| {
            leader.as_ref().is_some_and(|(id, _)| *id != self.inner.id)
        };
        let taken = metrics.wait_for(|metrics| is_taken(&metrics.leader)).timeout(TRANSFER_TIMEOUT);
        match taken.await {
            Ok(Ok(metrics)) => Ok(metrics.leader.as_ref().map_or(target, |(id, _)| *id)),
            Ok(Err(_closed)) => Err(TransferError::Stopped("shut down".to_owned())),
            Err(_elapsed) => Err(TransferError::Timeout),
        }
    }

    async fn change(
        &self,
        change: ChangeMembers<ServerId, BasicNode>,
    ) -> Result<(), MembershipError> {
        self.change_keeping(change, false).await
    }

    /// `keeps` says whether who loses the vote goes on to follow.
    async fn change_keeping(
        &self,
        change: ChangeMembers<ServerId, BasicNode>,
        keeps: bool,
    ) -> Result<(), MembershipError> {
        let changed = self.inner.engine.change_membership(change, keeps).await;
        changed.map(drop).map_err(membership_error)
    }
}

fn last_voter() -> MembershipError {
    MembershipError::Refused("the last voter cannot be removed".to_owned())
}

fn membership_error(error: RaftError<Types, ClientWriteError<Types>>) -> MembershipError {
    match error {
        RaftError::APIError(
            ClientWriteError::ForwardToLeader(forward)
            | ClientWriteError::LogEntryDiscarded(forward),
        ) => MembershipError::NotLeader { leader: leader(forward) },
        RaftError::APIError(ClientWriteError::ChangeMembershipError(
            ChangeMembershipError::InProgress(_),
        )) => MembershipError::InProgress,
        RaftError::APIError(error) => MembershipError::Refused(error.to_string()),
        RaftError::Fatal(error) => stopped(&error),
    }
}

fn stopped(error: &Fatal<Types>) -> MembershipError {
    MembershipError::Stopped(error.to_string())
}
