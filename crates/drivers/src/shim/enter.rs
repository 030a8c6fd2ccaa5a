//! Running another command where a task runs: same namespaces, root, environment, user and limits.
//!
//! # Invariants
//!
//! - The command gets the rights of the task, not those of the agent.
//! - It ends when the process that the agent started ends.

use std::ffi::OsString;
use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{Pid, chroot, fchdir, setsid};

use super::launch;
use super::spec::{IsolationSpec, RUNNING_FILE, Running, SPEC_FILE, Spec, read_json};
use super::{FAILED, complain, leave};

/// The exit code that shells use for a command that cannot be executed.
const CANNOT_EXECUTE: i32 = 126;

/// Runs `command` in the task whose state is in `dir`; the result is its exit code.
pub(super) fn enter(dir: &Path, terminal: bool, command: &[OsString]) -> i32 {
    match try_enter(dir, terminal, command) {
        Ok(code) => code,
        Err(error) => {
            complain(&format!("{error}\n"));
            CANNOT_EXECUTE
        }
    }
}

fn try_enter(dir: &Path, terminal: bool, command: &[OsString]) -> Result<i32, String> {
    let failed = |what: &str, error: &dyn std::fmt::Display| format!("failed to {what}: {error}");
    let mut spec: Spec = read_json(&dir.join(SPEC_FILE))
        .map_err(|error| failed("read the task's specification", &error))?;
    let running: Running = read_json(&dir.join(RUNNING_FILE))
        .map_err(|error| failed("read which processes run", &error))?;
    if !running.task.is_running() {
        return Err("the task is not running".to_owned());
    }
    let mut words = command.iter().map(|word| word.to_string_lossy().into_owned());
    spec.command = words.next().unwrap_or_default();
    spec.args = words.collect();
    if terminal {
        spec.env.entry("TERM".to_owned()).or_insert_with(|| "xterm-256color".to_owned());
    }
    launch::join_group(&spec, false)?;
    match spec.isolation.clone() {
        None => Err(become_command(&spec, None, terminal)),
        Some(isolation) => {
            join_namespaces(running.task.pid, &isolation)?;
            run_inside(&spec, &isolation, terminal)
        }
    }
}

/// Executes the command; returns only if that failed.
fn become_command(spec: &Spec, isolation: Option<&IsolationSpec>, terminal: bool) -> String {
    let prepared = || -> Result<PathBuf, String> {
        setsid().map_err(|error| format!("failed to start a session: {error}"))?;
        if terminal {
            launch::take_terminal()
                .map_err(|error| format!("failed to take the terminal: {error}"))?;
        }
        launch::enter_work_dir(spec)?;
        let program = launch::find_program(spec)?;
        launch::drop_rights(spec.identity.as_ref(), isolation)?;
        if isolation.is_some() {
            // Without isolation this is the very process that the agent started, and the agent's
            // thread that did so may end before it.
            nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).map_err(|error| error.to_string())?;
        }
        launch::reset_signals().map_err(|error| error.to_string())?;
        Ok(program)
    };
    match prepared() {
        Ok(program) => launch::execute(&program, spec),
        Err(error) => error,
    }
}

/// Only a child is in the pid namespace that its parent joined, so one more process is needed.
fn run_inside(spec: &Spec, isolation: &IsolationSpec, terminal: bool) -> Result<i32, String> {
    let pid = launch::clone(0).map_err(|error| format!("failed to fork: {error}"))?;
    if pid == 0 {
        complain(&format!("{}\n", become_command(spec, Some(isolation), terminal)));
        leave(CANNOT_EXECUTE);
    }
    loop {
        match waitpid(Pid::from_raw(pid), None) {
            Ok(WaitStatus::Exited(_, code)) => return Ok(code),
            Ok(WaitStatus::Signaled(_, signal, _)) => return Ok(128 + signal as i32),
            Ok(_) | Err(nix::Error::EINTR) => {}
            Err(_) => return Ok(FAILED),
        }
    }
}

/// Joins the task's namespaces. The root is opened before, because joining a mount namespace leads
/// to that namespace's own root, which is the task's only if it was swapped.
fn join_namespaces(pid: i32, isolation: &IsolationSpec) -> Result<(), String> {
    let failed = |what: &str, error: &dyn std::fmt::Display| {
        format!("failed to join the task's {what}: {error}")
    };
    let mut wanted = vec![("uts", CloneFlags::CLONE_NEWUTS)];
    if isolation.private_ipc {
        wanted.push(("ipc", CloneFlags::CLONE_NEWIPC));
    }
    if isolation.private_pids {
        wanted.push(("pid", CloneFlags::CLONE_NEWPID));
    }
    wanted.push(("mnt", CloneFlags::CLONE_NEWNS));
    let root = PathBuf::from(format!("/proc/{pid}/root"));
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let root =
        nix::fcntl::open(&root, flags, Mode::empty()).map_err(|error| failed("root", &error))?;
    let mut opened = Vec::new();
    for (name, flag) in wanted {
        let path = format!("/proc/{pid}/ns/{name}");
        opened.push((name, flag, File::open(path).map_err(|error| failed(name, &error))?));
    }
    for (name, flag, file) in &opened {
        setns(file.as_fd(), *flag).map_err(|error| failed(name, &error))?;
    }
    fchdir(&root).map_err(|error| failed("root", &error))?;
    chroot(".").map_err(|error| failed("root", &error))
}
