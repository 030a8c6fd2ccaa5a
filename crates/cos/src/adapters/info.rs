//! What an agent says of itself.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use cos_agent::AgentHandle;
use cos_http::{AgentHealth, AgentIdentity, AgentInfo, ApiError, LogLevel};
use cos_model::link::ServerAddress;
use cos_model::version;
use cos_platform::logging::LogHub;
use cos_platform::{Clock, SystemClock};
use cos_server::Server;
use cos_state::{ControlPlane, MemberStatus};
use futures_util::StreamExt;
use futures_util::stream::{BoxStream, unfold};
use serde_json::{Value, json};
use tracing::Level;

use crate::config::{Endpoints, Settings};

/// This agent.
pub(crate) struct Info {
    settings: Arc<Settings>,
    name: String,
    endpoints: Endpoints,
    server: Option<Server>,
    agent: Option<AgentHandle>,
    hub: LogHub,
    started: SystemClock,
    /// How the cluster's own traffic is secured, in a word.
    security: &'static str,
}

impl Info {
    pub(crate) fn new(
        settings: Arc<Settings>,
        name: String,
        endpoints: Endpoints,
        server: Option<Server>,
        agent: Option<AgentHandle>,
        hub: LogHub,
    ) -> Self {
        let started = SystemClock::new();
        Self { settings, name, endpoints, server, agent, hub, started, security: "plain" }
    }

    /// Says how the cluster's own traffic is secured.
    pub(crate) fn secured(mut self, word: &'static str) -> Self {
        self.security = word;
        self
    }

    /// The servers that answer, the leader first, as gossip knows them.
    fn gossiped(server: &Server) -> Vec<ServerAddress> {
        let leader = server.leadership().leader.map(|leader| leader.rpc);
        let own_region = &server.config().region;
        let mut servers: Vec<ServerAddress> = server
            .members()
            .into_iter()
            .filter(|member| member.status == MemberStatus::Alive)
            .filter(|member| member.tags.get("region").is_none_or(|region| region == own_region))
            .map(|member| {
                let tag = |name: &str| member.tags.get(name).cloned().unwrap_or_default();
                ServerAddress {
                    rpc: format!("{}:{}", tag("rpc_addr"), tag("port")),
                    http: tag("http"),
                    consul_http: tag("consul"),
                    name: member.name,
                }
            })
            .collect();
        servers.sort_by_key(|server| Some(&server.rpc) != leader.as_ref());
        servers
    }
}

#[async_trait]
impl AgentInfo for Info {
    fn identity(&self) -> AgentIdentity {
        AgentIdentity {
            name: self.name.clone(),
            region: self.settings.region(),
            datacenter: self.settings.datacenter(),
            http_address: self.endpoints.http.advertise.to_string(),
            is_server: self.server.is_some(),
            is_client: self.agent.is_some(),
        }
    }

    fn config(&self) -> Value {
        let port = |endpoint: &crate::config::Endpoint| endpoint.bind.port();
        let endpoints = &self.endpoints;
        json!({
            "Name": self.name,
            "Region": self.settings.region(),
            "Datacenter": self.settings.datacenter(),
            "DataDir": self.settings.data_dir,
            "DevMode": self.settings.dev,
            "BindAddr": endpoints.http.bind.ip().to_string(),
            "LogLevel": self.settings.log_level.as_deref().unwrap_or("INFO").to_uppercase(),
            "Version": { "Version": version::NOMAD, "Revision": format!("cos {}", version::COS) },
            "Ports": {
                "HTTP": port(&endpoints.http),
                "RPC": port(&endpoints.rpc),
                "Serf": port(&endpoints.serf),
            },
            "AdvertiseAddrs": {
                "HTTP": endpoints.http.advertise.to_string(),
                "RPC": endpoints.rpc.advertise.to_string(),
                "Serf": endpoints.serf.advertise.to_string(),
            },
            "Server": {
                "Enabled": self.server.is_some(),
                "BootstrapExpect": self.settings.server.bootstrap_expect.unwrap_or(0),
            },
            "Client": {
                "Enabled": self.agent.is_some(),
                "Servers": self.settings.client_servers(),
                "Meta": self.settings.client.meta,
                "NodeClass": self.settings.client.node_class.as_deref().unwrap_or(""),
                "NodePool": self.settings.client.node_pool.as_deref().unwrap_or("default"),
                "NetworkInterface":
                    self.settings.client.network_interface.as_deref().unwrap_or(""),
            },
            "ACL": { "Enabled": false },
        })
    }

