//! The key-value store answers and holds what a plain map would.
//!
//! Source: "key-value compare-and-set is linearizable"; in the order of the log every command must
//! do what its definition says, compared with a second, independent one.

use std::collections::BTreeMap;

use cos_model::kv::KvOp;
use cos_state::{Command, Reply};

use super::{AppliedFact, Fact, Invariant};

/// Value, flags and index of a key.
type Entry = (Vec<u8>, u64, u64);

/// The plain map.
#[derive(Debug, Default)]
pub(super) struct KvModel(BTreeMap<String, Entry>);

impl Invariant for KvModel {
    fn name(&self) -> &'static str {
        "keys are as a plain map has them"
    }

    fn observe(&mut self, fact: &Fact<'_>) -> Result<(), String> {
        let Fact::Applied(applied) = fact else { return Ok(()) };
        let Command::Kv { ops } = &applied.request.command else { return Ok(()) };
        if !applied.is_first {
            return Ok(());
        }
        let expected = self.run(ops, applied.index);
        match &applied.applied.reply {
            Ok(Reply::Kv(done)) if *done == expected => {}
            other => return Err(format!("{ops:?} answered {other:?}, not {expected}")),
        }
        ops.iter().try_for_each(|op| self.compare(op, applied))
    }
}

impl KvModel {
    fn run(&mut self, ops: &[KvOp], index: u64) -> bool {
        let mut next = self.0.clone();
        let index_of =
            |map: &BTreeMap<String, Entry>, key: &str| map.get(key).map_or(0, |entry| entry.2);
        for op in ops {
            // The workload uses no other operations than these.
            if let KvOp::Set { key, value, flags }
            | KvOp::SetIfUnchanged { key, value, flags, .. } = op
            {
                if let KvOp::SetIfUnchanged { expected, .. } = op
                    && index_of(&next, key) != *expected
                {
                    return false;
                }
                let is_same = next.get(key).is_some_and(|old| (&old.0, &old.1) == (value, flags));
                if !is_same {
                    next.insert(key.clone(), (value.clone(), *flags, index));
                }
            } else if let KvOp::Delete { key } = op {
                next.remove(key);
            } else if let KvOp::DeleteIfUnchanged { key, expected } = op {
                // A key that is gone already is as its user wants it.
                if next.contains_key(key) && index_of(&next, key) != *expected {
                    return false;
                }
                next.remove(key);
            } else if let KvOp::DeleteTree { prefix } = op {
                next.retain(|key, _| !key.starts_with(prefix));
            }
        }
        self.0 = next;
        true
    }

    fn compare(&self, op: &KvOp, applied: &AppliedFact<'_>) -> Result<(), String> {
        let (KvOp::Set { key, .. }
        | KvOp::SetIfUnchanged { key, .. }
        | KvOp::Delete { key }
        | KvOp::DeleteIfUnchanged { key, .. }) = op
        else {
            return Ok(());
        };
        let there = applied.state.kv_get(key);
        let there = there.map(|entry| (entry.value.clone(), entry.flags, entry.modify_index));
        if there.as_ref() == self.0.get(key) {
            return Ok(());
        }
        Err(format!("after {op:?} {key} is {there:?}, not {:?}", self.0.get(key)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariants::testing::{History, check};

    fn set_if(expected: u64, value: u8) -> Command {
        let (key, value) = ("k".to_owned(), vec![value]);
        Command::Kv { ops: vec![KvOp::SetIfUnchanged { key, value, flags: 0, expected }] }
    }

    #[test]
    fn a_condition_that_is_passed_over_is_found() {
        let mut good = History::default();
        good.apply(set_if(0, 1));
        let mut later = good.clone();
        later.apply(set_if(7, 2));
        check(KvModel::default(), &[good.last(), later.last()], false);
        later.applied.reply = Ok(Reply::Kv(true));
        check(KvModel::default(), &[good.last(), later.last()], true);
    }

    #[test]
    fn a_lost_value_is_found() {
        let mut history = History::default();
        history.apply(set_if(0, 1));
        history.state = cos_state::State::default();
        check(KvModel::default(), &[history.last()], true);
    }
}
