//! The key-value table: entries, what was deleted, and when something below a prefix last changed.
//!
//! # Invariants
//!
//! - [`KvTable::last_change`] of a prefix never goes back, also when everything below it is gone
//!   and forgotten, so that no waiter misses a deletion and none sees time run backwards.
//! - What is remembered of deletions is bounded by [`TOMBSTONES_MAX`], and forgotten in the same
//!   moment on every server.
//! - For a prefix that ends with a slash, as most do, the answer costs one look-up.
//!
//! # Deliberately absent
//!
//! - Conditions. Whether a write may happen is decided in `apply::kv`.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::Arc;

use cos_model::SessionId;
use cos_model::kv::KvEntry;
use cos_model::session::LockDelay;
use imbl::OrdMap;
use serde::{Deserialize, Serialize};

/// How many deletions are remembered key by key. Beyond it the older half is merged into one
/// number, which costs its waiters one wake-up in vain at most.
pub(super) const TOMBSTONES_MAX: usize = 4096;

/// How many slashes deep changes are noted by directory. Deeper prefixes are scanned, so that a key
/// of nothing but slashes does not write a row for each.
const DIRECTORY_DEPTH_MAX: usize = 8;

/// Keys and what is remembered of deleted ones.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct KvTable {
    entries: OrdMap<Arc<str>, Arc<KvEntry>>,
    /// The index at which each deleted key was deleted; all later than `forgotten`.
    tombstones: OrdMap<Arc<str>, u64>,
    /// Deletions up to this index are not remembered one by one any more.
    forgotten: u64,
    /// The last change below each directory (a prefix that ends with a slash, or is empty), where
    /// it is later than `forgotten`. Made from the other fields.
    directories: OrdMap<Arc<str>, u64>,
    /// The keys that each session holds. Made from the entries.
    held: OrdMap<(SessionId, Arc<str>), ()>,
    /// Keys that cannot be locked for a while, whether they are there or not.
    delays: OrdMap<Arc<str>, LockDelay>,
}

/// The stored part of a table; the rest is made from it.
#[derive(Serialize, Deserialize)]
pub(super) struct StoredKv {
    entries: Vec<Arc<KvEntry>>,
    tombstones: Vec<(Arc<str>, u64)>,
    forgotten: u64,
    #[serde(default)]
    delays: Vec<(Arc<str>, LockDelay)>,
}

impl StoredKv {
    /// Whether every key can be locked.
    pub(super) fn has_no_delays(&self) -> bool {
        self.delays.is_empty()
    }
}

impl KvTable {
    /// One entry.
    pub(super) fn get(&self, key: &str) -> Option<&Arc<KvEntry>> {
        self.entries.get(key)
    }

