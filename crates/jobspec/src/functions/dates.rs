//! Functions on points in time. There is no clock here: times come as text.

use cos_model::Value;
use jiff::{SignedDuration, Timestamp, Zoned};

use super::{Answer, Function, Host, function, text};
use crate::duration;

pub(super) const TABLE: &[Function] =
    &[function("formatdate", 2, 2, formatdate), function("timeadd", 2, 2, timeadd)];

fn parse(time: &str) -> Result<Timestamp, String> {
    time.parse()
        .map_err(|_unreadable| format!("`{time}` is not a time of the form 2020-01-02T03:04:05Z"))
}

fn timeadd(arguments: &[Value], _: &Host<'_>) -> Answer {
    let (time, added) = (text(arguments, 0)?, text(arguments, 1)?);
    let nanos =
        duration::parse_nanos(&added).ok_or_else(|| format!("`{added}` is not a duration"))?;
    let sum = parse(&time)?
        .checked_add(SignedDuration::from_nanos(nanos))
        .map_err(|_overflow| "the result is out of range".to_owned())?;
    Ok(Value::String(sum.to_string()))
}

/// Formats with the letters of `formatdate`: `YYYY-MM-DD hh:mm:ss`, `EEE`, `Z`, ….
fn formatdate(arguments: &[Value], _: &Host<'_>) -> Answer {
    let (pattern, time) = (text(arguments, 0)?, text(arguments, 1)?);
    let time = parse(&time)?.to_zoned(jiff::tz::TimeZone::UTC);
    let mut output = String::new();
    let mut chars = pattern.chars().peekable();
    while let Some(c) = chars.next() {
        if c == '\'' {
            // Quoted text; two quotes are one.
            loop {
                match chars.next() {
                    Some('\'') if chars.next_if_eq(&'\'').is_some() => output.push('\''),
                    Some('\'') => break,
                    Some(other) => output.push(other),
                    None => return Err("a quote is not closed".to_owned()),
                }
            }
        } else if c.is_ascii_alphabetic() {
            let mut count = 1;
            while chars.next_if_eq(&c).is_some() {
                count += 1;
            }
            output.push_str(&field(c, count, &time)?);
        } else {
            output.push(c);
        }
    }
    Ok(Value::String(output))
}

fn field(letter: char, count: usize, time: &Zoned) -> Result<String, String> {
    let strftime = |pattern: &str| time.strftime(pattern).to_string();
    let twelve = match time.hour() % 12 {
        0 => 12,
        hour => hour,
    };
    Ok(match (letter, count) {
        ('Y', 2) => strftime("%y"),
        ('Y', 4) => strftime("%Y"),
        ('M', 1) => time.month().to_string(),
        ('M', 2) => strftime("%m"),
        ('M', 3) => strftime("%b"),
        ('M', 4) => strftime("%B"),
        ('D', 1) => time.day().to_string(),
        ('D', 2) => strftime("%d"),
        ('E', 3) => strftime("%a"),
        ('E', 4) => strftime("%A"),
        ('h', 1) => time.hour().to_string(),
        ('h', 2) => strftime("%H"),
        ('H', 1) => twelve.to_string(),
        ('H', 2) => format!("{twelve:02}"),
        ('A', 2) => if time.hour() < 12 { "AM" } else { "PM" }.to_owned(),
        ('a', 2) => if time.hour() < 12 { "am" } else { "pm" }.to_owned(),
        ('m', 1) => time.minute().to_string(),
        ('m', 2) => strftime("%M"),
        ('s', 1) => time.second().to_string(),
        ('s', 2) => strftime("%S"),
        ('Z', 1) => "Z".to_owned(),
        ('Z', 3) => "UTC".to_owned(),
        ('Z', 4) => "+0000".to_owned(),
        ('Z', 5) => "+00:00".to_owned(),
        _ => {
            return Err(format!(
                "`{}` is not a part of a time",
                letter.to_string().repeat(count.min(9))
            ));
        }
    })
}
