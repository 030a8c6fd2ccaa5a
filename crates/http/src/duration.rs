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

/// Writes a duration as Go does: `250ms`, `10s`, `1m30s`, `1h0m0s`.
pub fn show(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    let decimal = |unit: u128, name: &str| {
        let (whole, part) = (nanos / unit, nanos % unit);
        let width = unit.ilog10() as usize;
        let fraction = format!("{part:0width$}");
        let fraction = fraction.trim_end_matches('0');
        if fraction.is_empty() || part == 0 {
            format!("{whole}{name}")
        } else {
            format!("{whole}.{fraction}{name}")
        }
    };
    match nanos {
        0 => "0s".to_owned(),
        1..1_000 => format!("{nanos}ns"),
        1_000..1_000_000 => decimal(1_000, "\u{b5}s"),
        1_000_000..1_000_000_000 => decimal(1_000_000, "ms"),
        _ => {
            let seconds = duration.as_secs();
            let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
            let rest = duration.saturating_sub(Duration::from_secs(seconds / 60 * 60));
            let rest = if rest < Duration::from_secs(1) && !rest.is_zero() {
                format!("0.{}s", format!("{:09}", rest.as_nanos()).trim_end_matches('0'))
            } else {
                let part = format!("{:09}", rest.subsec_nanos());
                let part = part.trim_end_matches('0');
                let dot = if part.is_empty() { "" } else { "." };
                format!("{}{dot}{part}s", rest.as_secs())
            };
            match (hours, minutes) {
                (0, 0) => rest,
                (0, minutes) => format!("{minutes}m{rest}"),
                (hours, minutes) => format!("{hours}h{minutes}m{rest}"),
            }
        }
    }
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
    fn durations_are_written_as_go_writes_them() {
        let check = |nanos: u64, expected: &str| {
            let duration = Duration::from_nanos(nanos);
            assert_eq!(show(duration), expected);
            assert_eq!(parse(expected), Ok(duration));
        };
        check(0, "0s");
        check(7, "7ns");
        check(1_500, "1.5\u{b5}s");
        check(200_000_000, "200ms");
        check(1_020_000, "1.02ms");
        check(10_000_000_000, "10s");
        check(1_500_000_000, "1.5s");
        check(60_500_000_000, "1m0.5s");
        check(5_400_000_000_000, "1h30m0s");
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
