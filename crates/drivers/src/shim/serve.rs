//! The shim's loop: move output, answer the agent, reap, and at the end write down how it was.
//!
//! # Invariants
//!
//! - One `poll` waits for everything; nothing else blocks.
//! - Output that cannot be written is dropped, because a task must not stand still over a full
//!   disk; it is counted and told with the exit.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;

use cos_model::Timestamp;
use cos_platform::{Clock, SystemClock};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::pipe2;

use super::launch::{self, Output};
use super::protocol::{REQUEST_BYTES_MAX, Reply, Request, Verb};
use super::spec::{
    EXIT_FILE, Exited, LogSpec, RUNNING_FILE, Running, SOCKET_FILE, Spec, VERSION, write_json,
};
use crate::cgroup::{kill, pause};
use crate::driver::{ExitResult, ProcessId};
use crate::logs::Rotator;
use crate::process;

/// Callers at one time. The agent uses two: one waits, one asks.
const CALLERS_MAX: usize = 16;

/// How long output is awaited after the end from processes that escaped every killing.
const DRAIN_TIME: Duration = Duration::from_secs(1);

/// The time a task gets between SIGTERM and SIGKILL if the shim itself is asked to end.
const OWN_END_TIME: Duration = Duration::from_secs(5);

/// How often what a task left is killed before the rest is given up.
const LEFTOVER_ROUNDS_MAX: u32 = 100;

/// How much output is moved at once.
const CHUNK_BYTES: usize = 16 * 1024;

/// A running shim.
pub(super) struct Shim {
    spec: LiveSpec,
    running: Running,
    listener: UnixListener,
    signals: SignalFd,
    streams: Vec<Stream>,
    callers: Vec<Caller>,
    clock: SystemClock,
    kill_at: Option<Duration>,
    exit: Option<(ExitResult, Duration)>,
}

/// What is needed of the specification after the start; the rest is not kept in memory.
struct LiveSpec {
    group: Option<crate::cgroup::Group>,
    private_pids: bool,
}

/// One stream of the task's output.
struct Stream {
    pipe: OwnedFd,
    rotator: Rotator,
    lost_bytes: u64,
}

/// Somebody who connected.
struct Caller {
    stream: UnixStream,
    request: Vec<u8>,
    is_waiting: bool,
}

