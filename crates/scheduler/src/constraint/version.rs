//! Versions and requirements on them, by the rules that job files rely on.
//!
//! # Invariants
//!
//! - **Lenient** versions have any number of segments, may carry a pre-release without a dash
//!   (`1.2beta1`), and a pre-release satisfies an ordering requirement only if the requirement names
//!   a pre-release of the same version.
//! - **Semantic** versions need the dash, and pre-releases are simply ordered.
//! - Build metadata never counts.

use std::cmp::Ordering;

/// Which of the two sets of rules applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// The `version` operator.
    Lenient,
    /// The `semver` operator.
    Semantic,
}

/// A version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Version {
    /// At least three numbers; what the text lacks is zero.
    segments: Vec<u64>,
    /// How many numbers the text had.
    written: usize,
    /// The parts of the pre-release; none for a release.
    prerelease: Vec<String>,
}

/// Requirements separated by commas, all of which must hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Requirements {
    all: Vec<(Comparison, Version)>,
    dialect: Dialect,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    Equal,
    NotEqual,
    Greater,
    Less,
    GreaterOrEqual,
    LessOrEqual,
    /// `~>`: the last written number may grow.
    Pessimistic,
}

/// Longer signs come first, as they begin with shorter ones.
const SIGNS: [(&str, Comparison); 7] = [
    (">=", Comparison::GreaterOrEqual),
    ("<=", Comparison::LessOrEqual),
    ("!=", Comparison::NotEqual),
    ("~>", Comparison::Pessimistic),
    ("=", Comparison::Equal),
    (">", Comparison::Greater),
    ("<", Comparison::Less),
];

impl Version {
    /// Reads a version, or returns nothing if the text is none.
    pub(crate) fn parse(text: &str, dialect: Dialect) -> Option<Self> {
        let text = text.trim();
        let text = text.strip_prefix('v').unwrap_or(text);
        let end = text
            .find(|character: char| !character.is_ascii_digit() && character != '.')
            .unwrap_or(text.len());
        let (numbers, rest) = text.split_at(end);
        let mut segments: Vec<u64> =
            numbers.split('.').map(|number| number.parse().ok()).collect::<Option<_>>()?;
        let written = segments.len();
        segments.resize(written.max(3), 0);
        let (before_plus, metadata) = match rest.split_once('+') {
            Some((before, metadata)) => (before, Some(metadata)),
            None => (rest, None),
        };
        if metadata.is_some_and(|metadata| !are_identifiers(metadata)) {
            return None;
        }
        let prerelease = match before_plus.strip_prefix('-') {
            Some(text) => text,
            None if before_plus.is_empty() || dialect == Dialect::Lenient => before_plus,
            None => return None,
        };
        if prerelease.is_empty() && !before_plus.is_empty() {
            return None;
        }
        if !prerelease.is_empty() && !are_identifiers(prerelease) {
            return None;
        }
        let prerelease = prerelease.split('.').filter(|p| !p.is_empty()).map(str::to_owned);
        Some(Self { segments, written, prerelease: prerelease.collect() })
    }

    fn is_prerelease(&self) -> bool {
        !self.prerelease.is_empty()
    }

    fn segment(&self, at: usize) -> u64 {
        self.segments.get(at).copied().unwrap_or(0)
    }

    fn compare_segments(&self, other: &Self) -> Ordering {
        (0..self.segments.len().max(other.segments.len()))
            .map(|at| self.segment(at).cmp(&other.segment(at)))
            .find(|order| order.is_ne())
            .unwrap_or(Ordering::Equal)
    }

    fn compare(&self, other: &Self) -> Ordering {
        self.compare_segments(other).then_with(|| {
            match (self.is_prerelease(), other.is_prerelease()) {
                (false, false) => Ordering::Equal,
                (false, true) => Ordering::Greater,
                (true, false) => Ordering::Less,
                (true, true) => self.compare_prereleases(other),
            }
        })
    }

    fn compare_prereleases(&self, other: &Self) -> Ordering {
        (0..self.prerelease.len().max(other.prerelease.len()))
            .map(|at| compare_parts(self.prerelease.get(at), other.prerelease.get(at)))
            .find(|order| order.is_ne())
            .unwrap_or(Ordering::Equal)
    }
}

impl Requirements {
    /// Reads requirements such as `>= 1.2, < 2`, or returns nothing if the text is none.
    pub(crate) fn parse(text: &str, dialect: Dialect) -> Option<Self> {
        let all: Option<Vec<_>> = text.split(',').map(|one| parse_one(one, dialect)).collect();
        Some(Self { all: all?, dialect })
    }

    /// Whether a version meets all of them.
    pub(crate) fn accept(&self, version: &Version) -> bool {
        self.all.iter().all(|(comparison, bound)| {
            let order = version.compare(bound);
            let comparable = self.dialect == Dialect::Semantic || are_comparable(version, bound);
            match comparison {
                Comparison::Equal => order.is_eq(),
                Comparison::NotEqual => order.is_ne(),
                Comparison::Greater => comparable && order.is_gt(),
                Comparison::Less => comparable && order.is_lt(),
                Comparison::GreaterOrEqual => comparable && order.is_ge(),
                Comparison::LessOrEqual => comparable && order.is_le(),
                Comparison::Pessimistic => {
                    comparable
                        && order.is_ge()
                        && (version.is_prerelease() || !bound.is_prerelease())
                        && (0..bound.written.saturating_sub(1))
                            .all(|at| version.segment(at) == bound.segment(at))
                }
            }
        })
    }
}

