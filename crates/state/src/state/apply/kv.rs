//! The key-value store: conditions, and all or nothing.
//!
//! # Invariants
//!
//! - A write that changes neither value nor flags nor holder leaves the entry and its index as
//!   they are.
//! - If one condition fails, nothing of the command was done.
//! - A key is held by one session at most, and only by one that there is.

use std::collections::BTreeSet;
use std::sync::Arc;

use cos_model::SessionId;
use cos_model::kv::{KvEntry, KvOp};
use cos_model::session::{Behavior, LockDelay};

use super::Step;
use crate::command::{Refused, Reply};
use crate::event::Event;
use crate::state::kv_table::KvTable;

impl Step<'_> {
    pub(super) fn change_kv(&mut self, ops: &[KvOp]) -> Result<Reply, Refused> {
        // The copy shares everything with the table and is dropped when a condition fails.
        let mut change = Change::of(self);
        for op in ops {
            check_session(op, |id| self.state.sessions.contains_key(&id))?;
            if !change.apply(op) {
                return Ok(Reply::Kv(false));
            }
        }
        self.finish_kv(change);
        Ok(Reply::Kv(true))
    }

    /// Lets go of what a session held when it ended. Nobody can lock these keys while the delay
    /// lasts, unless it is none.
    pub(super) fn let_go(&mut self, session: SessionId, behavior: Behavior, delay: LockDelay) {
        let keys: Vec<Arc<str>> = self.state.kv.held_by(session).cloned().collect();
        let mut change = Change::of(self);
        for key in &keys {
            match behavior {
                Behavior::Delete => change.delete(key),
                Behavior::Release => change.release(key),
            }
            if !delay.lasts.is_zero() {
                change.table.delay(Arc::clone(key), delay);
            }
        }
        self.finish_kv(change);
        if !keys.is_empty() && !delay.lasts.is_zero() {
            self.events.push(Event::LockDelayed(delay));
        }
    }

    fn finish_kv(&mut self, mut change: Change) {
        if change.keys.is_empty() {
            return;
        }
        change.table.prune();
        self.state.kv = change.table;
        self.state.tables.kv = self.index;
        self.events.extend(change.keys.into_iter().map(Event::KvChanged));
    }
}

/// Refuses an operation on locks by a session that is not there.
fn check_session(op: &KvOp, is_known: impl Fn(SessionId) -> bool) -> Result<(), Refused> {
    match op {
        KvOp::Acquire { session, .. } if !is_known(*session) => {
            Err(Refused::Invalid(format!("invalid session \"{session}\"")))
        }
        _ => Ok(()),
    }
}

/// What is written to a key.
struct Content<'a> {
    value: &'a [u8],
    flags: u64,
    lock_index: u64,
    session: Option<SessionId>,
}

/// A table being changed.
struct Change {
    table: KvTable,
    index: u64,
    /// The keys that were written or deleted.
    keys: BTreeSet<Arc<str>>,
}

impl Change {
    fn of(step: &Step<'_>) -> Self {
        Self { table: step.state.kv.clone(), index: step.index, keys: BTreeSet::new() }
    }

    /// Does one operation, unless its condition fails.
    fn apply(&mut self, op: &KvOp) -> bool {
        match op {
            KvOp::Set { key, value, flags } => self.set(key, value, *flags),
            KvOp::SetIfUnchanged { key, value, flags, expected } => {
                let found = self.table.get(key).map_or(0, |entry| entry.modify_index);
                if found != *expected {
                    return false;
                }
                self.set(key, value, *flags);
            }
            KvOp::Acquire { key, value, flags, session } => {
                return self.acquire(key, value, *flags, *session);
            }
            KvOp::Release { key, value, flags, session } => {
                let held = self.table.get(key).filter(|entry| entry.session == Some(*session));
                let Some(lock_index) = held.map(|entry| entry.lock_index) else { return false };
                self.write(key, &Content { value, flags: *flags, lock_index, session: None });
            }
            KvOp::Delete { key } => self.delete(key),
            KvOp::DeleteIfUnchanged { key, expected } => {
                // A key that is gone already is as the caller wants it.
                if self.table.get(key).is_some_and(|entry| entry.modify_index != *expected) {
                    return false;
                }
                self.delete(key);
            }
            KvOp::DeleteTree { prefix } => {
                let keys: Vec<String> =
                    self.table.list(prefix).map(|entry| entry.key.clone()).collect();
                for key in keys {
                    self.delete(&key);
                }
            }
        }
        true
    }

    /// Locks a key. Who holds it already writes and goes on holding it.
    fn acquire(&mut self, key: &str, value: &[u8], flags: u64, session: SessionId) -> bool {
        let (lock_index, holder) =
            self.table.get(key).map_or((0, None), |entry| (entry.lock_index, entry.session));
        let lock_index = match holder {
            Some(holder) if holder == session => lock_index,
            None if !self.table.is_delayed(key) => lock_index + 1,
            _ => return false,
        };
        self.write(key, &Content { value, flags, lock_index, session: Some(session) });
        true
    }

    /// Writes, whoever holds the key.
    fn set(&mut self, key: &str, value: &[u8], flags: u64) {
        let (lock_index, session) =
            self.table.get(key).map_or((0, None), |entry| (entry.lock_index, entry.session));
        self.write(key, &Content { value, flags, lock_index, session });
    }

    /// Takes a key from its holder.
    fn release(&mut self, key: &str) {
        if let Some(old) = self.table.get(key).cloned() {
            let (flags, lock_index) = (old.flags, old.lock_index);
            self.write(key, &Content { value: &old.value, flags, lock_index, session: None });
        }
    }

    fn write(&mut self, key: &str, content: &Content<'_>) {
        let old = self.table.get(key);
        let is_same = |old: &KvEntry| {
            old.value == content.value
                && old.flags == content.flags
                && old.lock_index == content.lock_index
                && old.session == content.session
        };
        if old.is_some_and(|old| is_same(old)) {
            return;
        }
        let entry = KvEntry {
            key: key.to_owned(),
            value: content.value.to_vec(),
            flags: content.flags,
            lock_index: content.lock_index,
            session: content.session,
            create_index: old.map_or(self.index, |old| old.create_index),
            modify_index: self.index,
        };
        let key = self.table.put(entry);
        self.keys.insert(key);
    }

    fn delete(&mut self, key: &str) {
        self.keys.extend(self.table.delete(self.index, key));
    }
}
