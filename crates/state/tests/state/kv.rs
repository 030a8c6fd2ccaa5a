//! Examples: conditions, all or nothing, and when a prefix changed.

use cos_model::kv::KvOp;
use cos_state::{Command, Topic};

use crate::script::{World, check};

#[test]
fn a_write_that_changes_nothing_leaves_the_index() {
    check(
        "kv set a/b 1   -> written
         kv set a/b 1   -> written
         ? keys a       -> a/b=1 @1/1
         ? index kv:a/  -> 1
         kv set a/b 2   -> written
         ? keys a       -> a/b=2 @1/3",
    );
}

#[test]
fn a_condition_of_zero_means_absent() {
    check(
        "kv cas k 1 5   -> condition failed
         kv cas k 1 0   -> written
         kv cas k 2 0   -> condition failed
         kv cas k 2 1   -> condition failed
         kv cas k 2 2   -> written
         ? keys k       -> k=2 @2/5",
    );
}

#[test]
fn a_conditional_deletion_is_content_with_a_key_that_is_gone() {
    check(
        "kv delete-cas k 7 -> written
         kv set k 1        -> written
         kv delete-cas k 0 -> condition failed
         kv delete-cas k 1 -> condition failed
         kv delete-cas k 2 -> written
         ? keys k          ->
         ? index kv:k      -> 5",
    );
}

#[test]
fn operations_are_done_all_or_not_at_all() {
    check(
        "kv set a 1 ; cas b 1 7      -> condition failed
         ? keys                      ->
         ? index kv:                 -> 0
         kv set a 1 ; cas b 1 0 ; set a 2 -> written
         ? keys                      -> a=2 @2/2; b=1 @2/2",
    );
}

#[test]
fn a_prefix_changes_with_what_begins_so_and_with_nothing_else() {
    check(
        "kv set a/b/c 1  -> written
         kv set a/d 1    -> written
         kv set e 1      -> written
         ? index kv:     -> 3
         ? index kv:a/   -> 2
         ? index kv:a/b/ -> 1
         ? index kv:a/b  -> 1
         ? index kv:a/b/c -> 1
         ? index kv:x/   -> 0
         kv delete a/b/c -> written
         ? index kv:a/b/ -> 4
         ? index kv:a/b  -> 4
         ? index kv:e    -> 3
         kv delete-tree a/ -> written
         ? keys          -> e=1 @3/3
         ? index kv:a/d  -> 5
         kv delete-tree a/ -> written
         ? index kv:     -> 5",
    );
}

#[test]
fn a_prefix_deeper_than_is_noted_is_answered_all_the_same() {
    check(
        "kv set 1/2/3/4/5/6/7/8/9/10 x     -> written
         kv set 1/2/3/4/5/6/7/8/other x    -> written
         ? index kv:1/2/3/4/5/6/7/8/9/     -> 1
         ? index kv:1/2/3/4/5/6/7/8/       -> 2
         kv delete 1/2/3/4/5/6/7/8/9/10    -> written
         ? index kv:1/2/3/4/5/6/7/8/9/     -> 3",
    );
}

/// More deletions than are remembered one by one.
#[test]
fn forgotten_deletions_never_make_an_index_go_back() {
    let mut world = World::default();
    let set = |key: String| KvOp::Set { key, value: Vec::new(), flags: 0 };
    for round in 0..10 {
        let keys = |name: &str| (0..1000).map(|n| format!("{name}{round}/{n}")).collect::<Vec<_>>();
        world.apply(Command::Kv { ops: keys("dir").into_iter().map(set).collect() });
        let delete = KvOp::DeleteTree { prefix: format!("dir{round}/") };
        world.apply(Command::Kv { ops: vec![delete] });
    }
    let index = |prefix: &str| world.state.topic_index(&Topic::Kv(prefix.into()));
    // The first rounds are merged into one number, the last ones are known.
    assert_eq!(index("dir9/"), 20);
    assert_eq!(index("dir9/5"), 20);
    assert_eq!(index("dir8/"), 18);
    assert!((2..18).contains(&index("dir0/")), "{}", index("dir0/"));
    assert_eq!(index("dir0/"), index("never/"));
    let restored = cos_state::State::decode_snapshot(&world.state.encode_snapshot()).unwrap();
    assert_eq!(restored, world.state);
}
