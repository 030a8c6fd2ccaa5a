//! Runs a router on a socket until the program stops.
//!
//! # Invariants
//!
//! - Connections are counted and bounded ([`crate::limits`]), and who is turned away is told so.
//! - A client that sends nothing, sends slowly or takes nothing loses its connection.
//! - A process without file handles goes on: it lets a resting connection go, waits, and tells it
//!   once.
//! - On stop, no new connection is taken, idle ones are closed, and requests under way get
//!   [`DRAIN_MAX`] to end.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use cos_platform::tls::{Member, Web, WebError};
use cos_platform::{Fate, Tasks};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tower::ServiceExt;

use crate::error::ApiError;
use crate::guarded::{CountedBody, TimedBody, TimedStream};
use crate::limits::{Admission, Limits, Place, Waiting};
use crate::refusals::Refusals;

/// How long a client may take to send the head of a request after its first. It also closes idle
/// connections.
pub const HEAD_TIME_MAX: Duration = Duration::from_mins(2);

/// How large the head of a request may be.
pub const HEAD_BYTES_MAX: usize = 64 * 1024;

/// How many header lines a request may have.
pub const HEADERS_MAX: usize = 128;

/// How long requests under way may go on when the program stops.
pub const DRAIN_MAX: Duration = Duration::from_secs(2);

/// The wait after a failed accept, which means that the process has no file handle left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A shortage of file handles is over when nothing was missing for so long. While it lasts it is
/// not told again.
const SHORTAGE_OVER: Duration = Duration::from_secs(10);

/// How long a client that is turned away may take to read why.
const TURN_AWAY_MAX: Duration = Duration::from_millis(500);

/// How many clients are told at once why they are turned away; others see the connection close.
const TURNED_AWAY_MAX: usize = 32;

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

/// What all connections of a listener share.
#[derive(Clone)]
struct Site {
    router: Router,
    web: Web,
    limits: Limits,
    tasks: Tasks,
    refusals: Arc<Refusals>,
}

/// Starts to serve a router on a socket, secured as `web` says. Returns at once; the tasks end when
/// `tasks` stop.
pub fn serve(listener: TcpListener, router: Router, web: Web, limits: &Limits, tasks: &Tasks) {
    let site = Site {
        router,
        web,
        limits: limits.clone(),
        tasks: tasks.clone(),
        refusals: Arc::new(Refusals::new()),
    };
    tasks.spawn("http listener", Fate::Vital, accept(listener, site));
}

