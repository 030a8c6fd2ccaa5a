//! JSON bodies, read as leniently as Go reads them: keys match in any case, unknown keys are
//! ignored, null is absent.

use std::error::Error;

use axum::body::HttpBody;
use axum::extract::{FromRequest, Request};
use axum::http::StatusCode;
use bytes::Bytes;
use serde_json::{Map, Value};

use crate::error::ApiError;
use crate::guarded::TooSlow;

/// How large a request body may be. A job's source is at most 1 MB; this leaves room for JSON.
pub const BODY_BYTES_MAX: usize = 16 * 1024 * 1024;

/// A JSON object of a request, or an object inside one.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Body(Map<String, Value>);

impl Body {
    /// Reads a body that must be a JSON object.
    pub fn parse(bytes: &[u8]) -> Result<Self, ApiError> {
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Err(ApiError::bad_request("Request body is empty"));
        }
        let value = serde_json::from_slice(bytes)
            .map_err(|error| ApiError::bad_request(format!("Failed to parse body: {error}")))?;
        match value {
            Value::Object(map) => Ok(Self(map)),
            _ => Err(ApiError::bad_request("Failed to parse body: it must be a JSON object")),
        }
    }

    /// Reads a body that may be absent.
    pub fn parse_or_empty(bytes: &[u8]) -> Result<Self, ApiError> {
        if bytes.iter().all(u8::is_ascii_whitespace) || bytes == b"null" {
            return Ok(Self::default());
        }
        Self::parse(bytes)
    }

    /// A field, whatever the case of its key; null counts as absent.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0
            .get(name)
            .or_else(|| {
                self.0
                    .iter()
                    .find(|(key, _)| key.eq_ignore_ascii_case(name))
                    .map(|(_, value)| value)
            })
            .filter(|value| !value.is_null())
    }

    /// A text; absent is empty.
    pub fn text(&self, name: &str) -> Result<&str, ApiError> {
        match self.get(name) {
            None => Ok(""),
            Some(Value::String(text)) => Ok(text),
            Some(_) => Err(wrong(name, "a string")),
        }
    }

    /// A truth value; absent is false.
    pub fn flag(&self, name: &str) -> Result<bool, ApiError> {
        match self.get(name) {
            None => Ok(false),
            Some(Value::Bool(truth)) => Ok(*truth),
            Some(_) => Err(wrong(name, "true or false")),
        }
    }

    /// A whole number.
    pub fn integer(&self, name: &str) -> Result<Option<i64>, ApiError> {
        let Some(value) = self.get(name) else { return Ok(None) };
        value.as_i64().map(Some).ok_or_else(|| wrong(name, "a whole number"))
    }

    /// A whole number that is not negative.
    pub fn unsigned(&self, name: &str) -> Result<Option<u64>, ApiError> {
        let Some(value) = self.get(name) else { return Ok(None) };
        value.as_u64().map(Some).ok_or_else(|| wrong(name, "a whole number that is not negative"))
    }

    /// A list of texts; absent is empty.
    pub fn texts(&self, name: &str) -> Result<Vec<String>, ApiError> {
        let bad = || wrong(name, "a list of strings");
        match self.get(name) {
            None => Ok(Vec::new()),
            Some(Value::Array(items)) => {
                items.iter().map(|item| item.as_str().map(str::to_owned).ok_or_else(bad)).collect()
            }
            Some(_) => Err(bad()),
        }
    }

    /// An object inside this one.
    pub fn object(&self, name: &str) -> Result<Option<Self>, ApiError> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Object(map)) => Ok(Some(Self(map.clone()))),
            Some(_) => Err(wrong(name, "an object")),
        }
    }

    /// The keys as they were written.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

fn wrong(name: &str, wanted: &str) -> ApiError {
    ApiError::bad_request(format!("Failed to parse body: {name} must be {wanted}"))
}

/// The raw bytes of a request body, within [`BODY_BYTES_MAX`].
#[derive(Clone, Debug, Default)]
pub struct RawBody(pub Bytes);

impl<S: Send + Sync> FromRequest<S> for RawBody {
    type Rejection = ApiError;

    async fn from_request(request: Request, _state: &S) -> Result<Self, ApiError> {
        let body = request.into_body();
        // What says that it is too large is not waited for.
        let least = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
        if least > BODY_BYTES_MAX {
            return Err(too_large(&format!("it has {least}")));
        }
        let bytes = axum::body::to_bytes(body, BODY_BYTES_MAX).await;
        bytes.map(Self).map_err(|error| {
            if is_too_slow(&error) {
                return ApiError::new(StatusCode::REQUEST_TIMEOUT, TooSlow.to_string());
            }
            too_large(&error.to_string())
        })
    }
}

fn too_large(why: &str) -> ApiError {
    let message = format!("Failed to read body (at most {BODY_BYTES_MAX} bytes): {why}");
    ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, message)
}

fn is_too_slow(error: &(dyn Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if error.is::<TooSlow>() {
            return true;
        }
        cause = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_match_in_any_case_and_null_is_absent() {
        let body = Body::parse(br#"{"jobid":"web","Count":null,"Deep":{"A":1}}"#).unwrap();
        assert_eq!(body.text("JobID").unwrap(), "web");
        assert_eq!(body.integer("Count").unwrap(), None);
        assert_eq!(body.object("deep").unwrap().unwrap().unsigned("a").unwrap(), Some(1));
    }

    #[test]
    fn a_wrong_type_is_named() {
        let body = Body::parse(br#"{"JobID":5}"#).unwrap();
        let error = body.text("JobID").unwrap_err();
        assert_eq!(error.message, "Failed to parse body: JobID must be a string");
        assert_eq!(Body::parse(b" ").unwrap_err().message, "Request body is empty");
        assert!(Body::parse(b"[1]").is_err() && Body::parse(b"{").is_err());
    }
}
