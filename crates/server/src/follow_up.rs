//! What follows an evaluation that failed: another one, later, but not for ever.
//!
//! Pure: state, time and entropy in, evaluations out.
//!
//! # Invariants
//!
//! - Waits double, and after [`FOLLOW_UPS_MAX`] follow-ups in a row nothing follows. A change of the
//!   job or of a node evaluates the job anew all the same.

use std::collections::BTreeMap;
use std::time::Duration;

use cos_model::{EvalId, EvalStatus, Evaluation, Plan, Timestamp, Trigger};
use cos_state::State;

use crate::evals::Ids;

/// The shortest wait before an evaluation that was given up is followed by another.
const WAIT_MIN: Duration = Duration::from_mins(1);

/// How many follow-ups in a row there are.
pub const FOLLOW_UPS_MAX: u32 = 5;

/// What is drawn for a follow-up.
#[derive(Clone, Copy, Debug)]
pub struct Draw {
    /// Its id.
    pub id: u128,
    /// By which its wait is spread, so that what failed together is not tried together.
    pub spread: u16,
}

impl Draw {
    /// Draws.
    pub fn from(ids: Ids<'_>) -> Self {
        let spread = u16::try_from(ids() & 0xffff).unwrap_or(0);
        Self { id: ids(), spread }
    }
}

/// Makes the plan that changes nothing but the evaluation, which failed, and what follows it.
pub fn plan(state: &State, eval: &Evaluation, why: &str, now: Timestamp, draw: Draw) -> Plan {
    let mut evals = after_failure(state, eval, why, now, draw).into_iter();
    let failed = evals.next().unwrap_or_else(|| eval.clone());
    Plan {
        eval_id: eval.id,
        based_on: state.index(),
        all_at_once: false,
        placements: Vec::new(),
        stops: Vec::new(),
        followups: BTreeMap::new(),
        deployment: None,
        deployment_updates: Vec::new(),
        new_evals: evals.collect(),
        eval: failed,
        at: now,
    }
}

/// Returns the evaluation as failed, and the one that follows it, if one does. Up to a third of the
/// wait is added at random.
pub fn after_failure(
    state: &State,
    eval: &Evaluation,
    why: &str,
    now: Timestamp,
    draw: Draw,
) -> Vec<Evaluation> {
    let before = follow_ups_before(state, eval);
    let is_last = before >= FOLLOW_UPS_MAX;
    let next = EvalId::from_bits(draw.id);
    let description =
        if is_last { format!("{why}; given up after {before} tries") } else { why.to_owned() };
    let failed = Evaluation {
        status: EvalStatus::Failed,
        status_description: description,
        next: (!is_last).then_some(next).or(eval.next),
        ..eval.clone()
    };
    if is_last {
        return vec![failed];
    }
    let wait = WAIT_MIN * 2_u32.pow(before);
    let follow_up = Evaluation {
        id: next,
        trigger: Trigger::FailedFollowUp,
        status: EvalStatus::Pending,
        status_description: String::new(),
        wait_until: now + wait + wait / 3 / u32::from(u16::MAX) * u32::from(draw.spread),
        previous: Some(eval.id),
        next: None,
        blocked: None,
        failed_groups: BTreeMap::new(),
        queued: BTreeMap::new(),
        create_time: now,
        modify_time: now,
        create_index: 0,
        modify_index: 0,
        ..eval.clone()
    };
    vec![failed, follow_up]
}

/// How many evaluations in a row were follow-ups of failed ones, this one included.
fn follow_ups_before(state: &State, eval: &Evaluation) -> u32 {
    let mut count = 0;
    let mut trigger = eval.trigger;
    let mut previous = eval.previous;
    while trigger == Trigger::FailedFollowUp && count < FOLLOW_UPS_MAX {
        count += 1;
        // What was collected as garbage is an hour old: then it has been tried for long enough.
        let Some(before) = previous.and_then(|id| state.eval(id)) else { return FOLLOW_UPS_MAX };
        (trigger, previous) = (before.trigger, before.previous);
    }
    count
}

#[cfg(test)]
mod tests {
    use cos_model::JobKind;
    use cos_state::Command;
    use cos_state::evaluations::eval_for_job;

    use super::*;
    use crate::testing::{self, World};

    #[test]
    fn a_failed_evaluation_is_tried_again_with_growing_waits_and_then_given_up() {
        let mut world = World::new();
        let job = testing::job("web", JobKind::Service, 1);
        world.register(&job);
        let mut eval = eval_for_job(&job, Trigger::JobRegister, 1, Timestamp(1));
        let mut waits = Vec::new();
        for id in 2..20 {
            world.apply(Command::PutEvals { evals: vec![eval.clone()] });
            let evals = world.draw(|state, now, _| {
                let evals = after_failure(state, &eval, "it broke", now, Draw { id, spread: 0 });
                waits.extend(evals.get(1).map(|next| next.wait_until.since(now).as_secs()));
                evals
            });
            assert_eq!(evals[0].status, EvalStatus::Failed);
            world.apply(Command::PutEvals { evals: evals.clone() });
            let Some(next) = evals.into_iter().nth(1) else {
                let kept = world.draw(|state, _, _| state.eval(eval.id).cloned()).unwrap();
                assert_eq!(kept.status_description, "it broke; given up after 5 tries");
                break;
            };
            assert_eq!((next.previous, next.trigger), (Some(eval.id), Trigger::FailedFollowUp));
            eval = next;
        }
        assert_eq!(waits, [60, 120, 240, 480, 960]);
    }
}
