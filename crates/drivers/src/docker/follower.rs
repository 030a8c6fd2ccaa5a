//! Copies a container's output from the engine into the rotated log files.
//!
//! The engine outlives the agent, so nothing is lost while the agent is away: the position, which is
//! the time stamp of the last line copied, is kept in the task's state directory, and a new
//! follower goes on from there.
//!
//! # Invariants
//!
//! - The position is written after the line; an agent killed between the two copies a line twice
//!   rather than losing it.
//! - A logging driver that cannot be read is told once and ends the copying.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bollard::Docker;
use bollard::container::LogOutput;
use bollard::query_parameters::LogsOptions;
use cos_platform::{Fate, Tasks};
use futures_util::StreamExt;
use tokio::sync::watch;

use crate::driver::ContainerReference;
use crate::logs::Rotator;

/// The file that keeps the position.
const POSITION_FILE: &str = "docker-logs.position";

/// The length of a time stamp with nanoseconds, padded by the engine.
const STAMP_BYTES: usize = "2006-01-02T15:04:05.000000000Z".len();

/// How long the end of the output is awaited after the end of the container.
const DRAIN_TIME: Duration = Duration::from_secs(2);

/// Bytes in a MiB.
const MIB: u64 = 1024 * 1024;

/// The followers of one driver, by container. Clones share them.
#[derive(Clone, Debug, Default)]
pub(super) struct Followers {
    running: Arc<Mutex<BTreeMap<String, watch::Receiver<()>>>>,
}

impl Followers {
    /// Starts to copy a container's output, unless that is being done.
    pub(super) fn follow(&self, docker: &Docker, container: &ContainerReference, tasks: &Tasks) {
        if container.logs.disabled {
            return;
        }
        let (alive, done) = watch::channel(());
        {
            let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
            let is_followed =
                running.get(&container.container).is_some_and(|done| done.has_changed().is_ok());
            if is_followed {
                return;
            }
            running.insert(container.container.clone(), done);
        }
        let (docker, container) = (docker.clone(), container.clone());
        let stopping = tasks.stopping();
        tasks.spawn("docker logs", Fate::Ends, async move {
            tokio::select! {
                // The next agent goes on from the position.
                () = stopping.cancelled() => {}
                copied = copy(&docker, &container) => if let Err(error) = copied {
                    tracing::warn!(container = container.container, %error, "logs not collected");
                },
            }
            drop(alive);
        });
    }

    /// Waits, not for long, until the output of an ended container is copied.
    pub(super) async fn drain(&self, container: &str) {
        let done = {
            let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
            running.get(container).cloned()
        };
        if let Some(mut done) = done {
            // Either way the exit is told now.
            drop(tokio::time::timeout(DRAIN_TIME, done.changed()).await);
        }
    }

    /// Forgets a container.
    pub(super) fn forget(&self, container: &str) {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).remove(container);
    }
}

async fn copy(docker: &Docker, container: &ContainerReference) -> Result<(), String> {
    let open = |kind: &str| {
        let prefix = format!("{}.{kind}", container.task);
        let bytes_max = u64::from(container.logs.max_file_size_mib) * MIB;
        let files_max = u64::from(container.logs.max_files);
        Rotator::open(&container.logs_dir, &prefix, files_max, bytes_max)
    };
    let mut stdout = open("stdout").map_err(|error| error.to_string())?;
    let mut stderr = open("stderr").map_err(|error| error.to_string())?;
    let mut position =
        Position::open(&container.state).map_err(|error| format!("position: {error}"))?;
    let options = LogsOptions {
        follow: true,
        stdout: true,
        stderr: true,
        timestamps: true,
        since: position.unix_seconds(),
        tail: "all".to_owned(),
        ..LogsOptions::default()
    };
    let mut output = Box::pin(docker.logs(&container.container, Some(options)));
    while let Some(message) = output.next().await {
        let (rotator, bytes) = match message.map_err(|error| error.to_string())? {
            LogOutput::StdErr { message } => (&mut stderr, message),
            LogOutput::StdOut { message }
            | LogOutput::Console { message }
            | LogOutput::StdIn { message } => (&mut stdout, message),
        };
        let (stamp, text) = split_stamp(&bytes);
        if stamp.is_some_and(|stamp| !position.is_new(stamp)) {
            continue;
        }
        if let Err(error) = rotator.write(text) {
            tracing::debug!(container = container.container, %error, "output dropped");
        }
        if let Some(stamp) = stamp {
            position.advance(stamp);
        }
    }
    Ok(())
}

/// Splits a line into its time stamp and the rest. Time stamps compare as text.
fn split_stamp(line: &[u8]) -> (Option<&[u8]>, &[u8]) {
    match line.split_at_checked(STAMP_BYTES) {
        Some((stamp, [b' ', text @ ..])) if stamp.ends_with(b"Z") && stamp[10] == b'T' => {
            (Some(stamp), text)
        }
        _ => (None, line),
    }
}

/// How far the output was copied.
struct Position {
    file: File,
    stamp: Vec<u8>,
}

impl Position {
    fn open(state: &Path) -> io::Result<Self> {
        let path = state.join(POSITION_FILE);
        let stamp = fs::read(&path).unwrap_or_default();
        let file = File::options().write(true).create(true).truncate(false).open(path)?;
        Ok(Self { file, stamp })
    }

    fn is_new(&self, stamp: &[u8]) -> bool {
        stamp > self.stamp.as_slice()
    }

    fn advance(&mut self, stamp: &[u8]) {
        self.stamp = stamp.to_vec();
        // A position that cannot be kept makes the next agent copy more than it must.
        drop(self.file.write_all_at(stamp, 0));
    }

    /// The engine takes whole seconds; what it sends twice is skipped.
    fn unix_seconds(&self) -> i32 {
        let text = std::str::from_utf8(&self.stamp).unwrap_or("");
        let number = |from: usize, to: usize| text.get(from..to)?.parse::<i64>().ok();
        let seconds = || {
            let days = days_from_civil(number(0, 4)?, number(5, 7)?, number(8, 10)?);
            Some(((days * 24 + number(11, 13)?) * 60 + number(14, 16)?) * 60 + number(17, 19)?)
        };
        seconds().and_then(|seconds| i32::try_from(seconds).ok()).unwrap_or(0)
    }
}

/// Days from the Unix epoch to a date of the Gregorian calendar.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    // The year begins in March, so that the leap day is its last.
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_survive_and_tell_new_lines_from_old() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut position = Position::open(dir.path()).expect("open");
        assert_eq!(position.unix_seconds(), 0);
        let line = b"2024-02-29T12:30:15.000000001Z hello\n";
        let (stamp, text) = split_stamp(line);
        assert_eq!(text, b"hello\n");
        let stamp = stamp.expect("the line has a time stamp");
        assert!(position.is_new(stamp));
        position.advance(stamp);
        let again = Position::open(dir.path()).expect("open");
        assert!(!again.is_new(stamp));
        assert!(again.is_new(b"2024-02-29T12:30:15.000000002Z"));
        assert_eq!(again.unix_seconds(), 1_709_209_815);
    }

    #[test]
    fn a_line_without_a_stamp_is_kept_whole() {
        let line = b"no stamp here, although this line is quite long";
        assert_eq!(split_stamp(line), (None, line.as_slice()));
    }
}
