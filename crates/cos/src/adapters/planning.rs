//! Planning without committing, for `job plan`.

use std::sync::Arc;

use cos_compat_nomad::Planner;
use cos_model::{EvalId, Job, Plan, Trigger};
use cos_platform::{Clock, entropy};
use cos_scheduler::Problem;
use cos_state::State;

/// The scheduler as a planner.
pub(crate) struct Planning {
    clock: Arc<dyn Clock>,
}

impl Planning {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock }
    }
}

impl Planner for Planning {
    fn dry_run(&self, state: &State, job: Job) -> Plan {
        let now = cos_model::Timestamp(self.clock.unix_nanos());
        let eval = cos_state::evaluations::eval_for_job(
            &job,
            Trigger::JobRegister,
            EvalId::from_bits(entropy::draw()).bits(),
            now,
        );
        let problem = cos_server::problem(state, Arc::new(eval), now);
        let problem = Problem { job: Some(Arc::new(job)), ..problem };
        cos_scheduler::plan(&problem, &mut entropy::draw)
    }
}
