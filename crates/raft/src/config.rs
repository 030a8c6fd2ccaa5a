//! How one server takes part in consensus.

use std::path::PathBuf;
use std::time::Duration;

use cos_model::ServerId;

use crate::recovery::Recovery;

/// The configuration of one server.
#[derive(Clone, Debug)]
pub struct Config {
    /// Who this server is. Its data directory remembers it and refuses another one.
    pub id: ServerId,
    /// Where other servers reach it.
    pub address: String,
    /// Where log and snapshots are kept.
    pub data_dir: PathBuf,
    /// How quickly a lost leader is noticed.
    pub timings: Timings,
    /// After how many entries a snapshot is taken.
    pub snapshot_entries: u64,
    /// The group as it is to be from now on, because its majority is lost for good.
    pub recover: Option<Recovery>,
}

impl Config {
    /// A configuration with the usual timings.
    pub fn new(id: ServerId, address: impl Into<String>, data_dir: impl Into<PathBuf>) -> Self {
        Self {
            id,
            address: address.into(),
            data_dir: data_dir.into(),
            timings: Timings::default(),
            snapshot_entries: 8192,
            recover: None,
        }
    }
}

/// How quickly a lost leader is noticed. The defaults lead to a new one within about a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timings {
    /// How often a leader shows that it lives.
    pub heartbeat: Duration,
    /// A follower that has heard nothing for a time between these two stands for election…
    pub election_min: Duration,
    /// …and nobody does so while the leader's last sign of life is younger than this.
    pub election_max: Duration,
}

impl Default for Timings {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_millis(100),
            election_min: Duration::from_millis(250),
            election_max: Duration::from_millis(500),
        }
    }
}

/// How long the transfer of one piece of a snapshot may take.
const SNAPSHOT_TIMEOUT: Duration = Duration::from_mins(1);
/// How many entries go into one message; their bytes are bounded as well.
const MESSAGE_ENTRIES_MAX: u64 = 1024;
/// Pauses before an unreachable server is tried again.
const BACKOFF: &str = "50ms 100ms 200ms ...500ms";

/// What the engine is told.
pub(crate) fn engine(config: &Config) -> openraft::Config {
    let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let snapshot_entries = config.snapshot_entries.max(1);
    openraft::Config {
        cluster_name: "cos".to_owned(),
        heartbeat_interval: millis(config.timings.heartbeat),
        election_timeout_min: millis(config.timings.election_min),
        election_timeout_max: millis(config.timings.election_max),
        install_snapshot_timeout: millis(SNAPSHOT_TIMEOUT),
        max_payload_entries: MESSAGE_ENTRIES_MAX,
        snapshot_policy: openraft::SnapshotPolicy::LogsSinceLast(snapshot_entries),
        // Twice the distance, so that the log reaches back to the older of the two snapshots
        // that are kept.
        max_in_snapshot_log_to_keep: snapshot_entries.saturating_mul(2),
        replication_lag_threshold: snapshot_entries.saturating_mul(2),
        purge_batch_size: (snapshot_entries / 8).max(1),
        backoff: BACKOFF.to_owned(),
        enable_pre_vote: Some(true),
        // A leader that restarts is elected like any other: only an entry of its new term proves
        // which of its old ones are committed.
        enable_leader_restore: Some(false),
        // A follower whose disk forgot something, or whose place a new member took, is sent what
        // it lacks. The engine would panic otherwise, and take the leader down for a follower's
        // fault.
        allow_log_reversion: Some(true),
        ..openraft::Config::default()
    }
}
