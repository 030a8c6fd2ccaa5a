//! A session with a command that runs beside a task of a shim, over pipes or a terminal.
//!
//! # Invariants
//!
//! - The command ends when the session is dropped.
//! - All output comes before the exit.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::process::Stdio;

use bytes::Bytes;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::pty::openpty;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::mpsc;

use cos_platform::{Fate, Tasks};

use crate::driver::ExecRequest;
use crate::exec_session::{ExecInput, ExecOutput, ExecPeer, ExecSession};

/// How much output makes one message.
const CHUNK_BYTES: usize = 16 * 1024;

/// The exit code told if the command's end has no code of its own.
const NO_CODE: i32 = -1;

/// Starts a command in the task whose state is in `state`.
pub(crate) fn start(
    executable: &Path,
    state: &Path,
    request: &ExecRequest,
) -> io::Result<ExecSession> {
    let mut command = Command::new(executable);
    command.args(["shim", "enter"]).arg(state).arg(if request.tty { "tty" } else { "pipe" });
    command.args(&request.command).env_clear().kill_on_drop(true);
    let (session, peer) = ExecSession::pair();
    // These tasks end with their session; nobody waits for them.
    let tasks = Tasks::new();
    if request.tty {
        let terminal = openpty(None, None)?;
        let slave = terminal.slave;
        command.stdin(slave.try_clone()?).stdout(slave.try_clone()?).stderr(slave);
        let child = command.spawn()?;
        // The command object holds copies of the terminal that would keep it open.
        drop(command);
        fcntl(&terminal.master, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        // SAFETY: an owned descriptor is always the same one and open as long as it is owned.
        #[expect(unsafe_code, reason = "the safe way is deprecated")]
        let master = unsafe { AsyncFd::register(terminal.master) }?;
        tasks.spawn("exec over a terminal", Fate::Ends, serve_terminal(child, master, peer));
    } else {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn()?;
        tasks.spawn("exec over pipes", Fate::Ends, serve_pipes(child, peer));
    }
    Ok(session)
}

async fn serve_pipes(mut child: Child, peer: ExecPeer) {
    let ExecPeer { input, output } = peer;
    let stdin = child.stdin.take();
    let stdout = pump(child.stdout.take(), &output, ExecOutput::Stdout);
    let stderr = pump(child.stderr.take(), &output, ExecOutput::Stderr);
    let all = async {
        tokio::join!(stdout, stderr);
        exit_of(&mut child).await
    };
    tokio::select! {
        exit = all => {
            // The receiver may have gone; then nobody wants the exit.
            drop(output.send(exit).await);
        }
        // The input has ended for good, so it can only be that the session was dropped.
        () = feed(stdin, input, &output) => {}
    }
}

/// Passes input on. Returns when the session was dropped.
async fn feed(
    mut stdin: Option<ChildStdin>,
    mut input: mpsc::Receiver<ExecInput>,
    output: &mpsc::Sender<ExecOutput>,
) {
    while let Some(message) = input.recv().await {
        match message {
            ExecInput::Stdin(bytes) => {
                if let Some(pipe) = &mut stdin
                    && pipe.write_all(&bytes).await.is_err()
                {
                    stdin = None;
                }
            }
            ExecInput::CloseStdin => stdin = None,
            ExecInput::Resize { .. } => {}
        }
    }
    drop(stdin);
    // A caller may drop its writing half and still read.
    output.closed().await;
}

async fn pump<R: AsyncRead + Unpin>(
    source: Option<R>,
    output: &mpsc::Sender<ExecOutput>,
    wrap: fn(Bytes) -> ExecOutput,
) {
    let Some(mut source) = source else { return };
    let mut chunk = vec![0; CHUNK_BYTES];
    while let Ok(count) = source.read(&mut chunk).await {
        if count == 0 || output.send(wrap(Bytes::copy_from_slice(&chunk[..count]))).await.is_err() {
            return;
        }
    }
}

async fn exit_of(child: &mut Child) -> ExecOutput {
    match child.wait().await {
        Ok(status) => ExecOutput::Exit(status.code().unwrap_or(NO_CODE)),
        Err(error) => ExecOutput::Failed(error.to_string()),
    }
}

async fn serve_terminal(mut child: Child, master: AsyncFd<OwnedFd>, peer: ExecPeer) {
    let ExecPeer { input, output } = peer;
    let all = async {
        read_terminal(&master, &output).await;
        exit_of(&mut child).await
    };
    tokio::select! {
        exit = all => {
            // The receiver may have gone; then nobody wants the exit.
            drop(output.send(exit).await);
        }
        // The input has ended for good, so it can only be that the session was dropped.
        () = feed_terminal(&master, input, &output) => {}
    }
}

/// Reads until the last process has closed the terminal, which shows as an error.
async fn read_terminal(master: &AsyncFd<OwnedFd>, output: &mpsc::Sender<ExecOutput>) {
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let Ok(mut ready) = master.readable().await else { return };
        let read = ready.try_io(|fd| Ok(nix::unistd::read(fd.get_ref(), &mut chunk)?));
        match read {
            Err(_would_block) => {}
            Ok(Err(_) | Ok(0)) => return,
            Ok(Ok(count)) => {
                let bytes = Bytes::copy_from_slice(&chunk[..count]);
                if output.send(ExecOutput::Stdout(bytes)).await.is_err() {
                    return;
                }
            }
        }
    }
}

async fn feed_terminal(
    master: &AsyncFd<OwnedFd>,
    mut input: mpsc::Receiver<ExecInput>,
    output: &mpsc::Sender<ExecOutput>,
) {
    /// What a terminal takes for the end of input.
    const END_OF_TRANSMISSION: &[u8] = &[4];
    while let Some(message) = input.recv().await {
        // A terminal that cannot be written is closed; the reading side notices that.
        let written = match message {
            ExecInput::Stdin(bytes) => write_terminal(master, &bytes).await,
            ExecInput::CloseStdin => write_terminal(master, END_OF_TRANSMISSION).await,
            ExecInput::Resize { width, height } => resize(master.get_ref(), width, height),
        };
        drop(written);
    }
    output.closed().await;
}

async fn write_terminal(master: &AsyncFd<OwnedFd>, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let mut ready = master.writable().await?;
        if let Ok(written) = ready.try_io(|fd| Ok(nix::unistd::write(fd.get_ref().as_fd(), bytes)?))
        {
            bytes = &bytes[written?..];
        }
    }
    Ok(())
}

fn resize(master: &OwnedFd, width: u16, height: u16) -> io::Result<()> {
    let size = libc::winsize { ws_row: height, ws_col: width, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the request reads a window size, which outlives the call.
    #[expect(unsafe_code, reason = "no crate wraps this request")]
    let result = unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
