//! A small stand-in for the histogram crate that the consensus engine counts with.
//!
//! The published crate builds look-up tables for all sixteen precisions when the first histogram is
//! made: 27 MB that stay for the life of every agent. The engine's figures are not shown anywhere
//! in cos, so this one counts in powers of two, in half a kilobyte each. `Cargo.toml` puts it in the
//! published crate's place.
//!
//! Deliberately absent: everything the engine does not call.

use std::fmt;
use std::marker::PhantomData;

/// One bucket for zero and one for each position of the highest bit.
const BUCKETS: usize = 65;

/// Counts values by their highest bit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Histogram<T = ()> {
    counts: [u64; BUCKETS],
    kind: PhantomData<T>,
}

/// Percentiles of a histogram, each the upper end of its bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PercentileStats {
    /// How many values were counted.
    pub samples: u64,
    /// The 0.1th percentile.
    pub p0_1: u64,
    /// The 1st percentile.
    pub p1: u64,
    /// The 5th percentile.
    pub p5: u64,
    /// The 10th percentile.
    pub p10: u64,
    /// The median.
    pub p50: u64,
    /// The 90th percentile.
    pub p90: u64,
    /// The 99th percentile.
    pub p99: u64,
    /// The 99.9th percentile.
    pub p99_9: u64,
}

/// A collection of named histograms.
#[derive(Clone, Debug, Default)]
pub struct AsciiChart {
    rows: Vec<(String, Histogram)>,
}

impl<T> Histogram<T> {
    /// Makes an empty histogram.
    pub const fn new() -> Self {
        Self { counts: [0; BUCKETS], kind: PhantomData }
    }

    /// Counts a value.
    pub fn record(&mut self, value: u64) {
        self.record_n(value, 1);
    }

    /// Counts a value several times.
    pub fn record_n(&mut self, value: u64, count: u64) {
        let bucket = (u64::BITS - value.leading_zeros()) as usize;
        self.counts[bucket] = self.counts[bucket].saturating_add(count);
    }

    /// How many values were counted.
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The usual percentiles.
    pub fn percentile_stats(&self) -> PercentileStats {
        let samples = self.total();
        let per_mille = |part: u64| self.percentile(samples.saturating_mul(part).div_ceil(1000));
        PercentileStats {
            samples,
            p0_1: per_mille(1),
            p1: per_mille(10),
            p5: per_mille(50),
            p10: per_mille(100),
            p50: per_mille(500),
            p90: per_mille(900),
            p99: per_mille(990),
            p99_9: per_mille(999),
        }
    }

    /// The upper end of the bucket that holds the value of this rank, counted from 1.
    fn percentile(&self, rank: u64) -> u64 {
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank && seen > 0 {
                return if bucket == 0 { 0 } else { u64::MAX >> (BUCKETS - 1 - bucket) };
            }
        }
        0
    }
}

impl<T> Default for Histogram<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Display for PercentileStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[n {}, p50 {}, p90 {}, p99 {}]", self.samples, self.p50, self.p90, self.p99)
    }
}

impl AsciiChart {
    /// Makes an empty collection.
    pub const fn new() -> Self {
        Self { rows: Vec::new() }
    }

    /// Adds a histogram.
    #[must_use]
    pub fn add(mut self, name: impl Into<String>, histogram: Histogram) -> Self {
        self.rows.push((name.into(), histogram));
        self
    }

    /// Writes a line per histogram.
    pub fn render(&self) -> String {
        let line = |(name, histogram): &(String, Histogram)| {
            let stats = histogram.percentile_stats();
            format!("{name}: n={} p50={} p99={}\n", stats.samples, stats.p50, stats.p99)
        };
        self.rows.iter().map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_the_upper_ends_of_their_buckets() {
        let mut histogram = Histogram::<()>::new();
        assert_eq!(histogram.percentile_stats().p50, 0);
        histogram.record_n(0, 10);
        histogram.record_n(5, 89);
        histogram.record(u64::MAX);
        let stats = histogram.percentile_stats();
        assert_eq!((stats.samples, stats.p5, stats.p50), (100, 0, 7));
        assert_eq!((stats.p99, stats.p99_9), (7, u64::MAX));
    }
}
