//! Lists of allocations as they are stored and sent.

use std::sync::Arc;

use cos_model::link::ToAgent;
use cos_model::{Allocation, Job, Resources};
use proptest::prelude::*;
use serde::{Deserialize, Serialize};

use crate::samples;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct List {
    #[serde(with = "cos_model::stored")]
    allocs: Vec<Allocation>,
}

fn alloc_of(number: u128, job: &Arc<Job>) -> Allocation {
    Allocation { job: Arc::clone(job), ..samples::alloc(number, Resources::default(), &[]) }
}

fn round_trip(list: &List) -> List {
    rmp_serde::from_slice(&rmp_serde::to_vec_named(list).unwrap()).unwrap()
}

#[test]
fn what_was_shared_is_shared_again() {
    let first = Arc::new(samples::job());
    let second = Arc::new(Job { version: 1, ..samples::job() });
    let allocs = vec![alloc_of(1, &first), alloc_of(2, &second), alloc_of(3, &first)];
    let read = round_trip(&List { allocs: allocs.clone() }).allocs;
    assert_eq!(read, allocs);
    assert!(Arc::ptr_eq(&read[0].job, &read[2].job));
    assert!(!Arc::ptr_eq(&read[0].job, &read[1].job));
    assert!(Arc::ptr_eq(&read[0].group, &read[1].group));
}

#[test]
fn an_agent_gets_each_job_once() {
    let job = Arc::new(Job { name: "x".repeat(10_000), ..samples::job() });
    let allocs = (1..=50).map(|number| Arc::new(alloc_of(number, &job))).collect();
    let message = ToAgent::Desired { generation: 1, complete: true, allocs, removed: Vec::new() };
    let sent = rmp_serde::to_vec_named(&message).unwrap();
    assert!(sent.len() < 40_000, "{} bytes", sent.len());
    assert_eq!(rmp_serde::from_slice::<ToAgent>(&sent).unwrap(), message);
}

/// The written form, with rows that are not there.
#[test]
fn a_row_that_is_not_there_is_an_error() {
    let list = List { allocs: vec![alloc_of(1, &Arc::new(samples::job()))] };
    let mut stored = rmp_serde::to_vec_named(&list).unwrap();
    let key = b"metric";
    let at = stored.windows(key.len() + 1).rposition(|part| part == b"metric\0").unwrap();
    stored[at + key.len()] = 7;
    let error = rmp_serde::from_slice::<List>(&stored).unwrap_err();
    assert_eq!(error.to_string(), "there is no metric 7");
}

proptest! {
    #[test]
    fn a_list_survives_storage(rows in prop::collection::vec((1_u128..9, 0_usize..3), 0..8)) {
        let jobs: Vec<_> = (0..3).map(|version| Arc::new(Job { version, ..samples::job() })).collect();
        let allocs = rows.iter().map(|(number, job)| alloc_of(*number, &jobs[*job])).collect();
        let list = List { allocs };
        prop_assert_eq!(round_trip(&list), list);
    }

    #[test]
    fn damaged_bytes_never_panic(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let list = List { allocs: vec![alloc_of(1, &Arc::new(samples::job()))] };
        let mut stored = rmp_serde::to_vec_named(&list).unwrap();
        let at = at.index(stored.len());
        stored[at] = byte;
        drop(rmp_serde::from_slice::<List>(&stored));
    }
}
