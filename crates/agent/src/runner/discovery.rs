//! An allocation's place in the catalog: told when something that is advertised changed, and left
//! before a task gets its signal.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::{Message, Runner};
use crate::alloc_machine::{Advertised, TaskEffect};
use crate::services::{Registration, Site};
use crate::task_machine::{Input, Stage};

/// The longest wait for an allocation's leave from discovery.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(1);

/// The wait between a task's leave from discovery and its signal: every agent's ingress has to hear
/// of it, and requests that were on their way then have to be answered.
const SPREAD_TIME: Duration = Duration::from_millis(150);

impl Runner {
    /// Brings the catalog in step with what runs, one request at a time.
    pub(super) fn tell_catalog(&mut self) {
        // Until it is known what is still there, what was registered stays.
        let recovering = self.machine.tasks().any(|(_, task)| *task.stage() == Stage::Recovering);
        if self.telling || recovering {
            return;
        }
        let wanted = self.registrations(&self.machine.advertised());
        let changed = wanted != self.registered;
        if !changed {
            self.let_go();
            return;
        }
        let kept: BTreeSet<Arc<str>> = check_ids(&wanted).collect();
        self.statuses.retain(|id, _| kept.contains(id));
        for id in check_ids(&self.registered).filter(|id| !kept.contains(id)) {
            self.check_watch.forget(&id);
        }
        self.registered.clone_from(&wanted);
        self.telling = true;
        let somebody_leaves = !self.machine.leaving().is_empty();
        let (registry, messages) = (self.host.registry.clone(), self.messages.clone());
        let id = self.id();
        self.spawn_until_stop("catalog change", async move {
            let change = tokio::time::timeout(LEAVE_TIMEOUT, registry.set(id, wanted));
            if let Ok(Err(error)) = change.await {
                tracing::debug!(alloc = %id, %error, "catalog not told, it will be repaired");
            }
            if somebody_leaves {
                tokio::time::sleep(SPREAD_TIME).await;
            }
            // The runner may have gone.
            drop(messages.send(Message::Told).await);
        });
    }

    pub(super) fn told(&mut self) {
        self.telling = false;
        self.tell_catalog();
    }

    /// Whoever waits to have left discovery has left it.
    fn let_go(&mut self) {
        for task in self.machine.leaving() {
            let effects = self.machine.step(&task, Input::Left, self.moment());
            for TaskEffect { task, effect } in effects {
                self.perform(&task, effect);
            }
        }
    }

    pub(super) fn registrations(&self, advertised: &Advertised) -> Vec<Registration> {
        let node = self.host.node.borrow();
        let site = Site {
            alloc: self.machine.alloc(),
            node: &node.name,
            address: &node.address,
            environments: &self.environments,
        };
        site.registrations(advertised)
    }
}

fn check_ids(registrations: &[Registration]) -> impl Iterator<Item = Arc<str>> {
    registrations.iter().flat_map(|r| &r.checks).map(|check| Arc::clone(&check.check.id))
}
