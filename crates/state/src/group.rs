//! What operators ask of the consensus group, and what they are told of it.

use std::time::Duration;

use cos_model::{ServerId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::control_plane::MemberStatus;

/// A change of the consensus group that an operator asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum GroupChange {
    /// Lets a server go, whether or not it answers. It is taken in again if it still runs.
    Remove(ServerId),
    /// Hands the leadership over, to this server or to the one whose log is longest.
    Transfer(Option<ServerId>),
    /// Believes of a server that does not answer that it has left for good.
    Forget {
        /// Its name, with or without its region.
        name: String,
        /// Whether it is not even listed any more.
        prune: bool,
    },
}

/// Why the group was not changed, or could not be asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GroupError {
    /// No leader was found in time.
    #[error("No cluster leader")]
    NoLeader,
    /// There is no such server; the words name it.
    #[error("{0}")]
    NotFound(String),
    /// It cannot be done; the words say why.
    #[error("{0}")]
    Refused(String),
}

/// How the consensus group does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupHealth {
    /// Whether all servers do well.
    pub is_healthy: bool,
    /// How many voters may fail before the group stands still.
    pub failure_tolerance: usize,
    /// All members, by id.
    pub servers: Vec<ServerHealth>,
}

/// How one server does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerHealth {
    /// Its id.
    pub id: ServerId,
    /// Its name; empty if gossip does not know it.
    pub name: String,
    /// Its RPC address.
    pub address: String,
    /// Whether it answers.
    pub status: MemberStatus,
    /// The version that it claims.
    pub version: String,
    /// Its redundancy zone, if it is in one.
    pub zone: String,
    /// Whether it leads.
    pub is_leader: bool,
    /// How long ago the leader heard of it, if it did.
    pub last_contact: Option<Duration>,
    /// The consensus term.
    pub last_term: u64,
    /// Up to where its log is known to match the leader's.
    pub last_index: u64,
    /// Whether it does well.
    pub is_healthy: bool,
    /// Whether it votes.
    pub votes: bool,
    /// Since when it does as it does.
    pub stable_since: Timestamp,
}

impl GroupHealth {
    /// What follows from how the servers do.
    pub fn of(servers: Vec<ServerHealth>) -> Self {
        let voters = servers.iter().filter(|server| server.votes).count();
        let well = servers.iter().filter(|server| server.votes && server.is_healthy).count();
        let quorum = voters / 2 + 1;
        Self {
            is_healthy: servers.iter().all(|server| server.is_healthy),
            failure_tolerance: well.saturating_sub(quorum),
            servers,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_fail_is_what_is_left_over_of_the_majority() {
        let check = |servers: &str, expected: (bool, usize)| {
            let servers = servers.bytes().map(|byte| ServerHealth {
                id: ServerId::from_bits(1),
                name: String::new(),
                address: String::new(),
                status: MemberStatus::Alive,
                version: String::new(),
                zone: String::new(),
                is_leader: false,
                last_contact: None,
                last_term: 0,
                last_index: 0,
                is_healthy: byte.is_ascii_uppercase(),
                votes: byte.eq_ignore_ascii_case(&b'v'),
                stable_since: Timestamp(0),
            });
            let health = GroupHealth::of(servers.collect());
            assert_eq!((health.is_healthy, health.failure_tolerance), expected);
        };
        check("V", (true, 0));
        check("VVV", (true, 1));
        check("VVv", (false, 0));
        check("Vvv", (false, 0));
        check("VVVV", (true, 1));
        check("VVVVV", (true, 2));
        check("VVVFf", (false, 1));
    }
}
