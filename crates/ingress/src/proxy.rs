//! The workers: threads that serve connections, each with its own runtime and upstream pool.
//!
//! A request is read, routed, sent and answered on one thread. Only the accepted socket crosses.
//!
//! At the end every connection is told so with its next answer, and those that go on resting are
//! closed; what is being answered is answered.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use hyper::StatusCode;
use hyper::header::{self, HeaderValue};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::runtime::LocalOptions;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use cos_platform::{Clock, Fate, Tasks};

use crate::table::Table;

mod forward;
mod headers;
mod pool;
mod redirect;
mod tls;

use forward::Forwarder;
use headers::Origin;

/// How long a client may take to send its request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// How large a request's head may be.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// How long requests that are being answered at the end may take.
const DRAIN_TIMEOUT: Duration = Duration::from_millis(3500);
/// How long a connection that rests at the end may still bring a request, which may be on its way
/// and would be lost. Short, as new connections wait meanwhile.
const LINGER: Duration = Duration::from_millis(500);
/// How often idle upstream connections are looked over.
const PRUNE_EVERY: Duration = Duration::from_secs(5);

/// All workers. Clones are handles to the same threads.
#[derive(Clone, Debug)]
pub(crate) struct Workers {
    queues: Arc<[mpsc::UnboundedSender<Accepted>]>,
    next: Arc<AtomicUsize>,
}

/// A connection on its way to a worker, detached from the accepting runtime.
#[derive(Debug)]
struct Accepted {
    socket: std::net::TcpStream,
    peer: SocketAddr,
}

impl Workers {
    /// Starts the threads. They end when the tasks stop.
    pub(crate) fn start(
        count: usize,
        table: &Arc<ArcSwap<Table>>,
        clock: &Arc<dyn Clock>,
        tasks: &Tasks,
    ) -> std::io::Result<Self> {
        let mut queues = Vec::with_capacity(count);
        for number in 0..count {
            let (queue, accepted) = mpsc::unbounded_channel();
            queues.push(queue);
            let (started, outcome) = std::sync::mpsc::sync_channel(1);
            let (ended, end) = oneshot::channel::<()>();
            tasks.spawn("ingress-worker", Fate::Ends, async { drop(end.await) });
            let (table, clock, tasks) = (Arc::clone(table), Arc::clone(clock), tasks.clone());
            std::thread::Builder::new().name(format!("ingress-{number}")).spawn(move || {
                // A runtime of its own thread cannot be made elsewhere and brought here.
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build_local(LocalOptions::default());
                match runtime {
                    Ok(runtime) => {
                        drop(started.send(Ok(())));
                        runtime.block_on(work(accepted, table, clock, tasks));
                        // Who waits for the end learns of it by this being dropped.
                        drop(ended);
                    }
                    Err(error) => drop(started.send(Err(error))),
                }
            })?;
            // The thread answers at once, or is gone, which counts as not started.
            outcome.recv().map_err(std::io::Error::other)??;
        }
        Ok(Self { queues: queues.into(), next: Arc::default() })
    }

    /// Gives a connection to the next worker in turn.
    pub(crate) fn hand_over(&self, socket: TcpStream, peer: SocketAddr) {
        let turn = self.next.fetch_add(1, Ordering::Relaxed) % self.queues.len();
        // A socket that cannot be set up or whose worker is gone is closed by dropping it.
        if socket.set_nodelay(true).is_ok()
            && let Ok(socket) = socket.into_std()
        {
            drop(self.queues[turn].send(Accepted { socket, peer }));
        }
    }
}

async fn work(
    mut accepted: mpsc::UnboundedReceiver<Accepted>,
    table: Arc<ArcSwap<Table>>,
    clock: Arc<dyn Clock>,
    tasks: Tasks,
) {
    let stopping = tasks.stopping();
    let open = TaskTracker::new();
    let forwarder = Rc::new(Forwarder::new(table, clock));
    let mut prune = tokio::time::interval(PRUNE_EVERY);
    loop {
        tokio::select! {
            // All three may be cancelled: a socket stays queued, a tick comes again.
            next = accepted.recv() => match next {
                Some(connection) => serve(connection, &forwarder, &stopping, &open),
                None => return,
            },
            _ = prune.tick() => forwarder.prune(),
            () = stopping.cancelled() => break,
        }
    }
    // What was accepted before the end is answered as well.
    while let Ok(connection) = accepted.try_recv() {
        serve(connection, &forwarder, &stopping, &open);
    }
    open.close();
    // What does not end in time is cut off by the end of the runtime.
    drop(tokio::time::timeout(DRAIN_TIMEOUT, open.wait()).await);
}

/// Returns when a connection that rests may be closed.
async fn lingered(stopping: &CancellationToken) {
    stopping.cancelled().await;
    tokio::time::sleep(LINGER).await;
}

fn serve(
    accepted: Accepted,
    forwarder: &Rc<Forwarder>,
    stopping: &CancellationToken,
    open: &TaskTracker,
) {
    let Ok(socket) = TcpStream::from_std(accepted.socket) else { return };
    let peer = accepted.peer;
    let Some(origin) = Origin::new(peer, socket.local_addr().unwrap_or(peer)) else { return };
    let context = Rc::new((Rc::clone(forwarder), origin));
    let stopping = stopping.clone();
    let counted = open.token();
    tokio::task::spawn_local(async move {
        let _counted = counted;
        let ending = stopping.clone();
        let service = service_fn(move |request| {
            let (context, ending) = (Rc::clone(&context), ending.clone());
            async move {
                let (forwarder, origin) = &*context;
                let mut answer = forwarder.answer(request, origin).await;
                if let Ok(response) = &mut answer
                    && ending.is_cancelled()
                    && response.status() != StatusCode::SWITCHING_PROTOCOLS
                {
                    let close = HeaderValue::from_static("close");
                    response.headers_mut().insert(header::CONNECTION, close);
                }
                answer
            }
        });
        let mut connection = std::pin::pin!(
            hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .max_buf_size(HEAD_BYTES_MAX)
            .half_close(false)
            // Most answers are small, and one write of a copy is cheaper than a gathered write.
            .writev(false)
            .serve_connection(TokioIo::new(socket), service)
            .with_upgrades()
        );
        let outcome = tokio::select! {
            // The wait may be dropped, and the connection goes on below.
            outcome = connection.as_mut() => outcome,
            () = lingered(&stopping) => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = outcome {
            tracing::trace!(%peer, %error, "client connection ended early");
        }
    });
}
