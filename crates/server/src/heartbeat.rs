//! Which nodes have been silent for too long, and how often they have to say something.
//!
//! A heartbeat buys a node a time to live; agents send one at half of it, and a node is given up
//! when its time and a grace have passed. The time grows with the number of nodes, so that all
//! agents together send a bounded number of heartbeats per second.
//!
//! Pure: time is an argument, monotonic, so that a clock that is set does not take nodes down.
//!
//! # Invariants
//!
//! - **Our own pause is nobody's death.** An alarm that is looked at late tells that this process
//!   stood still, and messages wait unread: everybody gets a fresh wait.
//! - **No herd.** What a new leader grants differs from node to node.
//!
//! # Deliberately absent
//!
//! - Taking a node down. The leader proposes that for each node that [`Heartbeats::missed`] names.

use std::time::Duration;

use cos_model::NodeId;

use crate::alarms::Alarms;

/// A look that is later than this tells of a pause of this process.
const PAUSE_MIN: Duration = Duration::from_millis(500);

/// How many late looks in a row excuse silence. A leader that is always late must not keep dead
/// nodes alive.
const PAUSES_MAX: u32 = 3;

/// Late looks are in a row if no more than so many times the allowed silence lies between them.
const PAUSES_APART: u32 = 4;

/// How long silence may last, and how often agents show that they live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The shortest time to live that a heartbeat buys.
    pub ttl_min: Duration,
    /// The time between two heartbeats, of whichever agents, that is enough on average.
    pub spacing: Duration,
    /// The silence beyond the time to live.
    pub grace: Duration,
    /// After the connection closed without good-bye, as it does when the process dies.
    pub closed: Duration,
    /// After an agent said that it will be back soon.
    pub goodbye: Duration,
    /// After a new leader began: agents may have to find another server first.
    pub failover: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            ttl_min: Duration::from_secs(1),
            spacing: Duration::from_micros(200),
            grace: Duration::from_millis(1_250),
            closed: Duration::from_secs(1),
            goodbye: Duration::from_secs(10),
            failover: Duration::from_secs(5),
        }
    }
}

impl Limits {
    /// The time to live that a heartbeat buys in a cluster of so many nodes.
    pub fn ttl(&self, nodes: usize) -> Duration {
        self.ttl_min.max(self.all_of(nodes) * 2)
    }

    /// How often each agent of so many sends a heartbeat.
    pub fn heartbeat_every(&self, nodes: usize) -> Duration {
        self.ttl(nodes) / 2
    }

    /// How long a node of so many may be silent.
    pub fn silence(&self, nodes: usize) -> Duration {
        self.ttl(nodes) + self.grace
    }

    /// Over how long so many agents spread their return after they lost a server.
    pub fn reconnect_spread(&self, nodes: usize) -> Duration {
        self.all_of(nodes)
    }

    fn all_of(&self, nodes: usize) -> Duration {
        self.spacing.saturating_mul(u32::try_from(nodes).unwrap_or(u32::MAX))
    }
}

/// When each node is given up.
#[derive(Debug)]
pub struct Heartbeats {
    limits: Limits,
    due: Alarms<NodeId, Duration>,
    /// How many nodes there are, which sets the pace.
    nodes: usize,
    /// How many looks in a row were late.
    pauses: u32,
    /// When the last of them was.
    paused_at: Duration,
}

impl Heartbeats {
    /// Tracks nobody yet.
    pub fn new(limits: Limits) -> Self {
        Self { limits, due: Alarms::default(), nodes: 0, pauses: 0, paused_at: Duration::ZERO }
    }

    /// Notes how many nodes there are.
    pub fn resize(&mut self, nodes: usize) {
        self.nodes = nodes;
    }

    /// Expects a node within the time that a new leader grants, unless it is expected already. Up
    /// to a quarter more is granted, another part of it to each node.
    pub fn expect(&mut self, node: NodeId, now: Duration) {
        if self.due.get(node).is_none() {
            let granted = self.limits.failover.max(self.limits.silence(self.nodes));
            self.due.set(node, now + granted + part_of(granted / 4, node));
        }
    }

    /// Notes that a node was heard of.
    pub fn heard(&mut self, node: NodeId, now: Duration) {
        self.due.set(node, now + self.limits.silence(self.nodes));
    }

    /// Notes that a node's connection closed.
    pub fn closed(&mut self, node: NodeId, now: Duration) {
        let soon = now + self.limits.closed;
        if self.due.get(node).is_some_and(|due| due > soon) {
            self.due.set(node, soon);
        }
    }

    /// Notes that a node's agent stops and means to be back.
    pub fn leaving(&mut self, node: NodeId, now: Duration) {
        if self.due.get(node).is_some() {
            self.due.set(node, now + self.limits.goodbye.max(self.limits.closed));
        }
    }

    /// Stops tracking a node.
    pub fn forget(&mut self, node: NodeId) {
        self.due.cancel(node);
    }

