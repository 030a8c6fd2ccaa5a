//! How the consensus group is looked after, as users set it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How the consensus group is looked after.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AutopilotConfig {
    /// Whether servers that stopped answering are let go once a replacement is there.
    pub cleanup_dead_servers: bool,
    /// How long a healthy server may not have heard of the leader.
    pub last_contact_threshold: Duration,
    /// How many entries of the log a healthy server may lag behind.
    pub max_trailing_logs: u64,
    /// Below so many voters none is let go for being dead.
    pub min_quorum: u32,
    /// How long a new server must have been healthy before it votes.
    pub server_stabilization_time: Duration,
    /// Whether of the servers of one zone only one votes, and the others stand by.
    pub enable_redundancy_zones: bool,
    /// Index of its creation; zero while nobody has set it.
    pub create_index: u64,
    /// Index of the last change.
    pub modify_index: u64,
}

impl Default for AutopilotConfig {
    fn default() -> Self {
        Self {
            cleanup_dead_servers: true,
            last_contact_threshold: Duration::from_millis(200),
            max_trailing_logs: 250,
            min_quorum: 0,
            server_stabilization_time: Duration::from_secs(10),
            enable_redundancy_zones: false,
            create_index: 0,
            modify_index: 0,
        }
    }
}
