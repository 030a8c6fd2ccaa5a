//! Values as text, the way templates, environments and maps of strings want them.

use cos_model::Value;

/// The text of a text, number or truth value; nothing for null, lists and maps.
pub(crate) fn scalar_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Int(number) => Some(number.to_string()),
        Value::Float(number) => Some(float_text(*number)),
        Value::Bool(truth) => Some(truth.to_string()),
        Value::Null | Value::List(_) | Value::Map(_) => None,
    }
}

/// A float without exponent and without a needless fraction.
pub(crate) fn float_text(number: f64) -> String {
    format!("{number}")
}
