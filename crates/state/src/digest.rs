//! A fast 64-bit digest for finding differences: between replicas, and between what was written
//! and what is read.
//!
//! # Invariants
//!
//! - The same input gives the same digest on every platform and in every version of cos: servers
//!   of different versions compare theirs.
//!
//! # Deliberately absent
//!
//! - Resistance against somebody who looks for collisions. Nothing is trusted because of a digest.

/// An odd constant with well mixed bits, 2^64 divided by the golden ratio.
const MULTIPLIER: u64 = 0x9E37_79B9_7F4A_7C15;

/// A digest under construction.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Digest(u64);

impl Digest {
    /// Starts from a digest of what came before, or from zero.
    pub(crate) fn new(before: u64) -> Self {
        Self(before ^ MULTIPLIER)
    }

    /// Takes in a number.
    pub(crate) fn word(&mut self, word: u64) {
        self.0 = (self.0 ^ word).wrapping_mul(MULTIPLIER).rotate_left(29);
    }

    /// Takes in bytes and how many they are, so that a border between two texts counts.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.word(u64::from_le_bytes(*word));
        }
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        self.word(u64::from_le_bytes(last));
        self.word(bytes.len() as u64);
    }

    /// Takes in a 128-bit id.
    pub(crate) fn id(&mut self, bits: u128) {
        self.bytes(&bits.to_le_bytes());
    }

    /// Returns the digest, every bit of which depends on every bit taken in.
    pub(crate) fn finish(self) -> u64 {
        let mut hash = self.0;
        hash = (hash ^ (hash >> 33)).wrapping_mul(0xFF51_AFD7_ED55_8CCD);
        hash = (hash ^ (hash >> 33)).wrapping_mul(0xC4CE_B9FE_1A85_EC53);
        hash ^ (hash >> 33)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn digest(parts: &[&[u8]]) -> u64 {
        let mut digest = Digest::new(0);
        for part in parts {
            digest.bytes(part);
        }
        digest.finish()
    }

    #[test]
    fn the_digest_of_known_input_never_changes() {
        assert_eq!(digest(&[]), 0x9ca0_66f1_a4ab_2eea);
        assert_eq!(digest(&[b"cos"]), 0xd131_fa8a_1a5a_b56e);
    }

    #[test]
    fn the_border_between_two_texts_counts() {
        assert_ne!(digest(&[b"ab", b"c"]), digest(&[b"a", b"bc"]));
        assert_ne!(digest(&[b"a\0"]), digest(&[b"a"]));
    }

    proptest! {
        #[test]
        fn one_flipped_bit_is_seen(bytes in prop::collection::vec(any::<u8>(), 1..64),
                                   at in any::<prop::sample::Index>(), bit in 0_u32..8) {
            let mut flipped = bytes.clone();
            flipped[at.index(bytes.len())] ^= 1 << bit;
            prop_assert_ne!(digest(&[&bytes]), digest(&[&flipped]));
        }
    }
}
