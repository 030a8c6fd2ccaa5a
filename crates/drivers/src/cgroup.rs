//! Control groups of tasks: limits, counting, and a sure way to kill everything.
//!
//! A [`Cgroups`] is what this machine offers, found from its mounts; a [`Group`] is one task's
//! directories in it, which is plain data that the shim gets with its specification.
//!
//! # Invariants
//!
//! - Version 1, version 2 and the mix of both are one shape: a map from controller to directory. In
//!   version 2 all controllers share the directory; in the mix the unified directory comes along
//!   only for its `cgroup.kill`.
//! - A limit that cannot be set is an error, never a weaker limit.
//! - Everything of cos is below one parent directory, which goes with its last child.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::driver::{Limits, TaskStats};

/// The controllers of version 1 that tasks are put under.
const CONTROLLERS: [&str; 5] = ["memory", "cpu", "cpuacct", "pids", "freezer"];

/// The directory of cos in version 1 and in the unified directory of a mix.
const PARENT_V1: &str = "cos";

/// The directory of cos in version 2, where systemd expects such a name.
const PARENT_V2: &str = "cos.slice";

/// The key of the unified directory in a [`Group`].
const UNIFIED: &str = "unified";

/// How often a directory is made while others remove its parent.
const MAKE_ATTEMPTS_MAX: u32 = 20;

/// How often a killed group is looked at before it counts as stuck. Each look kills anew.
const KILL_ROUNDS_MAX: u32 = 200;

/// How long a dying process is given between two looks.
const KILL_PAUSE: Duration = Duration::from_millis(5);

/// What the machine offers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cgroups {
    v1: BTreeMap<String, PathBuf>,
    unified: Option<PathBuf>,
}

/// Which version does the limiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Version {
    /// One directory per controller, possibly beside a unified one.
    One,
    /// One directory.
    Two,
}

/// One task's control group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Group {
    version: Version,
    dirs: BTreeMap<String, PathBuf>,
}

/// A control group could not be made.
#[derive(Debug, thiserror::Error)]
#[error("failed to set up control group {path}: {source}")]
pub(crate) struct CgroupError {
    path: PathBuf,
    source: io::Error,
}

impl Cgroups {
    /// Looks at this machine's mounts.
    pub(crate) fn detect() -> Result<Self, String> {
        let mounts = fs::read_to_string("/proc/self/mounts")
            .map_err(|error| format!("failed to read /proc/self/mounts: {error}"))?;
        Self::from_mounts(&mounts).ok_or_else(|| "no control groups are mounted".to_owned())
    }

    /// Reads a table of mounts; `None` if it has no usable control groups.
    pub(crate) fn from_mounts(mounts: &str) -> Option<Self> {
        let mut v1 = BTreeMap::new();
        let mut unified = None;
        for line in mounts.lines() {
            let mut fields = line.split_ascii_whitespace().skip(1);
            let (Some(path), Some(kind), Some(flags)) =
                (fields.next(), fields.next(), fields.next())
            else {
                continue;
            };
            match kind {
                "cgroup2" => unified = Some(PathBuf::from(path)),
                "cgroup" => {
                    for controller in CONTROLLERS {
                        if flags.split(',').any(|flag| flag == controller) {
                            v1.insert(controller.to_owned(), PathBuf::from(path));
                        }
                    }
                }
                _ => {}
            }
        }
        (v1.contains_key("memory") || (v1.is_empty() && unified.is_some()))
            .then_some(Self { v1, unified })
    }

    /// Which version does the limiting.
    pub(crate) fn version(&self) -> Version {
        if self.v1.is_empty() { Version::Two } else { Version::One }
    }

    /// Makes and removes a group, to find out whether that can be done here.
    pub(crate) fn probe(&self) -> Result<(), String> {
        let name = format!("probe-{:032x}", cos_platform::entropy::draw());
        let limits = Limits { cpu_mhz: 100, memory_mib: 64, memory_max_mib: 0 };
        let group = self.create(&name, &limits, None).map_err(|error| error.to_string())?;
        group.remove().map_err(|error| error.to_string())
    }

    /// Makes a group with these limits; zero limits nothing.
    pub(crate) fn create(
        &self,
        name: &str,
        limits: &Limits,
        pids_max: Option<u64>,
    ) -> Result<Group, CgroupError> {
        let group = self.group(name);
        let made = group.make(limits, pids_max);
        if made.is_err() {
            // The error at hand says more than one about tidying up would.
            drop(group.remove());
        }
        made.map(|()| group)
    }

    fn group(&self, name: &str) -> Group {
        let name: String = name
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' })
            .collect();
        let version = self.version();
        let mut dirs = BTreeMap::new();
        for (controller, mount) in &self.v1 {
            dirs.insert(controller.clone(), mount.join(PARENT_V1).join(&name));
        }
        if let Some(mount) = &self.unified {
            let dir = match version {
                Version::One => mount.join(PARENT_V1).join(&name),
                Version::Two => mount.join(PARENT_V2).join(format!("{name}.scope")),
            };
            dirs.insert(UNIFIED.to_owned(), dir);
        }
        Group { version, dirs }
    }
}

