//! Nomad's JSON shapes, and how the model becomes them.
//!
//! # Invariants
//!
//! - Field names are Nomad's; a time that never was is null, a duration is whole nanoseconds.
//! - Conversions from the model are total.
//!
//! # Deliberately absent
//!
//! - The job itself: its JSON form is read and written by `jobspec`.

use std::fmt::Display;
use std::time::Duration;

use cos_model::Timestamp;
use serde::{Serialize, Serializer};
use serde_json::Value;

pub(crate) mod alloc;
pub(crate) mod deployment;
pub(crate) mod eval;
pub(crate) mod job;
pub(crate) mod metric;
pub(crate) mod network;
pub(crate) mod node;
pub(crate) mod resources;
pub(crate) mod task_state;
pub(crate) mod usage;

/// A point in time as RFC 3339 with nanoseconds, or null.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Time(pub(crate) Timestamp);

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match rfc3339(self.0) {
            Some(text) => serializer.serialize_str(&text),
            None => serializer.serialize_none(),
        }
    }
}

/// Writes a time as RFC 3339; nothing if it never was.
pub(crate) fn rfc3339(time: Timestamp) -> Option<String> {
    if time.is_never() {
        return None;
    }
    let nanos = i128::from(time.unix_nanos());
    jiff::Timestamp::from_nanosecond(nanos).ok().map(|stamp| stamp.to_string())
}

/// Whole nanoseconds, as Go's durations are encoded.
pub(crate) fn nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

/// An id as text, or an empty text.
pub(crate) fn text<T: Display>(id: Option<T>) -> String {
    id.map(|id| id.to_string()).unwrap_or_default()
}

/// Drops every field of an object that is empty, zero, false or null, as Nomad's encoder does for
/// allocations and evaluations. Objects inside keep theirs.
pub(crate) fn without_empty<T: Serialize>(value: &T) -> Value {
    match serde_json::to_value(value) {
        Ok(Value::Object(map)) => {
            Value::Object(map.into_iter().filter(|(_, field)| !is_empty(field)).collect())
        }
        Ok(other) => other,
        // Shapes have only text keys and finite numbers; a float that is not is shown as nothing.
        Err(_unencodable) => Value::Null,
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(truth) => !truth,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.is_empty(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn times_are_rfc3339_or_null() {
        let stamp = |nanos| serde_json::to_value(Time(Timestamp(nanos))).unwrap();
        assert_eq!(stamp(0), Value::Null);
        assert_eq!(stamp(1_500_000_000), json!("1970-01-01T00:00:01.5Z"));
        assert!(stamp(i64::MAX).is_string() && stamp(i64::MIN).is_string());
    }

    #[test]
    fn empty_fields_of_the_outer_object_are_dropped() {
        let value = json!({"A": 0, "B": "", "C": [], "D": {"E": 0}, "F": false, "G": null, "H": 1});
        assert_eq!(without_empty(&value), json!({"D": {"E": 0}, "H": 1}));
    }
}
