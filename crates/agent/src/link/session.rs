//! One stream with one server, from hello to its end.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cos_model::catalog::{Catalog, CatalogChange};
use cos_model::link::{AllocUpdate, ToAgent, ToServer};
use cos_model::{AllocId, Node};
use cos_platform::entropy;
use serde::Serialize;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, Interval, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::{ChangeRequest, LinkError, Published, Shared};
use crate::reconcile::Desired;

/// How long a server may take to welcome.
const WELCOME_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a report may stay unanswered before the server is given up.
const REPORT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a message may wait for room in the stream before the server is given up.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);

/// The longest time between heartbeats, whatever the server says.
const HEARTBEAT_MAX: Duration = Duration::from_mins(1);

/// The shortest time between heartbeats.
const HEARTBEAT_MIN: Duration = Duration::from_millis(50);

/// How long saying good-bye may take.
const FAREWELL_MAX: Duration = Duration::from_millis(300);

/// How a session ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// The server had welcomed this node.
    AfterWelcome,
    /// It had not.
    Before(String),
    /// The server does not want this node.
    Refused(String),
    /// The agent stops.
    Stopped,
}

/// A stream that a server welcomed.
struct Opened {
    outbound: mpsc::Sender<Bytes>,
    inbound: mpsc::Receiver<Bytes>,
    /// How often to send a heartbeat.
    every: Duration,
}

type ChangeReply = oneshot::Sender<Result<BTreeMap<u32, String>, LinkError>>;

/// One session.
pub(super) struct Session<'a> {
    shared: Arc<Shared>,
    published: &'a Published,
    node: watch::Receiver<Arc<Node>>,
    address: String,
    sequence: u64,
    in_flight: Option<Reports>,
    changes: BTreeMap<u64, ChangeReply>,
}

/// Reports that were sent and not answered.
struct Reports {
    sequence: u64,
    updates: BTreeMap<AllocId, AllocUpdate>,
    expires: Instant,
}

impl Drop for Session<'_> {
    /// Also when the session is cut off: what was not committed is reported again.
    fn drop(&mut self) {
        if let Some(reports) = self.in_flight.take() {
            self.shared.put_back(reports.updates);
        }
    }
}

impl<'a> Session<'a> {
    pub(super) fn new(
        shared: Arc<Shared>,
        published: &'a Published,
        node: watch::Receiver<Arc<Node>>,
        address: String,
    ) -> Self {
        let changes = BTreeMap::new();
        Self { shared, published, node, address, sequence: 0, in_flight: None, changes }
    }

    /// Talks until either side ends it.
    pub(super) async fn run(
        mut self,
        requests: &mut mpsc::Receiver<ChangeRequest>,
        stop: &CancellationToken,
    ) -> Ended {
        // What is cut off before the welcome leaves nothing behind.
        let opened = tokio::select! {
            () = stop.cancelled() => return Ended::Stopped,
            opened = self.open() => opened,
        };
        let opened = match opened {
            Ok(opened) => opened,
            Err(ended) => return ended,
        };
        tracing::info!(address = %self.address, "connected to server");
        self.published.connected.send_replace(true);
        self.talk(opened, requests, stop).await
    }

    async fn open(&mut self) -> Result<Opened, Ended> {
        let client = self.shared.client.clone();
        let (outbound, mut inbound) = client
            .stream(&self.address, "agent.stream")
            .await
            .map_err(|error| Ended::Before(error.to_string()))?;
        let node = Box::new(Node::clone(&self.node.borrow_and_update()));
        if !send(&outbound, &ToServer::Hello { node }).await {
            return Err(Ended::Before("the stream closed".to_owned()));
        }
        let welcome = tokio::time::timeout(WELCOME_TIMEOUT, inbound.recv()).await;
        match welcome.ok().flatten().map(|bytes| decode(&bytes)) {
            Some(Ok(ToAgent::Welcome { heartbeat_every, reconnect_spread, servers })) => {
                self.published.servers.send_replace(servers);
                self.shared.set_spread(reconnect_spread);
                Ok(Opened { outbound, inbound, every: heartbeat_every })
            }
            Some(Ok(ToAgent::Refused(why))) => Err(Ended::Refused(why)),
            Some(Ok(_)) => Err(Ended::Before("the server did not welcome first".to_owned())),
            Some(Err(why)) => Err(Ended::Before(why)),
            None => Err(Ended::Before("no welcome".to_owned())),
        }
    }

    async fn talk(
        &mut self,
        opened: Opened,
        requests: &mut mpsc::Receiver<ChangeRequest>,
        stop: &CancellationToken,
    ) -> Ended {
        let shared = Arc::clone(&self.shared);
        let Opened { outbound, mut inbound, every } = opened;
        let outbound = &outbound;
        // Agents that came together shall not send their heartbeats together.
        let mut heartbeat = heartbeat(every, spread(every));
        loop {
            if !self.send_reports(outbound).await {
                return Ended::AfterWelcome;
            }
            let expires = self.in_flight.as_ref().map(|reports| reports.expires);
            // Every arm waits for a queue, a level or the clock and takes nothing before it is
            // ready, so it may be cancelled.
            let goes_on = tokio::select! {
                message = inbound.recv() => match message.map(|bytes| decode(&bytes)) {
                    Some(Ok(ToAgent::Refused(why))) => return Ended::Refused(why),
                    Some(Ok(message)) => {
                        if let ToAgent::Welcome { heartbeat_every, .. } = &message {
                            heartbeat = self::heartbeat(*heartbeat_every, Duration::ZERO);
                        }
                        self.hear(message).await
                    }
                    Some(Err(why)) => {
                        tracing::error!(%why, "message of the server not understood");
                        false
                    }
                    None => false,
                },
                Some(request) = requests.recv() => self.send_changes(outbound, request).await,
                () = shared.reported.notified() => true,
                changed = self.node.changed() => match changed {
                    Ok(()) => {
                        let node = Box::new(Node::clone(&self.node.borrow_and_update()));
                        send(outbound, &ToServer::NodeChanged { node }).await
                    }
                    Err(_) => false,
                },
                _ = heartbeat.tick() => send(outbound, &ToServer::Heartbeat).await,
                () = sleep_until(expires) => false,
                () = stop.cancelled() => {
                    part(outbound, &mut inbound).await;
                    return Ended::Stopped;
                }
            };
            if !goes_on {
                return Ended::AfterWelcome;
            }
        }
    }

