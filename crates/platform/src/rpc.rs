//! The cluster's own protocol: named calls and byte streams between servers and agents.
//!
//! It is gRPC framing over HTTP/2 with one difference: a message is opaque bytes, because every
//! message of ours already has its own versioned encoding. The method is the last segment of the
//! path; calls and streams have their own first segment, so neither is taken for the other.
//!
//! Invariants: every queue and message has a limit that is named here; a stream that one side has
//! ended ends on the other side as well; a caller that gives up cancels the work.
//!
//! Connections are secured as [`Security`] says, and a service is told who calls ([`Peer`]).
//!
//! Deliberately absent: retries (only the caller knows whether a repeat is harmless), knowledge of
//! any message, and what a peer may do; a service decides that by method and peer.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::mpsc;

pub use client::Client;
pub use peer::{Peer, Security, Who};
pub use server::serve;

mod admission;
mod client;
mod codec;
mod peer;
mod server;
#[cfg(test)]
mod tests;

/// The largest message. Larger things (snapshots) are cut by their sender.
pub const MESSAGE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// How many messages wait in each direction of a stream before its sender waits too.
pub const STREAM_QUEUE_MESSAGES: usize = 64;

/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// A silent connection is probed this often…
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
/// …and given up if the probe stays unanswered this long.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(5);
/// What may be in flight on one stream; enough for 1 GB/s at 4 ms.
const STREAM_WINDOW_BYTES: u32 = 4 * 1024 * 1024;
/// What may be in flight on one connection.
const CONNECTION_WINDOW_BYTES: u32 = 16 * 1024 * 1024;
/// Small enough that a heartbeat never waits long behind a piece of something large.
const FRAME_BYTES_MAX: u32 = 64 * 1024;
/// Calls and streams of one peer that are open together.
const CONCURRENT_MAX: u32 = 4096;
/// What may be in flight on a connection of somebody who is no member.
const STRANGER_WINDOW_BYTES: u32 = 128 * 1024;
/// The largest message of somebody who is no member.
const STRANGER_MESSAGE_BYTES_MAX: usize = 64 * 1024;
/// Calls that somebody who is no member has open together.
const STRANGER_CONCURRENT_MAX: u32 = 4;
/// How long somebody who is no member may stay.
const STRANGER_TIME_MAX: Duration = Duration::from_secs(30);
/// How many of them are served together.
const STRANGERS_MAX: usize = 64;
/// How long a connection may rest before its first call. Callers connect when they have something to
/// ask, so one that does not is half a peer, or none.
const FIRST_CALL_WAIT: Duration = Duration::from_secs(30);
/// How many connections may be made at the same moment whose peer is not known yet.
const ADMISSIONS_MAX: usize = 1024;
/// How many connections are held in all.
const CONNECTIONS_MAX: usize = 16 * 1024;
/// An error text travels in a header, and headers are bounded.
const REFUSAL_BYTES_MAX: usize = 2048;

const CALL_PREFIX: &str = "/cos.call/";
const STREAM_PREFIX: &str = "/cos.stream/";

/// Why a call or a stream failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RpcError {
    /// No connection could be made: the peer has not seen the request.
    #[error("peer is unreachable: {0}")]
    Unreachable(String),
    /// No answer came in time: the peer may or may not have acted.
    #[error("peer did not answer in time")]
    Timeout,
    /// The peer answered that it will not do it.
    #[error("peer refused: {0}")]
    Refused(String),
    /// The connection broke or the peer is stopping: the peer may or may not have acted.
    #[error("connection closed")]
    Closed,
}

/// What a server offers to its peers.
#[async_trait]
pub trait Service: Send + Sync + 'static {
    /// Answers one call. The future is dropped when the caller gives up.
    async fn call(&self, peer: &Peer, method: &str, body: Bytes) -> Result<Bytes, RpcError>;

    /// Serves one stream until either side ends it. The future is dropped when the peer is gone.
    async fn stream(
        &self,
        peer: &Peer,
        method: &str,
        inbound: mpsc::Receiver<Bytes>,
        outbound: mpsc::Sender<Bytes>,
    ) -> Result<(), RpcError>;
}
