//! The JSON form of jobs, as Nomad's API has it, in both directions.
//!
//! [`job_from_json`] fills in every default, so a job that came from here is complete;
//! [`job_to_json`] writes every field, with Nomad's names, empty ones as `null`.
//!
//! # Invariants
//!
//! - `job_from_json(job_to_json(job))` is `job`, for every job that came out of this crate.
//! - An error names the field it is about, such as `Job.TaskGroups[0].Tasks[1].Driver`.
//! - Nothing is dropped in silence: what cos does not execute is kept in `extras`, and what it does
//!   not know is warned of.
//!
//! # Deliberately absent
//!
//! - Rules about values that only make sense together. Those are in [`crate::validate()`].

mod encode;
mod encode_task;
mod group;
mod job;
mod policy;
mod reader;
mod service;
mod task;

use cos_model::{Job, Value};

pub(crate) use self::reader::Log;
use self::reader::Reader;
use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::{Format, Parsed};

pub use self::encode::job_to_json;

/// Reads a job from its JSON form, with or without the key `Job` around it.
///
/// Keys are matched without regard to case, null is as good as absent, durations may be
/// nanoseconds or text such as `30s`, and numbers may be quoted.
pub fn job_from_json(json: &serde_json::Value) -> Result<Parsed, Diagnostics> {
    job_from_value(&value_from_json(json), Format::Json)
}

/// Reads a job from its JSON form as one of our values.
pub(crate) fn job_from_value(value: &Value, format: Format) -> Result<Parsed, Diagnostics> {
    let log = Log::default();
    let job = decode(value, &log);
    let mut problems = log.into_problems();
    match job {
        Some(job) if !problems.iter().any(Diagnostic::is_error) => {
            Ok(Parsed { job, warnings: problems, format, origin: None })
        }
        _ => {
            problems.retain(Diagnostic::is_error);
            Err(Diagnostics(problems))
        }
    }
}

fn decode(value: &Value, log: &Log) -> Option<Job> {
    let Some(map) = value.as_map() else {
        log.error("Job", format!("a job cannot be a {}", value.kind()), "an object");
        return None;
    };
    let inner = map.iter().find(|(key, _)| key.eq_ignore_ascii_case("Job")).map(|(_, job)| job);
    let (map, path) = match inner {
        Some(Value::Map(inner)) => (inner, "Job"),
        Some(other) => {
            log.error("Job", format!("a job cannot be a {}", other.kind()), "an object");
            return None;
        }
        None => (map, "Job"),
    };
    job::decode(Reader::new(map, path.to_owned(), log))
}

/// A JSON value as ours. Numbers beyond 64 bits lose precision.
pub fn value_from_json(json: &serde_json::Value) -> Value {
    match json {
        serde_json::Value::Null => Value::Null,
        serde_json::Value::Bool(truth) => Value::Bool(*truth),
        serde_json::Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(whole), _) => Value::Int(whole),
            (None, Some(fraction)) => Value::Float(fraction),
            (None, None) => Value::Null,
        },
        serde_json::Value::String(text) => Value::String(text.clone()),
        serde_json::Value::Array(items) => Value::List(items.iter().map(value_from_json).collect()),
        serde_json::Value::Object(map) => Value::Map(
            map.iter().map(|(key, value)| (key.clone(), value_from_json(value))).collect(),
        ),
    }
}

/// One of our values as JSON. Floats that JSON cannot write become null.
pub fn value_to_json(value: &Value) -> serde_json::Value {
    match value {
        Value::Null => serde_json::Value::Null,
        Value::Bool(truth) => (*truth).into(),
        Value::Int(number) => (*number).into(),
        Value::Float(number) => (*number).into(),
        Value::String(text) => text.clone().into(),
        Value::List(items) => items.iter().map(value_to_json).collect::<Vec<_>>().into(),
        Value::Map(map) => serde_json::Value::Object(
            map.iter().map(|(key, value)| (key.clone(), value_to_json(value))).collect(),
        ),
    }
}

#[cfg(test)]
mod generate;
#[cfg(test)]
mod tests;
