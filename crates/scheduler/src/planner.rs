//! The entry: looks at what kind of job it is, or that there is none any more.

use std::sync::Arc;

use cos_model::{ClientStatus, Job, Plan};

use crate::draft::Draft;
use crate::problem::Problem;
use crate::reconcile::Stop;
use crate::{generic, system, words};

/// Plans what has to change so that the job is as asked. `ids` draws fresh ids.
///
/// The plan's evaluation is filled as it should be recorded: complete, or blocked again if it
/// already waited for room, with the reasons for everything that could not be placed.
pub fn plan(problem: &Problem, ids: &mut dyn FnMut() -> u128) -> Plan {
    let mut draft = Draft::new(problem, ids);
    give_up_stopping(&mut draft);
    let job = problem.job.as_ref().filter(|job| !job.stop && !job.is_template());
    match job {
        None => stop_all(&mut draft),
        Some(job) if job.is_system() => system::plan(&mut draft, job),
        Some(job) => generic::plan(&mut draft, job),
    }
    draft.finish(job.is_some_and(|job: &Arc<Job>| job.all_at_once))
}

/// Instances that were stopping when their node was lost will never report their end.
fn give_up_stopping(draft: &mut Draft<'_, '_>) {
    let problem = draft.problem;
    let stopping = problem
        .job_allocs
        .iter()
        .filter(|alloc| alloc.is_desired_terminal() && !alloc.is_client_terminal());
    for alloc in stopping {
        if draft.table.is_lost(alloc.node_id) {
            let client_status = Some(ClientStatus::Lost);
            draft.stop(&Stop { alloc: Arc::clone(alloc), words: words::LOST, client_status });
        }
    }
}

fn stop_all(draft: &mut Draft<'_, '_>) {
    let problem = draft.problem;
    for alloc in problem.job_allocs.iter().filter(|alloc| !alloc.is_terminal()) {
        let lost = draft.table.is_lost(alloc.node_id);
        draft.stop(&Stop {
            alloc: Arc::clone(alloc),
            words: if lost { words::LOST } else { words::NOT_NEEDED },
            client_status: lost.then_some(ClientStatus::Lost),
        });
    }
    if let Some(deployment) = problem.deployment.as_deref() {
        draft.cancel(deployment, words::DEPLOYMENT_STOPPED);
    }
}
