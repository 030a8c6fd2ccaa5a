//! When sessions that are not renewed end, and when keys can be locked again after one ended.
//!
//! Pure: time is an argument, monotonic, so that a clock that is set ends nobody's lock.
//!
//! # Invariants
//!
//! - A session lives for its TTL after its last renewal at least, and for twice that at most, plus
//!   the time that a proposal takes. A new leader grants everybody that time anew.
//! - A lock delay lasts as long as it says at least; a new leader begins it anew.
//! - What is due stays due until the state says that it is done, so that a proposal which failed is
//!   made again.
//!
//! # Deliberately absent
//!
//! - Ending anything. The leader proposes what [`SessionTimers::due`] returns.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use cos_model::SessionId;
use cos_model::session::{LockDelay, Session, SessionOp};
use cos_state::State;

use crate::alarms::Alarms;

/// How many TTLs without a renewal end a session: one that a renewal was under way is forgiven.
const TTLS_OF_SILENCE: u32 = 2;

/// When what was due is looked at again if nothing came of it.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// How many sessions end by one command, so that an entry of the log stays small.
const ENDED_AT_ONCE_MAX: usize = 1024;

/// When sessions and lock delays end.
#[derive(Debug, Default)]
pub struct SessionTimers {
    sessions: Alarms<SessionId, Duration>,
    /// The index of the last renewal that is known of each session that has an alarm.
    renewed: BTreeMap<SessionId, u64>,
    delays: Alarms<LockDelay, Duration>,
}

impl SessionTimers {
    /// Begins to time everything in the state that is not timed yet, and forgets what is gone.
    pub fn restore(&mut self, state: &State, now: Duration) {
        let gone: Vec<SessionId> =
            self.renewed.keys().copied().filter(|id| state.session(*id).is_none()).collect();
        for id in gone {
            self.ended(id);
        }
        for session in state.sessions() {
            if self.renewed.get(&session.id) != Some(&session.renew_index) {
                self.renewed(session, now);
            }
        }
        for delay in state.lock_delays() {
            self.delayed(delay, now);
        }
    }

    /// Notes that a session began or was renewed.
    pub fn renewed(&mut self, session: &Session, now: Duration) {
        if !session.ttl.is_zero() {
            self.sessions.set(session.id, now + session.ttl * TTLS_OF_SILENCE);
            self.renewed.insert(session.id, session.renew_index);
        }
    }

    /// Notes that a session ended.
    pub fn ended(&mut self, id: SessionId) {
        self.sessions.cancel(id);
        self.renewed.remove(&id);
    }

    /// Notes that keys cannot be locked for a while.
    pub fn delayed(&mut self, delay: LockDelay, now: Duration) {
        if self.delays.get(delay).is_none() {
            self.delays.set(delay, now + delay.lasts);
        }
    }

    /// What has to be proposed now.
    pub fn due(&mut self, state: &State, now: Duration) -> Vec<SessionOp> {
        let mut ops = Vec::new();
        let mut sessions = BTreeMap::new();
        for id in self.sessions.take_due(now) {
            self.sessions.set(id, now + AGAIN_AFTER);
            sessions.extend(self.renewed.get(&id).map(|index| (id, *index)));
            if sessions.len() == ENDED_AT_ONCE_MAX {
                ops.push(SessionOp::Expire { sessions: std::mem::take(&mut sessions) });
            }
        }
        if !sessions.is_empty() {
            ops.push(SessionOp::Expire { sessions });
        }
        let over: BTreeSet<LockDelay> = self.delays.take_due(now).into_iter().collect();
        if !over.is_empty() {
            // One that is done is not in the state any more.
            let lasting: BTreeSet<LockDelay> = state.lock_delays().collect();
            let delays: BTreeSet<LockDelay> = over.intersection(&lasting).copied().collect();
            for delay in &delays {
                self.delays.set(*delay, now + AGAIN_AFTER);
            }
            if !delays.is_empty() {
                ops.push(SessionOp::EndLockDelays { delays });
            }
        }
        ops
    }

    /// When something is due if nothing happens.
    pub fn next_due(&self) -> Option<Duration> {
        self.sessions.next().into_iter().chain(self.delays.next()).min()
    }
}

#[cfg(test)]
mod tests;
