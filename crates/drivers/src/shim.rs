//! The shim: a tiny process between the agent and one task, so that the task outlives the agent.
//!
//! The agent writes a specification into the task's state directory and runs `cos shim run <dir>`.
//! That process forks, prints what it started, and ends; its child is the shim, in a session of its
//! own. It starts the task, moves its output into rotated files, answers on a unix socket in the
//! state directory, and at the end writes how it was into a file. `cos shim enter <dir> …` runs
//! another command where a task runs.
//!
//! # Invariants
//!
//! - **One thread, little memory.** No runtime; what is read is a few kilobytes. It can therefore
//!   fork safely, and [`main`] must be called before the program starts any thread.
//! - **The exit is written before it is told**, so nobody can know more than the file.
//! - **Nothing survives the task.** When its main process ends, whatever it left is killed; if the
//!   shim itself is killed, the kernel kills the main process.
//!
//! # Deliberately absent
//!
//! - Starting anew. Another run of the task is another shim.
//! - Limits. The agent made the control group; the shim only enters, kills and reads it.

pub(crate) mod client;
mod enter;
mod isolate;
mod launch;
pub(crate) mod protocol;
mod serve;
pub(crate) mod spec;

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::path::Path;

use nix::unistd::{ForkResult, fork, pipe2, setsid};

use self::spec::{Running, SPEC_FILE, Spec, VERSION, read_json};

/// The exit code of the process that starts a shim if it could not.
const FAILED: i32 = 1;

/// The exit code if the arguments make no sense; only a programming error can cause it.
const USAGE: i32 = 2;

/// Runs the shim. `arguments` are those after `shim`; the result is the process's exit code.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> i32 {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    match arguments.split_first().map(|(verb, rest)| (verb.to_str(), rest)) {
        Some((Some("run"), [dir])) => run(Path::new(dir)),
        Some((Some("enter"), [dir, terminal, command @ ..])) if !command.is_empty() => {
            enter::enter(Path::new(dir), terminal == "tty", command)
        }
        _ => {
            complain("usage: shim run DIR | shim enter DIR tty|pipe COMMAND…");
            USAGE
        }
    }
}

/// Forks the shim off and passes on what it has to say about the start.
fn run(dir: &Path) -> i32 {
    match start(dir) {
        Ok(line) => {
            // Nobody reads it if the agent died meanwhile; the running file says the same.
            drop(io::stdout().write_all(line.as_bytes()));
            0
        }
        Err(error) => {
            complain(&error);
            FAILED
        }
    }
}

fn start(dir: &Path) -> Result<String, String> {
    let spec: Spec = read_json(&dir.join(SPEC_FILE))
        .map_err(|error| format!("failed to read {}: {error}", dir.join(SPEC_FILE).display()))?;
    if spec.version != VERSION {
        return Err(format!("the specification has version {}, not {VERSION}", spec.version));
    }
    let (answer, sender) = pipe2(nix::fcntl::OFlag::O_CLOEXEC).map_err(|e| e.to_string())?;
    // SAFETY: the process has one thread, so that no lock can be held by another one.
    #[expect(unsafe_code, reason = "a shim that is the agent's child would end with its session")]
    let forked = unsafe { fork() };
    match forked.map_err(|error| format!("failed to fork: {error}"))? {
        ForkResult::Parent { .. } => {
            drop(sender);
            let mut text = String::new();
            File::from(answer).read_to_string(&mut text).map_err(|error| error.to_string())?;
            match text.split_at_checked(1) {
                Some(("+", line)) => Ok(line.to_owned()),
                Some((_, error)) => Err(error.to_owned()),
                None => Err("the shim ended before it had started the task".to_owned()),
            }
        }
        ForkResult::Child => {
            drop(answer);
            live(dir, &spec, File::from(sender));
            leave(0)
        }
    }
}

/// The life of the shim, after the fork.
fn live(dir: &Path, spec: &Spec, mut starter: File) {
    let shim = match detach(dir, &starter).and_then(|()| serve::Shim::start(spec)) {
        Ok(shim) => shim,
        Err(error) => {
            // Nobody reads it if the starter was killed; then nobody waits for it either.
            drop(starter.write_all(format!("-{error}").as_bytes()));
            return;
        }
    };
    let line = serde_json::to_string::<Running>(shim.running()).unwrap_or_default();
    drop(starter.write_all(format!("+{line}").as_bytes()));
    drop(starter);
    shim.serve();
}

/// Leaves the agent's session, terminal, descriptors and directory.
fn detach(dir: &Path, starter: &File) -> Result<(), String> {
    setsid().map_err(|error| format!("failed to start a session: {error}"))?;
    std::env::set_current_dir(dir)
        .map_err(|error| format!("failed to enter {}: {error}", dir.display()))?;
    launch::point_stdio_to_null().map_err(|error| format!("failed to open /dev/null: {error}"))?;
    launch::close_from_3_except(starter.as_raw_fd());
    nix::sys::prctl::set_child_subreaper(true)
        .map_err(|error| format!("failed to become a subreaper: {error}"))
}

/// Ends a forked child at once: what its parent would do on the way out is not its business.
fn leave(code: i32) -> ! {
    // SAFETY: _exit(2) only ends the process.
    #[expect(unsafe_code, reason = "exit handlers belong to the parent")]
    unsafe {
        libc::_exit(code)
    }
}

/// Says something on standard error, which the agent reads.
fn complain(text: &str) {
    // There is nowhere else to complain.
    drop(io::stderr().write_all(text.as_bytes()));
}
