//! The drivers of one machine, made once from the agent's configuration.
//!
//! # Invariants
//!
//! - **Unknown plugin options are errors**, with the plugin and the option in the message.
//! - **Every driver is there**, also one that is switched off; its fingerprint says why it cannot
//!   be used. Only `driver.allowlist` and `driver.denylist` leave drivers out.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use cos_model::Value;
use cos_platform::Tasks;

use crate::docker::{self, Docker};
use crate::driver::{ConfigError, Driver};
use crate::exec::{self, Exec};
use crate::raw_exec::{self, RawExec};

/// What the agent's configuration says about drivers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PluginConfigs {
    /// `plugin "<name>" { config { … } }`: the content of each `config` block, by plugin name.
    pub plugins: BTreeMap<String, BTreeMap<String, Value>>,
    /// `client { options { … } }`, the older way to say some of it.
    pub options: BTreeMap<String, String>,
}

/// What drivers need of the agent.
#[derive(Clone, Debug)]
pub struct Environment {
    /// The program that calls [`crate::shim::main`] when its first argument is `shim`; usually
    /// `/proc/self/exe`.
    pub executable: PathBuf,
    /// How many files a task may open before it asks for more; as many as the agent if absent. An
    /// agent that raised its own limit says here what it was, because programs that are not made
    /// for more would break.
    pub open_files: Option<u64>,
    /// `client { chroot_env { … } }`: host path → path inside, for `exec`. Empty is the default set.
    pub chroot_env: BTreeMap<PathBuf, PathBuf>,
    /// Where background work, such as following a container's logs, is spawned.
    pub tasks: Tasks,
}

/// A driver's configuration is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("plugin \"{plugin}\": {why}")]
pub struct PluginError {
    /// The plugin.
    pub plugin: String,
    /// What is wrong.
    pub why: String,
}

/// The drivers of one machine.
#[derive(Clone, Debug)]
pub struct Drivers {
    by_name: BTreeMap<&'static str, Arc<dyn Driver>>,
}

impl Drivers {
    /// Makes all drivers. `environment` is kept by those that start processes.
    pub fn new(configs: &PluginConfigs, environment: &Environment) -> Result<Self, PluginError> {
        let known = [docker::NAME, exec::NAME, raw_exec::NAME];
        if let Some(name) = configs.plugins.keys().find(|name| !known.contains(&name.as_str())) {
            let why = "there is no such driver".to_owned();
            return Err(PluginError { plugin: name.clone(), why });
        }
        let none = BTreeMap::new();
        let block = |name: &str| configs.plugins.get(name).unwrap_or(&none);
        let failed = |plugin: &str| {
            let plugin = plugin.to_owned();
            move |error: ConfigError| PluginError { plugin, why: error.to_string() }
        };
        let legacy = &configs.options;
        let raw_exec = RawExec::new(block(raw_exec::NAME), legacy, environment)
            .map_err(failed(raw_exec::NAME))?;
        let exec = Exec::new(block(exec::NAME), environment).map_err(failed(exec::NAME))?;
        let docker =
            Docker::new(block(docker::NAME), legacy, environment).map_err(failed(docker::NAME))?;
        let all: [Arc<dyn Driver>; 3] = [Arc::new(raw_exec), Arc::new(exec), Arc::new(docker)];
        let by_name = all
            .into_iter()
            .map(|driver| (driver.name(), driver))
            .filter(|(name, _)| is_listed(legacy, name))
            .collect();
        Ok(Self { by_name })
    }

    /// Returns a driver by name.
    pub fn get(&self, name: &str) -> Option<&Arc<dyn Driver>> {
        self.by_name.get(name)
    }

    /// Returns all drivers, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &Arc<dyn Driver>)> {
        self.by_name.iter().map(|(name, driver)| (*name, driver))
    }
}

/// Whether the older lists of the client options, under either of their names, let a driver be.
fn is_listed(options: &BTreeMap<String, String>, name: &str) -> bool {
    let list = |keys: [&str; 2]| {
        let text = keys.iter().find_map(|key| options.get(*key))?;
        let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
        Some(names.map(str::to_owned).collect::<Vec<_>>()).filter(|names| !names.is_empty())
    };
    let allowed = list(["driver.allowlist", "driver.whitelist"]);
    let denied = list(["driver.denylist", "driver.blacklist"]);
    let has = |names: Vec<String>| names.iter().any(|listed| listed == name);
    allowed.is_none_or(has) && !denied.is_some_and(has)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(plugin: &str, key: &str, value: Value, want: Result<(), &str>) {
        let block = BTreeMap::from([(key.to_owned(), value)]);
        let configs = PluginConfigs {
            plugins: BTreeMap::from([(plugin.to_owned(), block)]),
            options: BTreeMap::new(),
        };
        let environment = Environment {
            executable: PathBuf::from("/proc/self/exe"),
            open_files: None,
            chroot_env: BTreeMap::new(),
            tasks: Tasks::new(),
        };
        let made = Drivers::new(&configs, &environment).map(drop);
        assert_eq!(made.map_err(|error| error.to_string()), want.map_err(str::to_owned));
    }

    #[test]
    fn mistakes_in_plugin_blocks_are_named() {
        check("raw_exec", "enabled", Value::Bool(true), Ok(()));
        check(
            "raw_exec",
            "enable",
            Value::Bool(true),
            Err("plugin \"raw_exec\": driver raw_exec: unknown option `enable`"),
        );
        check(
            "exec",
            "default_pid_mode",
            Value::String("mine".into()),
            Err("plugin \"exec\": driver exec: option `default_pid_mode`: `mine` is neither \
                 `private` nor `host`"),
        );
        check("qemu", "x", Value::Null, Err("plugin \"qemu\": there is no such driver"));
    }

    #[test]
    fn the_older_lists_leave_drivers_out() {
        for (key, list, want) in [
            ("driver.allowlist", "exec, docker", true),
            ("driver.whitelist", "raw_exec", false),
            ("driver.denylist", "exec", false),
            ("driver.blacklist", "", true),
            ("other", "raw_exec", true),
        ] {
            let options = BTreeMap::from([(key.to_owned(), list.to_owned())]);
            assert_eq!(is_listed(&options, "exec"), want, "{key} = {list}");
        }
    }
}
