//! Gossip among servers: who is there, of which region, and whether they still answer.
//!
//! A SWIM protocol (the crate `foca`) over UDP on the gossip port. One task owns it; everybody else
//! reads the list of peers from a watch.
//!
//! # Invariants
//!
//! - The list is taken from the protocol's whole table after every input, never from its
//!   notifications, which lag behind.
//! - Nothing here is trusted: gossip finds servers, consensus decides who belongs.
//! - Packets are encrypted as soon as there is a key ([`keyring`]), and whoever does not have it
//!   neither hears nor is heard.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use cos_model::ServerId;
use cos_platform::{Fate, LogGate, Tasks, entropy};
use cos_state::MemberStatus;
use foca::{AccumulatingRuntime, Foca, NoCustomBroadcast, PeriodicParams, State, Timer};
use rand_core::TryRng;
use tokio::net::UdpSocket;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use identity::{Identity, LEAVING, Packets};
use keyring::OVERHEAD_BYTES;

mod identity;
mod join;
mod keyring;
mod keys;

pub(crate) use join::{join, retry_join};
pub(crate) use keyring::Keyring;
pub use keyring::{KeyError, KeyringChange, parse_key};
pub use keys::KeyringReport;
pub(crate) use keys::{change, change_everywhere};

/// The largest packet; fits a common network's frame.
const PACKET_BYTES_MAX: usize = 1400;

/// How many commands may wait for the gossip task.
const COMMANDS_MAX: usize = 64;

/// How often a member that is known, whether or not it answers, is told that this one is here.
const REMIND_EVERY: Duration = Duration::from_secs(3);

/// How long a member that stopped answering is remembered.
const REMEMBER_FAILED: Duration = Duration::from_hours(72);

/// A server as gossip knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Peer {
    /// Where its gossip is reached.
    pub(crate) address: SocketAddr,
    /// Facts about it.
    pub(crate) tags: Arc<BTreeMap<String, String>>,
    /// Whether it answers.
    pub(crate) status: MemberStatus,
}

impl Peer {
    /// A tag, or nothing.
    pub(crate) fn tag(&self, name: &str) -> &str {
        self.tags.get(name).map_or("", String::as_str)
    }

    /// Its id in the consensus group.
    pub(crate) fn id(&self) -> Option<ServerId> {
        self.tag("id").parse().ok()
    }

    /// Whether it answers.
    pub(crate) fn is_alive(&self) -> bool {
        self.status == MemberStatus::Alive
    }
}

/// The list of peers, this server included, by gossip address.
pub(crate) type Peers = Arc<Vec<Peer>>;

/// A handle to the gossip task.
#[derive(Clone, Debug)]
pub(crate) struct Gossip {
    commands: mpsc::Sender<Command>,
    peers: watch::Receiver<Peers>,
    address: SocketAddr,
    keyring: Keyring,
}

#[derive(Debug)]
enum Command {
    Announce(SocketAddr),
    Forget { address: SocketAddr, prune: bool, done: oneshot::Sender<()> },
    Leave(oneshot::Sender<()>),
}

impl Gossip {
    /// Starts gossiping on `socket` as the member that others reach at `address`.
    pub(crate) fn start(
        socket: UdpSocket,
        address: SocketAddr,
        generation: u64,
        tags: BTreeMap<String, String>,
        keyring: Keyring,
        tasks: &Tasks,
    ) -> Self {
        let identity = Identity { address, generation, tags: Arc::new(tags) };
        let (commands, inbox) = mpsc::channel(COMMANDS_MAX);
        let (publish, peers) = watch::channel(Arc::new(vec![own_entry(&identity)]));
        let member = Member {
            protocol: Foca::new(identity, protocol_config(), Entropy, Packets),
            runtime: AccumulatingRuntime::new(),
            timers: BTreeMap::new(),
            timers_made: 0,
            forgotten: BTreeMap::new(),
            socket,
            publish,
            keyring: keyring.clone(),
            gate: LogGate::default(),
            began: Instant::now(),
        };
        let stop = tasks.stopping();
        tasks.spawn("gossip", Fate::Vital, Box::pin(member.run(inbox, stop)));
        Self { commands, peers, address, keyring }
    }

    /// The peers as they are now, this server included.
    pub(crate) fn peers(&self) -> Peers {
        Arc::clone(&self.peers.borrow())
    }

    /// A watch on the peers.
    pub(crate) fn watch(&self) -> watch::Receiver<Peers> {
        self.peers.clone()
    }

    /// Believes of a member that does not answer that it has left; with `prune` it is not even
    /// listed. One that is back is listed as it is.
    pub(crate) async fn forget(&self, address: SocketAddr, prune: bool) {
        let (done, when_done) = oneshot::channel();
        if self.commands.send(Command::Forget { address, prune, done }).await.is_ok() {
            drop(when_done.await);
        }
    }

