//! Rows about single messages, and the property that any sequence ends where the last one points.

use proptest::prelude::*;

use super::*;
use crate::testing::{self, NODE};

fn alloc(number: u128, index: u64) -> Arc<Allocation> {
    let mut alloc = Allocation::clone(&testing::alloc(number));
    alloc.alloc_modify_index = index;
    Arc::new(alloc)
}

fn desired(generation: u64, complete: bool, allocs: Vec<Arc<Allocation>>) -> Desired {
    Desired { generation, complete, allocs, removed: Vec::new() }
}

/// Takes messages one by one and writes the actions.
fn check(messages: &[Desired], expected: &[&str]) {
    let mut known = Known::default();
    let words: Vec<String> = messages
        .iter()
        .map(|message| {
            let actions = known.take(message, NODE);
            let words: Vec<String> = actions
                .iter()
                .map(|action| match action {
                    Action::Start(alloc) => format!("start {}", alloc.id.bits()),
                    Action::Update(alloc) => format!("update {}", alloc.id.bits()),
                    Action::Remove(id) => format!("remove {}", id.bits()),
                })
                .collect();
            words.join(", ")
        })
        .collect();
    assert_eq!(words, expected);
}

#[test]
fn new_changed_and_absent_allocations_are_told_apart() {
    check(
        &[
            desired(1, true, vec![alloc(1, 1), alloc(2, 1)]),
            desired(2, false, vec![alloc(1, 2)]),
            desired(3, true, vec![alloc(1, 2), alloc(3, 3)]),
        ],
        &["start 1, start 2", "update 1", "start 3, remove 2"],
    );
}

#[test]
fn an_older_generation_is_ignored() {
    check(&[desired(5, true, vec![alloc(1, 5)]), desired(4, true, Vec::new())], &["start 1", ""]);
}

#[test]
fn repeating_a_message_changes_nothing() {
    let message = desired(5, true, vec![alloc(1, 5)]);
    check(&[message.clone(), message], &["start 1", ""]);
}

#[test]
fn other_nodes_and_ended_allocations_are_not_started() {
    let mut foreign = Allocation::clone(&alloc(1, 1));
    foreign.node_id = NodeId::from_bits(99);
    let mut ended = Allocation::clone(&alloc(2, 1));
    ended.client_status = cos_model::ClientStatus::Complete;
    check(&[desired(1, true, vec![Arc::new(foreign), Arc::new(ended)])], &[""]);
}

#[test]
fn a_promoted_canary_is_an_update() {
    let mut canary = Allocation::clone(&alloc(1, 1));
    canary.canary = true;
    check(
        &[desired(1, false, vec![Arc::new(canary)]), desired(2, false, vec![alloc(1, 1)])],
        &["start 1", "update 1"],
    );
}

proptest! {
    /// However messages are repeated, delayed and mixed up, what runs in the end is what the
    /// complete message with the highest generation lists.
    #[test]
    fn the_newest_complete_set_wins(
        sets in proptest::collection::vec(proptest::collection::btree_set(0_u128..6, 0..6), 1..8),
        order in proptest::collection::vec(any::<prop::sample::Index>(), 0..20),
    ) {
        let messages: Vec<Desired> = (1_u64..)
            .zip(&sets)
            .map(|(generation, set)| {
                let allocs = set.iter().map(|number| alloc(*number, 1)).collect();
                desired(generation, true, allocs)
            })
            .collect();
        let mut known = Known::default();
        let mut runs: std::collections::BTreeSet<u128> = std::collections::BTreeSet::new();
        let mixed = order.iter().map(|index| &messages[index.index(messages.len())]);
        for message in mixed.chain(messages.last()) {
            for action in known.take(message, NODE) {
                match action {
                    Action::Start(alloc) => prop_assert!(runs.insert(alloc.id.bits())),
                    Action::Update(alloc) => prop_assert!(runs.contains(&alloc.id.bits())),
                    Action::Remove(id) => prop_assert!(runs.remove(&id.bits())),
                }
            }
        }
        prop_assert_eq!(&runs, sets.last().unwrap());
    }
}
