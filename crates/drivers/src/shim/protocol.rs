//! The words between agent and shim: one line of JSON each way over a unix socket.

use serde::{Deserialize, Serialize};

use crate::driver::ExitResult;

/// The longest request; all of them are far shorter.
pub(crate) const REQUEST_BYTES_MAX: usize = 1024;

/// What the agent asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Request {
    /// Version of the speaker.
    pub(crate) version: u32,
    /// What is to be done.
    pub(crate) verb: Verb,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verb {
    /// Say whether the task runs.
    Status,
    /// Send a signal.
    Signal(i32),
    /// Send a signal, and SIGKILL to everything later.
    Stop {
        /// The first signal.
        signal: i32,
        /// The time between the two.
        timeout_ms: u64,
    },
    /// Answer when the task has ended.
    Wait,
}

/// What the shim answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Reply {
    /// The task runs; what was asked was done.
    Running,
    /// The task has ended.
    Exited(ExitResult),
    /// What was asked could not be done.
    Failed(String),
}
