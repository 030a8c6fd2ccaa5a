//! The state is a function of the log: equal on all servers at equal index, also where it came from
//! a snapshot.
//!
//! Source: "log and state of all servers equal at equal index; replay from a snapshot gives the same
//! hash"; etcd's data inconsistency of 2022, found by a user and not by tests.

use std::collections::BTreeMap;

use cos_state::State;

use super::{Fact, Invariant};

/// How many states are kept to compare restored ones with.
const STATES_MAX: usize = 400;

/// The state at each of the last indexes. A copy shares everything, so this costs little.
#[derive(Debug, Default)]
pub(super) struct EqualState {
    hashes: BTreeMap<u64, u64>,
    states: BTreeMap<u64, State>,
}

impl Invariant for EqualState {
    fn name(&self) -> &'static str {
        "equal state at equal index"
    }

    fn observe(&mut self, fact: &Fact<'_>) -> Result<(), String> {
        match fact {
            Fact::Applied(applied) => {
                let hash = applied.state.hash();
                let known = *self.hashes.entry(applied.index).or_insert(hash);
                if applied.is_first {
                    self.states.insert(applied.index, applied.state.clone());
                    if self.states.len() > STATES_MAX {
                        self.states.pop_first();
                    }
                }
                if known == hash {
                    return Ok(());
                }
                let (index, server) = (applied.index, applied.server);
                Err(format!("at {index} server {server} has {hash:016x}, others {known:016x}"))
            }
            Fact::Restored { server, index, state } => {
                let before = self.states.range(..=*index).next_back();
                match before {
                    Some((_, known)) if known != *state => {
                        Err(format!("server {server} restored another state than that at {index}"))
                    }
                    _ => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use cos_model::kv::KvOp;
    use cos_state::Command;

    use super::*;
    use crate::invariants::testing::{History, check};

    fn set(value: u8) -> Command {
        let (key, value) = ("k".to_owned(), vec![value]);
        Command::Kv { ops: vec![KvOp::Set { key, value, flags: 0 }] }
    }

    #[test]
    fn servers_that_differ_are_found() {
        let (mut here, mut there, mut elsewhere) =
            (History::default(), History::default(), History::default());
        here.apply(set(1));
        there.apply(set(1));
        elsewhere.apply(set(2));
        check(EqualState::default(), &[here.last(), there.last()], false);
        check(EqualState::default(), &[here.last(), elsewhere.last()], true);
    }

    #[test]
    fn a_snapshot_that_lost_something_is_found() {
        let mut history = History::default();
        history.apply(set(1));
        let restored = State::decode_snapshot(&history.state.encode_snapshot()).unwrap();
        let whole = Fact::Restored { server: 1, index: 1, state: &restored };
        check(EqualState::default(), &[history.last(), whole], false);
        let nothing = State::default();
        let lost = Fact::Restored { server: 1, index: 1, state: &nothing };
        check(EqualState::default(), &[history.last(), lost], true);
    }
}
