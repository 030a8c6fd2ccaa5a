//! Processes as `/proc` shows them, told apart from later ones of the same number.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use nix::unistd::{SysconfVar, sysconf};

use crate::driver::{ProcessId, TaskStats};

/// What `/proc/<pid>/stat` says.
struct Stat {
    state: u8,
    process_group: i32,
    cpu_ticks: u64,
    start_time: u64,
    resident_pages: u64,
}

impl ProcessId {
    /// Identifies the process that has this number now.
    pub(crate) fn of(pid: i32) -> io::Result<Self> {
        let stat = read_stat(pid)?;
        Ok(Self { pid, start_time: stat.start_time })
    }

    /// Whether this process, and no later one of its number, still runs. A zombie does not.
    pub(crate) fn is_running(self) -> bool {
        self.pid > 0
            && read_stat(self.pid).is_ok_and(|stat| {
                stat.start_time == self.start_time && !matches!(stat.state, b'Z' | b'X')
            })
    }
}

/// Returns the kernel's id of this boot, so that process numbers from before it are not believed.
pub(crate) fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map(|text| text.trim().to_owned())
        .unwrap_or_default()
}

/// Returns the children of the calling thread, which has adopted orphans if it is a subreaper.
/// Empty where the kernel does not tell.
pub(crate) fn own_children() -> Vec<i32> {
    let pid = std::process::id();
    let path = format!("/proc/{pid}/task/{pid}/children");
    let text = fs::read_to_string(Path::new(&path)).unwrap_or_default();
    text.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

/// Whether a signal would do nothing at all: the process neither catches, blocks nor ignores it.
/// For the first process of a pid namespace that means that the kernel drops it.
pub(crate) fn leaves_to_default(pid: i32, signal: i32) -> bool {
    let Ok(status) = fs::read_to_string(format!("/proc/{pid}/status")) else { return false };
    let mask = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key));
        line.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
    };
    let bit = 1_u64 << (signal - 1);
    [mask("SigBlk:"), mask("SigIgn:"), mask("SigCgt:")]
        .into_iter()
        .all(|mask| mask.is_some_and(|mask| mask & bit == 0))
}

/// What a process group uses, where there is no control group to ask.
pub(crate) fn group_stats(process_group: i32) -> TaskStats {
    let setting = |name| sysconf(name).ok().flatten().and_then(|value| u64::try_from(value).ok());
    let page_bytes = setting(SysconfVar::PAGE_SIZE).unwrap_or(4096);
    let ticks_per_second = setting(SysconfVar::CLK_TCK).unwrap_or(100).max(1);
    let mut stats = TaskStats::default();
    let mut ticks = 0;
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    for stat in pids.filter_map(|pid| read_stat(pid).ok()) {
        if stat.process_group == process_group {
            ticks += stat.cpu_ticks;
            stats.memory_rss += stat.resident_pages * page_bytes;
            stats.pids += 1;
        }
    }
    stats.memory_usage = stats.memory_rss;
    stats.cpu_time = Duration::from_millis(ticks * 1000 / ticks_per_second);
    stats
}

fn read_stat(pid: i32) -> io::Result<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    parse_stat(&text).ok_or_else(|| io::Error::other(format!("/proc/{pid}/stat is malformed")))
}

/// The second field is the program's name in parentheses and may itself contain anything.
fn parse_stat(text: &str) -> Option<Stat> {
    let (_, rest) = text.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    // The first of them is the third of the line, which is counted from one.
    let field = |number: usize| fields.get(number - 3).copied();
    let number = |at| field(at)?.parse::<u64>().ok();
    Some(Stat {
        state: *field(3)?.as_bytes().first()?,
        process_group: field(5)?.parse().ok()?,
        cpu_ticks: number(14)? + number(15)?,
        start_time: number(22)?,
        resident_pages: number(24)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_name_with_parentheses_does_not_confuse() {
        let line = "7 (a) R (b) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 20 21";
        let stat = parse_stat(line).expect("the line is complete");
        assert_eq!((stat.state, stat.start_time), (b'S', 4711));
    }

    #[test]
    fn this_process_runs_and_one_with_another_start_time_does_not() {
        let own = i32::try_from(std::process::id()).expect("process numbers are small");
        let this = ProcessId::of(own).expect("/proc shows this process");
        assert!(this.is_running());
        assert!(!ProcessId { start_time: this.start_time + 1, ..this }.is_running());
    }
}
