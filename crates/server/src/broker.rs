//! The evaluation queue of the leader: what to work on next.
//!
//! # Invariants
//!
//! - **One at a time.** A job has at most one evaluation outstanding.
//! - **In order.** Among jobs that have none outstanding, higher priority goes first, then age.
//! - **Nothing is lost.** A pending evaluation is ready, delayed, held behind its job's outstanding
//!   one, outstanding, or was handed back as a duplicate to be cancelled.
//! - **Nothing is tried for ever.** What was handed back [`DELIVERY_LIMIT`] times is given up.
//!
//! # Deliberately absent
//!
//! - Evaluations that wait for room; see [`crate::blocked`].
//! - Persistence. A new leader fills the queue from the state.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use cos_model::{EvalId, EvalStatus, Evaluation, JobKey, Timestamp};

/// How often an evaluation is tried before it is marked failed.
pub const DELIVERY_LIMIT: u32 = 3;

/// The wait after the first failed try.
pub const FIRST_RETRY: Duration = Duration::from_secs(1);

/// The wait after each further failed try.
pub const LATER_RETRY: Duration = Duration::from_secs(20);

/// The place of an evaluation in the queue.
type Rank = (Reverse<u8>, u64, EvalId);

/// The evaluation queue.
#[derive(Debug, Default)]
pub struct Broker {
    /// Everything tracked, with the number of failed tries.
    entries: BTreeMap<EvalId, Entry>,
    /// Due evaluations whose job has none outstanding.
    ready: BTreeSet<Rank>,
    /// Not due yet.
    delayed: BTreeSet<(Timestamp, EvalId)>,
    /// Per job: what is outstanding and what waits behind it.
    jobs: BTreeMap<JobKey, Lane>,
}

#[derive(Debug)]
struct Entry {
    eval: Arc<Evaluation>,
    failures: u32,
    place: Place,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Due,
    Delayed(Timestamp),
    Outstanding,
}

#[derive(Debug, Default)]
struct Lane {
    outstanding: Option<EvalId>,
    due: BTreeSet<EvalId>,
}

/// What becomes of an evaluation that was not worked off.
#[derive(Clone, Debug, PartialEq)]
pub enum Nack {
    /// It is tried again.
    Again,
    /// It failed too often: mark it failed.
    GiveUp(Arc<Evaluation>),
}

/// How many evaluations are where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Ready to be handed out.
    pub ready: usize,
    /// Handed out.
    pub outstanding: usize,
    /// Due, behind an outstanding one of the same job.
    pub held: usize,
    /// Not due yet.
    pub delayed: usize,
}

impl Broker {
    /// Takes notice of an evaluation as it is recorded now. One that is over leaves the queue.
    pub fn put(&mut self, eval: &Arc<Evaluation>, now: Timestamp) {
        match eval.status {
            EvalStatus::Pending => self.enqueue(eval, now),
            EvalStatus::Blocked => {}
            EvalStatus::Complete | EvalStatus::Failed | EvalStatus::Cancelled => {
                if self.entries.get(&eval.id).is_some_and(|e| e.place != Place::Outstanding) {
                    self.forget(eval.id);
                }
            }
        }
    }

    /// Queues an evaluation whatever its status says, as for a blocked one that may go on.
    pub fn enqueue(&mut self, eval: &Arc<Evaluation>, now: Timestamp) {
        if let Some(entry) = self.entries.get_mut(&eval.id) {
            let old = rank(&entry.eval);
            entry.eval = Arc::clone(eval);
            if self.ready.remove(&old) {
                self.ready.insert(rank(eval));
            }
            return;
        }
        let place =
            if eval.wait_until > now { Place::Delayed(eval.wait_until) } else { Place::Due };
        self.entries.insert(eval.id, Entry { eval: Arc::clone(eval), failures: 0, place });
        self.settle(eval.id);
    }

    /// Forgets an evaluation that was removed from the state.
    pub fn remove(&mut self, id: EvalId) {
        self.forget(id);
    }

    /// Hands out the next evaluation that is due. It is outstanding until [`Broker::ack`] or
    /// [`Broker::nack`].
    pub fn dequeue(&mut self, now: Timestamp) -> Option<Arc<Evaluation>> {
        self.wake_due(now);
        let (_, _, id) = self.ready.pop_first()?;
        let entry = self.entries.get_mut(&id).expect("what is ready is tracked");
        entry.place = Place::Outstanding;
        let eval = Arc::clone(&entry.eval);
        let lane = self.jobs.entry(eval.job.clone()).or_default();
        lane.due.remove(&id);
        lane.outstanding = Some(id);
        for other in &lane.due {
            self.ready.remove(&rank(&self.entries[other].eval));
        }
        Some(eval)
    }

