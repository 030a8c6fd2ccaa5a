//! Starting an ingress: sockets first, so that a busy port is an error and not a log line.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::net::TcpListener;
use tokio::sync::watch;

use cos_model::catalog::Catalog;
use cos_platform::{Clock, Fate, Tasks};

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
}

/// How long an accept loop rests after the machine ran out of something.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

impl Ingress {
    /// Binds all addresses and starts serving.
    pub async fn start(
        config: Config,
        catalog: watch::Receiver<Arc<Catalog>>,
        clock: Arc<dyn Clock>,
        tasks: &Tasks,
    ) -> Result<Self, StartError> {
        let proxies = bind_all(&config.proxy_addresses).await?;
        let uis = bind_all(&config.ui_addresses).await?;
        let first = Table::build(&catalog.borrow(), &config.datacenter);
        let table = Arc::new(ArcSwap::from_pointee(first));
        let workers = Workers::start(config.workers.max(1), &table, &clock, tasks)
            .map_err(StartError::Worker)?;
        let ingress = Self {
            table: Arc::clone(&table),
            workers: workers.clone(),
            proxy_addresses: local_addresses(&proxies),
            ui_addresses: local_addresses(&uis),
        };
        for listener in proxies {
            let accepting = accept(listener, workers.clone(), tasks.clone());
            tasks.spawn("ingress-accept", Fate::Ends, accepting);
        }
        for listener in uis {
            let serving = admin::serve(listener, Arc::clone(&table), tasks.clone());
            tasks.spawn("ingress-ui", Fate::Ends, serving);
        }
        let listen_on: Vec<_> = ingress.proxy_addresses.iter().map(SocketAddr::ip).collect();
        let streams = tcp::Listeners::new(listen_on, Arc::clone(&table), tasks.clone());
        let following = follow(catalog, config.datacenter, table, streams, tasks.clone());
        tasks.spawn("ingress-table", Fate::Vital, following);
        Ok(ingress)
    }

    /// Takes connections on one more address.
    pub async fn listen_also(&self, address: SocketAddr, tasks: &Tasks) -> Result<(), StartError> {
        let listener = TcpListener::bind(address)
            .await
            .map_err(|source| StartError::Listen { address, source })?;
        let accepting = accept(listener, self.workers.clone(), tasks.clone());
        tasks.spawn("ingress-accept", Fate::Ends, accepting);
        Ok(())
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

async fn bind_all(addresses: &[SocketAddr]) -> Result<Vec<TcpListener>, StartError> {
    let mut listeners = Vec::with_capacity(addresses.len());
    for address in addresses {
        let listener = TcpListener::bind(address)
            .await
            .map_err(|source| StartError::Listen { address: *address, source })?;
        listeners.push(listener);
    }
    Ok(listeners)
}

fn local_addresses(listeners: &[TcpListener]) -> Vec<SocketAddr> {
    listeners.iter().filter_map(|listener| listener.local_addr().ok()).collect()
}

/// Hands each connection to the next worker.
async fn accept(listener: TcpListener, workers: Workers, tasks: Tasks) {
    let stopping = tasks.stopping();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted, // a connection not accepted stays queued
            () = stopping.cancelled() => return,
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

/// Rebuilds the table whenever the catalog changes.
async fn follow(
    mut catalog: watch::Receiver<Arc<Catalog>>,
    datacenter: String,
    table: Arc<ArcSwap<Table>>,
    mut streams: tcp::Listeners,
    tasks: Tasks,
) {
    let stopping = tasks.stopping();
    let mut told: Vec<String> = Vec::new();
    loop {
        let next = Table::build(&catalog.borrow_and_update().clone(), &datacenter);
        if next.refused() != told {
            for reason in next.refused() {
                tracing::warn!(%reason, "ingress tag refused");
            }
            told = next.refused().to_vec();
        }
        if **table.load() != next {
            table.store(Arc::new(next));
        }
        streams.adjust().await;
        let changed = tokio::select! {
            changed = catalog.changed() => changed, // the watch keeps the newest value
            () = stopping.cancelled() => return,
        };
        if changed.is_err() {
            // The catalog's owner is gone: the last table stays in force until the program ends.
            stopping.cancelled().await;
            return;
        }
    }
}
