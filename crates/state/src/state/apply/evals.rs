//! Evaluations: recording, and cancelling what is overtaken.
//!
//! # Invariants
//!
//! - An evaluation keeps its job, and one that is over does not change any more.
//! - A job has at most one blocked evaluation, the newest: an evaluation looks at the whole job, so
//!   a second one would only do the same work again.

use std::sync::Arc;

use cos_model::{EvalId, EvalStatus, Evaluation, JobKey};

use super::Step;
use crate::command::Reply;
use crate::event::Event;

impl Step<'_> {
    pub(super) fn put_evals(&mut self, evals: &[Evaluation]) -> Reply {
        for eval in evals {
            self.put_eval(eval.clone());
        }
        Reply::Done
    }

    /// Records an evaluation, and cancels those that wait for the same.
    pub(super) fn put_eval(&mut self, eval: Evaluation) {
        let old = self.state.evals.get(&eval.id);
        let mut eval = Evaluation {
            job: self.state.shared_key(&eval.job),
            create_time: old.map_or(self.at, |old| old.create_time),
            modify_time: old.map_or(self.at, |old| old.modify_time),
            create_index: old.map_or(self.index, |old| old.create_index),
            modify_index: old.map_or(self.index, |old| old.modify_index),
            ..eval
        };
        if old.is_some_and(|old| old.is_terminal() || old.job != eval.job || **old == eval) {
            return;
        }
        eval.modify_time = self.at;
        eval.modify_index = self.index;
        let (id, job) = (eval.id, eval.job.clone());
        match eval.status {
            EvalStatus::Complete if eval.failed_groups.is_empty() => {
                self.cancel_blocked(&job, id, &format!("evaluation \"{id}\" successful"));
            }
            EvalStatus::Blocked => {
                let reason = format!("existing blocked evaluation exists for job \"{}\"", job.id);
                self.cancel_blocked(&job, id, &reason);
            }
            _ => {}
        }
        self.write_eval(eval);
    }

    /// Cancels the blocked evaluations of a job but for one.
    fn cancel_blocked(&mut self, job: &JobKey, but: EvalId, reason: &str) {
        if self.state.tallies.get(job).is_none_or(|tally| tally.blocked == 0) {
            return;
        }
        let blocked: Vec<Arc<Evaluation>> = self
            .state
            .evals_of_job(job)
            .filter(|eval| eval.status == EvalStatus::Blocked && eval.id != but)
            .cloned()
            .collect();
        for eval in blocked {
            self.write_eval(Evaluation {
                status: EvalStatus::Cancelled,
                status_description: reason.to_owned(),
                modify_time: self.at,
                modify_index: self.index,
                ..Arc::unwrap_or_clone(eval)
            });
        }
    }

    fn write_eval(&mut self, eval: Evaluation) {
        self.touch(&eval.job);
        let eval = Arc::new(eval);
        self.state.insert_eval(&eval);
        self.state.tables.evals = self.index;
        self.events.push(Event::EvalChanged(eval));
    }
}
