//! From a specification to a running program: fork, prepare, execute.
//!
//! # Invariants
//!
//! - Everything that needs rights happens before they are given up, and they are given up before
//!   the program runs.
//! - A failure on any of the steps reaches the parent in words; no half-prepared program runs.

use std::collections::BTreeMap;
use std::ffi::{CString, OsStr};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigHandler, SigSet, SigmaskHow, Signal, signal, sigprocmask};
use nix::unistd::{
    Gid, Uid, dup2_stderr, dup2_stdin, dup2_stdout, execve, pipe2, setgid, setgroups, setsid,
    setuid,
};

use super::isolate;
use super::spec::{IsolationSpec, Spec};
use crate::cgroup::Group;
use crate::user::Identity;

/// Where programs are searched if the environment does not say.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The lowest descriptor that is not standard input, output or error.
const FIRST_OTHER_FD: libc::c_uint = 3;

/// Says that a child begins in the control group that is named beside it (Linux 5.7).
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Output pipes of a child; absent where output is dropped.
pub(super) struct Output {
    /// The ends that the child writes to.
    pub(super) stdout: OwnedFd,
    /// The same for standard error.
    pub(super) stderr: OwnedFd,
}

/// Starts the program and returns its process number.
pub(super) fn spawn(spec: &Spec, output: Option<Output>) -> Result<i32, String> {
    let (failure, sender) =
        pipe2(OFlag::O_CLOEXEC).map_err(|error| format!("failed to make a pipe: {error}"))?;
    let flags = spec.isolation.as_ref().map_or(0, isolate::clone_flags);
    let birthplace = spec.group.as_ref().and_then(Group::birthplace);
    let (pid, born_inside) = match birthplace.and_then(|group| clone_into(flags, &group).ok()) {
        Some(pid) => (pid, true),
        // A kernel before 5.7, or one that a sandbox restricts.
        None => (clone(flags).map_err(|error| format!("failed to fork: {error}"))?, false),
    };
    if pid == 0 {
        drop(failure);
        let error = match prepare(spec, output.as_ref(), born_inside) {
            Ok(program) => execute(&program, spec),
            Err(error) => error,
        };
        // The parent sees the end of the pipe if even this fails.
        drop(File::from(sender).write_all(error.as_bytes()));
        super::leave(super::FAILED);
    }
    drop(sender);
    drop(output);
    let mut error = String::new();
    // An unreadable pipe is one that was closed by the program's start.
    drop(File::from(failure).read_to_string(&mut error));
    if error.is_empty() {
        return Ok(pid);
    }
    // The child that failed is on its way out; it must not be left a zombie.
    let _ = nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(pid), None);
    Err(error)
}

