//! What is done to every request or response, whatever the route.

use std::future::{Ready, ready};
use std::io::Write;

use axum::body::{Body, HttpBody, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use flate2::Compression;
use flate2::write::GzEncoder;

use crate::api::Api;
use crate::error::ApiError;

/// The content type that is compressed.
const JSON: &str = "application/json";

/// What only the asked agent itself can answer, by the beginning of the path.
const LOCAL_PATHS: [&str; 4] = ["/v1/client/", "/v1/agent/", "/v1/metrics", "/v1/cos/"];

/// What begins so and is the cluster's all the same.
const CLUSTER_PATHS: [&str; 1] = ["/v1/agent/members"];

/// On an agent that is no server, passes on to a server what is the cluster's to answer.
pub async fn ask_a_server(State(api): State<Api>, request: Request, next: Next) -> Response {
    if api.control.is_some() || is_local(request.uri().path()) {
        return next.run(request).await;
    }
    api.forwarder.to_a_server(&api.agent.servers(), request).await.into_response()
}

fn is_local(path: &str) -> bool {
    let is_own = LOCAL_PATHS.iter().any(|known| path.starts_with(known));
    path == "/" || (is_own && !CLUSTER_PATHS.contains(&path))
}

/// Lets browsers of any origin read the routes that work on one machine.
pub async fn allow_any_origin(request: Request, next: Next) -> Response {
    let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
    let is_client = request.uri().path().starts_with("/v1/client/");
    let mut response = next.run(request).await;
    if is_read && is_client {
        let any = HeaderValue::from_static("*");
        response.headers_mut().insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, any);
    }
    response
}

/// Answers shorter than this are not worth compressing.
const COMPRESSED_BYTES_MIN: u64 = 1024;

/// Compresses JSON for clients that ask for it. Streams pass as they are: what is in them must
/// arrive when it is written.
pub async fn compress(request: Request, next: Next) -> Response {
    let accepts = request.headers().get_all(header::ACCEPT_ENCODING);
    let wanted = accepts.iter().any(|v| v.to_str().is_ok_and(|text| text.contains("gzip")));
    let response = next.run(request).await;
    let is_json = response.headers().get(header::CONTENT_TYPE).is_some_and(|k| k == JSON);
    let is_plain = !response.headers().contains_key(header::CONTENT_ENCODING);
    let size = response.body().size_hint().exact().unwrap_or(0);
    if !(wanted && is_json && is_plain && size >= COMPRESSED_BYTES_MIN) {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let packed = match to_bytes(body, usize::MAX).await.map_err(std::io::Error::other) {
        Ok(bytes) => gzip(&bytes),
        Err(error) => Err(error),
    };
    match packed {
        Ok(packed) => {
            parts.headers.remove(header::CONTENT_LENGTH);
            parts.headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            parts.headers.append(header::VARY, HeaderValue::from_static("accept-encoding"));
            Response::from_parts(parts, Body::from(packed))
        }
        Err(error) => {
            ApiError::internal(format!("compressing the answer: {error}")).into_response()
        }
    }
}

fn gzip(bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes)?;
    encoder.finish()
}

/// Answers a method that a route does not have.
pub fn wrong_method() -> Ready<ApiError> {
    ready(ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "Invalid method"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_the_agents_own_stays_on_it() {
        for path in ["/", "/v1/client/fs/ls/x", "/v1/agent/self", "/v1/metrics"] {
            assert!(is_local(path), "{path}");
        }
        for path in ["/v1/agent/members", "/v1/jobs", "/ui/jobs", "/v1/clients"] {
            assert!(!is_local(path), "{path}");
        }
    }
}
