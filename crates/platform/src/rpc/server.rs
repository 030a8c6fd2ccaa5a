//! The listening side: one task per connection, one more per stream.
//!
//! Deliberately absent: routing by method. A [`Service`] knows its methods; this file knows only
//! the difference between a call and a stream.

use std::convert::Infallible;
use std::error::Error;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, BoxStream};
use futures_util::{FutureExt, StreamExt};
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::body::Body;
use tonic::server::{Grpc, StreamingService, UnaryService};
use tonic::{Status, Streaming};

use super::admission::{ADMISSION_TIME_MAX, admit};
use super::codec::{RawCodec, innermost, to_status};
use super::{
    ADMISSIONS_MAX, CALL_PREFIX, CONCURRENT_MAX, CONNECTION_WINDOW_BYTES, CONNECTIONS_MAX,
    FIRST_CALL_WAIT, FRAME_BYTES_MAX, KEEPALIVE_INTERVAL, KEEPALIVE_TIMEOUT, MESSAGE_BYTES_MAX,
    Peer, RpcError, STRANGER_CONCURRENT_MAX, STRANGER_MESSAGE_BYTES_MAX, STRANGER_TIME_MAX,
    STRANGER_WINDOW_BYTES, STRANGERS_MAX, STREAM_PREFIX, STREAM_QUEUE_MESSAGES,
    STREAM_WINDOW_BYTES, Security, Service, Who,
};
use crate::clock::{Clock, SystemClock};
use crate::tls::MaybeTls;
use crate::{Fate, LogGate, Tasks};

