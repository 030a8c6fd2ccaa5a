//! Durations as Go writes them: `5m`, `1h30m`, `2000ms`, `1.5s`.

use std::time::Duration;

/// The text is not a duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a duration such as `10s`, `2000ms` or `1h30m`")]
pub struct ParseDurationError(pub String);

/// Every unit with its nanoseconds.
const UNITS: [(&str, u64); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("\u{b5}s", 1_000),
    ("\u{3bc}s", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// Reads a duration. A negative one is refused; `0` needs no unit.
pub fn parse(text: &str) -> Result<Duration, ParseDurationError> {
    parse_nanos(text).map(Duration::from_nanos).ok_or_else(|| ParseDurationError(text.to_owned()))
}

fn parse_nanos(text: &str) -> Option<u64> {
    if text == "0" {
        return Some(0);
    }
    let mut rest = text;
    let mut sum: u64 = 0;
    while !rest.is_empty() {
        let number_ends = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(number_ends);
        let unit_ends = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_ends);
        let scale = UNITS.iter().find(|(name, _)| *name == unit)?.1;
        sum = sum.checked_add(scaled(number, scale)?)?;
        rest = tail;
    }
    if text.is_empty() { None } else { Some(sum) }
}

/// Multiplies a decimal number by whole nanoseconds, without floating point.
fn scaled(number: &str, scale: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let mut sum = whole.checked_mul(scale)?;
    let mut unit = scale;
    for digit in fraction.chars() {
        unit /= 10;
        sum = sum.checked_add(unit.checked_mul(u64::from(digit.to_digit(10)?))?)?;
    }
    Some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Option<u64>) {
        assert_eq!(parse_nanos(text), expected, "{text}");
    }

    #[test]
    fn durations_are_read_as_go_reads_them() {
        check("5m", Some(300_000_000_000));
        check("1h30m", Some(5_400_000_000_000));
        check("2000ms", Some(2_000_000_000));
        check("1.5s", Some(1_500_000_000));
        check(".5s", Some(500_000_000));
        check("0", Some(0));
        check("7us", Some(7_000));
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        check("", None);
        check("5", None);
        check("m", None);
        check("-5s", None);
        check("1.2.3s", None);
        check("5 m", None);
        check("99999999999999999999h", None);
        check("9999999999h", None);
    }
}