impl Group {
    /// Opens the unified directory, so that a child can be born in it.
    pub(crate) fn birthplace(&self) -> Option<fs::File> {
        fs::File::open(self.dirs.get(UNIFIED)?).ok()
    }

    /// Moves the calling process in, which must have one thread only; one that was born in the
    /// unified directory need not be moved there.
    ///
    /// To move a process the kernel stops all others from forking, and may wait some 20 ms until it
    /// can. A birth does without, and so does a thread that moves itself, which version 1 lets it.
    pub(crate) fn join(&self, born_inside: bool) -> io::Result<()> {
        for dir in self.distinct_dirs() {
            let is_unified = self.dirs.get(UNIFIED).is_some_and(|unified| unified == dir);
            match (is_unified, born_inside) {
                (true, true) => {}
                (true, false) => fs::write(dir.join("cgroup.procs"), "0")?,
                (false, _) => fs::write(dir.join("tasks"), "0")?,
            }
        }
        Ok(())
    }

    /// Kills everything inside and returns when nothing is left.
    pub(crate) fn kill_all(&self) -> io::Result<()> {
        for round in 0..KILL_ROUNDS_MAX {
            let pids = self.pids();
            if pids.is_empty() {
                return Ok(());
            }
            self.kill_once(&pids);
            if round > 0 {
                pause(KILL_PAUSE);
            }
        }
        Err(io::Error::new(io::ErrorKind::TimedOut, "processes survive being killed"))
    }

    /// How often the kernel killed a process inside for want of memory.
    pub(crate) fn oom_kills(&self) -> u64 {
        match self.version {
            Version::One => self.field("memory", "memory.oom_control", "oom_kill"),
            Version::Two => self.field(UNIFIED, "memory.events", "oom_kill"),
        }
    }

    /// What is used inside.
    pub(crate) fn stats(&self) -> TaskStats {
        match self.version {
            Version::One => TaskStats {
                cpu_time: Duration::from_nanos(self.number("cpuacct", "cpuacct.usage")),
                memory_rss: self.field("memory", "memory.stat", "total_rss")
                    + self.field("memory", "memory.stat", "total_mapped_file"),
                memory_usage: self.number("memory", "memory.usage_in_bytes"),
                memory_max_usage: self.number("memory", "memory.max_usage_in_bytes"),
                pids: self.number("pids", "pids.current"),
            },
            Version::Two => TaskStats {
                cpu_time: Duration::from_micros(self.field(UNIFIED, "cpu.stat", "usage_usec")),
                memory_rss: self.field(UNIFIED, "memory.stat", "anon")
                    + self.field(UNIFIED, "memory.stat", "file_mapped"),
                memory_usage: self.number(UNIFIED, "memory.current"),
                memory_max_usage: self.number(UNIFIED, "memory.peak"),
                pids: self.number(UNIFIED, "pids.current"),
            },
        }
    }

    /// Removes the directories, and the parents if they are empty then. Nothing may run inside.
    pub(crate) fn remove(&self) -> io::Result<()> {
        for dir in self.distinct_dirs() {
            match fs::remove_dir(dir) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
            if let Some(parent) = dir.parent() {
                // It stays as long as other tasks have their groups in it.
                drop(fs::remove_dir(parent));
            }
        }
        Ok(())
    }

    fn make(&self, limits: &Limits, pids_max: Option<u64>) -> Result<(), CgroupError> {
        for dir in self.distinct_dirs() {
            let at = |source| CgroupError { path: dir.to_owned(), source };
            self.make_dir(dir).map_err(at)?;
        }
        for (controller, file, value, duty) in self.settings(limits, pids_max) {
            let Some(dir) = self.dirs.get(controller) else { continue };
            let path = dir.join(file);
            match fs::write(&path, value) {
                Err(source) if duty == Duty::Must => return Err(CgroupError { path, source }),
                // Swap accounting is often compiled out; there is then no swap limit to set.
                _ => {}
            }
        }
        Ok(())
    }

    /// Another task that ends may take the empty parent away in between.
    fn make_dir(&self, dir: &Path) -> io::Result<()> {
        let make = || {
            if self.version == Version::Two {
                enable_controllers(dir)?;
            }
            fs::create_dir_all(dir)
        };
        for _ in 1..MAKE_ATTEMPTS_MAX {
            match make() {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                done => return done,
            }
        }
        make()
    }

