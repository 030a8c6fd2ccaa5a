//! TCP routes: a listener for each port that a tag names, bytes both ways.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use cos_platform::{Fate, Tasks, entropy};

use crate::table::Table;

/// How long a connection to an instance may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The listeners that are open, by port.
#[derive(Debug)]
pub(crate) struct Listeners {
    hosts: Vec<IpAddr>,
    table: Arc<ArcSwap<Table>>,
    tasks: Tasks,
    open: BTreeMap<u16, CancellationToken>,
}

impl Listeners {
    pub(crate) fn new(mut hosts: Vec<IpAddr>, table: Arc<ArcSwap<Table>>, tasks: Tasks) -> Self {
        hosts.sort();
        hosts.dedup();
        Self { hosts, table, tasks, open: BTreeMap::new() }
    }

    /// Opens listeners for new ports and closes those whose routes are gone.
    pub(crate) async fn adjust(&mut self) {
        let table = self.table.load_full();
        self.open.retain(|port, close| {
            let wanted = table.tcp_routes().contains_key(port);
            if !wanted {
                close.cancel();
            }
            wanted
        });
        for port in table.tcp_routes().keys() {
            if self.open.contains_key(port) {
                continue;
            }
            let close = self.tasks.stopping().child_token();
            for host in &self.hosts {
                match TcpListener::bind(SocketAddr::new(*host, *port)).await {
                    Ok(listener) => {
                        let accepting = accept(
                            listener,
                            *port,
                            Arc::clone(&self.table),
                            close.clone(),
                            self.tasks.clone(),
                        );
                        self.tasks.spawn("ingress-tcp-accept", Fate::Ends, accepting);
                    }
                    Err(error) => tracing::warn!(port, %host, %error, "cannot open tcp route"),
                }
            }
            self.open.insert(*port, close);
        }
    }
}

async fn accept(
    listener: TcpListener,
    port: u16,
    table: Arc<ArcSwap<Table>>,
    close: CancellationToken,
    tasks: Tasks,
) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted, // a connection not accepted stays queued
            () = close.cancelled() => return,
        };
        let Ok((client, _)) = accepted else { continue };
        let copying = copy(client, port, Arc::clone(&table), close.clone());
        tasks.spawn("ingress-tcp", Fate::Ends, copying);
    }
}

async fn copy(
    mut client: TcpStream,
    port: u16,
    table: Arc<ArcSwap<Table>>,
    close: CancellationToken,
) {
    let point = u64::try_from(entropy::draw() >> 64).unwrap_or(0);
    let Some(address) = table
        .load()
        .tcp_routes()
        .get(&port)
        .and_then(|route| route.pick(point))
        .map(|target| Arc::clone(&target.address))
    else {
        return;
    };
    let connecting = TcpStream::connect(&*address);
    let Ok(Ok(mut upstream)) = tokio::time::timeout(CONNECT_TIMEOUT, connecting).await else {
        tracing::debug!(%address, "tcp target does not answer");
        return;
    };
    tokio::select! {
        // Either side's end ends both; a cut connection is not the proxy's error.
        _ = tokio::io::copy_bidirectional(&mut client, &mut upstream) => {}
        () = close.cancelled() => {}
    }
}
