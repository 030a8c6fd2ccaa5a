//! Where every check of a node stands, and what of it the catalog does not know yet.
//!
//! # Invariants
//!
//! - **Pure.** The moment is an argument.
//! - A check stands where the catalog says until its first result comes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use cos_model::Timestamp;
use cos_model::catalog::{Catalog, CatalogChange, CatalogCheck, CheckDefinition, Health, Probe};

use super::{OUTPUT_EVERY, TtlError};

/// When an unanswered report is repeated.
const REPEAT_AFTER: Duration = Duration::from_secs(2);

/// The checks of one node.
#[derive(Debug)]
pub(super) struct Ledger {
    node: Arc<str>,
    checks: BTreeMap<Arc<str>, Entry>,
}

#[derive(Clone, Debug)]
struct Entry {
    definition: CheckDefinition,
    service_id: Arc<str>,
    status: Health,
    output: String,
    /// Results in a row that were good, and that were not.
    successes: u32,
    failures: u32,
    critical_since: Option<Timestamp>,
    /// For a TTL check, when it counts as failed.
    expires: Option<Timestamp>,
    /// When the present status was sent last.
    sent: Option<Timestamp>,
    output_sent: Timestamp,
}

/// A check that has to be probed, or no longer.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Probing {
    /// Begin, or begin anew, with this definition.
    Begin(Arc<str>, CheckDefinition),
    /// End.
    End(Arc<str>),
}

impl Ledger {
    pub(super) fn new(node: Arc<str>) -> Self {
        Self { node, checks: BTreeMap::new() }
    }

    /// Takes the checks of the node from the catalog.
    pub(super) fn sync(&mut self, catalog: &Catalog, now: Timestamp) -> Vec<Probing> {
        let wanted: BTreeMap<Arc<str>, Arc<CatalogCheck>> = catalog
            .checks_on(&self.node)
            .filter(|check| check.definition.is_some())
            .map(|check| (Arc::clone(&check.id), Arc::clone(check)))
            .collect();
        let mut probing: Vec<Probing> = self
            .checks
            .keys()
            .filter(|id| !wanted.contains_key(*id))
            .map(|id| Probing::End(Arc::clone(id)))
            .collect();
        self.checks.retain(|id, _| wanted.contains_key(id));
        for (id, check) in wanted {
            let Some(definition) = &check.definition else { continue };
            if self.checks.get(&id).is_some_and(|entry| entry.definition == *definition) {
                continue;
            }
            self.checks.insert(Arc::clone(&id), Entry::new(&check, definition.clone(), now));
            probing.push(Probing::Begin(id, definition.clone()));
        }
        probing
    }

    /// Takes one result. Returns where the check stands now; nothing if there is no such check.
    pub(super) fn observe(
        &mut self,
        id: &str,
        result: Health,
        output: String,
        now: Timestamp,
    ) -> Option<Health> {
        let entry = self.checks.get_mut(id)?;
        if result == Health::Critical {
            entry.failures = entry.failures.saturating_add(1);
            entry.successes = 0;
        } else {
            entry.successes = entry.successes.saturating_add(1);
            entry.failures = 0;
        }
        let settled = if result == Health::Critical {
            entry.failures >= entry.definition.failures_before_critical.max(1)
        } else {
            entry.successes >= entry.definition.success_before_passing.max(1)
        };
        if settled {
            entry.set(result, output, now);
        }
        Some(entry.status)
    }

    /// Takes the report of a TTL check.
    pub(super) fn report_ttl(
        &mut self,
        id: &str,
        status: Health,
        output: String,
        now: Timestamp,
    ) -> Result<(), TtlError> {
        let entry = self.checks.get_mut(id).ok_or_else(|| TtlError::Unknown(id.to_owned()))?;
        let Probe::Ttl(ttl) = entry.definition.probe else {
            return Err(TtlError::NotTtl(id.to_owned()));
        };
        entry.expires = Some(now + ttl);
        entry.set(status, output, now);
        Ok(())
    }

    /// Fails TTL checks that did not report in time, and returns their ids.
    pub(super) fn expire(&mut self, now: Timestamp) -> Vec<Arc<str>> {
        let mut expired = Vec::new();
        for (id, entry) in &mut self.checks {
            if entry.expires.is_some_and(|at| now >= at) {
                entry.expires = None;
                entry.set(Health::Critical, "TTL expired".to_owned(), now);
                expired.push(Arc::clone(id));
            }
        }
        expired
    }

    /// Lists what the catalog does not know yet and was not told just now.
    pub(super) fn changes(&mut self, catalog: &Catalog, now: Timestamp) -> Vec<CatalogChange> {
        let node = Arc::clone(&self.node);
        let mut changes = Vec::new();
        for (id, entry) in &mut self.checks {
            let Some(known) = catalog.check(&node, id) else { continue };
            if entry.is_to_be_deregistered(now) {
                if entry.may_send(now) {
                    entry.sent = Some(now);
                    let id = Arc::clone(&entry.service_id);
                    changes.push(CatalogChange::RemoveService { node: Arc::clone(&node), id });
                }
                continue;
            }
            let status_differs = known.status != entry.status;
            let output_differs = known.output != entry.output;
            let output_due = now >= entry.output_sent + OUTPUT_EVERY;
            if (status_differs && entry.may_send(now)) || (output_differs && output_due) {
                entry.sent = Some(now);
                entry.output_sent = now;
                changes.push(CatalogChange::SetCheck {
                    node: Arc::clone(&node),
                    id: Arc::clone(id),
                    status: entry.status,
                    output: entry.output.clone(),
                });
            }
        }
        changes
    }
}

impl Entry {
    fn new(check: &CatalogCheck, definition: CheckDefinition, now: Timestamp) -> Self {
        let expires = match definition.probe {
            Probe::Ttl(ttl) => Some(now + ttl),
            _ => None,
        };
        Self {
            definition,
            service_id: Arc::clone(&check.service_id),
            status: check.status,
            output: check.output.clone(),
            successes: 0,
            failures: 0,
            critical_since: (check.status == Health::Critical).then_some(now),
            expires,
            sent: None,
            output_sent: now,
        }
    }

    fn set(&mut self, status: Health, output: String, now: Timestamp) {
        if status != self.status {
            self.sent = None;
            self.critical_since = (status == Health::Critical).then_some(now);
        }
        self.status = status;
        self.output = output;
    }

    fn may_send(&self, now: Timestamp) -> bool {
        self.sent.is_none_or(|sent| now >= sent + REPEAT_AFTER)
    }

    fn is_to_be_deregistered(&self, now: Timestamp) -> bool {
        !self.definition.deregister_after.is_zero()
            && !self.service_id.is_empty()
            && self
                .critical_since
                .is_some_and(|since| now >= since + self.definition.deregister_after)
    }
}

#[cfg(test)]
mod tests;
