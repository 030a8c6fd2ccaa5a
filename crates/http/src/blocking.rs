//! Reads that wait until something newer is there.

use std::sync::Arc;
use std::time::Duration;

use cos_model::Timestamp;
use cos_state::{ControlPlane, ProposeError, State, Topic};
use tokio_util::sync::CancellationToken;

/// The jitter added to a wait is at most this part of it, so that many waiters do not all ask
/// again at once.
const JITTER_PART: u32 = 16;

/// How long a read waits, and for what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wait {
    /// Answer only with something newer than this; zero answers at once.
    pub index: u64,
    /// The longest wait, without jitter.
    pub longest: Duration,
    /// Whether this server may answer from what it has; else it first catches up.
    pub stale: bool,
}

/// Calls `read` on the newest state until the index that it returns exceeds `wait.index`, the wait
/// is over, or the program stops. Returns the last result with its index, which is never zero.
///
/// `read` returns the index of what it read; `topics` are what it depends on.
pub async fn wait_for<T>(
    control: &dyn ControlPlane,
    stopping: &CancellationToken,
    wait: Wait,
    topics: &[Topic],
    read: impl Fn(&Arc<State>) -> (u64, T),
) -> Result<(u64, T), ProposeError> {
    if !wait.stale {
        control.barrier().await?;
    }
    let deadline = control.now() + wait.longest + jitter(control, wait.longest);
    loop {
        let state = control.state();
        let (index, value) = read(&state);
        // A restore changed everything, and must not seem to go back in time.
        let index = index.max(state.floor());
        let left = remaining(control, deadline);
        if wait.index == 0 || index > wait.index || left.is_zero() || stopping.is_cancelled() {
            return Ok((index.max(1), value));
        }
        // What was read may be older than its topic: wait for the topic to move, not for the read.
        let seen = topics.iter().map(|topic| state.topic_index(topic)).max().unwrap_or(0);
        // Both arms may be dropped: neither holds anything, and the loop reads anew.
        tokio::select! {
            () = control.changed(topics, seen, left) => {}
            () = stopping.cancelled() => {}
        }
    }
}

fn remaining(control: &dyn ControlPlane, deadline: Timestamp) -> Duration {
    deadline.since(control.now())
}

fn jitter(control: &dyn ControlPlane, longest: Duration) -> Duration {
    let most = longest / JITTER_PART;
    let parts = u32::try_from(control.new_id() % 1000).unwrap_or(0);
    most * parts / 1000
}
