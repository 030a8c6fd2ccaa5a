//! The key-value store: conditions, and all or nothing.
//!
//! # Invariants
//!
//! - A write that changes neither value nor flags leaves the entry and its index as they are.
//! - If one condition fails, nothing of the command was done.

use std::collections::BTreeSet;
use std::sync::Arc;

use cos_model::kv::{KvEntry, KvOp};

use super::Step;
use crate::command::Reply;
use crate::event::Event;
use crate::state::kv_table::KvTable;

impl Step<'_> {
    pub(super) fn change_kv(&mut self, ops: &[KvOp]) -> Reply {
        // The copy shares everything with the table and is dropped when a condition fails.
        let mut change =
            Change { table: self.state.kv.clone(), index: self.index, keys: BTreeSet::new() };
        if !ops.iter().all(|op| change.apply(op)) {
            return Reply::Kv(false);
        }
        if !change.keys.is_empty() {
            change.table.prune();
            self.state.kv = change.table;
            self.state.tables.kv = self.index;
            self.events.extend(change.keys.into_iter().map(Event::KvChanged));
        }
        Reply::Kv(true)
    }
}

/// A table being changed.
struct Change {
    table: KvTable,
    index: u64,
    /// The keys that were written or deleted.
    keys: BTreeSet<Arc<str>>,
}

impl Change {
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

    fn set(&mut self, key: &str, value: &[u8], flags: u64) {
        let old = self.table.get(key);
        if old.is_some_and(|old| old.value == value && old.flags == flags) {
            return;
        }
        let entry = KvEntry {
            key: key.to_owned(),
            value: value.to_vec(),
            flags,
            lock_index: old.map_or(0, |old| old.lock_index),
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