    /// What is to be written where.
    fn settings(
        &self,
        limits: &Limits,
        pids_max: Option<u64>,
    ) -> Vec<(&'static str, &'static str, String, Duty)> {
        let memory = limits.memory_bytes_max().map(|bytes| bytes.to_string());
        let reserved = limits.memory_bytes_reserved().map(|bytes| bytes.to_string());
        let shares = (limits.cpu_mhz > 0).then(|| limits.cpu_mhz.clamp(2, 262_144));
        let mut settings = Vec::new();
        let mut set = |controller, file, value: Option<String>, duty| {
            settings.extend(value.map(|value| (controller, file, value, duty)));
        };
        match self.version {
            Version::One => {
                set("memory", "memory.limit_in_bytes", memory.clone(), Duty::Must);
                set("memory", "memory.memsw.limit_in_bytes", memory, Duty::May);
                set("memory", "memory.soft_limit_in_bytes", reserved, Duty::Must);
                set("cpu", "cpu.shares", shares.map(|shares| shares.to_string()), Duty::Must);
                set("pids", "pids.max", pids_max.map(|max| max.to_string()), Duty::Must);
            }
            Version::Two => {
                let no_swap = memory.as_ref().map(|_| "0".to_owned());
                set(UNIFIED, "memory.max", memory, Duty::Must);
                set(UNIFIED, "memory.swap.max", no_swap, Duty::May);
                set(UNIFIED, "memory.low", reserved, Duty::Must);
                let weight = shares.map(|shares| (1 + (shares - 2) * 9_999 / 262_142).to_string());
                set(UNIFIED, "cpu.weight", weight, Duty::Must);
                set(UNIFIED, "pids.max", pids_max.map(|max| max.to_string()), Duty::Must);
            }
        }
        settings
    }

    /// Several controllers may be mounted together and then share a directory.
    fn distinct_dirs(&self) -> Vec<&Path> {
        let mut dirs: Vec<&Path> = self.dirs.values().map(PathBuf::as_path).collect();
        dirs.sort_unstable();
        dirs.dedup();
        dirs
    }

    fn pids(&self) -> Vec<i32> {
        let Some(dir) = self.dirs.get(UNIFIED).or_else(|| self.dirs.values().next()) else {
            return Vec::new();
        };
        let text = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
        text.lines().filter_map(|line| line.trim().parse().ok()).collect()
    }

    /// One write kills all at once where the kernel can. Otherwise the group is frozen first, so
    /// that it cannot fork away.
    fn kill_once(&self, pids: &[i32]) {
        let at_once = self.dirs.get(UNIFIED).map(|dir| dir.join("cgroup.kill"));
        if at_once.is_some_and(|path| path.exists() && fs::write(path, "1").is_ok()) {
            return;
        }
        let freezer = self.dirs.get("freezer").map(|dir| dir.join("freezer.state"));
        let freeze = |state: &str| {
            // Without a freezer the rounds of the caller catch up with what forks.
            drop(freezer.as_ref().map(|path| fs::write(path, state)));
        };
        freeze("FROZEN");
        for pid in pids {
            kill(*pid, libc::SIGKILL);
        }
        freeze("THAWED");
    }

    fn number(&self, controller: &str, file: &str) -> u64 {
        self.read(controller, file).trim().parse().unwrap_or(0)
    }

    fn field(&self, controller: &str, file: &str, name: &str) -> u64 {
        let text = self.read(controller, file);
        text.lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
            .unwrap_or(0)
    }

    fn read(&self, controller: &str, file: &str) -> String {
        let dir = self.dirs.get(controller);
        dir.and_then(|dir| fs::read_to_string(dir.join(file)).ok()).unwrap_or_default()
    }
}

/// Whether a setting is needed for what was promised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Duty {
    Must,
    May,
}

/// Lets the children of `dir`'s ancestors be limited, from the mount down.
fn enable_controllers(dir: &Path) -> io::Result<()> {
    let Some(parent) = dir.parent() else { return Ok(()) };
    let Some(mount) = parent.parent() else { return Ok(()) };
    fs::create_dir_all(parent)?;
    for level in [mount, parent] {
        let path = level.join("cgroup.subtree_control");
        let enabled = fs::read_to_string(&path).unwrap_or_default();
        for controller in ["memory", "cpu", "pids"] {
            if !enabled.split_ascii_whitespace().any(|name| name == controller) {
                fs::write(&path, format!("+{controller}"))?;
            }
        }
    }
    Ok(())
}

/// Sends a signal; a process that is gone already has had its way.
pub(crate) fn kill(pid: i32, signal: i32) {
    // SAFETY: kill(2) takes two numbers and touches no memory.
    #[expect(unsafe_code, reason = "signals beyond nix's enum, and negative numbers for groups")]
    unsafe {
        libc::kill(pid, signal)
    };
}

/// Waits without a clock: nothing becomes ready on an empty poll set before its timeout.
pub(crate) fn pause(time: Duration) {
    let millis = u16::try_from(time.as_millis()).unwrap_or(u16::MAX);
    // An interruption only makes the pause shorter.
    let _ = nix::poll::poll(&mut [], nix::poll::PollTimeout::from(millis));
}

#[cfg(test)]
mod tests;
