//! Processes and control groups, as the kernel shows them.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How often killed processes are looked at before that counts as a failure of the machine.
const LOOKS_MAX: u32 = 1000;

/// A process that cannot be mistaken for a later one of the same number.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Process {
    pid: i32,
    started: String,
}

impl Process {
    /// The process that has this number now, unless it has ended.
    pub(crate) fn find(pid: i32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name, in brackets, may hold anything; what follows is plain.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let is_zombie = fields.first() == Some(&"Z");
        let started = (*fields.get(19)?).to_owned();
        (!is_zombie).then_some(Self { pid, started })
    }

    /// Whether it is still there.
    pub(crate) fn is_alive(&self) -> bool {
        Self::find(self.pid).as_ref() == Some(self)
    }

    /// Kills it, unless it has ended.
    pub(crate) fn kill(&self) {
        if self.is_alive() {
            // It may end between the two.
            kill(Pid::from_raw(self.pid), Signal::SIGKILL).ok();
        }
    }
}

/// Every process with `dir` on its command line or in its environment, as agents, shims and tasks
/// have, with everything that descends from one.
pub(super) fn of(dir: &Path) -> Vec<Process> {
    let dir = dir.as_os_str().as_bytes();
    let names_dir = |pid: i32, file: &str| {
        fs::read(format!("/proc/{pid}/{file}"))
            .is_ok_and(|bytes| bytes.windows(dir.len()).any(|window| window == dir))
    };
    let all: Vec<(i32, i32)> = all();
    let mut found: BTreeSet<i32> = all
        .iter()
        .map(|(pid, _)| *pid)
        .filter(|pid| names_dir(*pid, "cmdline") || names_dir(*pid, "environ"))
        .collect();
    loop {
        let before = found.len();
        found.extend(
            all.iter()
                .filter(|(_, parent)| found.contains(parent))
                .map(|(pid, _)| *pid)
                .collect::<Vec<_>>(),
        );
        if found.len() == before {
            return found.into_iter().filter_map(Process::find).collect();
        }
    }
}

/// Every process but this one, with its parent.
fn all() -> Vec<(i32, i32)> {
    let own = std::process::id().to_string();
    let entries = fs::read_dir("/proc").expect("there is /proc").flatten();
    entries
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok().filter(|name| *name != own)?;
            let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
            let parent = stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()?;
            Some((name.parse().ok()?, parent))
        })
        .collect()
}

/// Kills all of [`of`] and waits until they are gone.
#[expect(clippy::disallowed_methods, reason = "this runs while a test fails, outside its runtime")]
pub(super) fn end_all(dir: &Path) {
    for _ in 0..LOOKS_MAX {
        let found = of(dir);
        if found.is_empty() {
            return;
        }
        found.iter().for_each(Process::kill);
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The control groups of these allocations.
pub(super) fn groups(allocs: &[String]) -> Vec<PathBuf> {
    const DEPTH_MAX: usize = 4;
    let mut found = Vec::new();
    let mut open = vec![(PathBuf::from("/sys/fs/cgroup"), 0)];
    while let Some((dir, depth)) = open.pop() {
        for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
            if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            let name = entry.file_name().to_string_lossy().into_owned();
            if allocs.iter().any(|alloc| name.starts_with(alloc.as_str())) {
                found.push(entry.path());
            } else if depth < DEPTH_MAX {
                open.push((entry.path(), depth + 1));
            }
        }
    }
    found
}