    /// Takes out the nodes that were silent for too long.
    pub fn missed(&mut self, now: Duration) -> Vec<NodeId> {
        let is_late = self.due.next().is_some_and(|due| now > due + PAUSE_MIN);
        let silence = self.limits.silence(self.nodes);
        if now > self.paused_at + silence * PAUSES_APART {
            self.pauses = 0;
        }
        if is_late && self.pauses < PAUSES_MAX {
            self.pauses += 1;
            self.paused_at = now;
            let fresh = now + silence;
            for node in self.due.take_due(fresh) {
                self.due.set(node, fresh);
            }
            return Vec::new();
        }
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

/// A part of `whole` that is always the same for a node, and evenly spread over nodes.
fn part_of(whole: Duration, node: NodeId) -> Duration {
    let bits = node.bits();
    let folded = u64::try_from((bits ^ (bits >> 64)) & u128::from(u64::MAX)).unwrap_or(0);
    // Multiplying by an odd number close to the golden ratio mixes low bits into high ones.
    let mixed = folded.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 48;
    let steps = u32::try_from(mixed).unwrap_or(0);
    whole / 65_536 * steps
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const LIMITS: Limits = Limits {
        ttl_min: Duration::from_secs(2),
        spacing: Duration::from_millis(1),
        grace: Duration::from_secs(3),
        closed: Duration::from_secs(3),
        goodbye: Duration::from_secs(10),
        failover: Duration::from_secs(8),
    };

    /// Plays `events` (second, what) for one node and says at which second it is given up.
    #[track_caller]
    fn check(events: &[(u64, &str)], expected: Option<u64>) {
        let node = NodeId::from_bits(0);
        let mut heartbeats = Heartbeats::new(LIMITS);
        let mut given_up = None;
        for second in 0..60 {
            let now = Duration::from_secs(second);
            let paused = events.contains(&(second, "paused"));
            if !paused && heartbeats.missed(now) == [node] && given_up.is_none() {
                given_up = Some(second);
            }
            for (_, what) in events.iter().filter(|(at, _)| *at == second) {
                match *what {
                    "expect" => heartbeats.expect(node, now),
                    "heard" => heartbeats.heard(node, now),
                    "closed" => heartbeats.closed(node, now),
                    "leaving" => heartbeats.leaving(node, now),
                    "paused" => {}
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
    fn an_agent_that_says_good_bye_has_time_to_come_back() {
        check(&[(0, "heard"), (1, "leaving")], Some(11));
        check(&[(0, "heard"), (1, "leaving"), (4, "heard")], Some(9));
        check(&[(0, "heard"), (1, "forget"), (2, "leaving")], None);
    }

    #[test]
    fn a_new_leader_grants_a_fresh_wait() {
        check(&[(0, "expect")], Some(8));
        check(&[(0, "heard"), (2, "expect")], Some(5));
        check(&[(0, "expect"), (1, "heard")], Some(6));
    }

    #[test]
    fn a_pause_of_our_own_is_not_held_against_a_node() {
        check(&[(0, "heard"), (5, "paused"), (6, "paused")], Some(12));
        check(&[(0, "heard"), (5, "paused"), (6, "paused"), (8, "heard")], Some(13));
    }

    #[test]
    fn one_who_is_always_late_gives_dead_nodes_up_all_the_same() {
        let mut heartbeats = Heartbeats::new(LIMITS);
        heartbeats.heard(NodeId::from_bits(1), Duration::ZERO);
        let looks = (1..=100).map(|look| Duration::from_secs(look * 7));
        let at = looks.into_iter().position(|now| !heartbeats.missed(now).is_empty());
        assert_eq!(at, Some(3));
    }

    #[test]
    fn the_pace_keeps_heartbeats_per_second_bounded() {
        let limits = Limits::default();
        for nodes in [0, 1, 10, 1_000, 2_500, 5_000, 20_000, 1_000_000] {
            let every = limits.heartbeat_every(nodes);
            assert!(every >= limits.ttl_min / 2);
            let per_second = f64::from(u32::try_from(nodes).unwrap()) / every.as_secs_f64();
            assert!(per_second <= 5_000.1, "{nodes} nodes send {per_second} per second");
            // Two may be lost on the way before a node is given up, or a second passes.
            assert!(limits.silence(nodes) >= every * 2 + Duration::from_secs(1));
            assert!(limits.reconnect_spread(nodes) <= every.max(limits.ttl_min));
        }
        assert_eq!(limits.heartbeat_every(3), Duration::from_millis(500));
        assert_eq!(limits.silence(3), Duration::from_millis(2_250));
        assert_eq!(limits.heartbeat_every(5_000), Duration::from_secs(1));
    }

    #[test]
    fn a_new_leader_does_not_give_all_up_at_once() {
        let mut heartbeats = Heartbeats::new(Limits::default());
        heartbeats.resize(5_000);
        // As they are drawn: nothing is alike in two of them.
        let ids =
            (1..=5_000_u128).map(|n| n.wrapping_mul(0x2545_f491_4f6c_dd1d_9e37_79b9_7f4a_7c15));
        for id in ids {
            heartbeats.expect(NodeId::from_bits(id), Duration::ZERO);
        }
        let mut by_slot: BTreeMap<u128, usize> = BTreeMap::new();
        for millis in (0..10_000).step_by(10) {
            let missed = heartbeats.missed(Duration::from_millis(millis)).len();
            *by_slot.entry(u128::from(millis / 100)).or_default() += missed;
        }
        let (first, last) = (by_slot.iter().find(|(_, n)| **n > 0), by_slot.values().max());
        assert_eq!(first.unwrap().0, &50, "nobody is given up before the grant");
        assert_eq!(by_slot.values().sum::<usize>(), 5_000);
        // Evenly over 1.25 s it would be 400 per 100 ms.
        assert!(*last.unwrap() <= 520, "{last:?} at once");
    }
}
