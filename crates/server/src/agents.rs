//! Agents' streams: what each agent should run flows down, what happens flows up.
//!
//! Any server serves them. A stream is three loops that run side by side, so that a slow one does
//! not hold up the others: reading, writing, and acknowledging.
//!
//! # Invariants
//!
//! - An agent is told everything once and every change after it; if it lagged too far behind it is
//!   told everything again.
//! - What an agent asks to change in the catalog is done in the order in which it asked.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cos_model::link::{ToAgent, ToServer};
use cos_model::{Node, NodeId};
use cos_platform::rpc::{Peer, RpcError, Who};
use cos_platform::tls::Role;
use cos_state::{ProposeError, State};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, mpsc, oneshot};

use crate::access;
use crate::dialogue;
use crate::feeds::News;
use crate::liveness::Sign;
use crate::reports::Report;
use crate::shared::{Shared, new_id};
use crate::wire;

mod catalog;

/// How long a new stream may take to say who it is.
const HELLO_WAIT: Duration = Duration::from_secs(10);

/// How many requests of one stream may be under way.
const PENDING_MAX: usize = 64;

/// Serves one agent until it leaves or this server stops.
pub(crate) async fn serve(
    shared: &Arc<Shared>,
    peer: &Peer,
    mut inbound: mpsc::Receiver<Bytes>,
    outbound: mpsc::Sender<Bytes>,
) -> Result<(), RpcError> {
    let node = hello(&mut inbound).await?;
    let id = node.id;
    if let Err(why) = access::check_node(peer, &id.to_string()) {
        shared.complain(peer, wire::AGENT_STREAM, &why);
        return send(&outbound, &ToAgent::Refused(why)).await;
    }
    if matches!(&peer.who, Who::Member(member) if member.role == Role::Server) {
        // A server that is a client as well is known by its server's certificate.
        shared.members.note(&id.to_string(), u64::MAX);
    }
    if let Err(refusal) = register(shared, node).await {
        return match refusal {
            Refusal::Final(words) => send(&outbound, &ToAgent::Refused(words)).await,
            Refusal::NotNow(error) => Err(RpcError::Refused(error.to_string())),
        };
    }
    let _ = shared.signs.send(Sign::Heard(id)).await;
    let mut attendance = Attendance { shared, last: Sign::Closed(id) };
    tracing::debug!(node = %id, "agent connected");
    let (acknowledge, pending) = mpsc::channel(PENDING_MAX);
    let (change, changes) = mpsc::channel(PENDING_MAX);
    let stop = shared.tasks.stopping();
    // The loops end together: each arm that ends drops the others, which lose only what the agent
    // repeats on its next stream.
    let ended = tokio::select! {
        ended = read(shared, id, inbound, acknowledge, change) => {
            if matches!(ended, Ok(Farewell::Said)) {
                attendance.last = Sign::Leaving(id);
            }
            ended.map(|_| ())
        }
        ended = write(shared, id, &outbound) => ended,
        ended = acknowledge_reports(pending, &outbound) => ended,
        ended = catalog::run(shared, changes, &outbound) => ended,
        () = stop.cancelled() => return Ok(()),
    };
    tracing::debug!(last = ?attendance.last, "agent disconnected");
    ended
}

/// Tells that an agent's stream is over, also when the stream is cut off from outside because the
/// connection below it broke.
struct Attendance<'a> {
    shared: &'a Shared,
    last: Sign,
}

impl Drop for Attendance<'_> {
    fn drop(&mut self) {
        // A server that stops sends its agents to others; that is no news about them. Where the
        // sign finds no room the agent's silence tells the same, later.
        if !self.shared.tasks.stopping().is_cancelled() {
            let _ = self.shared.signs.try_send(self.last);
        }
    }
}

async fn hello(inbound: &mut mpsc::Receiver<Bytes>) -> Result<Box<Node>, RpcError> {
    let first = tokio::time::timeout(HELLO_WAIT, inbound.recv())
        .await
        .ok()
        .flatten()
        .ok_or(RpcError::Closed)?;
    match decode(&first)? {
        ToServer::Hello { node } => Ok(node),
        _ => Err(RpcError::Refused("a stream begins with `Hello`".to_owned())),
    }
}

/// Why a node may not stay.
enum Refusal {
    /// It is not who it says.
    Final(String),
    /// It may try again, here or elsewhere.
    NotNow(ProposeError),
}

/// Records the node as it says it is, ready for work.
async fn register(shared: &Shared, node: Box<Node>) -> Result<(), Refusal> {
    let (id, secret) = (node.id, node.secret);
    let state = shared.published.state();
    check_secret(&state, id, secret)?;
    let command = dialogue::registration(&state, *node, &mut new_id, shared.now());
    drop(state);
    match shared.propose(command).await {
        // A server that lagged behind learns only now who has the id.
        Ok(_) => check_secret(&shared.published.state(), id, secret),
        Err(ProposeError::Refused(refused)) => Err(Refusal::Final(refused.to_string())),
        Err(error) => Err(Refusal::NotNow(error)),
    }
}

fn check_secret(state: &State, id: NodeId, secret: NodeId) -> Result<(), Refusal> {
    match state.node(id) {
        Some(known) if known.secret != secret => {
            Err(Refusal::Final("node secret ID does not match".to_owned()))
        }
        _ => Ok(()),
    }
}

/// How an agent ended its stream.
enum Farewell {
    /// It said that it will be back soon.
    Said,
    /// Without a word.
    None,
}

