//! How a group or task is named and checked.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::job::Extras;

/// A name under which instances are found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Service {
    /// The name; may hold `${…}` until it is resolved on the node.
    pub name: String,
    /// Tags, such as `urlprefix-/ping`.
    pub tags: Vec<String>,
    /// Tags that canaries carry instead, until promotion.
    pub canary_tags: Vec<String>,
    /// The label or number of the port that is advertised.
    pub port: String,
    /// `auto`, `alloc`, `driver` or `host`.
    pub address_mode: String,
    /// A fixed address to advertise instead.
    pub address: String,
    /// Which registry: `consul` or `nomad`.
    pub provider: String,
    /// The task a group service belongs to, for script checks and driver addresses.
    pub task: String,
    /// Free facts about the service.
    pub meta: BTreeMap<String, String>,
    /// Facts that canaries carry instead.
    pub canary_meta: BTreeMap<String, String>,
    /// Named addresses.
    pub tagged_addresses: BTreeMap<String, String>,
    /// Whether tags set in the catalog win over these.
    pub enable_tag_override: bool,
    /// How its health counts in an update: `require_healthy`, `ignore` or `ignore_warnings`.
    pub on_update: String,
    /// DNS and balancing weight while passing.
    pub weight_passing: u32,
    /// DNS and balancing weight while warning.
    pub weight_warning: u32,
    /// Checks; none means always healthy.
    pub checks: Vec<Check>,
    /// Blocks that are kept but not executed, such as `connect`.
    #[serde(default)]
    pub extras: Extras,
}

/// One health check.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Check {
    /// Shown name.
    pub name: String,
    /// What is asked.
    pub kind: CheckKind,
    /// The label or number of the port to ask; empty means the service's.
    pub port: String,
    /// As of the service.
    pub address_mode: String,
    /// Time between two checks.
    pub interval: Duration,
    /// When an unanswered check counts as failed.
    pub timeout: Duration,
    /// State before the first answer: `passing`, `warning` or `critical`; empty is critical.
    pub initial_status: String,
    /// Restart of the task when the check stays bad.
    pub restart: Option<CheckRestart>,
    /// As of the service.
    pub on_update: String,
    /// Successes in a row before passing.
    pub success_before_passing: u32,
    /// Failures in a row before critical.
    pub failures_before_critical: u32,
    /// Blocks and attributes that are kept but not executed.
    #[serde(default)]
    pub extras: Extras,
}

/// What a check asks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum CheckKind {
    /// An HTTP request; 2xx passes, 429 warns.
    Http {
        /// `http` or `https`.
        protocol: String,
        /// The method, `GET` by default.
        method: String,
        /// Path and query.
        path: String,
        /// Request headers.
        header: BTreeMap<String, Vec<String>>,
        /// Request body.
        body: String,
        /// Whether a wrong certificate is accepted.
        tls_skip_verify: bool,
    },
    /// A TCP connection that opens.
    Tcp,
    /// A command in the task; exit 0 passes, 1 warns.
    Script {
        /// The program.
        command: String,
        /// Its arguments.
        args: Vec<String>,
        /// The task in which it runs.
        task: String,
    },
    /// The gRPC health protocol.
    Grpc {
        /// The service asked for.
        service: String,
        /// Whether the connection uses TLS.
        tls: bool,
    },
}

/// Restart of a task whose check stays bad.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckRestart {
    /// Bad results in a row before the restart. Zero switches it off.
    pub limit: u32,
    /// Time after a start in which results do not count.
    pub grace: Duration,
    /// Whether a warning counts as good.
    pub ignore_warnings: bool,
}
