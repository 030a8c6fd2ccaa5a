//! Answers: JSON with the headers that clients read freshness from.

use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use cos_state::{ControlPlane, Leadership};
use serde::Serialize;
use serde_json::ser::{PrettyFormatter, Serializer};

use crate::error::ApiError;

/// The indentation of pretty JSON.
const INDENT: &[u8] = b"    ";

/// How fresh an answer is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Freshness {
    /// The index to wait after next.
    pub index: u64,
    /// How long ago this server heard of its leader, in milliseconds.
    pub last_contact_ms: u128,
    /// Whether a leader is known.
    pub known_leader: bool,
}

impl Freshness {
    /// The freshness of an answer that a server gives now.
    pub fn now(control: &dyn ControlPlane, index: u64) -> Self {
        let Leadership { leader, leader_id, is_leader, last_contact, .. } = control.leadership();
        Self {
            index,
            last_contact_ms: last_contact.as_millis(),
            known_leader: is_leader || leader.is_some() || leader_id.is_some(),
        }
    }
}

/// An answer that is being put together.
#[derive(Clone, Debug, Default)]
pub struct Reply {
    freshness: Option<Freshness>,
    written: Option<u64>,
    next_token: Option<String>,
    pretty: bool,
}

impl Reply {
    /// An answer to a read.
    pub fn fresh(freshness: Freshness) -> Self {
        Self { freshness: Some(freshness), ..Self::default() }
    }

    /// An answer to a write that was committed at an index.
    pub fn written(index: u64) -> Self {
        Self { written: Some(index), ..Self::default() }
    }

    /// Indents the JSON.
    #[must_use]
    pub fn pretty(mut self, pretty: bool) -> Self {
        self.pretty = pretty;
        self
    }

    /// Names the next page.
    #[must_use]
    pub fn next_token(mut self, token: Option<String>) -> Self {
        self.next_token = token;
        self
    }

    /// Answers with a value as JSON.
    pub fn json<T: Serialize + ?Sized>(self, value: &T) -> Response {
        match encode(value, self.pretty) {
            Ok(bytes) => {
                let mut response = bytes.into_response();
                let kind = HeaderValue::from_static("application/json");
                response.headers_mut().insert(header::CONTENT_TYPE, kind);
                self.with_headers(response)
            }
            Err(error) => {
                ApiError::internal(format!("encoding the answer: {error}")).into_response()
            }
        }
    }

    /// Answers with nothing but success.
    pub fn empty(self) -> Response {
        self.with_headers(().into_response())
    }

    fn with_headers(self, mut response: Response) -> Response {
        let headers = response.headers_mut();
        if let Some(fresh) = self.freshness {
            headers.insert("x-nomad-index", HeaderValue::from(fresh.index));
            let known = HeaderValue::from_static(if fresh.known_leader { "true" } else { "false" });
            headers.insert("x-nomad-knownleader", known);
            let contact = u64::try_from(fresh.last_contact_ms).unwrap_or(u64::MAX);
            headers.insert("x-nomad-lastcontact", HeaderValue::from(contact));
        }
        if let Some(index) = self.written {
            headers.insert("x-nomad-index", HeaderValue::from(index));
        }
        if let Some(token) = self.next_token.and_then(|token| HeaderValue::try_from(token).ok()) {
            headers.insert("x-nomad-nexttoken", token);
        }
        response
    }
}

/// Encodes a value as JSON, indented by four spaces and ended by a newline if `pretty`.
pub fn encode<T: Serialize + ?Sized>(
    value: &T,
    pretty: bool,
) -> Result<Vec<u8>, serde_json::Error> {
    if !pretty {
        return serde_json::to_vec(value);
    }
    let mut bytes = Vec::new();
    let formatter = PrettyFormatter::with_indent(INDENT);
    value.serialize(&mut Serializer::with_formatter(&mut bytes, formatter))?;
    bytes.push(b'\n');
    Ok(bytes)
}
