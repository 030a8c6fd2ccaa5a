//! The sockets: UDP and TCP on each address.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{Semaphore, watch};

use cos_model::catalog::Catalog;
use cos_platform::{Clock, Fate, Tasks, entropy};

use crate::answer::Zone;
use crate::wire::{Channel, respond};

/// What the DNS server needs to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where it listens, UDP and TCP each.
    pub addresses: Vec<SocketAddr>,
    /// What it answers for.
    pub zone: Zone,
}

/// The DNS server could not start.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address} ({transport})")]
pub struct StartError {
    /// The address.
    pub address: SocketAddr,
    /// `udp` or `tcp`.
    pub transport: &'static str,
    /// Why not.
    #[source]
    pub source: std::io::Error,
}

/// A running DNS server. It stops with the tasks it was started in.
#[derive(Clone, Debug)]
pub struct Dns {
    addresses: Vec<SocketAddr>,
}

/// How long a TCP client may be silent.
const TCP_IDLE_MAX: Duration = Duration::from_secs(10);
/// How many TCP clients are served at once.
const TCP_CLIENTS_MAX: usize = 256;
/// The largest datagram that is read.
const DATAGRAM_BYTES_MAX: usize = 4096;
/// How long an accept loop rests after the machine ran out of something.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What every socket shares.
#[derive(Clone, Debug)]
struct Shared {
    catalog: watch::Receiver<Arc<Catalog>>,
    zone: Arc<Zone>,
    clock: Arc<dyn Clock>,
    tasks: Tasks,
}

impl Dns {
    /// Binds all addresses and starts answering. Port 0 takes the same free port for both.
    pub async fn start(
        config: Config,
        catalog: watch::Receiver<Arc<Catalog>>,
        clock: Arc<dyn Clock>,
        tasks: &Tasks,
    ) -> Result<Self, StartError> {
        let zone = Arc::new(config.zone);
        let shared = Shared { catalog, zone, clock, tasks: tasks.clone() };
        let mut addresses = Vec::new();
        for address in config.addresses {
            let failed = |transport| move |source| StartError { address, transport, source };
            let listener = TcpListener::bind(address).await.map_err(failed("tcp"))?;
            let bound = listener.local_addr().map_err(failed("tcp"))?;
            let socket = UdpSocket::bind(bound).await.map_err(failed("udp"))?;
            tasks.spawn("dns-udp", Fate::Ends, serve_udp(socket, shared.clone()));
            tasks.spawn("dns-tcp", Fate::Ends, serve_tcp(listener, shared.clone()));
            addresses.push(bound);
        }
        Ok(Self { addresses })
    }

    /// Where it listens, with the ports that were really bound.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }
}

impl Shared {
    fn respond(&self, packet: &[u8], channel: Channel) -> Option<Vec<u8>> {
        let catalog = Arc::clone(&self.catalog.borrow());
        let seconds = self.clock.unix_nanos() / 1_000_000_000;
        let seconds = u32::try_from(seconds).unwrap_or(u32::MAX);
        let entropy = u64::try_from(entropy::draw() >> 64).unwrap_or(0);
        respond(packet, channel, &catalog, &self.zone, seconds, entropy)
    }
}

async fn serve_udp(socket: UdpSocket, shared: Shared) {
    let stopping = shared.tasks.stopping();
    let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
    loop {
        let received = tokio::select! {
            received = socket.recv_from(&mut buffer) => received, // a datagram not read stays queued
            () = stopping.cancelled() => return,
        };
        match received {
            Ok((length, peer)) => {
                if let Some(response) = shared.respond(&buffer[..length], Channel::Udp) {
                    // A client that went away is not the server's concern.
                    socket.send_to(&response, peer).await.ok();
                }
            }
            // An earlier answer could not be delivered; the socket is fine.
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
            Err(error) => {
                tracing::warn!(%error, "dns cannot receive");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn serve_tcp(listener: TcpListener, shared: Shared) {
    let stopping = shared.tasks.stopping();
    let places = Arc::new(Semaphore::new(TCP_CLIENTS_MAX));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted, // a connection not accepted stays queued
            () = stopping.cancelled() => return,
        };
        let Ok((socket, _)) = accepted else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        // A client beyond the limit is turned away by closing.
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
        let one = shared.clone();
        shared.tasks.spawn("dns-tcp-client", Fate::Ends, async move {
            let stopping = one.tasks.stopping();
            tokio::select! {
                _ = talk(socket, &one) => {} // a client that hangs up is not an error
                () = stopping.cancelled() => {}
            }
            drop(place);
        });
    }
}

/// Answers the messages of one connection, each preceded by its length.
async fn talk(mut socket: TcpStream, shared: &Shared) -> std::io::Result<()> {
    let mut packet = Vec::new();
    loop {
        let reading = async {
            let length = socket.read_u16().await?;
            packet.resize(usize::from(length), 0);
            socket.read_exact(&mut packet).await
        };
        let read = tokio::time::timeout(TCP_IDLE_MAX, reading).await;
        if !matches!(read, Ok(Ok(_))) {
            return Ok(());
        }
        let Some(response) = shared.respond(&packet, Channel::Tcp) else { return Ok(()) };
        let Ok(length) = u16::try_from(response.len()) else { return Ok(()) };
        let mut framed = length.to_be_bytes().to_vec();
        framed.extend_from_slice(&response);
        socket.write_all(&framed).await?;
    }
}
