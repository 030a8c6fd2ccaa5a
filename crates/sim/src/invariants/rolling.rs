//! While nothing fails, a rolling update leaves at least `count - max_parallel` instances serving.
//!
//! Source: "during a rolling update healthy instances never fall below `count - max_parallel`".

use std::collections::BTreeMap;

use cos_model::{ClientStatus, Job, JobKey, JobKind};
use cos_state::{Event, State};

use super::{Fact, Invariant};

/// The jobs that served in full once, and with how many.
#[derive(Debug, Default)]
pub(super) struct Rolling(BTreeMap<JobKey, usize>);

impl Invariant for Rolling {
    fn name(&self) -> &'static str {
        "rolling updates keep their promise"
    }

    fn observe(&mut self, fact: &Fact<'_>) -> Result<(), String> {
        let Fact::Applied(applied) = fact else { return Ok(()) };
        if !applied.is_first {
            return Ok(());
        }
        for event in &applied.applied.events {
            let (Event::AllocPlanned(alloc) | Event::AllocReported(alloc)) = event else {
                continue;
            };
            if let Some(job) = applied.state.job(alloc.job_key()) {
                self.check_job(applied.state, job)?;
            }
        }
        Ok(())
    }
}

impl Rolling {
    fn check_job(&mut self, state: &State, job: &Job) -> Result<(), String> {
        let Some(group) = job.groups.first() else { return Ok(()) };
        let Some(update) = &group.update else { return Ok(()) };
        if job.kind != JobKind::Service || job.stop {
            self.0.remove(&job.key);
            return Ok(());
        }
        let serving = serving(state, job);
        let count = group.count as usize;
        if serving >= count {
            self.0.insert(job.key.clone(), count);
        }
        if self.0.get(&job.key) != Some(&count) {
            return Ok(());
        }
        let floor = count.saturating_sub(update.max_parallel as usize);
        if serving >= floor {
            return Ok(());
        }
        Err(format!("{} of {count} instances of {} serve, not {floor}", serving, job.key.id))
    }
}

/// How many instances users may count on.
fn serving(state: &State, job: &Job) -> usize {
    state
        .allocs_of_job(&job.key)
        .filter(|alloc| {
            let deployment = alloc.deployment_id.and_then(|id| state.deployment(id));
            let is_judged = deployment.is_some_and(|deployment| deployment.is_active());
            alloc.client_status == ClientStatus::Running
                && !alloc.is_desired_terminal()
                && !alloc.is_unhealthy()
                && (!is_judged || alloc.is_healthy())
        })
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariants::testing::{History, check};

    #[test]
    fn too_few_instances_are_found() {
        let mut history = History::with_node();
        history.roll(3, 1);
        let mut facts = Vec::new();
        for number in 1..=3 {
            history.place(number, |alloc| {
                alloc.index = u32::try_from(number).unwrap();
            });
            history.show(number, |alloc| alloc.client_status = ClientStatus::Running);
        }
        let full = history.clone();
        let fewer = |history: &History, number| {
            let mut history = history.clone();
            history.show(number, |alloc| alloc.client_status = ClientStatus::Complete);
            history
        };
        let one_less = fewer(&full, 1);
        let two_less = fewer(&one_less, 2);
        facts.extend([full.last(), one_less.last()]);
        check(Rolling::default(), &facts, false);
        facts.push(two_less.last());
        check(Rolling::default(), &facts, true);
    }
}
