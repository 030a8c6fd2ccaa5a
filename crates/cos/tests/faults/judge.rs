//! What the clients' words say about the cluster.

use std::fmt::Write as _;

use cos_faults::{LockModel, Operation, RegisterAct, RegisterModel, Value, Verdict, check};

use crate::workload::Seen;

/// How many complaints are shown.
const SHOWN_MAX: usize = 5;

/// The judgement of one workload.
#[derive(Debug)]
pub(crate) struct Judgement {
    /// Operations that were sent.
    pub(crate) operations: usize,
    /// Operations that were answered.
    pub(crate) acknowledged: usize,
    /// Acknowledged writes that are gone although nothing took their place.
    pub(crate) lost: usize,
    /// Everything that may not be, in words.
    pub(crate) complaints: Vec<String>,
}

/// Judges what was seen. The last operation on each register is a read after everything.
pub(crate) fn judge(seen: &Seen) -> Judgement {
    let mut complaints = seen.faults.clone();
    let mut lost = 0;
    for (object, history) in &seen.registers {
        lost += usize::from(is_lost(history));
        complaints.extend(complaint(object, check(&RegisterModel, history), history));
    }
    for (key, history) in &seen.locks {
        complaints.extend(complaint(key, check(&LockModel, history), history));
    }
    complaints.truncate(SHOWN_MAX);
    Judgement { operations: seen.operations, acknowledged: seen.acknowledged, lost, complaints }
}

fn complaint<A: std::fmt::Debug>(
    what: &impl std::fmt::Debug,
    verdict: Verdict,
    history: &[Operation<A>],
) -> Option<String> {
    let problem = match verdict {
        Verdict::Linearizable => return None,
        Verdict::Violated => "is not linearizable",
        Verdict::Undecided => "is too large to be judged",
    };
    let mut shown = format!("the history of {what:?} {problem}:");
    for Operation { called, answered, act } in history {
        // Writing to a text cannot fail.
        write!(shown, "\n    {called} {answered:?} {act:?}").ok();
    }
    Some(shown)
}

/// Whether a write was acknowledged, and what is there at the end was certainly over before it
/// began. Operations on one register are few, so each is looked at with each.
fn is_lost(history: &[Operation<RegisterAct>]) -> bool {
    let Some(RegisterAct::Read(last)) = history.last().map(|operation| &operation.act) else {
        return false;
    };
    let writes = || history.iter().filter(|operation| takes_effect(&operation.act));
    let may_be_last = |source: &Operation<RegisterAct>| {
        let Some(answered) = source.answered else { return true };
        !writes().any(|later| later.answered.is_some() && later.called > answered)
    };
    let leaves_it = |operation: &&Operation<RegisterAct>| leaves(&operation.act, *last);
    if !writes().any(|write| write.answered.is_some()) {
        return false;
    }
    !writes().filter(leaves_it).any(may_be_last)
}

fn takes_effect(act: &RegisterAct) -> bool {
    !matches!(act, RegisterAct::Read(_) | RegisterAct::Cas { done: Some(false), .. })
}

/// Whether an act leaves this there, if it took effect.
fn leaves(act: &RegisterAct, last: Option<Value>) -> bool {
    match act {
        RegisterAct::Write(value) | RegisterAct::Cas { new: value, .. } => last == Some(*value),
        RegisterAct::Delete => last.is_none(),
        RegisterAct::Read(_) => false,
    }
}
