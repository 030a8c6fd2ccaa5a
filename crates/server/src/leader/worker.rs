//! Works off one evaluation: builds the problem, asks the scheduler, proposes the plan.
//!
//! # Invariants
//!
//! - A plan is never applied unseen: the state machine re-checks it, and what is refused is planned
//!   again on the state that refused it.
//! - A scheduler that panics fails one evaluation, not the leader.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use cos_model::metric::AllocMetric;
use cos_model::{
    Allocation, EvalId, EvalStatus, Evaluation, JobKind, NodeId, Plan, PlanOutcome, Timestamp,
    Trigger,
};
use cos_scheduler::Problem;
use cos_state::{Command, ProposeError, Refused, Reply, State};

use crate::metrics;
use crate::shared::{Shared, new_id};

/// How often a plan is made anew for a service or system job.
const ATTEMPTS: u32 = 5;

/// How often a plan is made anew for a batch job.
const ATTEMPTS_BATCH: u32 = 2;

/// What became of an evaluation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It was worked off.
    Done,
    /// It has to be tried again.
    Again,
}

/// Works off one evaluation.
pub(super) async fn work(shared: &Arc<Shared>, eval: &Arc<Evaluation>) -> Verdict {
    let attempts = match eval.kind {
        JobKind::Batch | JobKind::SysBatch => ATTEMPTS_BATCH,
        JobKind::Service | JobKind::System => ATTEMPTS,
    };
    for _ in 0..attempts {
        let plan = match make_plan(shared, eval).await {
            Ok(plan) => plan,
            Err(why) => {
                tracing::error!(eval = %eval.id, job = %eval.job, why, "scheduler failed");
                return record(shared, vec![failed(eval, &why)]).await;
            }
        };
        if plan.is_no_op() {
            return record(shared, vec![plan.eval]).await;
        }
        match submit(shared, plan).await {
            Ok(outcome) if outcome.refused.is_empty() => return Verdict::Done,
            Ok(outcome) => note_refusals(eval, &outcome),
            Err(ProposeError::Refused(Refused::NotFound(what))) => {
                // The job or deployment went away meanwhile: another evaluation says what follows.
                tracing::debug!(eval = %eval.id, what, "plan overtaken");
                return record(shared, vec![finished(eval, EvalStatus::Cancelled, "overtaken")])
                    .await;
            }
            Err(error) => {
                tracing::debug!(eval = %eval.id, %error, "plan not applied");
                return Verdict::Again;
            }
        }
    }
    record(shared, postponed(eval, shared.now())).await
}

async fn record(shared: &Shared, evals: Vec<Evaluation>) -> Verdict {
    match shared.propose_as_leader(Command::PutEvals { evals }).await {
        Ok(_) | Err(ProposeError::Refused(_)) => Verdict::Done,
        Err(_) => Verdict::Again,
    }
}

async fn submit(shared: &Shared, plan: Plan) -> Result<PlanOutcome, ProposeError> {
    let started = shared.clock.monotonic();
    let proposed = shared.propose_as_leader(Command::ApplyPlan { plan: Box::new(plan) }).await;
    let took = shared.clock.monotonic().saturating_sub(started);
    ::metrics::histogram!(metrics::PLAN_SUBMIT).record(took.as_secs_f64());
    match proposed?.reply {
        Reply::Plan(outcome) => Ok(outcome),
        _ => Ok(PlanOutcome::default()),
    }
}

fn note_refusals(eval: &Evaluation, outcome: &PlanOutcome) {
    let nodes = u64::try_from(outcome.refused.len()).unwrap_or(u64::MAX);
    ::metrics::counter!(metrics::PLAN_REJECTED).increment(nodes);
    for (node, why) in &outcome.refused {
        tracing::debug!(eval = %eval.id, %node, why, "part of a plan no longer fits");
    }
}

/// Plans on a blocking thread, as a large problem takes long.
async fn make_plan(shared: &Arc<Shared>, eval: &Arc<Evaluation>) -> Result<Plan, String> {
    let state = shared.published.state();
    let eval = Arc::clone(eval);
    let now = shared.now();
    let clock = Arc::clone(&shared.clock);
    let planning = tokio::task::spawn_blocking(move || {
        let started = clock.monotonic();
        let planned = catch_unwind(AssertUnwindSafe(|| {
            cos_scheduler::plan(&problem(&state, eval, now), &mut new_id)
        }));
        let took = clock.monotonic().saturating_sub(started);
        ::metrics::histogram!(metrics::WORKER_SCHEDULER).record(took.as_secs_f64());
        planned
            .map(|plan| stamp(plan, took))
            .map_err(|panic| format!("scheduler panicked: {}", words(panic.as_ref())))
    });
    planning.await.map_err(|error| error.to_string())?
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

/// Notes how long the decision took, in each record of it.
fn stamp(mut plan: Plan, took: Duration) -> Plan {
    let mut last: Option<(Arc<AllocMetric>, Arc<AllocMetric>)> = None;
    for alloc in &mut plan.placements {
        // Instances that share a record go on sharing it.
        let stamped = match &last {
            Some((old, new)) if Arc::ptr_eq(old, &alloc.metric) => Arc::clone(new),
            _ => {
                Arc::new(AllocMetric { allocation_time: took, ..AllocMetric::clone(&alloc.metric) })
            }
        };
        let old = std::mem::replace(&mut alloc.metric, Arc::clone(&stamped));
        last = Some((old, stamped));
    }
    for metric in plan.eval.failed_groups.values_mut() {
        metric.allocation_time = took;
    }
    plan
}

fn finished(eval: &Evaluation, status: EvalStatus, description: &str) -> Evaluation {
    Evaluation { status, status_description: description.to_owned(), ..eval.clone() }
}

fn failed(eval: &Evaluation, why: &str) -> Evaluation {
    finished(eval, EvalStatus::Failed, why)
}

/// Gives an evaluation up for now: whatever changes next may let its successor through.
fn postponed(eval: &Evaluation, now: Timestamp) -> Vec<Evaluation> {
    let next = EvalId::from_bits(new_id());
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
