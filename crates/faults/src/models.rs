//! What a single machine would do: a register with compare-and-set, and a lock.
//!
//! # Invariants
//!
//! - An act whose answer is not known fits every state, and changes it as it would have.

use crate::check::Model;

/// A value that was written. Every write of a history writes another one, so that a value names the
/// write that it came from.
pub type Value = u64;

/// One key: absent, or a value.
#[derive(Clone, Copy, Debug, Default)]
pub struct RegisterModel;

/// What was done to a key, with the answer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum RegisterAct {
    /// It was written.
    Write(Value),
    /// It was deleted.
    Delete,
    /// It was read, and this was found.
    Read(Option<Value>),
    /// It was to be written if it is as expected.
    Cas {
        /// What had to be there.
        expected: Option<Value>,
        /// What was to be written.
        new: Value,
        /// Whether it was written, if that was told.
        done: Option<bool>,
    },
}

impl Model for RegisterModel {
    type State = Option<Value>;
    type Act = RegisterAct;

    fn begin(&self) -> Option<Value> {
        None
    }

    fn step(&self, state: &Option<Value>, act: &RegisterAct) -> Option<Option<Value>> {
        match act {
            RegisterAct::Write(value) => Some(Some(*value)),
            RegisterAct::Delete => Some(None),
            RegisterAct::Read(found) => (found == state).then_some(*state),
            RegisterAct::Cas { expected, new, done } => {
                let fits = expected == state;
                let next = if fits { Some(*new) } else { *state };
                done.is_none_or(|done| done == fits).then_some(next)
            }
        }
    }

    fn is_seen(&self, act: &RegisterAct, others: &[&RegisterAct]) -> bool {
        let (RegisterAct::Write(value) | RegisterAct::Cas { new: value, .. }) = act else {
            return true;
        };
        others.iter().any(|other| match other {
            RegisterAct::Read(found) => *found == Some(*value),
            RegisterAct::Cas { expected, .. } => *expected == Some(*value),
            RegisterAct::Write(_) | RegisterAct::Delete => false,
        })
    }
}

/// One lock: free, or held by somebody.
#[derive(Clone, Copy, Debug, Default)]
pub struct LockModel;

/// What was done to a lock, with the answer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum LockAct {
    /// Somebody tried to take it. Who holds it may take it again.
    Acquire {
        /// Who.
        by: u32,
        /// Whether they hold it, if that was told.
        done: Option<bool>,
    },
    /// Somebody tried to give it back.
    Release {
        /// Who.
        by: u32,
        /// Whether they held it, if that was told.
        done: Option<bool>,
    },
}

impl Model for LockModel {
    type State = Option<u32>;
    type Act = LockAct;

    fn begin(&self) -> Option<u32> {
        None
    }

    fn step(&self, holder: &Option<u32>, act: &LockAct) -> Option<Option<u32>> {
        let (fits, next, done) = match act {
            LockAct::Acquire { by, done } => {
                let fits = holder.is_none_or(|holder| holder == *by);
                (fits, if fits { Some(*by) } else { *holder }, done)
            }
            LockAct::Release { by, done } => {
                let fits = *holder == Some(*by);
                (fits, if fits { None } else { *holder }, done)
            }
        };
        done.is_none_or(|done| done == fits).then_some(next)
    }
}
