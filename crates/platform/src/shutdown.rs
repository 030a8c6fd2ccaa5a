//! The signals that ask a process to end, or to go on as a newer program.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// What a process is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// To end, by the signal of this name.
    End(&'static str),
    /// To go on as the program that is in its file now.
    Replace,
}

/// Listens for SIGINT, SIGTERM and SIGUSR2 from the moment it is made.
#[derive(Debug)]
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
    replace: Signal,
}

impl Signals {
    /// Starts to listen. From now on the signals do not end the process by themselves.
    pub fn listen() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            replace: signal(SignalKind::user_defined2())?,
        })
    }

    /// Waits for the next signal. A second one that asks to end may mean "at once".
    pub async fn next(&mut self) -> Asked {
        // No arm loses a signal when it is dropped.
        tokio::select! {
            _ = self.interrupt.recv() => Asked::End("SIGINT"),
            _ = self.terminate.recv() => Asked::End("SIGTERM"),
            _ = self.replace.recv() => Asked::Replace,
        }
    }
}
