//! What a server is told when it starts. Parsed elsewhere, never changed afterwards.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use cos_model::link::ServerAddress;

use crate::heartbeat::Limits;
use crate::trust::Security;
use cos_state::AutopilotConfig;
use cos_state::garbage::Thresholds;

/// Everything a server needs to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// Directory that this server alone writes: the consensus log, snapshots and its identity.
    pub data_dir: PathBuf,
    /// Name of the agent, unique in its region; also the server's name in the catalog.
    pub name: String,
    /// Region; servers of other regions are known but do not take part in consensus.
    pub region: String,
    /// Datacenter of this server.
    pub datacenter: String,
    /// Where this server listens.
    pub bind: Bind,
    /// Where others reach this server.
    pub advertise: Advertise,
    /// How many servers make up the first consensus group. One begins alone at once; zero never
    /// begins and only joins a group that exists.
    pub bootstrap_expect: u32,
    /// Gossip addresses (`host:port`) to join at the start, tried until one answers.
    pub retry_join: Vec<String>,
    /// Time between two rounds of `retry_join` once quick first rounds brought nothing.
    pub retry_interval: Duration,
    /// How many evaluations are worked on at the same time; zero means one per processor.
    pub workers: usize,
    /// When agents count as lost, consensus as stuck, and so on.
    pub timing: Timing,
    /// How old garbage must be.
    pub gc: Thresholds,
    /// How peers are known.
    pub security: Security,
    /// The key with which gossip is encrypted first; keys that were stored since win.
    pub gossip_keys: Vec<Vec<u8>>,
    /// The failure zone that this server is in; empty if zones do not matter.
    pub zone: String,
    /// Whether this server only follows and never votes.
    pub never_votes: bool,
    /// How the consensus group is looked after until somebody sets it otherwise.
    pub autopilot: AutopilotConfig,
    /// Further tags that gossip spreads, such as `build`. Keep them few and short.
    pub tags: BTreeMap<String, String>,
}

/// Where a server listens. Port zero lets the system choose, which is then advertised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bind {
    /// The cluster's own protocol, TCP.
    pub rpc: SocketAddr,
    /// Gossip, UDP.
    pub serf: SocketAddr,
}

/// Where others reach a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advertise {
    /// Address of the cluster's own protocol; its port is taken from the socket if zero.
    pub rpc: SocketAddr,
    /// Address of gossip; its port is taken from the socket if zero.
    pub serf: SocketAddr,
    /// `host:port` of the HTTP API.
    pub http: String,
    /// `host:port` of the Consul dialect; empty if it is off.
    pub consul_http: String,
}

/// Times that decide how soon a failure is noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// How often agents send heartbeats, and how long they may be silent.
    pub heartbeats: Limits,
    /// How often a follower tells the leader which agents it heard of.
    pub heartbeat_relay_every: Duration,
    /// How long a request waits for a leader or for its outcome.
    pub propose_deadline: Duration,
    /// Time between two heartbeats of the consensus leader.
    pub raft_heartbeat: Duration,
    /// The shortest and longest silence of the consensus leader before an election.
    pub raft_election: (Duration, Duration),
    /// Time between two collections of garbage.
    pub gc_interval: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            heartbeats: Limits::default(),
            heartbeat_relay_every: Duration::from_millis(250),
            propose_deadline: Duration::from_secs(10),
            raft_heartbeat: Duration::from_millis(100),
            raft_election: (Duration::from_millis(400), Duration::from_millis(600)),
            gc_interval: Duration::from_mins(5),
        }
    }
}

impl Config {
    /// A server that stands alone, on ports that the system chooses.
    pub fn alone(data_dir: PathBuf, name: &str, address: std::net::IpAddr) -> Self {
        let any_port = SocketAddr::new(address, 0);
        Self {
            data_dir,
            name: name.to_owned(),
            region: "global".to_owned(),
            datacenter: "dc1".to_owned(),
            bind: Bind { rpc: any_port, serf: any_port },
            advertise: Advertise {
                rpc: any_port,
                serf: any_port,
                http: format!("{address}:4646"),
                consul_http: format!("{address}:8500"),
            },
            bootstrap_expect: 1,
            retry_join: Vec::new(),
            retry_interval: Duration::from_secs(30),
            workers: 0,
            timing: Timing::default(),
            gc: Thresholds::default(),
            security: Security::Plain,
            gossip_keys: Vec::new(),
            zone: String::new(),
            never_votes: false,
            autopilot: AutopilotConfig::default(),
            tags: BTreeMap::new(),
        }
    }

    /// This server's addresses as agents are told.
    pub fn address(&self) -> ServerAddress {
        ServerAddress {
            name: self.name.clone(),
            rpc: self.advertise.rpc.to_string(),
            http: self.advertise.http.clone(),
            consul_http: self.advertise.consul_http.clone(),
        }
    }
}
