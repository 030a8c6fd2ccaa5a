//! Instance numbers: which are in use, and which is the lowest free one.
//!
//! A number is part of an instance's name and lives on in its replacements, so a group of `count`
//! instances uses the numbers below `count` and no others for long.

/// The numbers in use, as a bitmap.
#[derive(Clone, Debug, Default)]
pub(crate) struct Names {
    words: Vec<u64>,
    /// No free number is below this word.
    first_free_word: usize,
}

impl Names {
    /// Marks a number as used.
    pub(crate) fn insert(&mut self, index: u32) {
        let word = (index / u64::BITS) as usize;
        if word >= self.words.len() {
            self.words.resize(word + 1, 0);
        }
        self.words[word] |= 1 << (index % u64::BITS);
    }

    /// Takes the lowest free number.
    pub(crate) fn take_lowest(&mut self) -> u32 {
        while self.words.get(self.first_free_word) == Some(&u64::MAX) {
            self.first_free_word += 1;
        }
        let word = self.words.get(self.first_free_word).copied().unwrap_or(0);
        let base = u32::try_from(self.first_free_word).unwrap_or(u32::MAX).saturating_mul(64);
        let index = base.saturating_add(word.trailing_ones());
        self.insert(index);
        index
    }
}

impl FromIterator<u32> for Names {
    fn from_iter<I: IntoIterator<Item = u32>>(indexes: I) -> Self {
        let mut names = Self::default();
        for index in indexes {
            names.insert(index);
        }
        names
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn hands_out_the_lowest_free_numbers(used in prop::collection::btree_set(0_u32..200, 0..100),
                                             wanted in 0_usize..100) {
            let mut names: Names = used.iter().copied().collect();
            let taken: Vec<u32> = (0..wanted).map(|_| names.take_lowest()).collect();
            let expected: Vec<u32> = (0..).filter(|n| !used.contains(n)).take(wanted).collect();
            prop_assert_eq!(&taken, &expected);
            prop_assert_eq!(taken.iter().collect::<BTreeSet<_>>().len(), wanted);
        }
    }
}
