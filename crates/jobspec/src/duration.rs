//! Durations as job files and agent configurations write them: `30s`, `1h5m`, `1.5s`.

use std::time::Duration;

/// Units with their nanoseconds, longest name first where one begins another.
const UNITS: [(&str, f64); 8] = [
    ("ns", 1.0),
    ("us", 1e3),
    ("µs", 1e3),
    ("μs", 1e3),
    ("ms", 1e6),
    ("s", 1e9),
    ("m", 6e10),
    ("h", 3.6e12),
];

/// The longest duration: what 63 bits of nanoseconds hold, about 292 years.
const MAX_NANOS: f64 = 9.2e18;

/// Parses a signed sequence of numbers with units into nanoseconds.
pub fn parse_nanos(text: &str) -> Option<i64> {
    let (negative, mut rest) = match text.strip_prefix(['-', '+']) {
        Some(rest) => (text.starts_with('-'), rest),
        None => (false, text),
    };
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total = 0.0_f64;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        // `m` begins `ms`, so the longer name is looked for first by asking for the best match.
        let (name, nanos) = UNITS
            .iter()
            .filter(|(name, _)| rest.starts_with(name))
            .max_by_key(|(name, _)| name.len())?;
        total += number * nanos;
        rest = &rest[name.len()..];
    }
    if total > MAX_NANOS {
        return None;
    }
    #[expect(clippy::cast_possible_truncation, reason = "checked against MAX_NANOS")]
    let nanos = total.round() as i64;
    Some(if negative { -nanos } else { nanos })
}

/// Parses a duration that is not negative.
pub fn parse(text: &str) -> Option<Duration> {
    parse_nanos(text).and_then(|nanos| u64::try_from(nanos).ok()).map(Duration::from_nanos)
}

/// Nanoseconds of a duration, as JSON bodies carry them; at the limit they stay at the limit.
pub fn to_nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Option<i64>) {
        assert_eq!(parse_nanos(text), expected, "{text}");
    }

    #[test]
    fn durations_are_read_as_nomad_reads_them() {
        check("30s", Some(30_000_000_000));
        check("1h5m", Some(3_900_000_000_000));
        check("1.5s", Some(1_500_000_000));
        check("250ms", Some(250_000_000));
        check("2m30s500ms", Some(150_500_000_000));
        check("7us", Some(7_000));
        check("7µs", Some(7_000));
        check("-1s", Some(-1_000_000_000));
        check("0", Some(0));
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        for text in ["", "-", "10", "s", "1x", "1s2", "1..s", "1d", "9999999999h"] {
            check(text, None);
        }
    }
}
