//! Passes a request on to another agent's HTTP API, bodies streaming both ways, upgrades included.
//!
//! # Invariants
//!
//! - A request is passed on at most [`HOPS_MAX`] times: from a client agent to a server, from
//!   there to the node that can answer. The header [`HOPS`] counts.
//! - Headers that concern one connection only are not passed on.

use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, Version, header};
use axum::response::Response;
use cos_model::link::ServerAddress;
use cos_platform::tls::Identity;
use cos_platform::{Fate, Tasks};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

use self::connector::Connector;
use crate::error::ApiError;

mod connector;

/// Counts how often a request was passed on.
pub const HOPS: HeaderName = HeaderName::from_static("x-cos-forwarded");

/// How often a request may be passed on.
pub const HOPS_MAX: u8 = 2;

/// How long another agent may take to accept a connection.
const CONNECT_MAX: Duration = Duration::from_secs(2);

/// Headers that concern one connection only.
const HOP_HEADERS: [HeaderName; 7] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Passes requests on. A clone shares its connections.
#[derive(Clone, Debug)]
pub struct Forwarder {
    client: Client<Connector, Body>,
    tasks: Tasks,
}

/// How often a request was passed on already.
pub fn hops(headers: &HeaderMap) -> u8 {
    let count = headers.get(HOPS).and_then(|value| value.to_str().ok());
    // What cannot be read was not written by us; passing it on could go round for ever.
    count.map_or(0, |text| text.parse().unwrap_or(HOPS_MAX))
}

impl Forwarder {
    /// Makes a forwarder whose upgraded connections live in `tasks`. With an identity it calls
    /// members of the cluster only, and shows who it is.
    pub fn new(tasks: Tasks, identity: Option<Identity>) -> Self {
        let connector = Connector { identity };
        Self { client: Client::builder(TokioExecutor::new()).build(connector), tasks }
    }

    /// Passes a request on to the first server that takes connections.
    pub async fn to_a_server(
        &self,
        servers: &[ServerAddress],
        request: Request,
    ) -> Result<Response, ApiError> {
        let mut failure = "no servers are known".to_owned();
        for server in servers {
            match self.reachable(&server.http).await {
                Ok(()) => return self.to(&server.http, request).await,
                Err(error) => failure = format!("{} at {}: {error}", server.name, server.http),
            }
        }
        Err(ApiError::internal(format!("No servers can be reached: {failure}")))
    }

    /// A body that was begun cannot be sent to somebody else, so the choice is made before.
    async fn reachable(&self, address: &str) -> Result<(), String> {
        match tokio::time::timeout(CONNECT_MAX, TcpStream::connect(address)).await {
            Ok(Ok(_stream)) => Ok(()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_elapsed) => Err("connecting took too long".to_owned()),
        }
    }

    /// Passes a request on to the agent at `host:port`.
    pub async fn to(&self, address: &str, mut request: Request) -> Result<Response, ApiError> {
        let hops = hops(request.headers());
        if hops >= HOPS_MAX {
            return Err(ApiError::new(
                StatusCode::LOOP_DETECTED,
                "the request was passed on too often; the agents disagree about who answers it",
            ));
        }
        let upgrade = request.headers().get(header::UPGRADE).cloned();
        let downstream = upgrade.is_some().then(|| hyper::upgrade::on(&mut request));
        let outgoing = prepare(address, request, hops, upgrade)?;
        let mut response = self.client.request(outgoing).await.map_err(|error| {
            ApiError::internal(format!("No path to node: asking {address}: {}", causes(&error)))
        })?;
        let switched = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        if let (true, Some(downstream)) = (switched, downstream) {
            let upstream = hyper::upgrade::on(&mut response);
            self.join(downstream, upstream);
            return Ok(response.map(Body::new));
        }
        let mut response = response.map(Body::new);
        strip(response.headers_mut());
        Ok(response)
    }

    /// Copies bytes both ways until one side ends or the program stops.
    fn join(&self, downstream: hyper::upgrade::OnUpgrade, upstream: hyper::upgrade::OnUpgrade) {
        let stopping = self.tasks.stopping();
        self.tasks.spawn("forwarded upgrade", Fate::Ends, async move {
            let (Ok(near), Ok(far)) = (downstream.await, upstream.await) else {
                tracing::debug!("a forwarded upgrade was not completed");
                return;
            };
            let (mut near, mut far) = (TokioIo::new(near), TokioIo::new(far));
            // Dropping the copy closes both sides, which is what stopping means.
            tokio::select! {
                outcome = tokio::io::copy_bidirectional(&mut near, &mut far) => {
                    if let Err(error) = outcome {
                        tracing::debug!(%error, "a forwarded upgrade ended early");
                    }
                }
                () = stopping.cancelled() => {}
            }
        });
    }
}

fn prepare(
    address: &str,
    request: Request,
    hops: u8,
    upgrade: Option<HeaderValue>,
) -> Result<Request, ApiError> {
    let path = request.uri().path_and_query().map_or("/", |whole| whole.as_str());
    let uri: Uri = format!("http://{address}{path}")
        .parse()
        .map_err(|error| ApiError::internal(format!("`{address}` is not an address: {error}")))?;
    let (mut parts, body) = request.into_parts();
    parts.uri = uri;
    parts.version = Version::HTTP_11;
    strip(&mut parts.headers);
    parts.headers.remove(header::HOST);
    parts.headers.insert(HOPS, HeaderValue::from(u16::from(hops) + 1));
    if let Some(protocol) = upgrade {
        parts.headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        parts.headers.insert(header::UPGRADE, protocol);
    }
    // An empty body is sent as none, so that a GET does not become chunked.
    let body = if body.is_end_stream() { Body::empty() } else { body };
    Ok(Request::from_parts(parts, body))
}

fn strip(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named.iter().chain(&HOP_HEADERS) {
        headers.remove(name);
    }
}

fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}
