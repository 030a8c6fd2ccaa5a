//! The calling side: a pool with one connection per address, made on first use and made again
//! after it broke.
//!
//! Traffic that must not wait for other traffic (heartbeats of the consensus, say) uses a client,
//! and so a connection, of its own.
//!
//! Deliberately absent: balancing. The caller names the peer it means.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use http::uri::PathAndQuery;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::client::Grpc;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Request, Streaming};
use tower::service_fn;

use super::codec::{RawCodec, from_status};
use super::{
    CALL_PREFIX, CONNECT_TIMEOUT, CONNECTION_WINDOW_BYTES, FRAME_BYTES_MAX, KEEPALIVE_INTERVAL,
    KEEPALIVE_TIMEOUT, MESSAGE_BYTES_MAX, RpcError, STREAM_PREFIX, STREAM_QUEUE_MESSAGES,
    STREAM_WINDOW_BYTES, Security,
};
use crate::tls::{MaybeTls, Protocol};
use crate::{Fate, Tasks};

/// How many peers are kept connected; beyond it the one that was not used for longest is let go.
const POOL_ADDRESSES_MAX: usize = 256;
/// How long a peer may take to accept a stream.
const OPEN_TIMEOUT: Duration = Duration::from_secs(5);

/// Calls peers. Clones share the connections.
#[derive(Clone, Debug, Default)]
pub struct Client {
    pool: Arc<Mutex<Pool>>,
    pumps: Tasks,
    security: Security,
    protocol: Protocol,
}

#[derive(Debug, Default)]
struct Pool {
    uses: u64,
    channels: BTreeMap<String, (u64, Channel)>,
}

impl Client {
    /// Makes a client without connections, which will speak in the clear.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes a client without connections, which will speak this protocol.
    pub fn secured(security: Security, protocol: Protocol) -> Self {
        Self { security, protocol, ..Self::default() }
    }

    /// Calls `method` of the peer at `address` (`host:port`) and waits for the answer.
    pub async fn call(
        &self,
        address: &str,
        method: &str,
        body: Bytes,
        timeout: Duration,
    ) -> Result<Bytes, RpcError> {
        if body.len() > MESSAGE_BYTES_MAX {
            let size = body.len();
            return Err(RpcError::Refused(format!("a message of {size} bytes is too large")));
        }
        let path = path(CALL_PREFIX, method)?;
        let mut grpc = self.grpc(address)?;
        let exchange = async {
            grpc.ready()
                .await
                .map_err(|error| from_status(&tonic::Status::from_error(error.into())))?;
            let reply = grpc.unary(Request::new(body), path, RawCodec).await;
            reply.map(tonic::Response::into_inner).map_err(|status| from_status(&status))
        };
        // Dropping the exchange resets the HTTP/2 stream, which cancels the work of the peer.
        tokio::time::timeout(timeout, exchange).await.unwrap_or(Err(RpcError::Timeout))
    }

    /// Opens a stream to `method` of the peer at `address`.
    ///
    /// Dropping the receiver ends the stream; dropping the sender tells the peer that no more
    /// comes. When the peer ends it, the receiver yields `None` and the sender is closed.
    pub async fn stream(
        &self,
        address: &str,
        method: &str,
    ) -> Result<(mpsc::Sender<Bytes>, mpsc::Receiver<Bytes>), RpcError> {
        let path = path(STREAM_PREFIX, method)?;
        let mut grpc = self.grpc(address)?;
        let (outbound, outbound_queue) = mpsc::channel(STREAM_QUEUE_MESSAGES);
        let ended = CancellationToken::new();
        let source =
            ReceiverStream::new(outbound_queue).take_until(ended.clone().cancelled_owned());
        let open = async {
            grpc.ready()
                .await
                .map_err(|error| from_status(&tonic::Status::from_error(error.into())))?;
            let reply = grpc.streaming(Request::new(source), path, RawCodec).await;
            reply.map(tonic::Response::into_inner).map_err(|status| from_status(&status))
        };
        let source =
            tokio::time::timeout(OPEN_TIMEOUT, open).await.unwrap_or(Err(RpcError::Timeout))?;
        let (inbound, inbound_queue) = mpsc::channel(STREAM_QUEUE_MESSAGES);
        let method = method.to_owned();
        self.pumps.spawn("rpc inbound", Fate::Ends, async move {
            pump(&method, source, inbound).await;
            ended.cancel();
        });
        Ok((outbound, inbound_queue))
    }

    fn grpc(&self, address: &str) -> Result<Grpc<Channel>, RpcError> {
        let channel = self.channel(address)?;
        Ok(Grpc::new(channel)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX))
    }

    fn channel(&self, address: &str) -> Result<Channel, RpcError> {
        let mut pool = self.pool.lock().unwrap_or_else(PoisonError::into_inner);
        pool.uses += 1;
        let now = pool.uses;
        if let Some((used, channel)) = pool.channels.get_mut(address) {
            *used = now;
            return Ok(channel.clone());
        }
        if pool.channels.len() >= POOL_ADDRESSES_MAX {
            let oldest = pool.channels.iter().min_by_key(|(_, (used, _))| *used);
            let oldest = oldest.map(|(address, _)| address.clone());
            // Open streams keep their connection; only the pool lets go of it.
            oldest.map(|address| pool.channels.remove(&address));
        }
        let channel = connect(&endpoint(address)?, address, &self.security, self.protocol);
        pool.channels.insert(address.to_owned(), (now, channel.clone()));
        Ok(channel)
    }
}

/// How connections to an address are made when they are needed.
fn connect(endpoint: &Endpoint, address: &str, security: &Security, protocol: Protocol) -> Channel {
    let (address, security) = (address.to_owned(), security.clone());
    let connector = service_fn(move |_: Uri| {
        let (address, security) = (address.clone(), security.clone());
        async move {
            let stream = open(&address).await?;
            let stream = match security {
                Security::Plain => MaybeTls::Plain(stream),
                Security::Tls { identity, upgrading } => {
                    match identity.call_server(stream, protocol).await {
                        // A peer that was not changed over yet only knows the other way.
                        Err(_) if upgrading => MaybeTls::Plain(open(&address).await?),
                        secured => secured?,
                    }
                }
            };
            Ok::<_, std::io::Error>(TokioIo::new(stream))
        }
    });
    endpoint.connect_with_connector_lazy(connector)
}

async fn open(address: &str) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn endpoint(address: &str) -> Result<Endpoint, RpcError> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))
        .map_err(|error| RpcError::Unreachable(format!("`{address}` is no address: {error}")))?;
    Ok(endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_frame_size(FRAME_BYTES_MAX)
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true))
}

fn path(prefix: &str, method: &str) -> Result<PathAndQuery, RpcError> {
    PathAndQuery::try_from(format!("{prefix}{method}"))
        .map_err(|error| RpcError::Refused(format!("`{method}` is no method name: {error}")))
}

/// Moves messages until either side ends the stream.
async fn pump(method: &str, mut source: Streaming<Bytes>, inbound: mpsc::Sender<Bytes>) {
    loop {
        // A message that is lost by the second arm has no reader any more.
        let message = tokio::select! {
            message = source.message() => message,
            () = inbound.closed() => return,
        };
        match message {
            Ok(Some(message)) => {
                if inbound.send(message).await.is_err() {
                    return;
                }
            }
            Ok(None) => return,
            Err(status) => {
                tracing::debug!(method, error = %from_status(&status), "rpc stream ended");
                return;
            }
        }
    }
}
