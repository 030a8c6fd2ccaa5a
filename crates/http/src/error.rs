//! Failures as clients see them: a status and one plain text.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use cos_state::{ProposeError, Refused};

use crate::local::LocalError;

/// After how many seconds to ask again what was too much.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("1");

/// A failure that is told to the client.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// The status of the response.
    pub status: StatusCode,
    /// The text of the response.
    pub message: String,
}

impl ApiError {
    /// A failure with any status.
    pub fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }

    /// The request is wrong.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// There is no such thing.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, message)
    }

    /// It cannot be done at present.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, message)
    }

    /// There is too much to do already; the same may be asked again soon.
    pub fn too_many(message: impl Into<String>) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, message)
    }

    /// This program, or this agent's role, does not do that.
    pub fn unsupported(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_IMPLEMENTED, message)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let headers = [(header::CONTENT_TYPE, "text/plain; charset=utf-8")];
        let mut response = (self.status, headers, self.message).into_response();
        if self.status == StatusCode::TOO_MANY_REQUESTS {
            response.headers_mut().insert(header::RETRY_AFTER, RETRY_AFTER);
        }
        response
    }
}

impl From<Refused> for ApiError {
    fn from(refused: Refused) -> Self {
        let message = refused.to_string();
        match refused {
            Refused::NotFound(_) => Self::not_found(message),
            // Clients tell a lost race by this status together with the beginning of the text.
            Refused::IndexMismatch { .. } => Self::internal(message),
            Refused::Invalid(_) => Self::bad_request(message),
        }
    }
}

impl From<ProposeError> for ApiError {
    fn from(error: ProposeError) -> Self {
        match error {
            ProposeError::Refused(refused) => refused.into(),
            ProposeError::Stopping => Self::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string()),
            ProposeError::Busy => Self::too_many(error.to_string()),
            ProposeError::NoLeader | ProposeError::Unknown(_) => Self::internal(error.to_string()),
        }
    }
}

impl From<LocalError> for ApiError {
    fn from(error: LocalError) -> Self {
        let message = error.to_string();
        match error {
            LocalError::UnknownAlloc(_) | LocalError::NotFound(_) => Self::not_found(message),
            LocalError::Invalid(_) => Self::bad_request(message),
            LocalError::Unsupported(_) => Self::unsupported(message),
            LocalError::Failed(_) => Self::internal(message),
        }
    }
}