impl Shim {
    /// Starts the task. The current directory is the state directory.
    pub(super) fn start(spec: &Spec) -> Result<Self, String> {
        let step = |what: &str, error: &dyn std::fmt::Display| format!("failed to {what}: {error}");
        let signals = take_signals().map_err(|error| step("take signals", &error))?;
        for stale in [SOCKET_FILE, EXIT_FILE, RUNNING_FILE] {
            match fs::remove_file(stale) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(step("remove an earlier run's files", &error));
                }
                _ => {}
            }
        }
        let listener =
            UnixListener::bind(SOCKET_FILE).map_err(|error| step("bind the socket", &error))?;
        listener.set_nonblocking(true).map_err(|error| step("prepare the socket", &error))?;
        let (streams, output) = match &spec.logs {
            Some(logs) => open_streams(&spec.task, logs)?,
            None => (Vec::new(), None),
        };
        let pid = launch::spawn(spec, output)?;
        let running = describe(pid).map_err(|error| step("find the task in /proc", &error))?;
        write_json(Path::new(RUNNING_FILE), &running)
            .map_err(|error| step("write down what runs", &error))?;
        let private_pids = spec.isolation.as_ref().is_some_and(|how| how.private_pids);
        Ok(Self {
            spec: LiveSpec { group: spec.group.clone(), private_pids },
            running,
            listener,
            signals,
            streams,
            callers: Vec::new(),
            clock: SystemClock::new(),
            kill_at: None,
            exit: None,
        })
    }

    /// Which processes run.
    pub(super) fn running(&self) -> &Running {
        &self.running
    }

    /// Serves until the task has ended and everything about it is written.
    pub(super) fn serve(mut self) {
        while !self.is_done() {
            self.turn();
        }
        self.write_exit();
        if let Some((result, _)) = self.exit.take() {
            let reply = Reply::Exited(result);
            for caller in self.callers.iter_mut().filter(|caller| caller.is_waiting) {
                caller.answer(&reply);
            }
        }
        // From here on the exit file answers.
        drop(fs::remove_file(SOCKET_FILE));
    }

    fn is_done(&self) -> bool {
        let Some((_, ended_at)) = &self.exit else { return false };
        self.streams.is_empty() || self.clock.monotonic() >= *ended_at + DRAIN_TIME
    }

    /// Waits for something to happen and does what follows from it.
    fn turn(&mut self) {
        let fixed = [self.signals.as_fd(), self.listener.as_fd()];
        let streams = self.streams.iter().map(|stream| stream.pipe.as_fd());
        let callers = self.callers.iter().map(|caller| caller.stream.as_fd());
        let mut fds: Vec<PollFd<'_>> = fixed
            .into_iter()
            .chain(streams)
            .chain(callers)
            .map(|fd| PollFd::new(fd, PollFlags::POLLIN))
            .collect();
        match poll(&mut fds, self.timeout()) {
            Ok(_) | Err(Errno::EINTR) => {}
            // Nothing can be awaited any more; a pause at least keeps the processor free.
            Err(_) => pause(Duration::from_millis(100)),
        }
        let ready: Vec<bool> = fds.iter().map(|fd| fd.any().unwrap_or(false)).collect();
        drop(fds);
        let (streams, callers) = ready[2..].split_at(self.streams.len());
        let (streams, callers) = (streams.to_vec(), callers.to_vec());
        self.move_output(&streams);
        self.hear(&callers);
        if ready[1] {
            self.accept();
        }
        if ready[0] {
            self.take_signal();
        }
        if self.kill_at.is_some_and(|at| self.clock.monotonic() >= at) {
            self.kill_at = None;
            self.kill_task();
        }
    }

    fn timeout(&self) -> PollTimeout {
        let drain_end = self.exit.as_ref().map(|(_, ended_at)| *ended_at + DRAIN_TIME);
        let Some(at) = self.kill_at.into_iter().chain(drain_end).min() else {
            return PollTimeout::NONE;
        };
        let left = at.saturating_sub(self.clock.monotonic());
        // Rounded up, so that the moment has come when the wait is over.
        let millis = left.as_millis().saturating_add(1);
        i32::try_from(millis).ok().and_then(|ms| ms.try_into().ok()).unwrap_or(PollTimeout::MAX)
    }

    fn move_output(&mut self, ready: &[bool]) {
        let mut at = 0;
        self.streams.retain_mut(|stream| {
            let is_ready = ready.get(at).copied().unwrap_or(false);
            at += 1;
            !is_ready || stream.copy()
        });
    }

    fn hear(&mut self, ready: &[bool]) {
        for at in (0..self.callers.len()).rev() {
            if !ready.get(at).copied().unwrap_or(false) {
                continue;
            }
            match self.callers[at].read() {
                Heard::Nothing => {}
                Heard::Gone => drop(self.callers.remove(at)),
                Heard::Line(request) => {
                    if let Some(reply) = self.obey(at, request) {
                        self.callers[at].answer(&reply);
                    }
                }
            }
        }
    }

    /// Carries out a request; a waiting caller is answered at the end.
    fn obey(&mut self, caller: usize, request: Result<Request, String>) -> Option<Reply> {
        let request = match request {
            Ok(request) if request.version == VERSION => request,
            Ok(other) => {
                return Some(Reply::Failed(format!("version {} is not spoken", other.version)));
            }
            Err(error) => return Some(Reply::Failed(error)),
        };
        if request.verb == Verb::Wait || self.exit.is_some() {
            self.callers[caller].is_waiting = true;
            return None;
        }
        match request.verb {
            Verb::Signal(signal) => kill(self.running.task.pid, signal),
            Verb::Stop { signal, timeout_ms } => {
                self.stop(signal, Duration::from_millis(timeout_ms));
            }
            Verb::Status | Verb::Wait => {}
        }
        Some(Reply::Running)
    }

    /// Begins the end. A second request may make it come sooner, never later.
    fn stop(&mut self, signal: i32, timeout: Duration) {
        let pid = self.running.task.pid;
        // The kernel drops what the first process of a namespace has no handler for; elsewhere the
        // same signal would have ended it.
        let is_dropped = self.spec.private_pids && process::leaves_to_default(pid, signal);
        let at = self.clock.monotonic() + if is_dropped { Duration::ZERO } else { timeout };
        self.kill_at = Some(self.kill_at.map_or(at, |earlier| earlier.min(at)));
        kill(pid, signal);
    }

    fn accept(&mut self) {
        let Ok((stream, _)) = self.listener.accept() else { return };
        if self.callers.len() < CALLERS_MAX && stream.set_nonblocking(true).is_ok() {
            self.callers.push(Caller { stream, request: Vec::new(), is_waiting: false });
        }
    }

    fn take_signal(&mut self) {
        while let Ok(Some(info)) = self.signals.read_signal() {
            if i32::try_from(info.ssi_signo) == Ok(libc::SIGTERM) {
                self.stop(libc::SIGTERM, OWN_END_TIME);
            }
        }
        self.reap();
    }

    /// Collects whatever ended, among it orphans that the shim adopted.
    fn reap(&mut self) {
        loop {
            let (pid, exit_code, signal) = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) => (pid, code, 0),
                Ok(WaitStatus::Signaled(pid, signal, _)) => {
                    (pid, 128 + signal as i32, signal as i32)
                }
                Ok(WaitStatus::StillAlive) | Err(_) => return,
                Ok(_) => continue,
            };
            if pid.as_raw() == self.running.task.pid && self.exit.is_none() {
                let oom_killed =
                    self.spec.group.as_ref().is_some_and(|group| group.oom_kills() > 0);
                let oom_killed = oom_killed && exit_code != 0;
                let ended_at = Some(Timestamp(self.clock.unix_nanos()));
                let result = ExitResult { exit_code, signal, oom_killed, error: None, ended_at };
                self.exit = Some((result, self.clock.monotonic()));
                self.kill_leftovers();
            }
        }
    }

    /// Kills the task's main process and everything that belongs to it.
    fn kill_task(&self) {
        kill(self.running.task.pid, libc::SIGKILL);
        // The group's number is the main process's; it is gone with its last member.
        kill(-self.running.task.pid, libc::SIGKILL);
    }

    /// Kills what the main process left: its process group, its control group, and, where there is
    /// none, the orphans that came to the shim.
    fn kill_leftovers(&self) {
        kill(-self.running.task.pid, libc::SIGKILL);
        if let Some(group) = &self.spec.group {
            // What survives even that is told by the removal of the group, which then fails.
            drop(group.kill_all());
        }
        for _ in 0..LEFTOVER_ROUNDS_MAX {
            let orphans = process::own_children();
            if orphans.is_empty() {
                return;
            }
            for pid in orphans {
                kill(pid, libc::SIGKILL);
            }
            // Its own children may come to the shim only after their parent was collected.
            pause(Duration::from_millis(1));
            while matches!(
                waitpid(None, Some(WaitPidFlag::WNOHANG)),
                Ok(WaitStatus::Exited(..) | WaitStatus::Signaled(..))
            ) {}
        }
    }

    fn write_exit(&mut self) {
        let lost: u64 = self.streams.iter().map(|stream| stream.lost_bytes).sum();
        let at = self.clock.unix_nanos();
        let Some((result, _)) = &mut self.exit else { return };
        if lost > 0 {
            result.error = Some(format!("{lost} bytes of output could not be written"));
        }
        let exited = Exited { version: VERSION, result: result.clone(), at };
        // On a full disk the agent finds no exit and says so.
        drop(write_json(Path::new(EXIT_FILE), &exited));
    }
}

