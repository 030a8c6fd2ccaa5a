//! A few whole runs, and that a seed gives the same one twice.

use crate::{Keep, Options, run};

/// Seeds that every test run plays.
const SEEDS: std::ops::Range<u64> = 0..12;

#[test]
fn the_first_seeds_hold_all_invariants() {
    for seed in SEEDS {
        let outcome = run(Options::of(seed), Keep::Tail);
        let tail = outcome.lines.join("\n");
        assert_eq!(outcome.violation, None, "seed {seed}\n{tail}");
        assert!(outcome.requests.1 > 0, "seed {seed}: nobody was served");
    }
}

#[test]
fn a_seed_gives_the_same_trace_twice() {
    for seed in [3, 5] {
        let runs = [Keep::Everything, Keep::Everything].map(|keep| run(Options::of(seed), keep));
        assert_eq!(runs[0].lines, runs[1].lines);
        let quiet = run(Options::of(seed), Keep::Nothing);
        assert!(runs.iter().all(|run| run.hash == quiet.hash));
    }
    assert_ne!(run(Options::of(3), Keep::Nothing).hash, run(Options::of(5), Keep::Nothing).hash);
}