    /// Where this server's gossip is reached.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The keys of gossip, the one that encrypts first.
    pub(crate) fn keys(&self) -> Vec<Vec<u8>> {
        self.keyring.keys()
    }

    /// Changes the keys on this server, and returns them as text, the one that encrypts first.
    pub(crate) fn change_keys(&self, change: &KeyringChange) -> Result<Vec<String>, KeyError> {
        self.keyring.change(change)
    }

    /// Tells a stranger that this server is here.
    pub(crate) async fn announce(&self, to: SocketAddr) {
        drop(self.commands.send(Command::Announce(to)).await);
    }

    /// Says good-bye, so that others do not take this server for failed.
    pub(crate) async fn leave(&self) {
        let (done, when_done) = oneshot::channel();
        if self.commands.send(Command::Leave(done)).await.is_ok() {
            drop(when_done.await);
        }
    }
}

/// The gossip task's own state.
struct Member {
    protocol: Foca<Identity, Packets, Entropy, NoCustomBroadcast>,
    runtime: AccumulatingRuntime<Identity>,
    timers: BTreeMap<(Instant, u64), Timer<Identity>>,
    timers_made: u64,
    /// Members that somebody said have left, by address: of which generation, and whether they are
    /// listed no more. As many as there are addresses at most.
    forgotten: BTreeMap<SocketAddr, (u64, bool)>,
    socket: UdpSocket,
    publish: watch::Sender<Peers>,
    keyring: Keyring,
    gate: LogGate,
    began: Instant,
}

impl Member {
    async fn run(mut self, mut inbox: mpsc::Receiver<Command>, stop: CancellationToken) {
        let mut packet = vec![0; PACKET_BYTES_MAX + 1];
        let mut remind = tokio::time::interval(REMIND_EVERY);
        loop {
            let next_timer = self.timers.first_key_value().map(|((at, _), _)| *at);
            // Each arm may be dropped: a packet not received stays in the socket, a command in the
            // channel, a timer in the map.
            tokio::select! {
                received = self.socket.recv_from(&mut packet) => match received {
                    Ok((length, from)) => self.read(&packet[..length], from),
                    Err(error) => tracing::debug!(%error, "gossip packet not received"),
                },
                Some(command) = inbox.recv() => self.obey(command).await,
                () = tokio::time::sleep_until(next_timer.unwrap_or_else(far_future)),
                    if next_timer.is_some() => self.fire(),
                _ = remind.tick() => self.remind(),
                () = stop.cancelled() => return,
            }
            self.flush().await;
        }
    }

    fn read(&mut self, packet: &[u8], from: SocketAddr) {
        if packet.len() > PACKET_BYTES_MAX {
            self.complain(from, "it is larger than any of ours");
            return;
        }
        let packet = match self.keyring.open_packet(packet) {
            Ok(packet) => packet,
            Err(why) => {
                self.complain(from, &why.to_string());
                return;
            }
        };
        match self.protocol.handle_data(&packet, &mut self.runtime) {
            Ok(()) => {}
            Err(foca::Error::Decode(_) | foca::Error::MalformedPacket) => {
                self.complain(from, "it cannot be read");
            }
            Err(error) => tracing::debug!(%from, %error, "gossip packet not understood"),
        }
    }

    fn complain(&self, from: SocketAddr, why: &str) {
        let now = self.began.elapsed();
        if let Some(held_back) = self.gate.pass(now) {
            tracing::warn!(%from, why, held_back, "gossip packet refused");
        }
    }

    fn fire(&mut self) {
        let now = Instant::now();
        while let Some(entry) = self.timers.first_entry()
            && entry.key().0 <= now
        {
            if let Err(error) = self.protocol.handle_timer(entry.remove(), &mut self.runtime) {
                tracing::debug!(%error, "gossip timer");
            }
        }
    }

    /// Announces this server to a member that it knows of. Two members that renew themselves at the
    /// same time no longer hear each other, and the protocol alone would leave it at that.
    fn remind(&mut self) {
        let others: Vec<SocketAddr> = self
            .publish
            .borrow()
            .iter()
            .filter(|peer| peer.status != MemberStatus::Left)
            .map(|peer| peer.address)
            .filter(|address| *address != self.protocol.identity().address)
            .collect();
        let count = others.len().max(1);
        let chosen = usize::try_from(entropy::draw() % count as u128).unwrap_or(0);
        if let Some(to) = others.get(chosen)
            && let Err(error) = self.protocol.announce(Identity::stranger(*to), &mut self.runtime)
        {
            tracing::debug!(%error, "gossip reminder");
        }
    }