/// How long calls under way may still take once the tasks are asked to end.
const DRAIN_TIMEOUT: Duration = Duration::from_millis(500);
/// How long to wait when the process is out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves `service` on `listener` until `tasks` are asked to end.
pub async fn serve(
    listener: TcpListener,
    service: Arc<dyn Service>,
    security: Security,
    tasks: &Tasks,
) {
    let stopping = tasks.stopping();
    let hall = Arc::new(Hall::new(service, security, tasks.clone()));
    loop {
        // A connection is taken from the kernel's queue only when there is room for it.
        let Ok(room) = Arc::clone(&hall.connections).acquire_owned().await else { return };
        // Cancelling `accept` loses no connection.
        let accepted = tokio::select! {
            () = stopping.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, address)) => {
                let Ok(admission) = Arc::clone(&hall.admissions).try_acquire_owned() else {
                    hall.turned_away(address, "too many others are not known yet either");
                    continue;
                };
                let hall = Arc::clone(&hall);
                tasks.spawn("rpc connection", Fate::Ends, async move {
                    hall.receive(stream, address, admission).await;
                    drop(room);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept an rpc connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// What all connections of one listener share.
struct Hall {
    service: Arc<dyn Service>,
    security: Security,
    tasks: Tasks,
    clock: SystemClock,
    connections: Arc<Semaphore>,
    admissions: Arc<Semaphore>,
    strangers: Arc<Semaphore>,
    gate: LogGate,
}

impl Hall {
    fn new(service: Arc<dyn Service>, security: Security, tasks: Tasks) -> Self {
        Self {
            service,
            security,
            tasks,
            clock: SystemClock::new(),
            connections: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
            admissions: Arc::new(Semaphore::new(ADMISSIONS_MAX)),
            strangers: Arc::new(Semaphore::new(STRANGERS_MAX)),
            gate: LogGate::default(),
        }
    }

    fn turned_away(&self, address: SocketAddr, why: &str) {
        if let Some(held_back) = self.gate.pass(self.clock.monotonic()) {
            tracing::warn!(peer = %address, why, held_back, "rpc connection turned away");
        }
    }

    /// Finds out who calls and serves it, if it may stay.
    async fn receive(
        &self,
        stream: TcpStream,
        address: SocketAddr,
        admission: OwnedSemaphorePermit,
    ) {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "rpc connection refused");
            return;
        }
        let admitted =
            tokio::time::timeout(ADMISSION_TIME_MAX, admit(stream, &self.security)).await;
        let admitted = admitted.unwrap_or_else(|_elapsed| Err("it took too long".to_owned()));
        drop(admission);
        match admitted {
            Ok((stream, peer)) if matches!(peer.who, Who::Trusted | Who::Member(_)) => {
                self.serve(stream, peer).await;
            }
            Ok((stream, peer)) => {
                let Ok(_room) = self.strangers.try_acquire() else {
                    self.turned_away(address, "too many others without a certificate are here");
                    return;
                };
                let stay = self.serve(stream, peer);
                if tokio::time::timeout(STRANGER_TIME_MAX, stay).await.is_err() {
                    self.turned_away(address, "it stayed too long without a certificate");
                }
            }
            Err(why) => self.turned_away(address, &why),
        }
    }

    async fn serve(&self, stream: MaybeTls, peer: Peer) {
        let is_known = matches!(peer.who, Who::Trusted | Who::Member(_));
        let (window, concurrent) = if is_known {
            (CONNECTION_WINDOW_BYTES, CONCURRENT_MAX)
        } else {
            (STRANGER_WINDOW_BYTES, STRANGER_CONCURRENT_MAX)
        };
        let address = peer.address;
        let peer = Arc::new(peer);
        let (service, tasks) = (Arc::clone(&self.service), self.tasks.clone());
        let asked = Arc::new(AtomicBool::new(false));
        let has_asked = Arc::clone(&asked);
        let answer = service_fn(move |request| {
            asked.store(true, Ordering::Relaxed);
            let exchange = Exchange {
                service: Arc::clone(&service),
                peer: Arc::clone(&peer),
                message_bytes_max: if is_known {
                    MESSAGE_BYTES_MAX
                } else {
                    STRANGER_MESSAGE_BYTES_MAX
                },
                tasks: tasks.clone(),
            };
            async move { Ok::<_, Infallible>(exchange.answer(request).await) }
        });
        let connection = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW_BYTES.min(window))
            .initial_connection_window_size(window)
            .max_frame_size(FRAME_BYTES_MAX)
            .max_concurrent_streams(concurrent)
            .keep_alive_interval(KEEPALIVE_INTERVAL)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT)
            .serve_connection(TokioIo::new(stream), answer);
        let mut connection = pin!(connection);
        let stopping = self.tasks.stopping();
        let silent = async {
            tokio::time::sleep(FIRST_CALL_WAIT).await;
            if has_asked.load(Ordering::Relaxed) {
                std::future::pending::<()>().await;
            }
        };
        // A cancelled arm loses nothing: the connection lives on in `connection`.
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = silent => {
                self.turned_away(address, "it asked for nothing");
                connection.as_mut().graceful_shutdown();
                tokio::time::timeout(DRAIN_TIMEOUT, connection).await.unwrap_or(Ok(()))
            }
            () = stopping.cancelled() => {
                connection.as_mut().graceful_shutdown();
                tokio::time::timeout(DRAIN_TIMEOUT, connection).await.unwrap_or(Ok(()))
            }
        };
        match ended {
            Err(error) if !has_asked.load(Ordering::Relaxed) && !is_hang_up(&error) => {
                self.turned_away(address, &format!("it broke the protocol: {}", innermost(&error)));
            }
            Err(error) => tracing::debug!(%error, "rpc connection ended"),
            Ok(()) => {}
        }
    }
}

/// Whether a connection ended because the other side went away.
fn is_hang_up(error: &hyper::Error) -> bool {
    error.source().is_some_and(<dyn Error>::is::<std::io::Error>)
}

/// One request and what is needed to answer it.
struct Exchange {
    service: Arc<dyn Service>,
    peer: Arc<Peer>,
    message_bytes_max: usize,
    tasks: Tasks,
}

