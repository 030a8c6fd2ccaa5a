//! How one run is set up: everything follows from the seed but what is asked for by hand.

use crate::planted::Planted;
use crate::random::Random;

/// How long faults happen, in microseconds.
const STORM: (u64, u64) = (20_000_000, 45_000_000);

/// The set-up of one run.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The seed.
    pub seed: u64,
    /// A bug in the model, if one is planted.
    pub planted: Option<Planted>,
    /// How many servers there are at the beginning.
    pub servers: usize,
    /// How many agents there are.
    pub agents: usize,
    /// How many users there are.
    pub clients: usize,
    /// How many jobs they use.
    pub jobs: u64,
    /// When faults and requests end.
    pub storm_until: u64,
    /// Whether nothing fails, so that what rollouts promise can be held to.
    pub is_calm: bool,
    /// The mean time between two faults.
    pub fault_every: u64,
}

impl Options {
    /// The set-up of a seed.
    pub fn of(seed: u64) -> Self {
        let mut random = Random::new(seed ^ 0xC0_5C_05);
        Self {
            seed,
            planted: None,
            servers: if random.chance(700) { 3 } else { 5 },
            agents: random.index(4) + 3,
            clients: 3,
            jobs: random.between(2, 5),
            storm_until: random.between(STORM.0, STORM.1),
            is_calm: random.chance(125),
            fault_every: random.between(800_000, 4_000_000),
        }
    }
}
