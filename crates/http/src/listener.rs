//! Runs a router on a socket until the program stops.
//!
//! # Invariants
//!
//! - A client that sends nothing, or sends slowly, holds a connection no longer than the limits
//!   below, and connections are bounded in number.
//! - On stop, no new connection is taken, idle ones are closed, and requests under way get
//!   [`DRAIN_MAX`] to end.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use cos_platform::tls::{Member, Web};
use cos_platform::{Fate, Tasks};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tower::ServiceExt;

/// How many connections one listener holds at once; those beyond wait to be accepted.
pub const CONNECTIONS_MAX: usize = 8192;

/// How long a client may take to send the head of a request. It also closes idle connections.
pub const HEAD_TIME_MAX: Duration = Duration::from_mins(2);

/// How large the head of a request may be.
pub const HEAD_BYTES_MAX: usize = 64 * 1024;

/// How many header lines a request may have.
pub const HEADERS_MAX: usize = 128;

/// How long requests under way may go on when the program stops.
pub const DRAIN_MAX: Duration = Duration::from_secs(2);

/// The wait after a failed accept, which means that the process has no file handle left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The address of the client of a request, in the request's extensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer(pub SocketAddr);

/// What is known of the client of a request beside its address, in the request's extensions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Whether it runs on this machine.
    pub is_here: bool,
    /// The member of the cluster that it proved to be.
    pub member: Option<Member>,
}

/// Starts to serve a router on a socket, secured as `web` says. Returns at once; the tasks end when `tasks` stop.
pub fn serve(listener: TcpListener, router: Router, web: Web, tasks: &Tasks) {
    let inner = tasks.clone();
    tasks.spawn("http listener", Fate::Vital, async move {
        accept(listener, router, web, inner).await;
    });
}

async fn accept(listener: TcpListener, router: Router, web: Web, tasks: Tasks) {
    let stopping = tasks.stopping();
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
        // A dropped accept loses no connection: it stays in the kernel's queue.
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stopping.cancelled() => return,
        };
        match accepted {
            Ok((stream, peer)) => {
                let (router, tasks_of_one) = (router.clone(), tasks.clone());
                let web = web.clone();
                tasks.spawn("http connection", Fate::Ends, async move {
                    connection(stream, peer, router, &web, &tasks_of_one).await;
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, peer: SocketAddr, router: Router, web: &Web, tasks: &Tasks) {
    // Answers are written whole; waiting to fill a segment only delays them. A socket that refuses
    // is closed already, which the first read tells.
    drop(stream.set_nodelay(true));
    let own = stream.local_addr().map(|address| address.ip());
    let is_here = peer.ip().is_loopback() || own.is_ok_and(|own| own == peer.ip());
    let stopping = tasks.stopping();
    // Dropping a handshake closes the connection, which is what stopping means.
    let secured = tokio::select! {
        secured = web.accept(stream) => secured,
        () = stopping.cancelled() => return,
    };
    let (stream, member) = match secured {
        Ok(secured) => secured,
        Err(error) => {
            tracing::debug!(%peer, %error, "connection turned away");
            return;
        }
    };
    let caller = Caller { is_here, member };
    let service = hyper::service::service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(Peer(peer));
        request.extensions_mut().insert(caller.clone());
        let router = router.clone();
        async move { Ok::<_, Infallible>(answer(router, request.map(Body::new)).await) }
    });
    let builder = limits();
    let serving = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    let mut serving = std::pin::pin!(serving);
    // Either arm may be dropped: the connection itself is pinned outside and goes on below.
    let outcome = tokio::select! {
        outcome = serving.as_mut() => outcome,
        () = stopping.cancelled() => {
            serving.as_mut().graceful_shutdown();
            tokio::time::timeout(DRAIN_MAX, serving).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = outcome {
        tracing::debug!(%peer, %error, "connection ended early");
    }
}

fn limits() -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME_MAX)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX);
    builder
}

async fn answer(router: Router, request: hyper::Request<Body>) -> axum::response::Response {
    let outcome: Result<_, Infallible> = router.oneshot(request).await;
    match outcome {
        Ok(response) => response,
        Err(impossible) => match impossible {},
    }
}
