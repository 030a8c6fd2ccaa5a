//! Working off one evaluation: plan, propose, and plan again where the plan no longer fitted.
//!
//! Pure: [`Work`] says what comes next and is told what came of it. Around it stand the leader's
//! worker and the simulator.
//!
//! # Invariants
//!
//! - A plan is never applied unseen: the state machine re-checks it, and what is refused is planned
//!   again on the state that refused it.
//! - A scheduler that panics fails one evaluation, not the leader.
//! - Nothing is tried for ever: after so many refusals the evaluation makes way for a blocked one.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use cos_model::{
    Allocation, EvalId, EvalStatus, Evaluation, JobKind, NodeId, Plan, PlanOutcome, Timestamp,
    Trigger,
};
use cos_scheduler::Problem;
use cos_state::{Command, ProposeError, Refused, Reply, State};

use crate::evals::Ids;
use crate::{follow_up, metrics};

/// How often a plan is made anew for a service or system job.
const ATTEMPTS: u32 = 5;

/// How often a plan is made anew for a batch job.
const ATTEMPTS_BATCH: u32 = 2;

/// What became of an evaluation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It was worked off.
    Done,
    /// It has to be tried again.
    Again,
}

/// What comes next.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Call [`make_plan`] on the newest state and tell by [`Work::planned`].
    Plan,
    /// Propose this and tell by [`Work::proposed`].
    Propose(Box<Command>),
    /// There is nothing more to do.
    Over(Verdict),
}

/// One evaluation being worked off. It begins with [`Step::Plan`].
#[derive(Clone, Debug)]
pub struct Work {
    eval: Arc<Evaluation>,
    attempts_left: u32,
    /// Whether what was proposed is a plan, and not the record of the end.
    is_planning: bool,
}

impl Work {
    /// Begins.
    pub fn new(eval: Arc<Evaluation>) -> Self {
        let attempts_left = match eval.kind {
            JobKind::Batch | JobKind::SysBatch => ATTEMPTS_BATCH,
            JobKind::Service | JobKind::System => ATTEMPTS,
        };
        Self { eval, attempts_left, is_planning: true }
    }

    /// The evaluation.
    pub fn eval(&self) -> &Arc<Evaluation> {
        &self.eval
    }

    /// Takes a plan, or why there is none.
    pub fn planned(&mut self, planned: Result<Plan, String>) -> Step {
        match planned {
            Ok(plan) if plan.is_no_op() => self.record(vec![plan.eval]),
            Ok(plan) => Step::Propose(Box::new(Command::ApplyPlan { plan: Box::new(plan) })),
            Err(why) => {
                tracing::error!(eval = %self.eval.id, job = %self.eval.job, why, "scheduler failed");
                self.record(vec![finished(&self.eval, EvalStatus::Failed, &why)])
            }
        }
    }

    /// Takes what came of the proposal.
    pub fn proposed(
        &mut self,
        answer: Result<Reply, ProposeError>,
        now: Timestamp,
        ids: Ids<'_>,
    ) -> Step {
        if !self.is_planning {
            return Step::Over(match answer {
                Ok(_) | Err(ProposeError::Refused(_)) => Verdict::Done,
                Err(_) => Verdict::Again,
            });
        }
        match answer {
            Ok(Reply::Plan(outcome)) if !outcome.refused.is_empty() => {
                note_refusals(&self.eval, &outcome);
                self.attempts_left -= 1;
                if self.attempts_left > 0 {
                    return Step::Plan;
                }
                self.record(postponed(&self.eval, now, ids))
            }
            Ok(_) => Step::Over(Verdict::Done),
            Err(ProposeError::Refused(Refused::NotFound(what))) => {
                // The job or deployment went away meanwhile: another evaluation says what follows.
                tracing::debug!(eval = %self.eval.id, what, "plan overtaken");
                self.record(vec![finished(&self.eval, EvalStatus::Cancelled, "overtaken")])
            }
            Err(error) => {
                tracing::debug!(eval = %self.eval.id, %error, "plan not applied");
                Step::Over(Verdict::Again)
            }
        }
    }

    fn record(&mut self, evals: Vec<Evaluation>) -> Step {
        self.is_planning = false;
        Step::Propose(Box::new(Command::PutEvals { evals }))
    }
}

/// Asks the scheduler. If it fails by a panic the plan records just that, and what follows.
pub fn make_plan(
    state: &State,
    eval: &Arc<Evaluation>,
    now: Timestamp,
    ids: Ids<'_>,
) -> Result<Plan, String> {
    let planned = catch_unwind(AssertUnwindSafe(|| {
        #[cfg(test)]
        crate::testing::panic_if_planted(eval);
        cos_scheduler::plan(&problem(state, Arc::clone(eval), now), &mut *ids)
    }));
    Ok(planned.unwrap_or_else(|panic| {
        let why = format!("scheduler panicked: {}", words(panic.as_ref()));
        tracing::error!(eval = %eval.id, job = %eval.job, why, "scheduler failed");
        follow_up::plan(state, eval, &why, now, follow_up::Draw::from(ids))
    }))
}

fn words(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no words")
}

/// Gathers all that the scheduler may look at.
pub fn problem(state: &State, eval: Arc<Evaluation>, now: Timestamp) -> Problem {
    let mut node_allocs: BTreeMap<NodeId, Vec<Arc<Allocation>>> = BTreeMap::new();
    for alloc in state.allocs().filter(|alloc| alloc.occupies_node()) {
        node_allocs.entry(alloc.node_id).or_default().push(Arc::clone(alloc));
    }
    Problem {
        job: state.job(&eval.job).cloned(),
        nodes: state.nodes().cloned().collect(),
        job_allocs: state.allocs_of_job(&eval.job).cloned().collect(),
        node_allocs,
        deployment: state.latest_deployment(&eval.job).cloned(),
        spread: state.scheduler_config().spread,
        now,
        based_on: state.index(),
        eval,
    }
}

fn note_refusals(eval: &Evaluation, outcome: &PlanOutcome) {
    let nodes = u64::try_from(outcome.refused.len()).unwrap_or(u64::MAX);
    ::metrics::counter!(metrics::PLAN_REJECTED).increment(nodes);
    for (node, why) in &outcome.refused {
        tracing::debug!(eval = %eval.id, %node, why, "part of a plan no longer fits");
    }
}

fn finished(eval: &Evaluation, status: EvalStatus, description: &str) -> Evaluation {
    Evaluation { status, status_description: description.to_owned(), ..eval.clone() }
}

/// Gives an evaluation up for now: whatever changes next may let its successor through.
fn postponed(eval: &Evaluation, now: Timestamp, ids: Ids<'_>) -> Vec<Evaluation> {
    let next = EvalId::from_bits(ids());
    let blocked = Evaluation {
        id: next,
        trigger: Trigger::MaxPlanAttempts,
        status: EvalStatus::Blocked,
        status_description: "created due to placement conflicts".to_owned(),
        wait_until: Timestamp::NEVER,
        previous: Some(eval.id),
        next: None,
        blocked: None,
        create_time: now,
        modify_time: now,
        create_index: 0,
        modify_index: 0,
        ..eval.clone()
    };
    let over = Evaluation {
        blocked: Some(next),
        ..finished(eval, EvalStatus::Failed, "maximum attempts reached")
    };
    vec![over, blocked]
}
