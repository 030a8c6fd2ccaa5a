//! What commands print: tables, key-value lists, times, JSON and templates.

use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::Value;

use crate::command::Failure;
use crate::flags::Parsed;

/// A table with two spaces between columns. The first row is the header.
pub(crate) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| shown(cell).chars().count()).max()
    };
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            write!(line, "{:<width$}  ", shown(cell)).expect("writing to a string cannot fail");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text.trim_end().to_owned()
}

fn shown(cell: &str) -> &str {
    if cell.is_empty() { "<none>" } else { cell }
}

/// Pairs with aligned equals signs.
pub(crate) fn pairs(rows: &[(&str, String)]) -> String {
    let width = rows.iter().map(|(key, _)| key.chars().count()).max().unwrap_or(0);
    let lines: Vec<String> =
        rows.iter().map(|(key, value)| format!("{key:<width$} = {}", shown(value))).collect();
    lines.join("\n")
}

/// A row of text cells.
pub(crate) fn row<const N: usize>(cells: [&str; N]) -> Vec<String> {
    cells.map(str::to_owned).to_vec()
}

/// Prints with `-json` or `-t` if one is given. Returns whether it did.
pub(crate) fn structured(flags: &Parsed, value: &Value) -> Result<bool, Failure> {
    if let Some(template) = flags.value("t") {
        println!("{}", render(template, value)?);
        return Ok(true);
    }
    if flags.on("json") {
        println!("{}", serde_json::to_string_pretty(value).unwrap_or_default());
        return Ok(true);
    }
    Ok(false)
}

fn render(template: &str, value: &Value) -> Result<String, Failure> {
    gotmpl::Template::new("format")
        .parse(template)
        .and_then(|template| template.execute_to_string(&convert(value)))
        .map_err(|error| Failure::new(format!("Error rendering the template: {error}")))
}

fn convert(value: &Value) -> gotmpl::Value {
    match value {
        Value::Null => gotmpl::Value::Nil,
        Value::Bool(truth) => gotmpl::Value::Bool(*truth),
        Value::Number(number) => {
            let text = number.to_string();
            match (text.parse::<i64>(), text.parse::<u64>()) {
                (Ok(whole), _) => gotmpl::Value::Int(whole),
                (_, Ok(whole)) => gotmpl::Value::Uint(whole),
                _ => gotmpl::Value::Float(text.parse().unwrap_or(0.0)),
            }
        }
        Value::String(text) => gotmpl::Value::String(text.as_str().into()),
        Value::Array(items) => gotmpl::Value::List(items.iter().map(convert).collect()),
        Value::Object(map) => gotmpl::Value::Map(Arc::new(
            map.iter().map(|(key, value)| (key.as_str().into(), convert(value))).collect(),
        )),
    }
}

/// Text at a path of field names; empty if absent.
pub(crate) fn text(value: &Value, path: &str) -> String {
    match at(value, path) {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// The value at a path of field names separated by dots; null if absent.
pub(crate) fn at<'a>(value: &'a Value, path: &str) -> &'a Value {
    path.split('.').fold(value, |value, name| value.get(name).unwrap_or(&Value::Null))
}

/// A whole number at a path; zero if absent.
pub(crate) fn number(value: &Value, path: &str) -> i64 {
    at(value, path).to_string().parse().unwrap_or(0)
}

/// A truth value at a path; false if absent.
pub(crate) fn flag(value: &Value, path: &str) -> bool {
    at(value, path).as_bool().unwrap_or(false)
}

/// The list at a path; empty if absent.
pub(crate) fn list<'a>(value: &'a Value, path: &str) -> &'a [Value] {
    at(value, path).as_array().map_or(&[], Vec::as_slice)
}

/// An id as lists show it: its first eight characters, all of it with `-verbose`.
pub(crate) fn short(id: &str, verbose: bool) -> String {
    if verbose { id.to_owned() } else { id.chars().take(8).collect() }
}

/// A moment in local time, in the form that Nomad prints.
pub(crate) fn moment(nanos: i64) -> String {
    let Ok(moment) = Timestamp::from_nanosecond(i128::from(nanos)) else { return String::new() };
    if nanos == 0 {
        return String::new();
    }
    let local = moment.to_zoned(TimeZone::system());
    local.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string().replace("+00:00", "Z")
}

/// A moment in text form, as the API gives some; empty for "never".
pub(crate) fn moment_text(text: &str) -> String {
    match text.parse::<Timestamp>() {
        Ok(moment) if moment.as_second() > 0 => moment_from(moment),
        _ => String::new(),
    }
}

fn moment_from(moment: Timestamp) -> String {
    let local = moment.to_zoned(TimeZone::system());
    local.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string().replace("+00:00", "Z")
}

/// How long ago a moment was, in its two largest units.
pub(crate) fn ago(nanos: i64) -> String {
    let now = Timestamp::now().as_nanosecond();
    let elapsed = u64::try_from((now - i128::from(nanos)).max(0)).unwrap_or(0);
    format!("{} ago", duration(Duration::from_nanos(elapsed)))
}

/// A duration in its two largest units.
pub(crate) fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, minutes) => format!("{minutes}m{}s", seconds % 60),
        (0, hours, minutes) => format!("{hours}h{minutes}m"),
        (days, hours, _) => format!("{days}d{hours}h"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn columns_are_two_spaces_apart_and_nothing_is_said_to_be_none() {
        let rows = [row(["ID", "Class"]), row(["abc", ""]), row(["a", "x"])];
        assert_eq!(table(&rows), "ID   Class\nabc  <none>\na    x");
        assert_eq!(
            pairs(&[("A", "1".to_owned()), ("Long", String::new())]),
            "A    = 1\nLong = <none>"
        );
    }

    #[test]
    fn templates_read_json_as_go_reads_structs() {
        let value = json!([{"ID": "a", "N": 1}, {"ID": "b", "N": 2}]);
        let text = render("{{range .}}{{.ID}}={{.N}} {{end}}", &value).unwrap();
        assert_eq!(text, "a=1 b=2 ");
        assert!(render("{{", &value).is_err());
    }

    #[test]
    fn durations_show_their_two_largest_units() {
        for (seconds, expected) in [(5, "5s"), (65, "1m5s"), (3700, "1h1m"), (90_000, "1d1h")] {
            assert_eq!(duration(Duration::from_secs(seconds)), expected);
        }
    }
}
