//! Upstream connections of one worker, kept for the next request to the same instance.
//!
//! A connection goes back to the pool as soon as its response's head is there; it is handed out
//! again only when it says that it is ready, which is when the body has passed.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::tls::Connectors;
use crate::table::Protocol;

/// How long a connection may rest.
const IDLE_MAX: Duration = Duration::from_secs(15);
/// How many connections per instance may rest.
const IDLE_COUNT_MAX: usize = 256;
/// How long connecting may take before another instance is tried.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection to an instance.
pub(super) type Upstream = SendRequest<Incoming>;

#[derive(Debug)]
struct Resting {
    upstream: Upstream,
    since: Duration,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    #[error("connecting timed out")]
    Timeout,
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error(transparent)]
    Handshake(#[from] hyper::Error),
}

/// Where a connection leads: `host:port`, and whether TLS is spoken.
type Place = (Arc<str>, bool);

/// The resting connections, by address and protocol.
#[derive(Debug, Default)]
pub(super) struct Pool {
    resting: RefCell<HashMap<Place, Vec<Resting>>>,
    connectors: Connectors,
}

impl Pool {
    /// Takes a connection that can be used at once, if one rests.
    pub(super) fn take(&self, address: &Arc<str>, protocol: Protocol) -> Option<Upstream> {
        let mut all = self.resting.borrow_mut();
        let resting = all.get_mut(&key(address, protocol))?;
        // The last one given back is the likeliest to be alive, and mostly the only one looked at.
        for at in (0..resting.len()).rev() {
            if resting[at].upstream.is_closed() {
                resting.swap_remove(at);
            } else if resting[at].upstream.is_ready() {
                return Some(resting.swap_remove(at).upstream);
            }
        }
        None
    }

    /// Gives a connection back.
    pub(super) fn give(
        &self,
        address: &Arc<str>,
        protocol: Protocol,
        upstream: Upstream,
        now: Duration,
    ) {
        let mut all = self.resting.borrow_mut();
        let resting = all.entry(key(address, protocol)).or_default();
        if resting.len() < IDLE_COUNT_MAX && !upstream.is_closed() {
            resting.push(Resting { upstream, since: now });
        }
    }

    /// Opens a connection.
    pub(super) async fn connect(
        &self,
        address: &str,
        protocol: Protocol,
        server_name: &str,
    ) -> Result<Upstream, ConnectError> {
        let connecting = async {
            let socket = TcpStream::connect(address).await?;
            socket.set_nodelay(true)?;
            // A request's head goes out in one plain write.
            let mut client = Builder::new();
            client.writev(false);
            match protocol {
                Protocol::Https { skip_verify } => {
                    let socket = self.connectors.connect(socket, server_name, skip_verify).await?;
                    let (upstream, connection) = client.handshake(TokioIo::new(socket)).await?;
                    tokio::task::spawn_local(connection.with_upgrades());
                    Ok(upstream)
                }
                Protocol::Http | Protocol::Tcp => {
                    let (upstream, connection) = client.handshake(TokioIo::new(socket)).await?;
                    tokio::task::spawn_local(connection.with_upgrades());
                    Ok(upstream)
                }
            }
        };
        tokio::time::timeout(CONNECT_TIMEOUT, connecting).await.ok().ok_or(ConnectError::Timeout)?
    }

    /// Closes what has rested too long. A connection whose body still flows is not resting.
    pub(super) fn prune(&self, now: Duration) {
        self.resting.borrow_mut().retain(|_, resting| {
            resting.retain(|rested| {
                let rested_long =
                    rested.upstream.is_ready() && now.saturating_sub(rested.since) > IDLE_MAX;
                !rested.upstream.is_closed() && !rested_long
            });
            !resting.is_empty()
        });
    }
}

fn key(address: &Arc<str>, protocol: Protocol) -> Place {
    (Arc::clone(address), matches!(protocol, Protocol::Https { .. }))
}
