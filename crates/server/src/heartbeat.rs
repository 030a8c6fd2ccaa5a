//! Which nodes have been silent for too long.
//!
//! Pure: time is an argument, monotonic, so that a clock that is set does not take nodes down.
//!
//! # Deliberately absent
//!
//! - Taking a node down. The leader proposes that for each node that [`Heartbeats::missed`] names.

use std::time::Duration;

use cos_model::NodeId;

use crate::alarms::Alarms;

/// How long silence may last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Without any message.
    pub silence: Duration,
    /// After the connection closed without good-bye.
    pub closed: Duration,
    /// After a new leader began: agents may have to find another server first.
    pub failover: Duration,
}

/// When each node is given up.
#[derive(Debug)]
pub struct Heartbeats {
    limits: Limits,
    due: Alarms<NodeId, Duration>,
}

impl Heartbeats {
    /// Tracks nobody yet.
    pub fn new(limits: Limits) -> Self {
        Self { limits, due: Alarms::default() }
    }

    /// Expects a node within the time that a new leader grants, unless it is expected already.
    pub fn expect(&mut self, node: NodeId, now: Duration) {
        if self.due.get(node).is_none() {
            self.due.set(node, now + self.limits.failover);
        }
    }

    /// Notes that a node was heard of.
    pub fn heard(&mut self, node: NodeId, now: Duration) {
        self.due.set(node, now + self.limits.silence);
    }

    /// Notes that a node's connection closed.
    pub fn closed(&mut self, node: NodeId, now: Duration) {
        let soon = now + self.limits.closed;
        if self.due.get(node).is_some_and(|due| due > soon) {
            self.due.set(node, soon);
        }
    }

    /// Stops tracking a node.
    pub fn forget(&mut self, node: NodeId) {
        self.due.cancel(node);
    }

    /// Takes out the nodes that were silent for too long.
    pub fn missed(&mut self, now: Duration) -> Vec<NodeId> {
        self.due.take_due(now)
    }

    /// When the next node is given up if nothing is heard of it.
    pub fn next_due(&self) -> Option<Duration> {
        self.due.next()
    }

    /// How many nodes are tracked.
    pub fn count(&self) -> usize {
        self.due.count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        silence: Duration::from_secs(5),
        closed: Duration::from_secs(3),
        failover: Duration::from_secs(8),
    };

    /// Plays `events` (second, what) for one node and says at which second it is given up.
    #[track_caller]
    fn check(events: &[(u64, &str)], expected: Option<u64>) {
        let node = NodeId::from_bits(1);
        let mut heartbeats = Heartbeats::new(LIMITS);
        let mut given_up = None;
        for second in 0..60 {
            let now = Duration::from_secs(second);
            if heartbeats.missed(now) == [node] && given_up.is_none() {
                given_up = Some(second);
            }
            for (_, what) in events.iter().filter(|(at, _)| *at == second) {
                match *what {
                    "expect" => heartbeats.expect(node, now),
                    "heard" => heartbeats.heard(node, now),
                    "closed" => heartbeats.closed(node, now),
                    _ => heartbeats.forget(node),
                }
            }
        }
        assert_eq!(given_up, expected, "{events:?}");
    }

    #[test]
    fn a_silent_node_is_given_up_after_its_last_word() {
        check(&[(0, "heard"), (1, "heard")], Some(6));
        check(&[(0, "heard"), (1, "forget")], None);
        check(&[], None);
    }

    #[test]
    fn a_closed_connection_shortens_the_wait_and_a_new_one_restores_it() {
        check(&[(0, "heard"), (1, "closed")], Some(4));
        check(&[(0, "heard"), (1, "closed"), (3, "heard")], Some(8));
        check(&[(0, "heard"), (4, "closed")], Some(5));
    }

    #[test]
    fn a_new_leader_grants_a_fresh_wait() {
        check(&[(0, "expect")], Some(8));
        check(&[(0, "heard"), (2, "expect")], Some(5));
        check(&[(0, "expect"), (1, "heard")], Some(6));
    }
}
