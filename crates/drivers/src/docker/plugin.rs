//! The operator's options of the `docker` driver, in the plugin block or as older client options.

use std::collections::BTreeMap;
use std::time::Duration;

use cos_model::Value;

use super::NAME;
use super::options::{Logging, read_logging, time};
use crate::capability::Capabilities;
use crate::driver::ConfigError;
use crate::options::Options;

/// Where an engine listens if the operator says nothing.
const DEFAULT_ENDPOINT: &str = "unix:///var/run/docker.sock";

/// How long a pull may take if nobody says otherwise.
const PULL_TIME_MAX: Duration = Duration::from_mins(5);

/// How long an unused image is kept if the operator says nothing.
const IMAGE_DELAY: Duration = Duration::from_mins(3);

/// Options of the plugin.
const PLUGIN_KNOWN: [&str; 12] = [
    "endpoint",
    "auth",
    "extra_labels",
    "logging",
    "gc",
    "volumes",
    "allow_privileged",
    "allow_caps",
    "container_exists_attempts",
    "image_pull_timeout",
    "pull_activity_timeout",
    "pids_limit",
];

/// Options of the plugin that are refused.
const PLUGIN_REFUSED: [(&str, &str); 9] = [
    ("tls", "the engine is reached through its unix socket only"),
    ("nvidia_runtime", "devices are not supported"),
    ("allow_runtimes", "the engine's default runtime is used"),
    ("infra_image", "group networks of mode `bridge` are not supported"),
    ("infra_image_pull_timeout", "group networks of mode `bridge` are not supported"),
    ("oom_score_adj", "set it per task"),
    ("disable_log_collection", "use `logs { disabled = true }` in the task"),
    ("windows_allow_insecure_container_admin", "it is an option of Windows"),
    ("allowed_modes", "host namespaces go with `allow_privileged`"),
];

/// What the operator set.
#[derive(Clone, Debug)]
pub(super) struct PluginOptions {
    /// The engine's socket, as a path.
    pub(super) socket: String,
    /// A configuration file of Docker's client, for credentials.
    pub(super) auth_config: String,
    /// A credential helper for all registries.
    pub(super) auth_helper: String,
    /// Which facts about the allocation become labels.
    pub(super) extra_labels: Vec<String>,
    /// Logging of tasks that say nothing.
    pub(super) logging: Option<Logging>,
    /// Whether images that cos pulled are removed after their last use.
    pub(super) gc_image: bool,
    /// How long after.
    pub(super) gc_image_delay: Duration,
    /// Whether containers are removed after their end.
    pub(super) gc_container: bool,
    /// Whether tasks may mount any path of the host.
    pub(super) volumes: bool,
    /// Whether tasks may be privileged.
    pub(super) allow_privileged: bool,
    /// Which capabilities tasks may have.
    pub(super) allow_caps: Capabilities,
    /// How long a pull may take.
    pub(super) pull_time_max: Duration,
    /// Processes per container if the task says nothing; 0 is no limit.
    pub(super) pids_limit: i64,
}

impl PluginOptions {
    /// Reads the plugin block and the older client options, which give way to it.
    pub(super) fn read(
        plugin: &BTreeMap<String, Value>,
        legacy: &BTreeMap<String, String>,
    ) -> Result<Self, ConfigError> {
        let options = Options::new(NAME, plugin, &PLUGIN_KNOWN, &PLUGIN_REFUSED)?;
        let old = |key: &str| legacy.get(key).cloned().unwrap_or_default();
        let old_truth = |key: &str| legacy.get(key).map(|text| text == "1" || text == "true");
        let or = |text: String, key: &str| if text.is_empty() { old(key) } else { text };
        let empty = BTreeMap::new();
        let block = |key: &str, known: &[&str]| {
            Options::new(NAME, options.block(key)?.unwrap_or(&empty), known, &[])
        };
        let auth = block("auth", &["config", "helper"])?;
        let gc = block("gc", &["image", "image_delay", "container", "dangling_containers"])?;
        let volumes = block("volumes", &["enabled", "selinuxlabel"])?;
        let socket = or(options.text("endpoint")?, "docker.endpoint");
        let mut allow_caps = options.texts("allow_caps")?;
        if allow_caps.is_empty() {
            let list = or(old("docker.caps.allowlist"), "docker.caps.whitelist");
            let names = list.split(',').map(str::trim).filter(|name| !name.is_empty());
            allow_caps = names.map(str::to_owned).collect();
        }
        let delay = or(gc.text("image_delay")?, "docker.cleanup.image.delay");
        Ok(Self {
            socket: socket_path(&socket).map_err(|why| options.invalid("endpoint", why))?,
            auth_config: or(auth.text("config")?, "docker.auth.config"),
            auth_helper: or(auth.text("helper")?, "docker.auth.helper"),
            extra_labels: options.texts("extra_labels")?,
            logging: read_logging(&options)?,
            gc_image: gc
                .truth("image")?
                .or_else(|| old_truth("docker.cleanup.image"))
                .unwrap_or(true),
            gc_image_delay: time(&gc, "image_delay", &delay)?.unwrap_or(IMAGE_DELAY),
            gc_container: gc
                .truth("container")?
                .or_else(|| old_truth("docker.cleanup.container"))
                .unwrap_or(true),
            volumes: volumes
                .truth("enabled")?
                .or_else(|| old_truth("docker.volumes.enabled"))
                .unwrap_or(false),
            allow_privileged: options
                .truth("allow_privileged")?
                .or_else(|| old_truth("docker.privileged.enabled"))
                .unwrap_or(false),
            allow_caps: if allow_caps.is_empty() {
                Capabilities::default_allowed()
            } else {
                Capabilities::parse(&allow_caps)
                    .map_err(|why| options.invalid("allow_caps", why))?
            },
            pull_time_max: time(
                &options,
                "image_pull_timeout",
                &options.text("image_pull_timeout")?,
            )?
            .unwrap_or(PULL_TIME_MAX),
            pids_limit: options.number("pids_limit")?.unwrap_or(0),
        })
    }
}

impl PluginOptions {
    /// How long after its last use an image is removed; `None` is never.
    pub(super) fn image_delay(&self) -> Option<Duration> {
        self.gc_image.then_some(self.gc_image_delay)
    }
}

fn socket_path(endpoint: &str) -> Result<String, String> {
    let endpoint = if endpoint.is_empty() { DEFAULT_ENDPOINT } else { endpoint };
    match endpoint.strip_prefix("unix://") {
        Some(path) => Ok(path.to_owned()),
        None => Err(format!("`{endpoint}` is not supported, only `unix://…`")),
    }
}
