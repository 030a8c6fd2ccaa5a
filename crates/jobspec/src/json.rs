//! JSON bodies.

use cos_model::Value;

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
