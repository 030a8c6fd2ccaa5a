//! A confirmed read sees everything that anybody had been told was committed before it was asked.
//!
//! Source: "linearizable reads where promised; the index never goes back for a client"; stale reads of
//! etcd and Consul from leaders on the losing side of a partition (2014).

use super::{Fact, Invariant};

/// Nothing has to be remembered.
#[derive(Debug, Default)]
pub(super) struct Reads;

impl Invariant for Reads {
    fn name(&self) -> &'static str {
        "reads never go back"
    }

    fn observe(&mut self, fact: &Fact<'_>) -> Result<(), String> {
        match fact {
            Fact::Read { floor, index } if index < floor => {
                Err(format!("a read saw {index} although {floor} had been acknowledged"))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariants::testing::check;

    #[test]
    fn a_stale_read_is_found() {
        check(Reads, &[Fact::Read { floor: 5, index: 5 }], false);
        check(Reads, &[Fact::Read { floor: 6, index: 5 }], true);
    }
}
