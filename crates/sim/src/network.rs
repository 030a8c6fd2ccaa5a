//! The network: who hears whom, how late, how often, in which order.
//!
//! # Invariants
//!
//! - A stream delivers in order or breaks: what it lost is never followed by what came after.
//!
//! # Deliberately absent
//!
//! - Delivery itself; see [`crate::context::Context`].

use std::collections::{BTreeMap, BTreeSet};

use crate::random::Random;

/// Somebody who sends and receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Peer {
    /// A server.
    Server(usize),
    /// An agent.
    Agent(usize),
    /// A user's program.
    Client(usize),
}

impl Peer {
    /// A number that tells peers apart.
    pub fn number(self) -> u64 {
        match self {
            Self::Server(number) => number as u64,
            Self::Agent(number) => 100 + number as u64,
            Self::Client(number) => 200 + number as u64,
        }
    }
}

/// The weather.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    /// In so many of a thousand cases a message is lost.
    pub loss: u64,
    /// In so many of a thousand cases a datagram comes twice.
    pub twice: u64,
    /// In so many of a thousand cases a message is very late.
    pub late: u64,
    /// The longest usual delay in microseconds.
    pub delay_max: u64,
}

impl Weather {
    /// Nothing is lost, everything is quick.
    pub const FAIR: Self = Self { loss: 0, twice: 0, late: 0, delay_max: 2_000 };
}

/// A connection.
#[derive(Clone, Copy, Debug)]
struct Stream {
    is_broken: bool,
    /// When the last message in each direction arrives.
    last: [u64; 2],
}

/// The network.
#[derive(Debug)]
pub struct Network {
    /// The weather now.
    pub weather: Weather,
    cuts: BTreeSet<(Peer, Peer)>,
    streams: BTreeMap<u64, Stream>,
}

/// What becomes of a message on a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It arrives then.
    Arrives(u64),
    /// The stream breaks with it.
    Breaks,
    /// The stream is broken already.
    Lost,
}

impl Default for Network {
    fn default() -> Self {
        Self { weather: Weather::FAIR, cuts: BTreeSet::new(), streams: BTreeMap::new() }
    }
}

impl Network {
    /// Cuts one direction.
    pub fn cut(&mut self, from: Peer, to: Peer) {
        self.cuts.insert((from, to));
    }

    /// Mends everything.
    pub fn mend(&mut self) {
        self.cuts.clear();
    }

    /// Whether messages pass in one direction.
    pub fn is_cut(&self, from: Peer, to: Peer) -> bool {
        self.cuts.contains(&(from, to))
    }

    /// When a datagram arrives: never, once or twice.
    pub fn datagram(&self, from: Peer, to: Peer, now: u64, random: &mut Random) -> Vec<u64> {
        let is_lost = random.chance(self.weather.loss);
        let is_twice = random.chance(self.weather.twice);
        let delays = [self.delay(random), self.delay(random)];
        if is_lost || self.is_cut(from, to) {
            return Vec::new();
        }
        let count = if is_twice { 2 } else { 1 };
        delays.iter().take(count).map(|delay| now + delay).collect()
    }

    /// Opens a stream.
    pub fn open(&mut self, stream: u64) {
        self.streams.insert(stream, Stream { is_broken: false, last: [0, 0] });
    }

    /// Closes a stream. False if it was broken or closed.
    pub fn close(&mut self, stream: u64) -> bool {
        self.streams.remove(&stream).is_some_and(|stream| !stream.is_broken)
    }

    /// When a message arrives on a stream.
    pub fn on_stream(
        &mut self,
        id: u64,
        (from, to): (Peer, Peer),
        now: u64,
        random: &mut Random,
    ) -> Fate {
        let is_lost = random.chance(self.weather.loss / 4) || self.is_cut(from, to);
        let delay = self.delay(random);
        let Some(stream) = self.streams.get_mut(&id) else { return Fate::Lost };
        if stream.is_broken {
            return Fate::Lost;
        }
        if is_lost {
            stream.is_broken = true;
            return Fate::Breaks;
        }
        let last = &mut stream.last[usize::from(matches!(from, Peer::Server(_)))];
        *last = (now + delay).max(*last + 1);
        Fate::Arrives(*last)
    }

    fn delay(&self, random: &mut Random) -> u64 {
        if random.chance(self.weather.late) {
            random.between(20_000, 800_000)
        } else {
            random.between(100, self.weather.delay_max)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Peer = Peer::Server(0);
    const B: Peer = Peer::Agent(0);

    #[test]
    fn a_cut_has_a_direction() {
        let (mut network, mut random) = (Network::default(), Random::new(1));
        network.cut(A, B);
        assert!(network.datagram(A, B, 0, &mut random).is_empty());
        assert_eq!(network.datagram(B, A, 0, &mut random).len(), 1);
        network.mend();
        assert_eq!(network.datagram(A, B, 0, &mut random).len(), 1);
    }

    #[test]
    fn datagrams_are_lost_and_come_twice_as_the_weather_says() {
        let (mut network, mut random) = (Network::default(), Random::new(1));
        network.weather = Weather { loss: 1000, ..Weather::FAIR };
        assert!(network.datagram(A, B, 0, &mut random).is_empty());
        network.weather = Weather { twice: 1000, ..Weather::FAIR };
        assert_eq!(network.datagram(A, B, 0, &mut random).len(), 2);
    }

    #[test]
    fn a_stream_keeps_its_order_or_breaks() {
        let (mut network, mut random) = (Network::default(), Random::new(1));
        network.weather = Weather { late: 300, ..Weather::FAIR };
        network.open(7);
        let mut last = 0;
        for now in 0..100 {
            let Fate::Arrives(at) = network.on_stream(7, (A, B), now, &mut random) else {
                panic!("nothing may be lost")
            };
            assert!(at > last);
            last = at;
        }
        network.cut(A, B);
        assert_eq!(network.on_stream(7, (A, B), 200, &mut random), Fate::Breaks);
        network.mend();
        assert_eq!(network.on_stream(7, (A, B), 201, &mut random), Fate::Lost);
        assert!(!network.close(7));
    }
}
