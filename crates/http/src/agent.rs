//! What an agent says of itself, whatever its role.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use cos_model::link::ServerAddress;
use futures_util::stream::BoxStream;
use serde_json::Value;

use crate::error::ApiError;

/// An agent. The program implements it.
#[async_trait]
pub trait AgentInfo: Send + Sync + 'static {
    /// Who it is.
    fn identity(&self) -> AgentIdentity;

    /// Its configuration in effect, without secrets, by the names that Nomad's agent uses.
    fn config(&self) -> Value;

    /// The servers that it knows, the one to ask first in front. On a server: all servers.
    fn servers(&self) -> Vec<ServerAddress>;

    /// Replaces the list of servers to ask, by RPC address.
    async fn set_servers(&self, addresses: &[String]) -> Result<(), ApiError>;

    /// Figures in groups, as `agent-info` shows them.
    fn stats(&self) -> BTreeMap<String, BTreeMap<String, String>>;

    /// How each of its roles is.
    fn health(&self) -> AgentHealth;

    /// Time since it started.
    fn uptime(&self) -> Duration;

    /// Its log lines from now on, those of a level and above, as text or as JSON. A reader that is
    /// too slow misses lines and is told so by a line.
    fn logs(&self, level: LogLevel, json: bool) -> BoxStream<'static, String>;
}

/// Who an agent is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AgentIdentity {
    /// Its name.
    pub name: String,
    /// Its region.
    pub region: String,
    /// Its datacenter.
    pub datacenter: String,
    /// `host:port` of its HTTP API.
    pub http_address: String,
    /// Whether it is a server.
    pub is_server: bool,
    /// Whether it runs tasks.
    pub is_client: bool,
}

/// How each role of an agent is: absent if it does not have the role.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AgentHealth {
    /// As a server: fine, or why not.
    pub server: Option<Result<(), String>>,
    /// As a client: fine, or why not.
    pub client: Option<Result<(), String>>,
}

/// How important a log line is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// Everything.
    Trace,
    /// What developers want to know.
    Debug,
    /// What operators want to know.
    #[default]
    Info,
    /// What may need an operator.
    Warn,
    /// What needs an operator.
    Error,
}

impl LogLevel {
    /// Finds the level that a request names, in any case.
    pub fn from_name(name: &str) -> Option<Self> {
        match name.to_ascii_lowercase().as_str() {
            "trace" => Some(Self::Trace),
            "debug" => Some(Self::Debug),
            "info" => Some(Self::Info),
            "warn" => Some(Self::Warn),
            "err" | "error" => Some(Self::Error),
            _ => None,
        }
    }
}
