//! What the log says of clients that are turned away, though not without end.
//!
//! Deliberately absent: counting. The metrics do that, and the log says how many it held back.

use std::error::Error;
use std::net::SocketAddr;

use cos_platform::LogGate;
use tokio::time::Instant;

/// The log's side of all refusals of one listener.
#[derive(Debug)]
pub(crate) struct Refusals {
    gate: LogGate,
    began: Instant,
}

impl Refusals {
    pub(crate) fn new() -> Self {
        Self { gate: LogGate::default(), began: Instant::now() }
    }

    /// Tells why a client is not served.
    pub(crate) fn tell(&self, peer: SocketAddr, why: &str) {
        if let Some(held_back) = self.gate.pass(self.began.elapsed()) {
            tracing::warn!(%peer, why, held_back, "http connection turned away");
        }
    }

    /// Tells of a connection that ended otherwise than well: loudly if the client sent what is no
    /// request, quietly if it only went away.
    pub(crate) fn ended(&self, peer: SocketAddr, error: &(dyn Error + 'static)) {
        match error.downcast_ref::<hyper::Error>() {
            Some(broken) if broken.is_parse_too_large() => {
                self.tell(peer, "the head of its request is too large");
            }
            Some(broken) if broken.is_parse() => {
                self.tell(peer, "it sent bytes that are no request of HTTP");
            }
            _ => tracing::debug!(%peer, error, "connection ended early"),
        }
    }
}
