//! The evaluations that follow from a plan: one that waits for room, one that waits for a time.

use std::collections::BTreeMap;

use cos_model::{EvalId, EvalStatus, Evaluation, Timestamp, Trigger};

use crate::words;

/// Whether an evaluation that cannot place everything waits again itself, instead of making a
/// successor: it already waited for room.
pub(crate) fn waits_again(eval: &Evaluation) -> bool {
    eval.status == EvalStatus::Blocked || eval.trigger == Trigger::QueuedAllocs
}

/// Makes the evaluation that waits for room on behalf of `eval`, whose counts are complete.
pub(crate) fn blocked(eval: &Evaluation, id: EvalId, now: Timestamp) -> Evaluation {
    Evaluation {
        trigger: Trigger::QueuedAllocs,
        status: EvalStatus::Blocked,
        status_description: words::BLOCKED.to_owned(),
        failed_groups: eval.failed_groups.clone(),
        queued: eval.queued.clone(),
        snapshot_index: eval.snapshot_index,
        ..successor(eval, id, now)
    }
}

/// Makes the evaluation that replaces failed instances at a later time.
pub(crate) fn delayed(
    eval: &Evaluation,
    id: EvalId,
    wait_until: Timestamp,
    now: Timestamp,
) -> Evaluation {
    Evaluation {
        trigger: Trigger::AllocReschedule,
        status_description: words::DELAYED.to_owned(),
        wait_until,
        ..successor(eval, id, now)
    }
}

/// Makes the evaluation that gives unknown instances up once their time is over.
pub(crate) fn expiring(
    eval: &Evaluation,
    id: EvalId,
    wait_until: Timestamp,
    now: Timestamp,
) -> Evaluation {
    Evaluation {
        trigger: Trigger::MaxDisconnectTimeout,
        status_description: words::EXPIRING.to_owned(),
        wait_until,
        ..successor(eval, id, now)
    }
}

/// Makes the evaluation that updates the next batch of a system job.
pub(crate) fn rolling(
    eval: &Evaluation,
    id: EvalId,
    wait_until: Timestamp,
    now: Timestamp,
) -> Evaluation {
    Evaluation { trigger: Trigger::RollingUpdate, wait_until, ..successor(eval, id, now) }
}

fn successor(eval: &Evaluation, id: EvalId, now: Timestamp) -> Evaluation {
    Evaluation {
        id,
        job: eval.job.clone(),
        kind: eval.kind,
        priority: eval.priority,
        trigger: eval.trigger,
        job_modify_index: eval.job_modify_index,
        node_id: None,
        deployment_id: None,
        status: EvalStatus::Pending,
        status_description: String::new(),
        wait_until: Timestamp::NEVER,
        next: None,
        previous: Some(eval.id),
        blocked: None,
        failed_groups: BTreeMap::new(),
        queued: BTreeMap::new(),
        snapshot_index: 0,
        create_time: now,
        modify_time: now,
        create_index: 0,
        modify_index: 0,
    }
}
