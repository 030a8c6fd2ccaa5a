//! Works off one evaluation: asks the scheduler and proposes what [`Work`] says.

use std::sync::Arc;
use std::time::Duration;

use cos_model::metric::AllocMetric;
use cos_model::{Evaluation, Plan};
use cos_state::{Command, ProposeError, Reply};

use crate::metrics;
use crate::shared::{Shared, new_id};
use crate::work::{self, Step, Verdict, Work};

/// Works off one evaluation.
pub(super) async fn work(shared: &Arc<Shared>, eval: Arc<Evaluation>) -> Verdict {
    let mut work = Work::new(eval);
    let mut step = Step::Plan;
    loop {
        step = match step {
            Step::Plan => work.planned(make_plan(shared, work.eval()).await),
            Step::Propose(command) => {
                let answer = propose(shared, *command).await;
                work.proposed(answer, shared.now(), &mut new_id)
            }
            Step::Over(verdict) => return verdict,
        }
    }
}

async fn propose(shared: &Shared, command: Command) -> Result<Reply, ProposeError> {
    let is_plan = matches!(command, Command::ApplyPlan { .. });
    let started = shared.clock.monotonic();
    let proposed = shared.propose_as_leader(command).await;
    if is_plan {
        let took = shared.clock.monotonic().saturating_sub(started);
        ::metrics::histogram!(metrics::PLAN_SUBMIT).record(took.as_secs_f64());
    }
    Ok(proposed?.reply)
}

/// Plans on a blocking thread, as a large problem takes long.
async fn make_plan(shared: &Arc<Shared>, eval: &Arc<Evaluation>) -> Result<Plan, String> {
    let state = shared.published.state();
    let eval = Arc::clone(eval);
    let now = shared.now();
    let clock = Arc::clone(&shared.clock);
    let planning = tokio::task::spawn_blocking(move || {
        let started = clock.monotonic();
        let planned = work::make_plan(&state, &eval, now, &mut new_id);
        let took = clock.monotonic().saturating_sub(started);
        ::metrics::histogram!(metrics::WORKER_SCHEDULER).record(took.as_secs_f64());
        planned.map(|plan| stamp(plan, took))
    });
    planning.await.map_err(|error| error.to_string())?
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
