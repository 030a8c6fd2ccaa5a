//! Times at which things have to be looked at, one per thing.

use std::collections::{BTreeMap, BTreeSet};

/// One time per key, in both orders.
#[derive(Debug)]
pub(crate) struct Alarms<K, T> {
    due: BTreeMap<K, T>,
    order: BTreeSet<(T, K)>,
}

impl<K, T> Default for Alarms<K, T> {
    fn default() -> Self {
        Self { due: BTreeMap::new(), order: BTreeSet::new() }
    }
}

impl<K: Copy + Ord, T: Copy + Ord> Alarms<K, T> {
    /// Sets or moves the time of a key.
    pub(crate) fn set(&mut self, key: K, at: T) {
        self.cancel(key);
        self.due.insert(key, at);
        self.order.insert((at, key));
    }

    /// Forgets a key.
    pub(crate) fn cancel(&mut self, key: K) {
        if let Some(at) = self.due.remove(&key) {
            self.order.remove(&(at, key));
        }
    }

    /// The time of a key.
    pub(crate) fn get(&self, key: K) -> Option<T> {
        self.due.get(&key).copied()
    }

    /// Takes out the keys whose time has come, earliest first.
    pub(crate) fn take_due(&mut self, now: T) -> Vec<K> {
        let mut taken = Vec::new();
        while let Some((at, key)) = self.order.first().copied()
            && at <= now
        {
            self.cancel(key);
            taken.push(key);
        }
        taken
    }

    /// The earliest time.
    pub(crate) fn next(&self) -> Option<T> {
        self.order.first().map(|(at, _)| *at)
    }

    /// How many keys there are.
    pub(crate) fn count(&self) -> usize {
        self.due.len()
    }
}
