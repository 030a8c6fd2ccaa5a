//! Functions that encode and decode: base64, CSV, JSON, URLs.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cos_model::Value;

use super::{Answer, Function, Host, function, text};
use crate::json::{value_from_json, value_to_json};

pub(super) const TABLE: &[Function] = &[
    function("base64decode", 1, 1, base64decode),
    function("base64encode", 1, 1, |a, _| Ok(Value::String(STANDARD.encode(text(a, 0)?)))),
    function("csvdecode", 1, 1, csvdecode),
    function("jsondecode", 1, 1, jsondecode),
    function("jsonencode", 1, 1, |a, _| Ok(Value::String(json_text(&a[0])))),
    function("urlencode", 1, 1, urlencode),
];

fn base64decode(arguments: &[Value], _: &Host<'_>) -> Answer {
    let bytes = STANDARD
        .decode(text(arguments, 0)?)
        .map_err(|error| format!("this is not base64: {error}"))?;
    String::from_utf8(bytes)
        .map(Value::String)
        .map_err(|_binary| "the bytes are not text".to_owned())
}

fn jsondecode(arguments: &[Value], _: &Host<'_>) -> Answer {
    let json = serde_json::from_str(&text(arguments, 0)?)
        .map_err(|error| format!("this is not JSON: {error}"))?;
    Ok(value_from_json(&json))
}

/// JSON as Go's encoder writes it, with `<`, `>` and `&` escaped.
pub(super) fn json_text(value: &Value) -> String {
    let plain = value_to_json(value).to_string();
    plain.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
}

fn urlencode(arguments: &[Value], _: &Host<'_>) -> Answer {
    let mut output = String::new();
    for byte in text(arguments, 0)?.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                output.push(char::from(byte));
            }
            b' ' => output.push('+'),
            _ => {
                let _infallible = write!(output, "%{byte:02X}");
            }
        }
    }
    Ok(Value::String(output))
}

fn csvdecode(arguments: &[Value], _: &Host<'_>) -> Answer {
    let rows = csv_rows(&text(arguments, 0)?)?;
    let mut rows = rows.into_iter();
    let header = rows.next().ok_or("there is no header line")?;
    let mut output = Vec::new();
    for (index, row) in rows.enumerate() {
        if row.len() != header.len() {
            return Err(format!(
                "row {} has {} fields, not {}",
                index + 1,
                row.len(),
                header.len()
            ));
        }
        let fields = header.iter().cloned().zip(row.into_iter().map(Value::String));
        output.push(Value::Map(fields.collect()));
    }
    Ok(Value::List(output))
}

/// Splits CSV text into rows of fields, with quotes as RFC 4180 has them.
fn csv_rows(text: &str) -> Result<Vec<Vec<String>>, String> {
    let mut rows = Vec::new();
    let mut row = Vec::new();
    let mut field = String::new();
    let mut quoted = false;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.next_if_eq(&'"').is_some() => field.push('"'),
            '"' if quoted => quoted = false,
            _ if quoted => field.push(c),
            '"' if field.is_empty() => quoted = true,
            ',' => row.push(std::mem::take(&mut field)),
            '\r' if chars.peek() == Some(&'\n') => {}
            '\n' => {
                if !(row.is_empty() && field.is_empty()) {
                    row.push(std::mem::take(&mut field));
                    rows.push(std::mem::take(&mut row));
                }
            }
            _ => field.push(c),
        }
    }
    if quoted {
        return Err("a quoted field is not closed".to_owned());
    }
    if !(row.is_empty() && field.is_empty()) {
        row.push(field);
        rows.push(row);
    }
    Ok(rows)
}