    /// Notes that an evaluation was worked off. Of those that came for the job meanwhile the newest
    /// is kept and the others are returned: they ask for the same thing and are to be cancelled.
    pub fn ack(&mut self, id: EvalId) -> Vec<Arc<Evaluation>> {
        let Some(entry) = self.entries.get(&id) else { return Vec::new() };
        if entry.place != Place::Outstanding {
            return Vec::new();
        }
        let job = entry.eval.job.clone();
        self.forget(id);
        let Some(lane) = self.jobs.get(&job) else { return Vec::new() };
        let age = |id: &EvalId| (self.entries[id].eval.create_index, *id);
        let newest = lane.due.iter().copied().max_by_key(age);
        let surplus: Vec<EvalId> =
            lane.due.iter().copied().filter(|due| Some(*due) != newest).collect();
        let cancelled = surplus.iter().map(|id| Arc::clone(&self.entries[id].eval)).collect();
        for id in surplus {
            self.forget(id);
        }
        cancelled
    }

    /// Notes that an evaluation could not be worked off.
    pub fn nack(&mut self, id: EvalId, now: Timestamp) -> Nack {
        let Some(entry) = self.entries.get_mut(&id) else { return Nack::Again };
        if entry.place != Place::Outstanding {
            return Nack::Again;
        }
        entry.failures += 1;
        let eval = Arc::clone(&entry.eval);
        if entry.failures >= DELIVERY_LIMIT {
            self.forget(id);
            return Nack::GiveUp(eval);
        }
        let wait = if entry.failures == 1 { FIRST_RETRY } else { LATER_RETRY };
        entry.place = Place::Delayed(now + wait);
        self.release_lane(&eval.job, id);
        self.settle(id);
        Nack::Again
    }

    /// Whether an evaluation is handed out.
    pub fn is_outstanding(&self, id: EvalId) -> bool {
        self.entries.get(&id).is_some_and(|entry| entry.place == Place::Outstanding)
    }

    /// When something that is delayed falls due.
    pub fn next_due(&self) -> Option<Timestamp> {
        self.delayed.first().map(|(at, _)| *at)
    }

    /// Counts what is where.
    pub fn counts(&self) -> Counts {
        let outstanding = self.jobs.values().filter(|lane| lane.outstanding.is_some()).count();
        let due: usize = self.jobs.values().map(|lane| lane.due.len()).sum();
        let ready = self.ready.len();
        Counts { ready, outstanding, held: due - ready, delayed: self.delayed.len() }
    }

    /// Moves what fell due.
    fn wake_due(&mut self, now: Timestamp) {
        while let Some((at, id)) = self.delayed.first().copied()
            && at <= now
        {
            self.delayed.pop_first();
            self.entries.get_mut(&id).expect("what is delayed is tracked").place = Place::Due;
            self.settle(id);
        }
    }

    /// Files a tracked evaluation under its place.
    fn settle(&mut self, id: EvalId) {
        let entry = &self.entries[&id];
        match entry.place {
            Place::Outstanding => {}
            Place::Delayed(at) => {
                self.delayed.insert((at, id));
            }
            Place::Due => {
                let rank = rank(&entry.eval);
                let lane = self.jobs.entry(entry.eval.job.clone()).or_default();
                lane.due.insert(id);
                if lane.outstanding.is_none() {
                    self.ready.insert(rank);
                }
            }
        }
    }

    fn forget(&mut self, id: EvalId) {
        let Some(entry) = self.entries.remove(&id) else { return };
        match entry.place {
            Place::Outstanding => self.release_lane(&entry.eval.job, id),
            Place::Delayed(at) => {
                self.delayed.remove(&(at, id));
            }
            Place::Due => {
                self.ready.remove(&rank(&entry.eval));
                if let Some(lane) = self.jobs.get_mut(&entry.eval.job) {
                    lane.due.remove(&id);
                }
            }
        }
        self.drop_empty_lane(&entry.eval.job);
    }

    /// Lets what waited behind an outstanding evaluation become ready.
    fn release_lane(&mut self, job: &JobKey, id: EvalId) {
        let Some(lane) = self.jobs.get_mut(job) else { return };
        if lane.outstanding == Some(id) {
            lane.outstanding = None;
            self.ready.extend(lane.due.iter().map(|due| rank(&self.entries[due].eval)));
        }
    }

    fn drop_empty_lane(&mut self, job: &JobKey) {
        if self.jobs.get(job).is_some_and(|lane| lane.outstanding.is_none() && lane.due.is_empty())
        {
            self.jobs.remove(job);
        }
    }
}

fn rank(eval: &Evaluation) -> Rank {
    (Reverse(eval.priority), eval.create_index, eval.id)
}

#[cfg(test)]
mod tests;