/// Forks, with namespaces of its own for the child. Returns 0 in the child.
pub(super) fn clone(flags: libc::c_int) -> io::Result<i32> {
    let flags = libc::c_long::from(flags | libc::SIGCHLD);
    let none = 0 as libc::c_long;
    // SAFETY: with a null stack the child goes on here on a copy of this one, as after fork(2);
    // the process has one thread, so that no lock can be held by another one.
    #[expect(unsafe_code, reason = "fork cannot make namespaces")]
    let result = unsafe { libc::syscall(libc::SYS_clone, flags, none, none, none, none) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    i32::try_from(result).map_err(io::Error::other)
}

/// Forks as [`clone`] does, but the child begins in a control group of version 2.
fn clone_into(flags: libc::c_int, group: &File) -> io::Result<i32> {
    let number = |number: libc::c_int| u64::try_from(number).map_err(io::Error::other);
    // SAFETY: all fields are numbers, for which zero means that nothing is asked for.
    #[expect(unsafe_code, reason = "the structure has no other constructor")]
    let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
    arguments.flags = number(flags)? | CLONE_INTO_CGROUP;
    arguments.exit_signal = number(libc::SIGCHLD)?;
    arguments.cgroup = number(group.as_raw_fd())?;
    let size = size_of::<libc::clone_args>();
    // SAFETY: as in `clone`; the kernel only reads the structure, whose size it is told.
    #[expect(unsafe_code, reason = "fork cannot choose a control group")]
    let result = unsafe { libc::syscall(libc::SYS_clone3, &raw const arguments, size) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    i32::try_from(result).map_err(io::Error::other)
}

/// Makes standard input, output and error read and write nothing.
pub(super) fn point_stdio_to_null() -> io::Result<()> {
    let null = File::options().read(true).write(true).open("/dev/null")?;
    dup2_stdin(&null)?;
    dup2_stdout(&null)?;
    dup2_stderr(&null)?;
    Ok(())
}

/// Closes what the agent may have left open without the close-on-exec mark.
pub(super) fn close_from_3_except(keep: RawFd) {
    let Ok(keep) = libc::c_uint::try_from(keep) else { return };
    close_range(FIRST_OTHER_FD, keep.saturating_sub(1));
    close_range(keep + 1, libc::c_uint::MAX);
}

fn close_range(first: libc::c_uint, last: libc::c_uint) {
    if first > last {
        return;
    }
    // SAFETY: nothing in this process owns these descriptors: it has opened none but `keep`. A
    // kernel without the call leaves them open, which is harmless.
    #[expect(unsafe_code, reason = "std cannot close what it does not own")]
    unsafe {
        libc::syscall(libc::SYS_close_range, first, last, 0)
    };
}

/// Everything between fork and execution, in the child.
fn prepare(spec: &Spec, output: Option<&Output>, born_inside: bool) -> Result<PathBuf, String> {
    let step = |what: &str, error: &dyn std::fmt::Display| format!("failed to {what}: {error}");
    setsid().map_err(|error| step("start a session", &error))?;
    join_group(spec, born_inside)?;
    point_stdio_to_null().map_err(|error| step("open /dev/null", &error))?;
    if let Some(output) = output {
        dup2_stdout(&output.stdout).map_err(|error| step("set standard output", &error))?;
        dup2_stderr(&output.stderr).map_err(|error| step("set standard error", &error))?;
    }
    if let Some(adjustment) = spec.oom_score_adj {
        fs::write("/proc/self/oom_score_adj", adjustment.to_string())
            .map_err(|error| step("set oom_score_adj", &error))?;
    }
    if let Some(open_files) = spec.open_files {
        let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)
            .map_err(|error| step("read the limit of open files", &error))?;
        setrlimit(Resource::RLIMIT_NOFILE, open_files.min(most), most)
            .map_err(|error| step("set the limit of open files", &error))?;
    }
    if let Some(isolation) = &spec.isolation {
        isolate::enter_new_root(isolation)?;
    }
    let program = find_program(spec)?;
    enter_work_dir(spec)?;
    drop_rights(spec.identity.as_ref(), spec.isolation.as_ref())?;
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)
        .map_err(|error| step("bind to the shim's life", &error))?;
    reset_signals().map_err(|error| step("reset signals", &error))?;
    Ok(program)
}

/// Moves the calling process into the task's control group, of which it may be in a part by birth.
pub(super) fn join_group(spec: &Spec, born_inside: bool) -> Result<(), String> {
    let Some(group) = &spec.group else { return Ok(()) };
    group.join(born_inside).map_err(|error| format!("failed to enter the control group: {error}"))
}

/// Changes to the working directory, which is a path as the task sees it.
pub(super) fn enter_work_dir(spec: &Spec) -> Result<(), String> {
    std::env::set_current_dir(&spec.work_dir).map_err(|error| {
        format!("failed to enter the working directory {}: {error}", spec.work_dir.display())
    })
}

/// Finds the program: an absolute path, or a name in the search directories or in `PATH`.
pub(super) fn find_program(spec: &Spec) -> Result<PathBuf, String> {
    let command = Path::new(&spec.command);
    if command.is_absolute() {
        if spec.search.iter().any(|dir| command.starts_with(dir) && dir != Path::new("/")) {
            make_executable(command)?;
        }
        return Ok(command.to_owned());
    }
    for dir in &spec.search {
        let path = dir.join(command);
        if path.is_file() {
            make_executable(&path)?;
            return Ok(path);
        }
    }
    let path = spec.env.get("PATH").map_or(DEFAULT_PATH, String::as_str);
    // A name with a slash is relative to the task's directories only.
    let dirs = if spec.command.contains('/') { "" } else { path };
    dirs.split(':')
        .filter(|dir| dir.starts_with('/'))
        .map(|dir| Path::new(dir).join(command))
        .find(|path| path.is_file() && mode(path) & 0o111 != 0)
        .ok_or_else(|| {
            format!("executable `{}` not found in the task directory or PATH", spec.command)
        })
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).map_or(0, |metadata| metadata.permissions().mode())
}

