//! What the results of checks mean: restarts, and health within a deployment.

use std::sync::Arc;

use cos_model::catalog::Health;

use super::Runner;
use crate::checks::Ran;
use crate::health::{HealthPolicy, HealthTracker, Sight, tasks_sight};
use crate::task_machine::Input;

impl Runner {
    pub(super) fn take_result(&mut self, ran: &Ran) {
        let mine = self.registered.iter().flat_map(|registration| &registration.checks);
        let Some(check) = mine.into_iter().find(|check| check.check.id == ran.id) else { return };
        self.statuses.insert(Arc::clone(&ran.id), ran.status);
        let Some((task, rule)) = check.restart.clone() else { return };
        let name = check.check.name.clone();
        let (now, since) = (self.now(), self.running_since.get(&task).copied());
        let Some(since) = since else { return };
        if self.check_watch.result(&ran.id, &rule, ran.result, since, now) {
            let reason = format!("healthcheck: check {name:?} unhealthy");
            self.step(&task, Input::CheckFailed(reason));
        }
    }

    pub(super) fn follow_deployment(&mut self) {
        let alloc = self.machine.alloc();
        let update = alloc.task_group().and_then(|group| group.update.clone());
        let (Some(id), Some(update)) = (alloc.deployment_id, update) else { return };
        if alloc.health.is_some() || self.health.as_ref().is_some_and(|(known, _)| *known == id) {
            return;
        }
        let policy = HealthPolicy {
            kind: update.health_check,
            min_healthy_time: update.min_healthy_time,
            healthy_deadline: update.healthy_deadline,
        };
        self.health = Some((id, HealthTracker::new(policy, self.now())));
        self.verdict = None;
    }

    pub(super) fn judge(&mut self) {
        let checks_pass = self.checks_pass();
        let now = self.now();
        let states = self.machine.task_states();
        let Some(group) = self.machine.alloc().task_group() else { return };
        let sight = Sight { tasks: tasks_sight(group, &states), checks_pass };
        if self.machine.is_stopping() || self.verdict.is_some() {
            return;
        }
        if let Some((id, tracker)) = &mut self.health
            && let Some(healthy) = tracker.observe(sight, now)
        {
            self.verdict = Some((*id, healthy));
        }
    }

    fn checks_pass(&self) -> bool {
        self.registered.iter().flat_map(|registration| &registration.checks).all(|check| {
            let status = self.statuses.get(&check.check.id).copied();
            match check.on_update.as_str() {
                "ignore" => true,
                "ignore_warnings" => status.is_some_and(|status| status != Health::Critical),
                _ => status == Some(Health::Passing),
            }
        })
    }
}
