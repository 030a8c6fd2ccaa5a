//! What goes into a task's machine, and what comes out.

use std::time::Duration;

use cos_drivers::ExitResult;
use cos_model::{TaskEvent, Timestamp};

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// It may begin.
    Begin,
    /// The runner has something to tell about the preparation.
    Note(TaskEvent),
    /// The preparation succeeded.
    Prepared,
    /// The preparation failed.
    PreparationFailed {
        /// What is shown.
        event: TaskEvent,
        /// Whether trying again may help.
        recoverable: bool,
    },
    /// The driver started it, or found it running after a restart of the agent.
    Started,
    /// The driver found it running after a restart of the agent.
    Recovered,
    /// After a restart of the agent nothing was found of it.
    Lost(String),
    /// The driver could not start it.
    StartFailed {
        /// What is shown.
        message: String,
        /// Whether trying again may help.
        recoverable: bool,
    },
    /// It ended.
    Exited(ExitResult),
    /// It has left discovery, or was never there.
    Left,
    /// Stopping it failed; it is tried again.
    StopFailed(String),
    /// Time passed.
    Tick,
    /// It shall end for good.
    Stop {
        /// Why, if that is to be shown.
        event: Option<TaskEvent>,
        /// Whether the wait between leaving discovery and the signal is skipped.
        at_once: bool,
        /// A further wait, of the group, before the signal.
        group_delay: Duration,
    },
    /// It shall be restarted because somebody or a template asks for it.
    Restart(String),
    /// It shall be restarted because its checks stay bad; the policy counts it.
    CheckFailed(String),
    /// It shall get a signal.
    Signal {
        /// The signal's name.
        signal: String,
        /// Why.
        reason: String,
    },
}

/// What the runner has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Make directories, fetch artifacts, render templates.
    Prepare,
    /// Give the preparation up.
    CancelPreparation,
    /// Start it.
    Launch,
    /// Send the kill signal and kill it after the timeout.
    Stop {
        /// The signal; empty leaves it to the driver.
        signal: String,
        /// The time until SIGKILL.
        timeout: Duration,
    },
    /// Send a signal.
    Signal(String),
}

/// Input of a moment: when, and randomness for this moment.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// When.
    pub now: Timestamp,
    /// Entropy for jitter.
    pub entropy: u64,
}
