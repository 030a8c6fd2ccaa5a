//! HTTP/1.1 connections as a measurement needs them: one request after the other on one
//! connection, little work per request, no retries.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use cos_platform::{Fate, Tasks};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::BenchError;

/// One connection.
#[derive(Debug)]
pub(crate) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    address: SocketAddr,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    /// The index that it was read at; zero if it names none.
    pub(crate) index: u64,
    pub(crate) body: Bytes,
}

impl Connection {
    /// Connects. The connection belongs to `tasks`.
    pub(crate) async fn open(address: SocketAddr, tasks: &Tasks) -> Result<Self, BenchError> {
        let failed =
            |why: String| BenchError::Failed(format!("cannot connect to {address}: {why}"));
        let stream = TcpStream::connect(address).await.map_err(|why| failed(why.to_string()))?;
        stream.set_nodelay(true).map_err(|why| failed(why.to_string()))?;
        let (sender, connection) =
            handshake(TokioIo::new(stream)).await.map_err(|why| failed(why.to_string()))?;
        tasks.spawn("connection", Fate::Ends, async move {
            // Whoever sends a request on it hears of its end.
            drop(connection.await);
        });
        Ok(Self { sender, address })
    }

    /// Sends a request and reads the whole answer.
    pub(crate) async fn send(
        &mut self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<Answer, BenchError> {
        let failed = |why: String| BenchError::Failed(format!("{} {path}: {why}", self.address));
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(http::header::HOST, "localhost")
            .body(Full::new(body))
            .map_err(|why| failed(why.to_string()))?;
        self.sender.ready().await.map_err(|why| failed(why.to_string()))?;
        let answer =
            self.sender.send_request(request).await.map_err(|why| failed(why.to_string()))?;
        let status = answer.status();
        let headers = answer.headers();
        let index = ["x-consul-index", "x-nomad-index"]
            .into_iter()
            .find_map(|name| headers.get(name)?.to_str().ok()?.parse().ok())
            .unwrap_or(0);
        let body = answer.into_body().collect().await.map_err(|why| failed(why.to_string()))?;
        Ok(Answer { status, index, body: body.to_bytes() })
    }
}

/// One request on a connection of its own.
pub(crate) async fn once(
    address: SocketAddr,
    method: Method,
    path: &str,
    body: Bytes,
    timeout: Duration,
) -> Result<Answer, BenchError> {
    let tasks = Tasks::new();
    let exchange = async {
        let mut connection = Connection::open(address, &tasks).await?;
        connection.send(method, path, body).await
    };
    tokio::time::timeout(timeout, exchange)
        .await
        .unwrap_or_else(|_| Err(BenchError::Failed(format!("{address} {path}: no answer in time"))))
}

/// Reads JSON, once.
pub(crate) async fn get(
    address: SocketAddr,
    path: &str,
    timeout: Duration,
) -> Result<serde_json::Value, BenchError> {
    let answer = once(address, Method::GET, path, Bytes::new(), timeout).await?;
    if !answer.status.is_success() {
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        return Err(BenchError::Failed(format!("{address} {path}: {} {text}", answer.status)));
    }
    serde_json::from_slice(&answer.body)
        .map_err(|error| BenchError::Failed(format!("{address} {path}: {error}")))
}