    /// The entries whose keys begin so, in order.
    pub(super) fn list(&self, prefix: &str) -> impl Iterator<Item = &Arc<KvEntry>> + use<'_> {
        below(&self.entries, prefix).map(|(_, entry)| entry)
    }

    /// The index of the last write or deletion of a key that begins so, or a later one where older
    /// deletions are forgotten; zero if there never was one.
    pub(super) fn last_change(&self, prefix: &str) -> u64 {
        let known = if is_directory(prefix) {
            self.directories.get(prefix).copied()
        } else {
            let written = self.list(prefix).map(|entry| entry.modify_index).max();
            written.max(below(&self.tombstones, prefix).map(|(_, index)| *index).max())
        };
        known.unwrap_or(0).max(self.forgotten)
    }

    /// Writes an entry, whose `modify_index` is the index of the change.
    pub(super) fn put(&mut self, entry: KvEntry) -> Arc<str> {
        let key: Arc<str> = Arc::from(entry.key.as_str());
        self.note(&key, entry.modify_index);
        self.tombstones.remove(&key);
        let holder = entry.session;
        let old = self.entries.insert(Arc::clone(&key), Arc::new(entry));
        self.note_holder(&key, old.and_then(|old| old.session), holder);
        key
    }

    /// Deletes a key, if it is there, at an index.
    pub(super) fn delete(&mut self, index: u64, key: &str) -> Option<Arc<str>> {
        let (key, old) = self.entries.remove_with_key(key)?;
        self.note_holder(&key, old.session, None);
        self.note(&key, index);
        self.tombstones.insert(Arc::clone(&key), index);
        Some(key)
    }

    /// The keys that a session holds, in order.
    pub(super) fn held_by(&self, session: SessionId) -> impl Iterator<Item = &Arc<str>> {
        let from = (session, Arc::from(""));
        let from_here = self.held.range(from..).map(|(held, ())| held);
        from_here.take_while(move |(by, _)| *by == session).map(|(_, key)| key)
    }

    /// Whether a key cannot be locked for a while.
    pub(super) fn is_delayed(&self, key: &str) -> bool {
        self.delays.contains_key(key)
    }

    /// Lets nobody lock a key until the delay is ended.
    pub(super) fn delay(&mut self, key: Arc<str>, delay: LockDelay) {
        self.delays.insert(key, delay);
    }

    /// The delays that last, by key.
    pub(super) fn delays(&self) -> impl Iterator<Item = LockDelay> {
        self.delays.values().copied()
    }

    /// Ends delays. A later one of the same key goes on.
    pub(super) fn end_delays(&mut self, over: &BTreeSet<LockDelay>) {
        let last = self.delays.iter().filter(|(_, delay)| !over.contains(delay));
        self.delays = last.map(|(key, delay)| (Arc::clone(key), *delay)).collect();
    }

    /// Forgets deletions until what is left is within bounds.
    pub(super) fn prune(&mut self) {
        if self.tombstones.len() <= TOMBSTONES_MAX {
            return;
        }
        let mut indexes: Vec<u64> = self.tombstones.values().copied().collect();
        indexes.sort_unstable();
        // One command may have deleted many keys at one index: these go together.
        self.forgotten = indexes[indexes.len() - TOMBSTONES_MAX / 2 - 1];
        self.tombstones = later_than(&self.tombstones, self.forgotten);
        self.directories = later_than(&self.directories, self.forgotten);
    }

    /// What is to be stored.
    pub(super) fn to_stored(&self) -> StoredKv {
        StoredKv {
            entries: self.entries.values().cloned().collect(),
            tombstones: self.tombstones.iter().map(|(key, at)| (Arc::clone(key), *at)).collect(),
            forgotten: self.forgotten,
            delays: self.delays.iter().map(|(key, delay)| (Arc::clone(key), *delay)).collect(),
        }
    }

    /// The table that was stored.
    pub(super) fn from_stored(stored: StoredKv) -> Self {
        let mut table = Self { forgotten: stored.forgotten, ..Self::default() };
        for entry in stored.entries {
            let key: Arc<str> = Arc::from(entry.key.as_str());
            table.note(&key, entry.modify_index);
            table.note_holder(&key, None, entry.session);
            table.entries.insert(key, entry);
        }
        for (key, index) in stored.tombstones {
            table.note(&key, index);
            table.tombstones.insert(key, index);
        }
        table.delays = stored.delays.into_iter().collect();
        table
    }

    fn note_holder(&mut self, key: &Arc<str>, old: Option<SessionId>, new: Option<SessionId>) {
        if old != new {
            self.held.extend(new.map(|session| ((session, Arc::clone(key)), ())));
            if let Some(old) = old {
                self.held.remove(&(old, Arc::clone(key)));
            }
        }
    }

    /// Notes a change of a key in every directory above it.
    fn note(&mut self, key: &str, index: u64) {
        if index <= self.forgotten {
            return;
        }
        let ends = key.match_indices('/').map(|(at, _)| at + 1).take(DIRECTORY_DEPTH_MAX);
        for end in std::iter::once(0).chain(ends) {
            match self.directories.get_mut(&key[..end]) {
                Some(last) => *last = index.max(*last),
                None => drop(self.directories.insert(Arc::from(&key[..end]), index)),
            }
        }
    }
}

/// Whether changes below this prefix are noted in one row.
fn is_directory(prefix: &str) -> bool {
    prefix.is_empty() || prefix.ends_with('/') && prefix.matches('/').count() <= DIRECTORY_DEPTH_MAX
}

/// The rows whose keys begin so, in order.
fn below<'a, V: Clone>(
    map: &'a OrdMap<Arc<str>, V>,
    prefix: &str,
) -> impl Iterator<Item = (&'a Arc<str>, &'a V)> + use<'a, V> {
    let prefix: Arc<str> = Arc::from(prefix);
    map.range::<_, str>((Bound::Included(&*Arc::clone(&prefix)), Bound::Unbounded))
        .take_while(move |(key, _)| key.starts_with(&*prefix))
}

fn later_than(map: &OrdMap<Arc<str>, u64>, index: u64) -> OrdMap<Arc<str>, u64> {
    map.iter().filter(|(_, at)| **at > index).map(|(key, at)| (Arc::clone(key), *at)).collect()
}
