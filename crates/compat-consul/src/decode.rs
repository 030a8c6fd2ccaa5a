//! Request bodies as Consul takes them: names in any case, with or without underscores, numbers as
//! text, durations as Go text or as nanoseconds.

use std::collections::BTreeMap;
use std::time::Duration;

use cos_http::ApiError;
use serde_json::{Map, Value};

/// A JSON object whose fields are found whatever their spelling.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fields(BTreeMap<String, Value>);

/// Fields by type, each failure naming the field.
pub(crate) trait Loose {
    /// The raw value; null counts as absent.
    fn raw(&self, name: &str) -> Option<&Value>;

    /// Text, empty if absent.
    fn text(&self, name: &str) -> Result<String, ApiError> {
        match self.raw(name) {
            None => Ok(String::new()),
            Some(Value::String(text)) => Ok(text.clone()),
            Some(value @ (Value::Number(_) | Value::Bool(_))) => Ok(value.to_string()),
            Some(_) => Err(wrong(name, "text")),
        }
    }

    /// A whole number, zero if absent.
    fn number<T: TryFrom<i64>>(&self, name: &str) -> Result<Option<T>, ApiError> {
        let number = match self.raw(name) {
            None => return Ok(None),
            Some(Value::Number(number)) => number.to_string().parse::<i64>().ok(),
            Some(Value::String(text)) => text.parse().ok(),
            Some(_) => None,
        };
        let fitting = number.and_then(|number| T::try_from(number).ok());
        fitting.map(Some).ok_or_else(|| wrong(name, "a whole number in range"))
    }

    /// A truth value, false if absent.
    fn flag(&self, name: &str) -> Result<bool, ApiError> {
        match self.raw(name) {
            None => Ok(false),
            Some(Value::Bool(truth)) => Ok(*truth),
            Some(Value::String(text)) if text == "true" => Ok(true),
            Some(Value::String(text)) if text == "false" => Ok(false),
            Some(_) => Err(wrong(name, "true or false")),
        }
    }

    /// A duration, zero if absent.
    fn duration(&self, name: &str) -> Result<Duration, ApiError> {
        match self.raw(name) {
            None => Ok(Duration::ZERO),
            Some(Value::String(text)) if text.is_empty() => Ok(Duration::ZERO),
            Some(Value::String(text)) => {
                cos_http::duration::parse(text).map_err(|_bad| wrong(name, "a duration like 10s"))
            }
            Some(Value::Number(number)) => number
                .to_string()
                .parse::<u64>()
                .map(Duration::from_nanos)
                .map_err(|_bad| wrong(name, "a duration like 10s")),
            Some(_) => Err(wrong(name, "a duration like 10s")),
        }
    }

    /// A list of texts, empty if absent.
    fn texts(&self, name: &str) -> Result<Vec<String>, ApiError> {
        match self.raw(name) {
            None => Ok(Vec::new()),
            Some(Value::Array(items)) => items
                .iter()
                .map(|item| item.as_str().map(str::to_owned))
                .collect::<Option<_>>()
                .ok_or_else(|| wrong(name, "a list of texts")),
            Some(_) => Err(wrong(name, "a list of texts")),
        }
    }

    /// A map of texts, empty if absent. Numbers and truth values are taken as their text.
    fn text_map(&self, name: &str) -> Result<BTreeMap<String, String>, ApiError> {
        match self.raw(name) {
            None => Ok(BTreeMap::new()),
            Some(Value::Object(items)) => items
                .iter()
                .map(|(key, value)| match value {
                    Value::String(text) => Ok((key.clone(), text.clone())),
                    Value::Number(_) | Value::Bool(_) => Ok((key.clone(), value.to_string())),
                    _ => Err(wrong(name, "a map of texts")),
                })
                .collect(),
            Some(_) => Err(wrong(name, "a map of texts")),
        }
    }
}

impl Fields {
    /// Reads a body; an empty one has no fields.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, ApiError> {
        if bytes.is_empty() {
            return Ok(Self::default());
        }
        match serde_json::from_slice(bytes) {
            Ok(Value::Object(map)) => Ok(Self::from_map(&map)),
            Ok(_) => Err(ApiError::bad_request("Request decode failed: expected an object")),
            Err(error) => Err(ApiError::bad_request(format!("Request decode failed: {error}"))),
        }
    }

    fn from_map(map: &Map<String, Value>) -> Self {
        Self(map.iter().map(|(name, value)| (canonical(name), value.clone())).collect())
    }

    /// A field that is an object.
    pub(crate) fn object(&self, name: &str) -> Result<Option<Self>, ApiError> {
        match self.raw(name) {
            None => Ok(None),
            Some(Value::Object(map)) => Ok(Some(Self::from_map(map))),
            Some(_) => Err(wrong(name, "an object")),
        }
    }

    /// A field that is a list of objects, empty if absent.
    pub(crate) fn objects(&self, name: &str) -> Result<Vec<Self>, ApiError> {
        match self.raw(name) {
            None => Ok(Vec::new()),
            Some(Value::Array(items)) => items
                .iter()
                .map(|item| item.as_object().map(Self::from_map))
                .collect::<Option<_>>()
                .ok_or_else(|| wrong(name, "a list of objects")),
            Some(_) => Err(wrong(name, "a list of objects")),
        }
    }
}

impl Loose for Fields {
    fn raw(&self, name: &str) -> Option<&Value> {
        self.0.get(&canonical(name)).filter(|value| !value.is_null())
    }
}

fn canonical(name: &str) -> String {
    name.chars().filter(|c| *c != '_').map(|c| c.to_ascii_lowercase()).collect()
}

/// A failure that names the field.
pub(crate) fn wrong(name: &str, expected: &str) -> ApiError {
    ApiError::bad_request(format!("Request decode failed: {name}: expected {expected}"))
}