fn parse_one(text: &str, dialect: Dialect) -> Option<(Comparison, Version)> {
    let text = text.trim();
    let (comparison, version) = SIGNS
        .iter()
        .find_map(|(sign, comparison)| Some((*comparison, text.strip_prefix(sign)?)))
        .unwrap_or((Comparison::Equal, text));
    if comparison == Comparison::Pessimistic && dialect == Dialect::Semantic {
        return None;
    }
    Some((comparison, Version::parse(version, dialect)?))
}

/// A pre-release is compared only with pre-releases of the same version: whoever asks for `>= 1.6`
/// does not mean a beta of 1.7.
fn are_comparable(version: &Version, bound: &Version) -> bool {
    !version.is_prerelease() || (bound.is_prerelease() && version.compare_segments(bound).is_eq())
}

fn compare_parts(left: Option<&String>, right: Option<&String>) -> Ordering {
    let number = |part: &String| part.parse::<i64>().ok();
    match (left, right) {
        (None, None) => Ordering::Equal,
        // A further part makes a pre-release later if it is a number and earlier if it is a word.
        (None, Some(right)) => {
            if number(right).is_some() {
                Ordering::Less
            } else {
                Ordering::Greater
            }
        }
        (Some(_), None) => compare_parts(right, left).reverse(),
        (Some(left), Some(right)) => match (number(left), number(right)) {
            (Some(left), Some(right)) => left.cmp(&right),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => left.cmp(right),
        },
    }
}

fn are_identifiers(text: &str) -> bool {
    text.split('.').all(|part| {
        !part.is_empty()
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'~')
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(dialect: Dialect, version: &str, requirements: &str, expected: bool) {
        let actual = Version::parse(version, dialect)
            .zip(Requirements::parse(requirements, dialect))
            .is_some_and(|(version, requirements)| requirements.accept(&version));
        assert_eq!(actual, expected, "{version} against {requirements}");
    }

    #[test]
    fn missing_segments_are_zero() {
        check(Dialect::Lenient, "1", "= 1.0.0", true);
        check(Dialect::Lenient, "v1.2", "1.2", true);
        check(Dialect::Lenient, "1.2.3.4", "> 1.2.3", true);
        check(Dialect::Lenient, "4.19.0-25", "> 4.18", false);
        check(Dialect::Lenient, "20.10.5+dfsg1", ">= 20.10.5", true);
        check(Dialect::Lenient, "1.10.0", "> 1.9", true);
    }

    #[test]
    fn the_last_written_number_may_grow() {
        check(Dialect::Lenient, "1.3", "~> 1.2", true);
        check(Dialect::Lenient, "2.0", "~> 1.2", false);
        check(Dialect::Lenient, "1.2.9", "~> 1.2.3", true);
        check(Dialect::Lenient, "1.3.0", "~> 1.2.3", false);
        check(Dialect::Lenient, "1.2.2", "~> 1.2.3", false);
        check(Dialect::Lenient, "7.1", "~> 1", true);
        check(Dialect::Semantic, "1.3.0", "~> 1.2", false);
    }

    #[test]
    fn pre_releases_count_only_where_they_are_named() {
        check(Dialect::Lenient, "1.2.0-beta2", "> 1.2.0-beta1", true);
        check(Dialect::Lenient, "1.3.0-beta2", "> 1.2.0-beta1", false);
        check(Dialect::Lenient, "1.3.0", "> 1.2.0-beta1", true);
        check(Dialect::Lenient, "1.3.0-rc1", "!= 1.3.0", true);
        check(Dialect::Lenient, "1.2beta1", "= 1.2.0-beta1", true);
        check(Dialect::Semantic, "1.2beta1", "= 1.2.0-beta1", false);
        check(Dialect::Semantic, "1.3.0-rc1", ">= 1.2", true);
        check(Dialect::Semantic, "1.3.0-rc1", ">= 1.3.0", false);
        check(Dialect::Semantic, "1.0.0-alpha.1", "> 1.0.0-alpha", true);
        check(Dialect::Semantic, "1.0.0-2", "< 1.0.0-10", true);
        check(Dialect::Semantic, "1.0.0-2", "< 1.0.0-a", true);
    }

    #[test]
    fn nonsense_is_met_by_nothing() {
        for nonsense in ["", ".", "1.", "1..2", "1-", "1+", "x", "1.2.-", "99999999999999999999"] {
            check(Dialect::Lenient, nonsense, ">= 0", false);
            check(Dialect::Lenient, "1.0", nonsense, false);
        }
        check(Dialect::Lenient, "1.0", ">= 1.0,", false);
    }

    proptest! {
        #[test]
        fn comparisons_agree_with_tuples(left in (0_u64..3, 0_u64..3, 0_u64..3),
                                         right in (0_u64..3, 0_u64..3, 0_u64..3)) {
            let text = |(a, b, c): (u64, u64, u64)| format!("{a}.{b}.{c}");
            for dialect in [Dialect::Lenient, Dialect::Semantic] {
                let version = Version::parse(&text(left), dialect).unwrap();
                for (sign, expected) in [("<", left < right), ("<=", left <= right),
                    (">", left > right), (">=", left >= right), ("=", left == right),
                    ("!=", left != right)] {
                    let wanted = format!("{sign} {}", text(right));
                    let requirements = Requirements::parse(&wanted, dialect).unwrap();
                    prop_assert_eq!(requirements.accept(&version), expected, "{}", wanted);
                }
            }
        }

        #[test]
        fn any_text_is_a_version_or_none(text in ".{0,20}") {
            let version = Version::parse(&text, Dialect::Lenient);
            let requirements = Requirements::parse(&text, Dialect::Lenient);
            if let (Some(version), Some(requirements)) = (version, requirements) {
                prop_assert!(requirements.all.len() == 1 || text.contains(','));
                requirements.accept(&version);
            }
        }
    }
}
