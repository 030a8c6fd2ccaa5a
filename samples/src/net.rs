//! A small HTTP server and client on hyper.

use std::convert::Infallible;
use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;

/// The largest answer that is read; the services here say little.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// What a handler answers.
pub type Answer = Response<Full<Bytes>>;

/// What a client call gives: the status and the body, or why there is none.
pub type Fetched = Result<(StatusCode, Bytes), Box<dyn std::error::Error + Send + Sync>>;

/// Builds an answer.
pub fn answer(status: StatusCode, content_type: &str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    if let Ok(value) = content_type.parse() {
        answer.headers_mut().insert("content-type", value);
    }
    answer
}

/// Serves on all addresses until the process is told to end.
#[expect(clippy::disallowed_methods, reason = "a sample has no supervised tasks")]
pub async fn serve<H, F>(port: u16, handler: H) -> std::io::Result<()>
where
    H: Fn(Request<Incoming>) -> F + Send + Sync + 'static,
    F: Future<Output = Answer> + Send + 'static,
{
    let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))).await?;
    let handler = Arc::new(handler);
    loop {
        let (socket, _) = listener.accept().await?;
        let handler = Arc::clone(&handler);
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let answering = handler(request);
                async move { Ok::<_, Infallible>(answering.await) }
            });
            // A peer that hangs up is not the service's concern.
            hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(socket), service)
                .await
                .ok();
        });
    }
}

/// Fetches a URL within a time.
pub async fn get(url: &str, timeout: Duration) -> Fetched {
    let client: Client<HttpConnector, Empty<Bytes>> =
        Client::builder(TokioExecutor::new()).build_http();
    let fetching = async {
        let response = client.get(url.parse()?).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await?;
        Ok((status, body.to_bytes()))
    };
    tokio::time::timeout(timeout, fetching).await?
}

/// Draws a number below `limit`, which must not be zero.
pub fn random_below(limit: usize) -> usize {
    use std::hash::{BuildHasher, RandomState};
    // The standard library seeds each hasher anew, which is chance enough to pick a peer.
    usize::try_from(RandomState::new().hash_one(limit) % limit as u64).unwrap_or(0)
}

/// Ends the process on SIGTERM or SIGINT, as a container's first process must arrange for itself.
pub async fn until_told_to_end() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut terminate), Ok(mut interrupt)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {} // nothing is lost: both signals end the program
        _ = interrupt.recv() => {}
    }
}