/// Takes what the agent says.
async fn read(
    shared: &Arc<Shared>,
    id: NodeId,
    mut inbound: mpsc::Receiver<Bytes>,
    acknowledge: mpsc::Sender<(u64, oneshot::Receiver<()>)>,
    change: mpsc::Sender<catalog::Request>,
) -> Result<Farewell, RpcError> {
    while let Some(message) = inbound.recv().await {
        let _ = shared.signs.send(Sign::Heard(id)).await;
        match decode(&message)? {
            ToServer::Heartbeat => {}
            ToServer::Leaving => return Ok(Farewell::Said),
            ToServer::Hello { node } | ToServer::NodeChanged { node } => {
                if node.id != id {
                    return Err(RpcError::Refused("a stream belongs to one node".to_owned()));
                }
                // Beside the stream, as an agent without a leader still wants to be heard.
                let shared_of_task = Arc::clone(shared);
                shared.tasks.spawn("node update", cos_platform::Fate::Ends, async move {
                    if let Err(Refusal::Final(words)) = register(&shared_of_task, node).await {
                        tracing::warn!(node = %id, words, "node update refused");
                    }
                });
            }
            ToServer::Allocs { sequence, updates } => {
                let (done, when_done) = oneshot::channel();
                let closed = |_gone| RpcError::Closed;
                shared
                    .reports
                    .send(Report { updates, done })
                    .await
                    .map_err(|_gone| RpcError::Closed)?;
                acknowledge.send((sequence, when_done)).await.map_err(closed)?;
            }
            ToServer::Catalog { sequence, changes } => {
                let request = catalog::Request { sequence, changes };
                change.send(request).await.map_err(|_gone| RpcError::Closed)?;
            }
        }
    }
    Ok(Farewell::None)
}

/// Acknowledges reports in the order in which they came.
async fn acknowledge_reports(
    mut pending: mpsc::Receiver<(u64, oneshot::Receiver<()>)>,
    outbound: &mpsc::Sender<Bytes>,
) -> Result<(), RpcError> {
    while let Some((sequence, when_done)) = pending.recv().await {
        when_done.await.map_err(|_gone| RpcError::Closed)?;
        send(outbound, &ToAgent::Done { sequence, refused: BTreeMap::new() }).await?;
    }
    // Only the reading loop ends a stream.
    std::future::pending().await
}

/// Tells the agent what it should run, what the catalog says and where servers are.
async fn write(
    shared: &Arc<Shared>,
    id: NodeId,
    outbound: &mpsc::Sender<Bytes>,
) -> Result<(), RpcError> {
    let mut peers = shared.gossip.watch();
    peers.mark_unchanged();
    let mut servers = shared.servers();
    let mut pace = shared.pace.subscribe();
    let every = *pace.borrow_and_update();
    send(outbound, &welcome(shared, every, servers.clone())).await?;
    let feed = shared.published.feed(id);
    let (mut told, mut catalog) = tell_all(shared, id, outbound).await?;
    loop {
        // Each arm may be dropped: news stay in the feed and the channel, peers and pace in their
        // watches.
        tokio::select! {
            news = feed.next() => {
                if news.has_gap {
                    tracing::debug!(node = %id, "the agent is told everything anew");
                    (told, catalog) = tell_all(shared, id, outbound).await?;
                } else {
                    tell(&news, told, id, outbound).await?;
                    told = told.max(news.index);
                }
            }
            news = catalog.recv() => match news {
                // Agents ignore changes that their copy contains.
                Ok(news) => outbound.send(news).await.map_err(|_gone| RpcError::Closed)?,
                Err(RecvError::Lagged(missed)) => {
                    tracing::debug!(node = %id, missed, "the agent lagged behind the catalog");
                    (told, catalog) = tell_all(shared, id, outbound).await?;
                }
                Err(RecvError::Closed) => return Ok(()),
            },
            changed = peers.changed() => {
                changed.map_err(|_gone| RpcError::Closed)?;
                let now = shared.servers();
                if now != servers {
                    send(outbound, &ToAgent::Servers(now.clone())).await?;
                    servers = now;
                }
            }
            changed = pace.changed() => {
                changed.map_err(|_gone| RpcError::Closed)?;
                let every = *pace.borrow_and_update();
                send(outbound, &welcome(shared, every, servers.clone())).await?;
            }
        }
    }
}

fn welcome(
    shared: &Shared,
    heartbeat_every: Duration,
    servers: Vec<cos_model::link::ServerAddress>,
) -> ToAgent {
    let nodes = shared.published.state().node_count();
    let reconnect_spread = shared.config.timing.heartbeats.reconnect_spread(nodes);
    ToAgent::Welcome { heartbeat_every, reconnect_spread, servers }
}

/// Tells everything. Returns the index up to which it is told, and where changes of the catalog
/// come from.
async fn tell_all(
    shared: &Shared,
    id: NodeId,
    outbound: &mpsc::Sender<Bytes>,
) -> Result<(u64, broadcast::Receiver<Bytes>), RpcError> {
    let state = shared.published.state();
    let (messages, catalog) = shared.published.join_catalog();
    send(outbound, &dialogue::everything(&state, id)).await?;
    for message in messages {
        outbound.send(message).await.map_err(|_gone| RpcError::Closed)?;
    }
    Ok((state.index(), catalog))
}

async fn tell(
    news: &News,
    told: u64,
    id: NodeId,
    outbound: &mpsc::Sender<Bytes>,
) -> Result<(), RpcError> {
    match dialogue::news(news.index, &news.events, told, id) {
        Some(desired) if news.index > told => send(outbound, &desired).await,
        _ => Ok(()),
    }
}

async fn send(outbound: &mpsc::Sender<Bytes>, message: &ToAgent) -> Result<(), RpcError> {
    outbound.send(wire::encode(message)).await.map_err(|_gone| RpcError::Closed)
}

fn decode(message: &Bytes) -> Result<ToServer, RpcError> {
    wire::decode(message)
        .map_err(|error| RpcError::Refused(format!("agent's message cannot be read: {error}")))
}
