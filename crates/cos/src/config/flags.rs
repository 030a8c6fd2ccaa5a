//! The flags of `agent`, in the form that Go programs take: one dash or two.

use std::path::PathBuf;

use super::{ConfigError, Settings};

/// What the command line says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Flags {
    pub(crate) dev: bool,
    pub(crate) server: bool,
    pub(crate) client: bool,
    pub(crate) configs: Vec<PathBuf>,
    pub(crate) values: Vec<(String, String)>,
    pub(crate) help: bool,
}

/// Flags that take a value, with what they are for.
const VALUES: [(&str, &str); 17] = [
    ("dc", "datacenter of this agent (default dc1)"),
    ("region", "region of this agent (default global)"),
    ("node", "name of this agent (default: the host name)"),
    ("data-dir", "directory for all state"),
    ("bind", "address that all listeners bind to"),
    ("log-level", "debug, info, warn, error or off (default info); trace is as debug in a release"),
    ("bootstrap-expect", "how many servers begin the cluster"),
    ("join", "gossip address of a server to join; repeatable"),
    ("retry-join", "as -join"),
    ("join-token", "what lets this agent join, from `cos token create` (COS_JOIN_TOKEN)"),
    ("encrypt", "gossip key, 16, 24 or 32 bytes in base64"),
    ("retry-interval", "time between two rounds of joining"),
    ("servers", "RPC addresses of servers, for a client; comma-separated"),
    ("meta", "key=value fact about the node; repeatable"),
    ("network-interface", "interface whose address tasks get, such as docker0"),
    ("node-class", "class of the node"),
    ("node-pool", "pool of the node"),
];

impl Flags {
    /// Reads the arguments after `agent`.
    pub(crate) fn parse(arguments: &[String]) -> Result<Self, ConfigError> {
        let mut flags = Self::default();
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            let Some(name) = argument.strip_prefix('-') else {
                return Err(ConfigError::Invalid(format!(
                    "unexpected argument `{argument}`; `agent` takes only flags, see agent -help"
                )));
            };
            let name = name.strip_prefix('-').unwrap_or(name);
            let (name, given) = match name.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (name, None),
            };
            match name {
                "dev" => flags.dev = is_true(given.as_deref()),
                "server" => flags.server = is_true(given.as_deref()),
                "client" => flags.client = is_true(given.as_deref()),
                "h" | "help" => flags.help = true,
                "config" | "config-file" | "config-dir" => {
                    flags.configs.push(value(name, given, &mut arguments)?.into());
                }
                _ if VALUES.iter().any(|(known, _)| *known == name) => {
                    let value = value(name, given, &mut arguments)?;
                    flags.values.push((name.to_owned(), value));
                }
                _ => {
                    return Err(ConfigError::Invalid(format!(
                        "flag provided but not defined: -{name}; see agent -help"
                    )));
                }
            }
        }
        Ok(flags)
    }

    /// The text of `agent -help`.
    pub(crate) fn usage() -> String {
        let mut text = String::from(
            "Usage: cos agent [options]\n\n  Starts an agent and runs until it is told to end. \
             The agent is a server, a client\n  or both, as its configuration says.\n\nOptions:\n\n  \
             -config=PATH\n    A file, or a directory of .hcl and .json files; repeatable. Later \
             files override\n    earlier ones.\n\n  -dev\n    A server and a client in one process \
             on loopback, without lasting state. Ends its\n    tasks when it ends.\n\n  -server, \
             -client\n    Switches a role on.\n",
        );
        for (name, what) in VALUES {
            text = format!("{text}\n  -{name}=VALUE\n    {what}\n");
        }
        text
    }
}

fn is_true(value: Option<&str>) -> bool {
    !matches!(value, Some("false" | "0" | "f"))
}

fn value(
    name: &str,
    given: Option<String>,
    rest: &mut std::slice::Iter<'_, String>,
) -> Result<String, ConfigError> {
    given
        .or_else(|| rest.next().cloned())
        .ok_or_else(|| ConfigError::Invalid(format!("flag needs an argument: -{name}")))
}

impl Settings {
    /// Puts the flags on top of what the files said.
    pub(super) fn apply_flags(&mut self, flags: &Flags) -> Result<(), ConfigError> {
        self.dev = flags.dev;
        if flags.server {
            self.server.enabled = Some(true);
        }
        if flags.client {
            self.client.enabled = Some(true);
        }
        let mut joins = Vec::new();
        for (name, value) in &flags.values {
            let text = value.clone();
            match name.as_str() {
                "dc" => self.datacenter = Some(text),
                "region" => self.region = Some(text),
                "node" => self.name = Some(text),
                "data-dir" => self.data_dir = Some(text.into()),
                "bind" => self.bind_addr = Some(text),
                "log-level" => self.log_level = Some(text),
                "node-class" => self.client.node_class = Some(text),
                "node-pool" => self.client.node_pool = Some(text),
                "network-interface" => self.client.network_interface = Some(text),
                "join" | "retry-join" => joins.push(text),
                "servers" => {
                    self.client.servers.extend(value.split(',').map(str::trim).map(str::to_owned));
                }
                "meta" => {
                    let (key, fact) = value.split_once('=').ok_or_else(|| {
                        ConfigError::Invalid(format!("-meta={value}: expected key=value"))
                    })?;
                    self.client.meta.insert(key.to_owned(), fact.to_owned());
                }
                "bootstrap-expect" => {
                    let count = value.parse().ok().ok_or_else(|| {
                        ConfigError::Invalid(format!(
                            "-bootstrap-expect={value}: expected a whole number"
                        ))
                    })?;
                    self.server.bootstrap_expect = Some(count);
                }
                "join-token" => self.cluster.join_token = Some(text),
                "encrypt" => {
                    let parsed = cos_server::parse_key(value);
                    parsed.map_err(|error| ConfigError::Invalid(format!("-encrypt: {error}")))?;
                    self.server.encrypt = Some(text);
                }
                "retry-interval" => {
                    let interval = cos_jobspec::duration::parse(value).ok_or_else(|| {
                        ConfigError::Invalid(format!(
                            "-retry-interval={value}: expected a duration such as 30s"
                        ))
                    })?;
                    self.server.retry_interval = Some(interval);
                }
                other => unreachable!("-{other} is listed and not handled"),
            }
        }
        if self.cluster.join_token.is_none() {
            let token = std::env::var("COS_JOIN_TOKEN").ok();
            self.cluster.join_token = token.filter(|token| !token.is_empty());
        }
        if !joins.is_empty() {
            self.server.retry_join = joins;
        }
        Ok(())
    }
}
