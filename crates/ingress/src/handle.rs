//! Starting an ingress: sockets first, so that a busy port is an error and not a log line.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use cos_model::catalog::Catalog;
use cos_platform::{Clock, Fate, Sockets, Tasks};

use crate::admin;
use crate::proxy::Workers;
use crate::table::Table;
use crate::tcp;

/// What an ingress needs to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where clients connect; one listener each.
    pub proxy_addresses: Vec<SocketAddr>,
    /// Where the page and API of the table are served; empty switches them off.
    pub ui_addresses: Vec<SocketAddr>,
    /// The name put in for `$DC` in tags.
    pub datacenter: String,
    /// How many worker threads serve requests.
    pub workers: usize,
    /// The sockets of the process, on which is listened.
    pub sockets: Sockets,
}

/// The ingress could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A port is taken, or the address is not this machine's.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// A worker thread could not be made.
    #[error("cannot start an ingress worker")]
    Worker(#[source] std::io::Error),
}

/// A running ingress. It stops with the tasks it was started in.
#[derive(Clone, Debug)]
pub struct Ingress {
    table: Arc<ArcSwap<Table>>,
    workers: Workers,
    proxy_addresses: Vec<SocketAddr>,
    ui_addresses: Vec<SocketAddr>,
    /// Cancelled when the table is worth looking at.
    ready: CancellationToken,
}

/// How long an accept loop rests after the machine ran out of something.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How long connections wait at the start for the first catalog. Until then nothing is known, and
/// "no such route" would be a wrong answer; after that it is the right one.
const FIRST_CATALOG_TIME: Duration = Duration::from_secs(5);

impl Ingress {
    /// Binds all addresses and starts serving, in the runtime around it.
    pub fn start(
        config: Config,
        catalog: watch::Receiver<Arc<Catalog>>,
        clock: &Arc<dyn Clock>,
        tasks: &Tasks,
    ) -> Result<Self, StartError> {
        let proxies = bind_all(&config.proxy_addresses, &config.sockets)?;
        let uis = bind_all(&config.ui_addresses, &config.sockets)?;
        let first = Table::build(&catalog.borrow(), &config.datacenter);
        let table = Arc::new(ArcSwap::from_pointee(first));
        let workers = Workers::start(config.workers.max(1), &table, clock, tasks)
            .map_err(StartError::Worker)?;
        let ingress = Self {
            table: Arc::clone(&table),
            workers,
            proxy_addresses: local_addresses(&proxies),
            ui_addresses: local_addresses(&uis),
            ready: CancellationToken::new(),
        };
        for listener in proxies {
            ingress.accept_on(listener, tasks);
        }
        for listener in uis {
            let serving = admin::serve(listener, Arc::clone(&table), tasks.clone());
            tasks.spawn("ingress-ui", Fate::Ends, serving);
        }
        let listen_on: Vec<_> = ingress.proxy_addresses.iter().map(SocketAddr::ip).collect();
        let streams = tcp::Listeners::new(listen_on, Arc::clone(&table), tasks.clone());
        tasks.spawn("ingress-ready", Fate::Ends, wait_no_longer(ingress.ready.clone()));
        let following = Following { datacenter: config.datacenter, table, streams };
        let following = following.run(catalog, ingress.ready.clone(), tasks.clone());
        tasks.spawn("ingress-table", Fate::Vital, following);
        Ok(ingress)
    }

    /// Takes connections on one more address.
    pub async fn listen_also(&self, address: SocketAddr, tasks: &Tasks) -> Result<(), StartError> {
        let listener = TcpListener::bind(address)
            .await
            .map_err(|source| StartError::Listen { address, source })?;
        self.accept_on(listener, tasks);
        Ok(())
    }

    fn accept_on(&self, listener: TcpListener, tasks: &Tasks) {
        let accepting = accept(listener, self.workers.clone(), self.ready.clone(), tasks.clone());
        tasks.spawn("ingress-accept", Fate::Ends, accepting);
    }

    /// The table as requests see it now.
    pub fn table(&self) -> Arc<Table> {
        self.table.load_full()
    }

    /// Where clients connect, with the ports that were really bound.
    pub fn proxy_addresses(&self) -> &[SocketAddr] {
        &self.proxy_addresses
    }

    /// Where the page and API of the table are, with the ports that were really bound.
    pub fn ui_addresses(&self) -> &[SocketAddr] {
        &self.ui_addresses
    }
}

fn bind_all(addresses: &[SocketAddr], sockets: &Sockets) -> Result<Vec<TcpListener>, StartError> {
    let listen = |address: &SocketAddr| {
        sockets.listen(*address).map_err(|source| StartError::Listen { address: *address, source })
    };
    addresses.iter().map(listen).collect()
}

fn local_addresses(listeners: &[TcpListener]) -> Vec<SocketAddr> {
    listeners.iter().filter_map(|listener| listener.local_addr().ok()).collect()
}

/// Hands each connection to the next worker.
async fn accept(listener: TcpListener, workers: Workers, ready: CancellationToken, tasks: Tasks) {
    let stopping = tasks.stopping();
    // Either may be dropped; connections wait in the kernel's queue.
    tokio::select! {
        () = ready.cancelled() => {}
        () = stopping.cancelled() => return,
    }
    loop {
        let accepted = tokio::select! {
            // At the end nothing more is accepted, so that it waits for whoever comes next.
            biased;
            () = stopping.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((socket, peer)) => workers.hand_over(socket, peer),
            Err(error) => {
                tracing::warn!(%error, "ingress cannot accept");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Ends the wait for the first catalog if there is none within a sensible time.
async fn wait_no_longer(ready: CancellationToken) {
    // It may be dropped: whoever waits for it waits no more then.
    tokio::select! {
        () = tokio::time::sleep(FIRST_CATALOG_TIME) => ready.cancel(),
        () = ready.cancelled() => {}
    }
}

/// What follows the catalog.
struct Following {
    datacenter: String,
    table: Arc<ArcSwap<Table>>,
    streams: tcp::Listeners,
}

impl Following {
    /// Rebuilds the table whenever the catalog changes.
    async fn run(
        mut self,
        mut catalog: watch::Receiver<Arc<Catalog>>,
        ready: CancellationToken,
        tasks: Tasks,
    ) {
        let stopping = tasks.stopping();
        let mut told: Vec<String> = Vec::new();
        loop {
            let newest = catalog.borrow_and_update().clone();
            let next = Table::build(&newest, &self.datacenter);
            if next.refused() != told {
                for reason in next.refused() {
                    tracing::warn!(%reason, "ingress tag refused");
                }
                told = next.refused().to_vec();
            }
            if **self.table.load() != next {
                self.table.store(Arc::new(next));
            }
            if newest.index() > 0 {
                ready.cancel();
            }
            self.streams.adjust().await;
            let changed = tokio::select! {
                changed = catalog.changed() => changed, // the watch keeps the newest value
                () = stopping.cancelled() => return,
            };
            if changed.is_err() {
                // The catalog's owner is gone: the last table stays in force until the program
                // ends.
                stopping.cancelled().await;
                return;
            }
        }
    }
}
