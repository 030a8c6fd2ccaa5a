//! Evaluations that wait for room, and when they may go on.
//!
//! # Invariants
//!
//! - A job has at most one blocked evaluation; an older one is handed back to be cancelled.
//! - No wake-up is missed: room that appeared after an evaluation's snapshot and before it was
//!   recorded as blocked wakes it at once.
//!
//! # Deliberately absent
//!
//! - Knowing whether the new room suffices. The scheduler finds out, which costs one evaluation.

use std::collections::BTreeMap;
use std::sync::Arc;

use cos_model::{EvalId, EvalStatus, Evaluation, JobKey, Node, Trigger};
use cos_state::State;

use crate::evals;

/// The blocked evaluations.
#[derive(Debug, Default)]
pub struct Blocked {
    by_job: BTreeMap<JobKey, Arc<Evaluation>>,
    /// The index at which room last appeared, by datacenter and pool.
    room: BTreeMap<(String, String), u64>,
}

/// What follows from recording a blocked evaluation.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Admission {
    /// It may go on at once.
    pub wake: Option<Arc<Evaluation>>,
    /// An older one of the same job, to be cancelled.
    pub cancel: Option<Arc<Evaluation>>,
}

impl Blocked {
    /// Takes notice of an evaluation as it is recorded now.
    pub fn put(&mut self, state: &State, eval: &Arc<Evaluation>) -> Admission {
        if eval.status != EvalStatus::Blocked {
            if self.by_job.get(&eval.job).is_some_and(|known| known.id == eval.id) {
                self.by_job.remove(&eval.job);
            }
            return Admission::default();
        }
        let rival = self.by_job.get(&eval.job).filter(|rival| rival.id != eval.id).cloned();
        if let Some(newer) = &rival
            && newer.create_index > eval.create_index
        {
            return Admission { wake: None, cancel: Some(Arc::clone(eval)) };
        }
        if self.room_appeared_since(state, eval) {
            self.by_job.remove(&eval.job);
            return Admission { wake: Some(Arc::clone(eval)), cancel: rival };
        }
        self.by_job.insert(eval.job.clone(), Arc::clone(eval));
        Admission { wake: None, cancel: rival }
    }

    /// Forgets an evaluation.
    pub fn remove(&mut self, id: EvalId) {
        self.by_job.retain(|_, eval| eval.id != id);
    }

    /// Notes that room appeared on a node at `index` and takes out what may go on.
    pub fn wake(&mut self, state: &State, node: &Node, index: u64) -> Vec<Arc<Evaluation>> {
        let place = (node.datacenter.clone(), node.node_pool.clone());
        let seen = self.room.entry(place).or_default();
        *seen = index.max(*seen);
        let woken: Vec<Arc<Evaluation>> = self
            .by_job
            .values()
            .filter(|eval| state.job(&eval.job).is_none_or(|job| evals::may_use(job, node)))
            .cloned()
            .collect();
        for eval in &woken {
            self.by_job.remove(&eval.job);
        }
        woken
    }

    /// Takes out those whose plans lost against others; they are tried again from time to time.
    pub fn wake_conflicts(&mut self) -> Vec<Arc<Evaluation>> {
        let woken: Vec<Arc<Evaluation>> = self
            .by_job
            .values()
            .filter(|eval| eval.trigger == Trigger::MaxPlanAttempts)
            .cloned()
            .collect();
        for eval in &woken {
            self.by_job.remove(&eval.job);
        }
        woken
    }

    /// How many wait.
    pub fn count(&self) -> usize {
        self.by_job.len()
    }

    fn room_appeared_since(&self, state: &State, eval: &Evaluation) -> bool {
        // Without a snapshot nothing can be said; waking would repeat for ever.
        eval.snapshot_index > 0
            && state.job(&eval.job).is_some_and(|job| {
                state
                    .nodes()
                    .filter(|node| evals::may_use(job, node))
                    .filter_map(|node| {
                        self.room.get(&(node.datacenter.clone(), node.node_pool.clone()))
                    })
                    .any(|index| *index > eval.snapshot_index)
            })
    }
}

#[cfg(test)]
mod tests {
    use cos_model::JobKind;

    use super::*;
    use crate::testing::{self, World};

    /// Two jobs, `here` for datacenter `dc1` and `there` for `dc2`.
    fn world() -> World {
        let mut world = World::new();
        world.add_node(testing::node(1));
        for (id, datacenter) in [("here", "dc1"), ("there", "dc2")] {
            let mut job = testing::job(id, JobKind::Service, 1);
            job.datacenters = vec![datacenter.to_owned()];
            world.register(&job);
        }
        world
    }

    fn blocked(number: u128, job: &str, snapshot_index: u64) -> Arc<Evaluation> {
        Arc::new(Evaluation {
            id: EvalId::from_bits(number),
            status: EvalStatus::Blocked,
            create_index: u64::try_from(number).unwrap(),
            snapshot_index,
            ..testing::eval(job)
        })
    }

    fn numbers<'a>(evals: impl IntoIterator<Item = &'a Arc<Evaluation>>) -> Vec<u128> {
        evals.into_iter().map(|eval| eval.id.bits()).collect()
    }

    #[test]
    fn room_wakes_the_jobs_that_may_use_it() {
        let (world, mut queue) = (world(), Blocked::default());
        for eval in [blocked(1, "here", 5), blocked(2, "there", 5)] {
            assert_eq!(queue.put(&world.state, &eval), Admission::default());
        }
        assert_eq!(numbers(&queue.wake(&world.state, &testing::node(1), 6)), [1]);
        assert_eq!(queue.count(), 1);
        assert_eq!(numbers(&queue.wake(&world.state, &testing::node(1), 7)), []);
    }

    #[test]
    fn room_that_appeared_after_the_snapshot_wakes_at_once() {
        let (world, mut queue) = (world(), Blocked::default());
        queue.wake(&world.state, &testing::node(1), 6);
        assert_eq!(numbers(&queue.put(&world.state, &blocked(1, "here", 5)).wake), [1]);
        assert_eq!(numbers(&queue.put(&world.state, &blocked(1, "here", 6)).wake), []);
        assert_eq!(numbers(&queue.put(&world.state, &blocked(2, "there", 5)).wake), []);
    }

    #[test]
    fn of_two_of_one_job_the_older_is_cancelled() {
        let (world, mut queue) = (world(), Blocked::default());
        let (older, newer) = (blocked(1, "here", 5), blocked(2, "here", 5));
        queue.put(&world.state, &older);
        assert_eq!(numbers(&queue.put(&world.state, &newer).cancel), [1]);
        assert_eq!(numbers(&queue.put(&world.state, &older).cancel), [1]);
        assert_eq!(queue.count(), 1);
    }

    #[test]
    fn what_is_over_waits_no_longer() {
        let (world, mut queue) = (world(), Blocked::default());
        queue.put(&world.state, &blocked(1, "here", 5));
        let over = Evaluation { status: EvalStatus::Complete, ..(*blocked(1, "here", 5)).clone() };
        queue.put(&world.state, &Arc::new(over));
        assert_eq!(queue.count(), 0);
    }

    #[test]
    fn conflicts_are_tried_again_without_room() {
        let (world, mut queue) = (world(), Blocked::default());
        queue.put(&world.state, &blocked(1, "there", 5));
        let conflict =
            Evaluation { trigger: Trigger::MaxPlanAttempts, ..(*blocked(2, "here", 5)).clone() };
        queue.put(&world.state, &Arc::new(conflict));
        assert_eq!(numbers(&queue.wake_conflicts()), [2]);
        assert_eq!(queue.count(), 1);
    }
}