/// What a caller said.
enum Heard {
    Nothing,
    Gone,
    Line(Result<Request, String>),
}

impl Caller {
    fn read(&mut self) -> Heard {
        let mut bytes = [0; REQUEST_BYTES_MAX];
        match self.stream.read(&mut bytes) {
            Ok(0) => return Heard::Gone,
            Ok(count) => self.request.extend_from_slice(&bytes[..count]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Heard::Nothing,
            Err(_) => return Heard::Gone,
        }
        if self.request.len() > REQUEST_BYTES_MAX {
            return Heard::Gone;
        }
        let Some(end) = self.request.iter().position(|byte| *byte == b'\n') else {
            return Heard::Nothing;
        };
        let line: Vec<u8> = self.request.drain(..=end).collect();
        Heard::Line(serde_json::from_slice(&line).map_err(|error| error.to_string()))
    }

    /// Answers are shorter than any socket's buffer; whoever does not take one has gone.
    fn answer(&mut self, reply: &Reply) {
        let mut line = serde_json::to_vec(reply).unwrap_or_default();
        line.push(b'\n');
        drop(self.stream.write_all(&line));
    }
}

impl Stream {
    /// Moves what is there. False at the end of the output.
    fn copy(&mut self) -> bool {
        let mut chunk = [0; CHUNK_BYTES];
        match nix::unistd::read(&self.pipe, &mut chunk) {
            Ok(0) => false,
            Ok(count) => {
                if self.rotator.write(&chunk[..count]).is_err() {
                    self.lost_bytes += count as u64;
                }
                true
            }
            Err(Errno::EAGAIN | Errno::EINTR) => true,
            Err(_) => false,
        }
    }
}

/// Blocks the signals that matter and has them delivered through a descriptor. The others that end
/// a process by default are blocked for good: a terminal that closes is not the shim's.
fn take_signals() -> nix::Result<SignalFd> {
    let mut taken = SigSet::empty();
    taken.add(Signal::SIGCHLD);
    taken.add(Signal::SIGTERM);
    let mut blocked = taken;
    blocked.add(Signal::SIGHUP);
    blocked.add(Signal::SIGINT);
    blocked.add(Signal::SIGQUIT);
    blocked.add(Signal::SIGPIPE);
    blocked.thread_block()?;
    SignalFd::with_flags(&taken, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
}

fn open_streams(task: &str, logs: &LogSpec) -> Result<(Vec<Stream>, Option<Output>), String> {
    let open = |kind: &str| -> Result<(Stream, OwnedFd), String> {
        let prefix = format!("{task}.{kind}");
        let rotator = Rotator::open(&logs.dir, &prefix, logs.files_max, logs.bytes_max)
            .map_err(|error| format!("failed to open the log {prefix}: {error}"))?;
        let (pipe, end) = pipe2(OFlag::O_CLOEXEC).map_err(|error| error.to_string())?;
        fcntl(&pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).map_err(|error| error.to_string())?;
        Ok((Stream { pipe, rotator, lost_bytes: 0 }, end))
    };
    let (out, stdout) = open("stdout")?;
    let (error, stderr) = open("stderr")?;
    Ok((vec![out, error], Some(Output { stdout, stderr })))
}

fn describe(task: i32) -> std::io::Result<Running> {
    let own = i32::try_from(std::process::id()).map_err(std::io::Error::other)?;
    Ok(Running {
        version: VERSION,
        boot: process::boot_id(),
        shim: ProcessId::of(own)?,
        task: ProcessId::of(task)?,
    })
}
