//! What is to be thought of an instance whose node may be out of reach: is it there, is it waited
//! for, or is it lost?
//!
//! # Invariants
//!
//! - Pure: state and time in, an opinion out.
//! - Nobody is waited for longer than the job says, and what has not begun is not waited for.

use std::time::Duration;

use cos_model::{Allocation, ClientStatus, Disconnect, Timestamp};

use crate::nodes::NodeTable;

/// What is to be thought of an instance that is not over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Presence {
    /// Its agent is heard of.
    Here,
    /// It is out of reach, and its job waits for it.
    Away(Away),
    /// It is given up.
    Lost,
}

/// An instance that is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Away {
    /// Until when; for ever if nothing is said.
    pub(crate) until: Option<Timestamp>,
    /// Whether another one does its work meanwhile.
    pub(crate) replace: bool,
    /// Whether this is news.
    pub(crate) is_new: bool,
}

/// Judges an instance that is not over.
pub(crate) fn presence(table: &NodeTable<'_>, alloc: &Allocation, now: Timestamp) -> Presence {
    let is_unknown = alloc.client_status == ClientStatus::Unknown;
    let is_gone = table.node(alloc.node_id).is_none();
    if !is_gone && !is_unknown && !table.is_lost(alloc.node_id) {
        return Presence::Here;
    }
    let ran = is_unknown || alloc.client_status == ClientStatus::Running;
    let is_unwanted = alloc.transition.migrate || alloc.transition.force_reschedule;
    if is_gone || !ran || is_unwanted {
        return Presence::Lost;
    }
    let policy = policy(alloc);
    let since = alloc.unknown_since().unwrap_or(now);
    let until = policy.and_then(|policy| policy.lost_after).map(|time| since + time);
    let replace = policy.is_none_or(|policy| policy.replace);
    let is_back = !table.is_lost(alloc.node_id);
    match until {
        Some(until) if until <= now => Presence::Lost,
        // Its agent has yet to say how it is.
        None if replace && !is_back => Presence::Lost,
        _ => Presence::Away(Away { until, replace, is_new: !is_unknown }),
    }
}

/// Until when a lost instance may still run, because its agent stops it only after some time
/// without servers; nothing if its replacement need not wait for that.
pub(crate) fn may_run_until(alloc: &Allocation, lost_at: Timestamp) -> Option<Timestamp> {
    let stop_after = policy(alloc)?.stop_on_client_after?;
    let group = alloc.task_group()?;
    let ending = |kill: Duration, delay: Duration| kill.saturating_add(delay);
    let slowest = group.tasks.iter().map(|task| ending(task.kill_timeout, task.shutdown_delay));
    let end = slowest.max().unwrap_or_default().saturating_add(group.shutdown_delay);
    Some(lost_at + stop_after.saturating_add(end))
}

fn policy(alloc: &Allocation) -> Option<&Disconnect> {
    alloc.task_group()?.disconnect.as_ref()
}
