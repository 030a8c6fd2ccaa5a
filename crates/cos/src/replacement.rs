//! Going on as a newer program: on SIGUSR2 the process ends its work in order and starts the
//! program that is in its file now, which takes over the listening sockets.
//!
//! # Invariants
//!
//! - Nothing ends before it is known that the file can be run.
//! - The process keeps its number, so that whoever supervises it notices nothing.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use cos_platform::Sockets;
use cos_platform::handover;
use cos_platform::shutdown::{Asked, Signals};

/// What follows the end of the work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The process ends.
    Stopped,
    /// It goes on as the program that is in its file.
    Replaced,
}

/// What a process needs to be replaced.
pub(crate) struct Replacement {
    /// Its sockets, those of the program before it included.
    pub(crate) sockets: Sockets,
    program: io::Result<PathBuf>,
    arguments: Vec<OsString>,
}

impl Replacement {
    /// Takes over what the program before this one left, and notes what this one is. Call it
    /// before anything is opened.
    pub(crate) fn prepare() -> Self {
        Self {
            sockets: Sockets::take_over(),
            program: handover::own_program(),
            arguments: std::env::args_os().skip(1).collect(),
        }
    }

    /// Waits until the process is asked to end or to be replaced. What cannot be run does not
    /// replace anything.
    pub(crate) async fn wait(&self, signals: &mut Signals) -> End {
        loop {
            match signals.next().await {
                Asked::End(signal) => {
                    tracing::info!(signal, "stopping");
                    return End::Stopped;
                }
                Asked::Replace => match self.check() {
                    Ok(program) => {
                        tracing::info!(program = %program.display(), "going on as a new program");
                        return End::Replaced;
                    }
                    Err(error) => tracing::error!(%error, "the program cannot be replaced"),
                },
            }
        }
    }

    /// Becomes the new program. Returns why that failed.
    pub(crate) fn carry_out(&self) -> String {
        match self.check() {
            Ok(program) => {
                let error = self.sockets.replace_program(program, &self.arguments);
                format!("cannot run {}: {error}", program.display())
            }
            Err(error) => error.to_string(),
        }
    }

    fn check(&self) -> anyhow::Result<&Path> {
        let program = self
            .program
            .as_deref()
            .map_err(|error| anyhow::anyhow!("its file is unknown: {error}"))?;
        handover::can_run(program)
            .map_err(|error| anyhow::anyhow!("{} cannot be run: {error}", program.display()))?;
        Ok(program)
    }
}