impl Exchange {
    async fn answer(self, request: Request<Incoming>) -> Response<Body> {
        let mut grpc = Grpc::new(RawCodec)
            .max_decoding_message_size(self.message_bytes_max)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        let path = request.uri().path().to_owned();
        if let Some(method) = path.strip_prefix(CALL_PREFIX) {
            let call = Call { service: self.service, peer: self.peer, method: method.to_owned() };
            grpc.unary(call, request).await
        } else if let Some(method) = path.strip_prefix(STREAM_PREFIX) {
            let open = Open { exchange: self, method: method.to_owned() };
            grpc.streaming(open, request).await
        } else {
            Status::unimplemented(format!("no such path: {path}")).into_http()
        }
    }
}

type Answer<T> = Pin<Box<dyn Future<Output = Result<tonic::Response<T>, Status>> + Send>>;

struct Call {
    service: Arc<dyn Service>,
    peer: Arc<Peer>,
    method: String,
}

impl UnaryService<Bytes> for Call {
    type Response = Bytes;
    type Future = Answer<Bytes>;

    fn call(&mut self, request: tonic::Request<Bytes>) -> Self::Future {
        let service = Arc::clone(&self.service);
        let (method, peer) = (std::mem::take(&mut self.method), Arc::clone(&self.peer));
        Box::pin(async move {
            let reply = service.call(&peer, &method, request.into_inner()).await;
            reply.map(tonic::Response::new).map_err(to_status)
        })
    }
}

struct Open {
    exchange: Exchange,
    method: String,
}

impl StreamingService<Bytes> for Open {
    type Response = Bytes;
    type ResponseStream = BoxStream<'static, Result<Bytes, Status>>;
    type Future = Answer<Self::ResponseStream>;

    fn call(&mut self, request: tonic::Request<Streaming<Bytes>>) -> Self::Future {
        let service = Arc::clone(&self.exchange.service);
        let peer = Arc::clone(&self.exchange.peer);
        let method = std::mem::take(&mut self.method);
        let (outbound, outbound_queue) = mpsc::channel(STREAM_QUEUE_MESSAGES);
        let (fate_sender, fate) = oneshot::channel();
        let stopping = self.exchange.tasks.stopping();
        self.exchange.tasks.spawn("rpc stream", Fate::Ends, async move {
            // Both arms may be dropped: the peer is told, or is gone.
            let outcome = tokio::select! {
                outcome = run_stream(service, &peer, &method, request.into_inner(), outbound) => outcome,
                () = stopping.cancelled() => Err(RpcError::Closed),
            };
            // Nobody listens if the peer is gone.
            drop(fate_sender.send(outcome));
        });
        // The last item of the stream is the fate of the handler, if it was not a good one.
        let last = fate.map(|fate| fate.unwrap_or(Err(RpcError::Closed)).err());
        let last = stream::once(last)
            .filter_map(|error| std::future::ready(error.map(|error| Err(to_status(error)))));
        let body = ReceiverStream::new(outbound_queue).map(Ok).chain(last).boxed();
        Box::pin(std::future::ready(Ok(tonic::Response::new(body))))
    }
}

/// Runs the handler of one stream and feeds it, until it ends or the peer is gone.
async fn run_stream(
    service: Arc<dyn Service>,
    peer: &Peer,
    method: &str,
    mut source: Streaming<Bytes>,
    outbound: mpsc::Sender<Bytes>,
) -> Result<(), RpcError> {
    let (inbound, inbound_queue) = mpsc::channel(STREAM_QUEUE_MESSAGES);
    let peer_gone = outbound.clone();
    let feed = async move {
        loop {
            match source.message().await {
                Ok(Some(message)) => {
                    if inbound.send(message).await.is_err() {
                        return std::future::pending().await;
                    }
                }
                // The peer has said all it had to say and may still listen.
                Ok(None) => break,
                Err(_) => return RpcError::Closed,
            }
        }
        drop(inbound);
        std::future::pending().await
    };
    // Whichever arm ends first ends the stream; the others hold nothing that outlives it.
    tokio::select! {
        outcome = service.stream(peer, method, inbound_queue, outbound) => outcome,
        error = feed => Err(error),
        () = peer_gone.closed() => Err(RpcError::Closed),
    }
}