    fn servers(&self) -> Vec<ServerAddress> {
        match (&self.server, &self.agent) {
            (Some(server), _) => Self::gossiped(server),
            (None, Some(agent)) => agent.servers().borrow().clone(),
            (None, None) => Vec::new(),
        }
    }

    async fn set_servers(&self, _addresses: &[String]) -> Result<(), ApiError> {
        Err(ApiError::unsupported(
            "the list of servers follows the cluster by itself and cannot be set",
        ))
    }

    fn stats(&self) -> BTreeMap<String, BTreeMap<String, String>> {
        let mut stats: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
        let group = |pairs: Vec<(&str, String)>| {
            pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
        };
        if let Some(server) = &self.server {
            let leadership = server.leadership();
            let leader = leadership.leader.map_or_else(String::new, |leader| leader.rpc);
            stats.insert(
                "nomad".to_owned(),
                group(vec![
                    ("server", "true".to_owned()),
                    ("leader", leadership.is_leader.to_string()),
                    ("leader_addr", leader),
                    ("known_regions", "1".to_owned()),
                ]),
            );
            stats.insert(
                "raft".to_owned(),
                group(vec![
                    ("term", leadership.term.to_string()),
                    ("applied_index", leadership.applied_index.to_string()),
                    ("last_log_index", leadership.last_log_index.to_string()),
                    ("num_peers", server.peers().len().saturating_sub(1).to_string()),
                    ("state", if leadership.is_leader { "Leader" } else { "Follower" }.to_owned()),
                ]),
            );
        }
        if let Some(agent) = &self.agent {
            stats.insert(
                "client".to_owned(),
                group(vec![
                    ("node_id", agent.node_id().to_string()),
                    ("num_allocations", agent.allocs().len().to_string()),
                    ("known_servers", {
                        let servers = agent.servers().borrow().clone();
                        servers.into_iter().map(|s| s.rpc).collect::<Vec<_>>().join(",")
                    }),
                    ("connected", agent.connected().borrow().to_string()),
                ]),
            );
        }
        let cluster = group(vec![("security", self.security.to_owned())]);
        stats.insert("cluster".to_owned(), cluster);
        stats
    }

    fn health(&self) -> AgentHealth {
        let server = self.server.as_ref().map(|server| {
            let known = server.leadership().leader_id.is_some();
            if known { Ok(()) } else { Err("No cluster leader".to_owned()) }
        });
        let client = self.agent.as_ref().map(|agent| {
            let connected = *agent.connected().borrow();
            if connected { Ok(()) } else { Err("no connection to a server".to_owned()) }
        });
        AgentHealth { server, client }
    }

    fn uptime(&self) -> Duration {
        self.started.monotonic()
    }

    fn logs(&self, level: LogLevel, json: bool) -> BoxStream<'static, String> {
        let level = match level {
            LogLevel::Trace => Level::TRACE,
            LogLevel::Debug => Level::DEBUG,
            LogLevel::Info => Level::INFO,
            LogLevel::Warn => Level::WARN,
            LogLevel::Error => Level::ERROR,
        };
        let lines = self.hub.subscribe(level);
        unfold(lines, move |mut lines| async move {
            let line = lines.next().await?;
            let text = if json {
                json!({ "@level": line.level.to_string().to_lowercase(), "@message": &*line.text })
                    .to_string()
            } else {
                line.text.to_string()
            };
            Some((text, lines))
        })
        .boxed()
    }
}
