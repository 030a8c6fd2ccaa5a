//! A command that runs beside a task, as a conversation: input and window sizes go in, output and
//! the exit come out.
//!
//! # Invariants
//!
//! - **The exit is last.** After [`ExecOutput::Exit`] or [`ExecOutput::Failed`] nothing comes.
//! - **Dropping ends it.** Whoever drops both halves ends the command.

use bytes::Bytes;
use tokio::sync::mpsc;

/// How many messages wait in each direction before the sender does; a message is one read.
const QUEUE_MAX: usize = 32;

/// A command that runs beside a task.
#[derive(Debug)]
pub struct ExecSession {
    /// Where input goes.
    pub input: ExecWriter,
    /// Where output comes from.
    pub output: ExecReader,
}

/// The side of a session that takes input.
#[derive(Clone, Debug)]
pub struct ExecWriter(mpsc::Sender<ExecInput>);

/// The side of a session that gives output.
#[derive(Debug)]
pub struct ExecReader(mpsc::Receiver<ExecOutput>);

/// The driver's side of a session.
#[derive(Debug)]
pub(crate) struct ExecPeer {
    /// What the caller sends.
    pub(crate) input: mpsc::Receiver<ExecInput>,
    /// What the caller gets.
    pub(crate) output: mpsc::Sender<ExecOutput>,
}

/// What a caller sends to the command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExecInput {
    /// Bytes for its standard input.
    Stdin(Bytes),
    /// The end of its standard input.
    CloseStdin,
    /// The new size of the caller's terminal.
    Resize {
        /// Columns.
        width: u16,
        /// Rows.
        height: u16,
    },
}

/// What a caller gets from the command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExecOutput {
    /// Bytes of its standard output; with a terminal, of both.
    Stdout(Bytes),
    /// Bytes of its standard error.
    Stderr(Bytes),
    /// It ended with this code.
    Exit(i32),
    /// It could not be run, or its end could not be observed.
    Failed(String),
}

impl ExecSession {
    /// Makes the two ends of a session.
    pub(crate) fn pair() -> (Self, ExecPeer) {
        let (input_sender, input) = mpsc::channel(QUEUE_MAX);
        let (output, output_receiver) = mpsc::channel(QUEUE_MAX);
        let session = Self { input: ExecWriter(input_sender), output: ExecReader(output_receiver) };
        (session, ExecPeer { input, output })
    }
}

impl ExecWriter {
    /// Sends input, waiting while the command does not read. False means that the command ended.
    pub async fn send(&self, input: ExecInput) -> bool {
        self.0.send(input).await.is_ok()
    }
}

impl ExecReader {
    /// Returns the next output; `None` after the last.
    pub async fn next(&mut self) -> Option<ExecOutput> {
        self.0.recv().await
    }
}
