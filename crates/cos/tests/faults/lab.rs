//! A network of its own: a bridge in one namespace, every agent in another, nothing of it visible
//! outside.
//!
//! # Invariants
//!
//! - Nothing survives a run: namespaces go when the [`Lab`] goes, also while a run fails or is
//!   interrupted, and those of a run that was killed go when the next one begins.
//! - Rules name the addresses of other agents only, so that the clients of the suite reach every
//!   agent, cut off or not.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, bail};

/// The beginning of the names of our namespaces; the process that made them follows.
const PREFIX: &str = "cosf-";

/// The first three numbers of all addresses. The namespaces are ours alone, so they cannot clash.
const NETWORK: &str = "10.66.0";

/// The namespaces of one run.
#[derive(Debug)]
pub(crate) struct Lab {
    prefix: String,
    made: Vec<String>,
}

/// An agent's end of the network.
#[derive(Clone, Debug)]
pub(crate) struct Port {
    namespace: String,
    /// Its address.
    pub(crate) address: String,
}

impl Lab {
    /// Makes the bridge and moves this thread there, so that every thread and process that it
    /// starts is there as well. Call it before any thread was started.
    pub(crate) fn enter() -> anyhow::Result<Self> {
        remove_orphans();
        let prefix = format!("{PREFIX}{}-", std::process::id());
        let mut lab = Self { prefix, made: Vec::new() };
        let hub = lab.make("hub")?;
        ip(&["-n", &hub, "link", "add", "bridge", "type", "bridge"])?;
        ip(&["-n", &hub, "link", "set", "bridge", "up"])?;
        ip(&["-n", &hub, "addr", "add", &format!("{NETWORK}.254/24"), "dev", "bridge"])?;
        let file = std::fs::File::open(path(&hub)).context("the namespace was just made")?;
        nix::sched::setns(file, nix::sched::CloneFlags::CLONE_NEWNET).context("cannot enter")?;
        Ok(lab)
    }

    /// Connects another agent.
    pub(crate) fn connect(&mut self, number: u8) -> anyhow::Result<Port> {
        let hub = format!("{}hub", self.prefix);
        let namespace = self.make(&number.to_string())?;
        let here = format!("port{number}");
        let address = format!("{NETWORK}.{number}");
        let peer = ["peer", "name", "eth0", "netns", &namespace];
        ip(&[&["-n", &hub, "link", "add", &here, "type", "veth"], &peer[..]].concat())?;
        ip(&["-n", &hub, "link", "set", &here, "master", "bridge", "up"])?;
        ip(&["-n", &namespace, "addr", "add", &format!("{address}/24"), "dev", "eth0"])?;
        ip(&["-n", &namespace, "link", "set", "eth0", "up"])?;
        Ok(Port { namespace, address })
    }

    fn make(&mut self, name: &str) -> anyhow::Result<String> {
        let name = format!("{}{name}", self.prefix);
        ip(&["netns", "add", &name])?;
        self.made.push(name.clone());
        ip(&["-n", &name, "link", "set", "lo", "up"])?;
        Ok(name)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for name in &self.made {
            ip(&["netns", "del", name]).ok();
        }
    }
}

impl Port {
    /// A command that runs at this place of the network, as a process with the number of the
    /// command itself.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", path(&self.namespace).display())).arg("--");
        command
    }

    /// Lets this agent hear nothing from another one.
    pub(crate) fn deafen(&self, other: &Self) -> anyhow::Result<()> {
        self.filter(&["-A", "INPUT", "-s", &other.address, "-j", "DROP"])
    }

    /// Loses this part of what this agent is sent by another one, at random.
    pub(crate) fn lose(&self, other: &Self, part: f64) -> anyhow::Result<()> {
        let part = part.to_string();
        let random = ["-m", "statistic", "--mode", "random", "--probability", &part];
        let rule = [&["-A", "INPUT", "-s", &other.address], &random[..], &["-j", "DROP"]];
        self.filter(&rule.concat())
    }

    /// Lets everything through again.
    pub(crate) fn heal(&self) -> anyhow::Result<()> {
        self.filter(&["-F", "INPUT"])
    }

    fn filter(&self, rule: &[&str]) -> anyhow::Result<()> {
        run(self.command().args(["iptables", "-w"]).args(rule))
    }
}

/// Cuts two agents off from each other.
pub(crate) fn cut(one: &Port, other: &Port) -> anyhow::Result<()> {
    one.deafen(other)?;
    other.deafen(one)
}

fn path(namespace: &str) -> PathBuf {
    PathBuf::from("/run/netns").join(namespace)
}

/// Removes namespaces whose makers are gone.
fn remove_orphans() {
    for entry in std::fs::read_dir("/run/netns").into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let maker = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next());
        if maker.is_some_and(|pid| !PathBuf::from("/proc").join(pid).exists()) {
            ip(&["netns", "del", &name]).ok();
        }
    }
}

fn ip(arguments: &[&str]) -> anyhow::Result<()> {
    run(Command::new("ip").args(arguments))
}

/// Runs a command that has to succeed.
pub(crate) fn run(command: &mut Command) -> anyhow::Result<()> {
    let output = command.output().with_context(|| format!("cannot run {command:?}"))?;
    if !output.status.success() {
        bail!("{command:?} failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