/// An artifact comes without the right to be executed.
fn make_executable(path: &Path) -> Result<(), String> {
    let mode = mode(path);
    if mode & 0o111 == 0o111 {
        return Ok(());
    }
    let wanted = fs::Permissions::from_mode((mode & 0o7777) | 0o555);
    // Another user's file may be executable for us as it is; execution itself will tell.
    match fs::set_permissions(path, wanted) {
        Err(error) if mode & 0o111 == 0 => {
            Err(format!("failed to make {} executable: {error}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Becomes the task's user with the task's capabilities and no way to more.
pub(super) fn drop_rights(
    identity: Option<&Identity>,
    isolation: Option<&IsolationSpec>,
) -> Result<(), String> {
    if let Some(isolation) = isolation {
        isolate::limit_capabilities(isolation)?;
    }
    if let Some(identity) = identity {
        let step = |error: nix::Error| format!("failed to become user {}: {error}", identity.uid);
        let groups: Vec<Gid> = identity.groups.iter().copied().map(Gid::from_raw).collect();
        setgroups(&groups).map_err(step)?;
        setgid(Gid::from_raw(identity.gid)).map_err(step)?;
        setuid(Uid::from_raw(identity.uid)).map_err(step)?;
    }
    if let Some(isolation) = isolation {
        let is_root = identity.is_none_or(|identity| identity.uid == 0);
        isolate::settle_capabilities(isolation, is_root)?;
        nix::sys::prctl::set_no_new_privs()
            .map_err(|error| format!("failed to give up new privileges: {error}"))?;
    }
    Ok(())
}

/// The shim blocks and ignores signals; the program starts with none of that.
pub(super) fn reset_signals() -> nix::Result<()> {
    for number in Signal::iterator() {
        if !matches!(number, Signal::SIGKILL | Signal::SIGSTOP) {
            // SAFETY: the default disposition runs no code of ours.
            #[expect(unsafe_code, reason = "a handler would have to be async-signal-safe")]
            unsafe { signal(number, SigHandler::SigDfl) }?;
        }
    }
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)
}

/// Executes the program. Returns only if that failed, with the reason.
pub(super) fn execute(program: &Path, spec: &Spec) -> String {
    let words = || -> Result<_, std::ffi::NulError> {
        let path = CString::new(program.as_os_str().as_bytes())?;
        let first = OsStr::new(&spec.command);
        let arguments = std::iter::once(first)
            .chain(spec.args.iter().map(OsStr::new))
            .map(|word| CString::new(word.as_bytes()))
            .collect::<Result<Vec<_>, _>>()?;
        Ok((path, arguments, environment(&spec.env)?))
    };
    match words() {
        Err(error) => format!("command, arguments or environment contain a zero byte: {error}"),
        Ok((path, arguments, environment)) => {
            let Err(error) = execve(&path, &arguments, &environment);
            format!("failed to execute {}: {error}", program.display())
        }
    }
}

fn environment(env: &BTreeMap<String, String>) -> Result<Vec<CString>, std::ffi::NulError> {
    let mut lines = Vec::with_capacity(env.len() + 1);
    for (key, value) in env {
        lines.push(CString::new(format!("{key}={value}"))?);
    }
    if !env.contains_key("PATH") {
        lines.push(CString::new(format!("PATH={DEFAULT_PATH}"))?);
    }
    Ok(lines)
}

/// Makes the terminal on standard input the controlling one of this session.
pub(super) fn take_terminal() -> io::Result<()> {
    let stdin = io::stdin().as_raw_fd();
    // SAFETY: the call takes a descriptor and a number.
    #[expect(unsafe_code, reason = "no crate wraps this request")]
    let result = unsafe { libc::ioctl(stdin, libc::TIOCSCTTY, 0) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