    async fn obey(&mut self, command: Command) {
        let done = match command {
            Command::Announce(to) => {
                self.protocol.announce(Identity::stranger(to), &mut self.runtime)
            }
            Command::Forget { address, prune, done } => {
                self.forget(address, prune);
                self.flush().await;
                let _ = done.send(());
                return;
            }
            Command::Leave(done) => {
                self.leave().await;
                let _ = done.send(());
                return;
            }
        };
        if let Err(error) = done {
            tracing::debug!(%error, "gossip command");
        }
    }

    fn forget(&mut self, address: SocketAddr, prune: bool) {
        let generation = self
            .protocol
            .iter_membership_state()
            .find(|member| member.id().address == address)
            .map(|member| member.id().generation);
        if let Some(generation) = generation {
            self.forgotten.insert(address, (generation, prune));
        }
    }

    /// The tag tells others apart a member that left from one that failed; both are only "down" to
    /// the protocol.
    async fn leave(&mut self) {
        let own = self.protocol.identity();
        let mut tags = BTreeMap::clone(&own.tags);
        tags.insert(LEAVING.to_owned(), "1".to_owned());
        let leaving = own.with_tags(tags);
        let told = self.protocol.change_identity(leaving, &mut self.runtime);
        self.flush().await;
        let left = self.protocol.leave_cluster(&mut self.runtime);
        self.flush().await;
        if let Err(error) = told.and(left) {
            tracing::debug!(%error, "good-bye to gossip");
        }
    }

    /// Does what the protocol asked for and publishes what it knows now.
    async fn flush(&mut self) {
        while let Some((to, packet)) = self.runtime.to_send() {
            // A lost packet is the protocol's daily bread.
            let packet = self.keyring.seal(packet.into());
            drop(self.socket.send_to(&packet, to.address).await);
        }
        while let Some((after, timer)) = self.runtime.to_schedule() {
            self.timers_made += 1;
            self.timers.insert((Instant::now() + after, self.timers_made), timer);
        }
        while self.runtime.to_notify().is_some() {}
        let peers = self.list();
        self.publish.send_if_modified(|known| {
            let is_new = **known != peers;
            if is_new {
                *known = Arc::new(peers);
            }
            is_new
        });
    }

    fn list(&self) -> Vec<Peer> {
        let own = self.protocol.identity();
        let mut peers: BTreeMap<SocketAddr, Peer> = self
            .protocol
            .iter_membership_state()
            .filter(|member| !member.id().tags.is_empty() && member.id().address != own.address)
            .filter_map(|member| {
                let mut peer = entry(member.id(), member.state());
                let forgotten = self.forgotten.get(&peer.address);
                if let Some((generation, prune)) = forgotten
                    && *generation == member.id().generation
                    && !peer.is_alive()
                {
                    if *prune {
                        return None;
                    }
                    peer.status = MemberStatus::Left;
                }
                Some((peer.address, peer))
            })
            .collect();
        peers.insert(own.address, own_entry(own));
        peers.into_values().collect()
    }
}

fn own_entry(own: &Identity) -> Peer {
    entry(own, State::Alive)
}

fn entry(identity: &Identity, state: State) -> Peer {
    let status = match state {
        State::Alive | State::Suspect => MemberStatus::Alive,
        State::Down if identity.tag(LEAVING).is_empty() => MemberStatus::Failed,
        State::Down => MemberStatus::Left,
    };
    Peer { address: identity.address, tags: Arc::clone(&identity.tags), status }
}

/// Times for a local network: a member that stops answering is known to be gone within 3 s.
fn protocol_config() -> foca::Config {
    let some = |count: usize| NonZeroUsize::new(count).unwrap_or(NonZeroUsize::MIN);
    foca::Config {
        probe_period: Duration::from_millis(700),
        probe_rtt: Duration::from_millis(250),
        suspect_to_down_after: Duration::from_millis(1500),
        remove_down_after: Some(REMEMBER_FAILED),
        max_packet_size: some(PACKET_BYTES_MAX - OVERHEAD_BYTES),
        notify_down_members: true,
        periodic_gossip: Some(PeriodicParams {
            frequency: Duration::from_millis(200),
            num_members: some(3),
        }),
        ..foca::Config::simple()
    }
}

/// A time that does not come while a server runs.
fn far_future() -> Instant {
    Instant::now() + Duration::from_hours(24)
}

/// The machine's entropy, as the protocol wants it.
struct Entropy;

impl TryRng for Entropy {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = [0; 4];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u32::from_ne_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u64::from_ne_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        for chunk in bytes.chunks_mut(size_of::<u128>()) {
            chunk.copy_from_slice(&entropy::draw().to_ne_bytes()[..chunk.len()]);
        }
        Ok(())
    }
}

/// Opens the gossip socket.
pub(crate) async fn bind(address: SocketAddr) -> io::Result<UdpSocket> {
    UdpSocket::bind(address).await
}

#[cfg(test)]
mod tests;
