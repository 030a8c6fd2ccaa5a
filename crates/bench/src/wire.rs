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
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::BenchError;

/// What an answer on a [`Line`] takes, usually.
const LINE_BYTES: usize = 1024;
/// How many headers such an answer may have.
const LINE_HEADERS_MAX: usize = 32;

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
        let body = answer.into_body().collect().await.map_err(|why| failed(why.to_string()))?;
        Ok(Answer { status, body: body.to_bytes() })
    }
}

/// A connection for a client that is one of thousands on the machine that is measured: it costs
/// little more than the calls of the kernel.
#[derive(Debug)]
pub(crate) struct Line {
    stream: TcpStream,
    address: SocketAddr,
    received: Vec<u8>,
}

/// What came on a [`Line`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Heard {
    /// The index of the answer.
    pub(crate) index: u64,
    /// When its first bytes were there.
    pub(crate) at: Instant,
}

impl Line {
    /// Connects.
    pub(crate) async fn open(address: SocketAddr) -> Result<Self, BenchError> {
        let stream = TcpStream::connect(address).await;
        let stream = stream
            .map_err(|why| BenchError::Failed(format!("cannot connect to {address}: {why}")))?;
        Ok(Self { stream, address, received: Vec::with_capacity(LINE_BYTES) })
    }

    /// Reads a page and waits for the whole of it.
    pub(crate) async fn ask(&mut self, path: &str) -> Result<Heard, BenchError> {
        let address = self.address;
        let failed = |why: String| BenchError::Failed(format!("{address} {path}: {why}"));
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let sent = self.stream.write_all(request.as_bytes()).await;
        sent.map_err(|why| failed(why.to_string()))?;
        self.received.clear();
        let mut first = None;
        loop {
            let length = self.stream.read_buf(&mut self.received).await;
            let length = length.map_err(|why| failed(why.to_string()))?;
            let at = *first.get_or_insert_with(Instant::now);
            if let Some(index) = whole(&self.received).map_err(failed)? {
                return Ok(Heard { index, at });
            }
            if length == 0 {
                return Err(failed("cut off".to_owned()));
            }
        }
    }
}

/// The index of an answer, once all of it is there.
fn whole(bytes: &[u8]) -> Result<Option<u64>, String> {
    let mut headers = [httparse::EMPTY_HEADER; LINE_HEADERS_MAX];
    let mut answer = httparse::Response::new(&mut headers);
    let parsed = answer.parse(bytes).map_err(|why| why.to_string())?;
    let httparse::Status::Complete(head) = parsed else { return Ok(None) };
    if answer.code != Some(200) {
        return Err(format!("status {:?}", answer.code));
    }
    let number = |name: &str| {
        let header = answer.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
        let text = header.and_then(|header| std::str::from_utf8(header.value).ok());
        text.and_then(|text| text.parse::<u64>().ok()).ok_or_else(|| format!("no {name}"))
    };
    let body = usize::try_from(number("content-length")?).map_err(|why| why.to_string())?;
    let index = number("x-consul-index")?;
    Ok((bytes.len() >= head + body).then_some(index))
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
