//! Keeps the catalog in step with what this agent's allocations want to be found as.
//!
//! Runners say what they want and wait for the answer; a loop compares the catalog with all wishes
//! whenever a server was lost and found again, and from time to time, and repairs what differs.
//!
//! # Invariants
//!
//! - What is in the catalog on this node under our prefix and nobody wants is removed.
//! - A difference is repaired only if it is seen twice, a moment apart, so that a change that is on
//!   its way is not made twice.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cos_model::AllocId;
use cos_model::catalog::{Catalog, CatalogChange};
use tokio_util::sync::CancellationToken;

use crate::link::{Link, LinkError};
use crate::services::{Registration, difference, repairs};

/// How often the catalog is compared although nothing happened.
const COMPARE_EVERY: Duration = Duration::from_mins(1);

/// How long a difference must last to be repaired.
const SETTLE: Duration = Duration::from_secs(2);

/// What this node's allocations want to be found as. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Registry {
    node: Arc<str>,
    link: Link,
    wanted: Arc<Mutex<BTreeMap<AllocId, Vec<Registration>>>>,
}

impl Registry {
    pub(crate) fn new(node: Arc<str>, link: Link) -> Self {
        Self { node, link, wanted: Arc::default() }
    }

    /// Sets what an allocation wants and tells the catalog. Even if that fails the wish stands, and
    /// is carried out once a server is there.
    pub(crate) async fn set(
        &self,
        alloc: AllocId,
        registrations: Vec<Registration>,
    ) -> Result<(), LinkError> {
        let old = self.replace(alloc, registrations.clone());
        let changes = difference(&old, &registrations);
        if changes.is_empty() {
            return Ok(());
        }
        let refused = self.link.change(changes).await?;
        for why in refused.values() {
            tracing::warn!(%alloc, %why, "catalog change refused");
        }
        Ok(())
    }

    /// Takes over what an earlier agent registered, without telling the catalog what it knows.
    pub(crate) fn adopt(&self, alloc: AllocId, registrations: Vec<Registration>) {
        self.replace(alloc, registrations);
    }

    fn replace(&self, alloc: AllocId, registrations: Vec<Registration>) -> Vec<Registration> {
        let mut wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        let old = if registrations.is_empty() {
            wanted.remove(&alloc)
        } else {
            wanted.insert(alloc, registrations)
        };
        old.unwrap_or_default()
    }

    /// Repairs until it is told to stop.
    pub(crate) async fn repair(self, stop: CancellationToken) {
        let mut connected = self.link.connected();
        let catalog = self.link.catalog();
        let mut due = tokio::time::interval(COMPARE_EVERY);
        loop {
            // Every arm waits for a level or the clock and may be cancelled.
            tokio::select! {
                () = stop.cancelled() => return,
                changed = connected.changed() => if changed.is_err() { return },
                _ = due.tick() => {}
            }
            if !*connected.borrow_and_update() {
                continue;
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(SETTLE) => {}
            }
            let first = self.differences(&catalog.borrow());
            if first.is_empty() {
                continue;
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(SETTLE) => {}
            }
            let second = self.differences(&catalog.borrow());
            let lasting: Vec<CatalogChange> =
                second.into_iter().filter(|change| first.contains(change)).collect();
            if lasting.is_empty() {
                continue;
            }
            tracing::info!(changes = lasting.len(), "repairing the catalog");
            if let Err(error) = self.link.change(lasting).await {
                tracing::warn!(%error, "catalog not repaired");
            }
        }
    }

    /// Lists the changes that would bring the catalog in step.
    fn differences(&self, catalog: &Catalog) -> Vec<CatalogChange> {
        // Before the first copy came there is nothing to compare.
        if catalog.node(&self.node).is_none() {
            return Vec::new();
        }
        let wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        repairs(&self.node, wanted.values().flatten(), catalog)
    }
}
