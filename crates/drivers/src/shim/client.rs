//! The agent's side of the shim: start one, find it again, ask it, and read what it left.
//!
//! # Invariants
//!
//! - A shim is addressed through an open descriptor of its state directory, because the path of a
//!   socket may have 107 bytes only and directories of allocations are longer.
//! - A shim that cannot be reached is believed dead only if its process is gone.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use cos_model::Timestamp;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::process::Command;

use super::protocol::{Reply, Request, Verb};
use super::spec::{
    EXIT_FILE, Exited, RUNNING_FILE, Running, SOCKET_FILE, SPEC_FILE, Spec, VERSION, read_json,
    write_json,
};
use crate::cgroup::kill;
use crate::driver::{ExitResult, ShimReference};
use crate::process;

/// The time until a living shim that did not answer is asked again.
const RETRY_TIME: Duration = Duration::from_millis(50);

/// How often a living shim may fail to answer before that is an error.
const RETRIES_MAX: u32 = 100;

/// Starts a shim and with it the task.
pub(crate) async fn start(
    executable: &Path,
    state: &Path,
    spec: &Spec,
) -> Result<ShimReference, String> {
    let spec_path = state.join(SPEC_FILE);
    write_json(&spec_path, spec)
        .map_err(|error| format!("failed to write {}: {error}", spec_path.display()))?;
    let output = Command::new(executable)
        .args(["shim", "run"])
        .arg(state)
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .output()
        .await
        .map_err(|error| format!("failed to run {}: {error}", executable.display()))?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    let running: Running = serde_json::from_slice(&output.stdout)
        .map_err(|error| format!("the shim's answer is malformed: {error}"))?;
    Ok(reference(state, running))
}

/// Returns what runs, or ran last, in a state directory.
pub(crate) fn find(state: &Path) -> Option<ShimReference> {
    let running: Running = read_json(&state.join(RUNNING_FILE)).ok()?;
    Some(reference(state, running))
}

fn reference(state: &Path, running: Running) -> ShimReference {
    let Running { version: _, boot, shim, task } = running;
    ShimReference { state: state.to_owned(), boot, shim, task }
}

/// Whether shim and task can still be there.
pub(crate) fn is_alive(reference: &ShimReference) -> bool {
    reference.boot == process::boot_id() && reference.shim.is_running()
}

/// Whether the task's main process runs.
pub(crate) fn is_task_running(reference: &ShimReference) -> bool {
    reference.boot == process::boot_id() && reference.task.is_running()
}

/// Returns how the task ended if that was written down.
pub(crate) fn read_exit(reference: &ShimReference) -> Option<ExitResult> {
    // Another run of the task may have taken over the directory.
    let running: Running = read_json(&reference.state.join(RUNNING_FILE)).ok()?;
    if (&running.boot, running.task) != (&reference.boot, reference.task) {
        return None;
    }
    let exited: Exited = read_json(&reference.state.join(EXIT_FILE)).ok()?;
    // Shims of earlier versions noted it beside the result.
    let ended_at = exited.result.ended_at.or(Some(Timestamp(exited.at)));
    Some(ExitResult { ended_at, ..exited.result })
}

/// Waits for the end of the task, also if it ended long ago.
pub(crate) async fn wait(reference: &ShimReference) -> ExitResult {
    loop {
        if let Some(result) = read_exit(reference) {
            return result;
        }
        match ask(&reference.state, Verb::Wait).await {
            Ok(Reply::Exited(result)) => return result,
            _ if is_alive(reference) => tokio::time::sleep(RETRY_TIME).await,
            // It may have written the exit between the two looks.
            _ => return read_exit(reference).unwrap_or_else(|| unknown_exit(reference)),
        }
    }
}

/// Asks a shim to do something. The answer of a task that has ended is its exit.
pub(crate) async fn request(reference: &ShimReference, verb: Verb) -> Result<Reply, String> {
    for _ in 0..RETRIES_MAX {
        if let Some(result) = read_exit(reference) {
            return Ok(Reply::Exited(result));
        }
        match ask(&reference.state, verb.clone()).await {
            Ok(reply) => return Ok(reply),
            Err(_) if is_alive(reference) => tokio::time::sleep(RETRY_TIME).await,
            Err(_) => return Ok(Reply::Exited(wait(reference).await)),
        }
    }
    Err(format!("the shim {} lives but does not answer", reference.shim.pid))
}

/// Kills what is left of a task whose shim is dead.
pub(crate) fn kill_orphan(reference: &ShimReference) {
    if is_task_running(reference) {
        kill(-reference.task.pid, libc::SIGKILL);
        kill(reference.task.pid, libc::SIGKILL);
    }
}

async fn ask(state: &Path, verb: Verb) -> io::Result<Reply> {
    let dir = File::open(state)?;
    let path = PathBuf::from(format!("/proc/self/fd/{}/{SOCKET_FILE}", dir.as_raw_fd()));
    let mut stream = UnixStream::connect(path).await?;
    let mut line = serde_json::to_vec(&Request { version: VERSION, verb })?;
    line.push(b'\n');
    stream.write_all(&line).await?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).await?;
    if answer.is_empty() {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    Ok(serde_json::from_str(&answer)?)
}

fn unknown_exit(reference: &ShimReference) -> ExitResult {
    let why = if reference.boot == process::boot_id() {
        "the shim ended without recording the exit"
    } else {
        "the machine was restarted while the task ran"
    };
    ExitResult {
        exit_code: -1,
        error: Some(format!("exit unknown: {why}")),
        ..ExitResult::default()
    }
}
