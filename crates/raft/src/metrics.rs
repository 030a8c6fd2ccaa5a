//! What a server knows about itself and its group at a moment.

use std::collections::BTreeMap;
use std::time::Duration;

use cos_model::ServerId;
use openraft::{RaftMetrics, ServerState};

use crate::types::{LogId, Types};

/// The state of consensus on one server. Indexes are 0 where there is nothing yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metrics {
    /// The term this server is in.
    pub term: u64,
    /// The leader of that term and its address, as far as this server knows.
    pub leader: Option<(ServerId, String)>,
    /// Whether this server leads. Its first proposals may still wait for the entry that proves
    /// it; [`crate::Raft::barrier`] waits for that as well.
    pub is_leader: bool,
    /// The last entry in the log.
    pub last_log_index: u64,
    /// The last entry known to be committed.
    pub committed_index: u64,
    /// The last entry that the state machine has seen.
    pub applied_index: u64,
    /// The last entry that the newest snapshot covers.
    pub snapshot_index: u64,
    /// The last entry that is no longer in the log.
    pub purged_index: u64,
    /// Servers that vote, with their addresses.
    pub voters: BTreeMap<ServerId, String>,
    /// Servers that only follow, with their addresses.
    pub learners: BTreeMap<ServerId, String>,
    /// On the leader: up to where the log of each server is known to match.
    pub matched: BTreeMap<ServerId, u64>,
    /// Why this server takes part no more, if it does not. Only a restart of the process helps.
    pub failure: Option<String>,
}

impl Metrics {
    /// The address of a member.
    pub fn address(&self, id: ServerId) -> Option<&str> {
        self.voters.get(&id).or_else(|| self.learners.get(&id)).map(String::as_str)
    }

    /// Leads no longer, as far as it knows.
    pub(crate) fn step_down(&mut self) {
        (self.is_leader, self.leader) = (false, None);
        self.matched.clear();
    }

    pub(crate) fn of(source: &RaftMetrics<Types>) -> Self {
        let membership = source.membership_config.membership();
        let is_voter: Vec<ServerId> = membership.voter_ids().collect();
        let (mut voters, mut learners) = (BTreeMap::new(), BTreeMap::new());
        for (id, node) in membership.nodes() {
            let group = if is_voter.contains(id) { &mut voters } else { &mut learners };
            group.insert(*id, node.addr.clone());
        }
        let leader = source.current_leader.map(|id| {
            let address =
                membership.get_node(&id).map_or_else(String::new, |node| node.addr.clone());
            (id, address)
        });
        let matched = source.replication.iter().flatten();
        Self {
            term: source.current_term,
            leader,
            is_leader: source.state == ServerState::Leader,
            last_log_index: source.last_log_index.unwrap_or(0),
            committed_index: index(source.local_committed.as_ref()),
            applied_index: index(source.last_applied.as_ref()),
            snapshot_index: index(source.snapshot.as_ref()),
            purged_index: index(source.purged.as_ref()),
            voters,
            learners,
            matched: matched.map(|(id, matched)| (*id, index(matched.as_ref()))).collect(),
            failure: source.running_state.as_ref().err().map(ToString::to_string),
        }
    }
}

fn index(id: Option<&LogId>) -> u64 {
    id.map_or(0, LogId::index)
}

/// On the leader: how long ago it heard of others. Empty on other servers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contact {
    /// Since a majority has acknowledged its leadership.
    pub quorum: Option<Duration>,
    /// Since each other server has answered; `None` if it never did in this term.
    pub servers: BTreeMap<ServerId, Option<Duration>>,
}

impl Contact {
    pub(crate) fn of(source: &RaftMetrics<Types>) -> Self {
        use openraft::Instant as _;
        let servers = source.heartbeat.iter().flatten();
        Self {
            quorum: source.last_quorum_acked.as_ref().map(|at| at.elapsed()),
            servers: servers.map(|(id, at)| (*id, at.as_ref().map(|at| at.elapsed()))).collect(),
        }
    }
}