async fn accept(listener: TcpListener, site: Site) {
    let stopping = site.tasks.stopping();
    let turned_away = Arc::new(Semaphore::new(TURNED_AWAY_MAX));
    // When file handles were last missing, until that is long ago.
    let mut short_at: Option<Instant> = None;
    loop {
        // A dropped accept loses no connection: it stays in the kernel's queue.
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stopping.cancelled() => return,
        };
        match accepted {
            Ok((stream, peer)) => {
                if short_at.take_if(|at| at.elapsed() > SHORTAGE_OVER).is_some() {
                    tracing::info!("connections are accepted again");
                }
                take(&site, stream, peer, &turned_away);
            }
            Err(error) => {
                if short_at.replace(Instant::now()).is_none() {
                    tracing::warn!(%error, "cannot accept connections, letting resting ones go");
                }
                site.limits.evict_one();
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Serves a new connection, or turns it away.
fn take(site: &Site, stream: TcpStream, peer: SocketAddr, turned_away: &Arc<Semaphore>) {
    match site.limits.admit(peer.ip()) {
        Ok(place) => {
            let connection = connection(site.clone(), stream, peer, place);
            site.tasks.spawn("http connection", Fate::Ends, connection);
        }
        Err(admission) => {
            site.refusals.tell(
                peer,
                match admission {
                    Admission::Full => "there are too many connections",
                    _ => "its address has too many connections",
                },
            );
            // Telling is a courtesy: in the clear, as a handshake costs more, and not under a flood.
            let Ok(permit) = Arc::clone(turned_away).try_acquire_owned() else { return };
            site.tasks.spawn("http refusal", Fate::Ends, async move {
                drop(tokio::time::timeout(TURN_AWAY_MAX, turn_away(stream, admission)).await);
                drop(permit);
            });
        }
    }
}

/// Says why there is no place, in the words that clients of Nomad and Consul know.
async fn turn_away(mut stream: TcpStream, admission: Admission) -> io::Result<()> {
    let why = match admission {
        Admission::Full => "The agent has too many connections, try again later\n",
        _ => "Your IP is issuing too many concurrent connections, please rate limit your calls\n",
    };
    let answer = format!(
        "HTTP/1.1 429 Too Many Requests\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\
         Retry-After: 1\r\nConnection: close\r\n\r\n{why}",
        why.len()
    );
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await?;
    // What the client had sent is taken, as closing before that would throw the answer away.
    let mut rest = [0; 1024];
    while stream.read(&mut rest).await? > 0 {}
    Ok(())
}

async fn connection(site: Site, stream: TcpStream, peer: SocketAddr, place: Place) {
    // Answers are written whole; waiting to fill a segment only delays them. A socket that refuses
    // is closed already, which the first read tells.
    drop(stream.set_nodelay(true));
    let own = stream.local_addr().map(|address| address.ip());
    let is_here = peer.ip().is_loopback() || own.is_ok_and(|own| own == peer.ip());
    let settings = *site.limits.settings();
    let first_head_by = Instant::now() + settings.first_head;
    let (evicted, stopping) = (place.evicted.clone(), site.tasks.stopping());
    // Dropping a handshake closes the connection, which is what the other arms mean.
    let secured = tokio::select! {
        secured = site.web.accept(stream) => secured,
        () = tokio::time::sleep_until(first_head_by) => return,
        () = evicted.cancelled() => return,
        () = stopping.cancelled() => return,
    };
    let (stream, member) = match secured {
        Ok(secured) => secured,
        Err(WebError::Silent) => return,
        Err(error) => return site.refusals.tell(peer, &error.to_string()),
    };
    let refusals = site.refusals;
    let spoke = Arc::new(AtomicBool::new(false));
    let handler = Arc::new(Handler {
        router: site.router,
        peer,
        caller: Caller { is_here, member },
        limits: site.limits,
        place,
        spoke: Arc::clone(&spoke),
    });
    let service = hyper::service::service_fn(move |request: hyper::Request<Incoming>| {
        let handler = Arc::clone(&handler);
        async move { Ok::<_, Infallible>(handler.answer(request).await) }
    });
    let builder = builder();
    let stream = TimedStream::new(stream, settings.write_pause);
    let heard = Arc::clone(&stream.heard);
    let stream = TokioIo::new(stream);
    let serving = builder.serve_connection_with_upgrades(stream, service);
    let mut serving = std::pin::pin!(serving);
    let silent = async {
        tokio::time::sleep_until(first_head_by).await;
        if spoke.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
    };
    // Each arm may be dropped: the connection itself is pinned outside and goes on below, or ends.
    let outcome = tokio::select! {
        outcome = serving.as_mut() => outcome,
        () = silent => {
            if heard.load(Ordering::Relaxed) {
                refusals.tell(peer, "it sent half a request and no more");
            }
            return;
        }
        () = evicted.cancelled() => {
            tracing::debug!(%peer, "resting connection made room");
            return;
        }
        () = stopping.cancelled() => {
            serving.as_mut().graceful_shutdown();
            tokio::time::timeout(DRAIN_MAX, serving).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = outcome {
        refusals.ended(peer, &*error);
    }
}

/// Answers the requests of one connection.
struct Handler {
    router: Router,
    peer: SocketAddr,
    caller: Caller,
    limits: Limits,
    place: Place,
    /// Whether a request has come.
    spoke: Arc<AtomicBool>,
}

impl Handler {
    async fn answer(&self, request: hyper::Request<Incoming>) -> Response {
        self.spoke.store(true, Ordering::Relaxed);
        let under_way = self.place.begin();
        let pause = self.limits.settings().body_pause;
        let mut request = request.map(|body| Body::new(TimedBody::new(body, pause)));
        request.extensions_mut().insert(Peer(self.peer));
        request.extensions_mut().insert(self.caller.clone());
        let response = match self.wait(&request) {
            Ok(waiting) => {
                let outcome: Result<_, Infallible> = self.router.clone().oneshot(request).await;
                drop(waiting);
                match outcome {
                    Ok(response) => response,
                    Err(impossible) => match impossible {},
                }
            }
            Err(refusal) => refusal.into_response(),
        };
        response.map(|body| Body::new(CountedBody::new(body, under_way)))
    }

    /// Takes a place among those who wait, if this request may have to.
    fn wait(&self, request: &hyper::Request<Body>) -> Result<Option<Waiting>, ApiError> {
        let waits = request.uri().query().is_some_and(may_wait);
        waits.then(|| self.limits.wait(self.peer.ip())).transpose()
    }
}

/// Whether a read with this query waits for something newer.
fn may_wait(query: &str) -> bool {
    let index = query.split('&').find_map(|pair| pair.strip_prefix("index="));
    index.is_some_and(|index| !index.trim_start_matches('0').is_empty())
}

fn builder() -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME_MAX)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX);
    builder
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_waits_if_it_names_an_index() {
        for (query, expected) in [
            ("index=7", true),
            ("pretty&index=10&wait=5s", true),
            ("index=0", false),
            ("index=", false),
            ("index=000", false),
            ("myindex=7", false),
            ("wait=5s", false),
            ("", false),
        ] {
            assert_eq!(may_wait(query), expected, "{query}");
        }
    }
}