    async fn send_reports(&mut self, outbound: &mpsc::Sender<Bytes>) -> bool {
        if self.in_flight.is_some() {
            return true;
        }
        let updates = self.shared.take_reports();
        if updates.is_empty() {
            return true;
        }
        self.sequence += 1;
        let sequence = self.sequence;
        let message = ToServer::Allocs { sequence, updates: updates.values().cloned().collect() };
        let expires = Instant::now() + REPORT_TIMEOUT;
        self.in_flight = Some(Reports { sequence, updates, expires });
        send(outbound, &message).await
    }

    async fn send_changes(
        &mut self,
        outbound: &mpsc::Sender<Bytes>,
        request: ChangeRequest,
    ) -> bool {
        self.changes.retain(|_, reply| !reply.is_closed());
        self.sequence += 1;
        let sequence = self.sequence;
        self.changes.insert(sequence, request.reply);
        send(outbound, &ToServer::Catalog { sequence, changes: request.changes }).await
    }

    /// Takes a message. False ends the session.
    async fn hear(&mut self, message: ToAgent) -> bool {
        match message {
            ToAgent::Welcome { servers, reconnect_spread, .. } => {
                self.shared.set_spread(reconnect_spread);
                self.published.servers.send_replace(servers);
                true
            }
            ToAgent::Servers(servers) => {
                self.published.servers.send_replace(servers);
                true
            }
            ToAgent::Desired { generation, complete, allocs, removed } => {
                let desired = Desired { generation, complete, allocs, removed };
                self.published.desired.send(desired).await.is_ok()
            }
            ToAgent::CatalogAll(catalog) => {
                self.published.catalog.send_replace(Arc::new(*catalog));
                true
            }
            ToAgent::CatalogChanged(changes) => self.apply(&changes),
            ToAgent::Done { sequence, refused } => {
                if self.in_flight.as_ref().is_some_and(|reports| reports.sequence == sequence) {
                    self.in_flight = None;
                }
                if let Some(reply) = self.changes.remove(&sequence) {
                    // Whoever asked may have gone.
                    drop(reply.send(Ok(refused)));
                }
                true
            }
            ToAgent::Refused(_) => false,
        }
    }

    /// Applies changes to a copy, except those that it contains already. One that does not fit means
    /// that the copy is not what the server thinks; a new session begins with a whole catalog.
    fn apply(&self, changes: &[(u64, CatalogChange)]) -> bool {
        let mut catalog = Catalog::clone(&self.published.catalog.borrow());
        // What happened at one index is told together.
        let known = catalog.index();
        for (index, change) in changes.iter().filter(|(index, _)| *index > known) {
            if let Err(error) = catalog.apply(*index, change) {
                tracing::warn!(%error, "catalog change does not fit, asking for the whole");
                return false;
            }
        }
        self.published.catalog.send_replace(Arc::new(catalog));
        true
    }
}

fn heartbeat(every: Duration, first: Duration) -> Interval {
    let every = every.clamp(HEARTBEAT_MIN, HEARTBEAT_MAX);
    let mut interval = tokio::time::interval_at(Instant::now() + first.min(every), every);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

/// Draws a time below `whole`.
pub(super) fn spread(whole: Duration) -> Duration {
    let steps = u32::try_from(entropy::draw() & 0xffff).unwrap_or(0);
    whole / 0x1_0000 * steps
}

/// Says that this agent will be back, and gives the server a moment to take note.
async fn part(outbound: &mpsc::Sender<Bytes>, inbound: &mut mpsc::Receiver<Bytes>) {
    let farewell = async {
        if send(outbound, &ToServer::Leaving).await {
            // The server ends the stream.
            while inbound.recv().await.is_some() {}
        }
    };
    drop(tokio::time::timeout(FAREWELL_MAX, farewell).await);
}

async fn sleep_until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

async fn send(outbound: &mpsc::Sender<Bytes>, message: &ToServer) -> bool {
    let bytes = Bytes::from(encode(message));
    matches!(tokio::time::timeout(SEND_TIMEOUT, outbound.send(bytes)).await, Ok(Ok(())))
}

pub(super) fn encode<T: Serialize>(message: &T) -> Vec<u8> {
    rmp_serde::to_vec_named(message)
        .expect("plain data with text keys always has a MessagePack form")
}

fn decode(bytes: &[u8]) -> Result<ToAgent, String> {
    rmp_serde::from_slice(bytes).map_err(|error| error.to_string())
}
