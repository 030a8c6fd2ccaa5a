//! The link against a server that the test plays.

use async_trait::async_trait;
use cos_model::catalog::CatalogNode;
use cos_model::link::{ToAgent, ToServer};
use cos_model::{ClientStatus, NodeId};
use cos_platform::rpc::{self, Security, Service, serve};
use tokio::net::TcpListener;

use super::*;
use crate::testing;

/// Hands every stream to the test, which ends it by dropping the peer.
struct Fake(mpsc::Sender<Peer>);

#[async_trait]
impl Service for Fake {
    async fn call(&self, _: &rpc::Peer, _: &str, _: Bytes) -> Result<Bytes, RpcError> {
        Err(RpcError::Refused("not in this test".to_owned()))
    }

    async fn stream(
        &self,
        _: &rpc::Peer,
        _: &str,
        inbound: mpsc::Receiver<Bytes>,
        outbound: mpsc::Sender<Bytes>,
    ) -> Result<(), RpcError> {
        let (alive, dropped) = oneshot::channel();
        let peer = Peer { inbound, outbound, _alive: alive };
        if self.0.send(peer).await.is_err() {
            return Err(RpcError::Closed);
        }
        dropped.await.ok();
        Ok(())
    }
}

struct Peer {
    inbound: mpsc::Receiver<Bytes>,
    outbound: mpsc::Sender<Bytes>,
    _alive: oneshot::Sender<()>,
}

impl Peer {
    /// The next message that is no heartbeat.
    async fn hear(&mut self) -> ToServer {
        loop {
            let bytes = self.inbound.recv().await.expect("the agent is there");
            match rmp_serde::from_slice(&bytes).unwrap() {
                ToServer::Heartbeat => {}
                message => return message,
            }
        }
    }

    async fn say(&self, message: ToAgent) {
        self.outbound.send(Bytes::from(session::encode(&message))).await.unwrap();
    }
}

struct Server {
    address: String,
    streams: mpsc::Receiver<Peer>,
}

impl Server {
    async fn start(tasks: &Tasks) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (sender, streams) = mpsc::channel(4);
        let serving = tasks.clone();
        tasks.spawn("fake server", Fate::Ends, async move {
            serve(listener, Arc::new(Fake(sender)), Security::Plain, &serving).await;
        });
        Self { address, streams }
    }

    /// Accepts an agent and welcomes it.
    async fn accept(&mut self) -> Peer {
        let mut peer = self.streams.recv().await.unwrap();
        assert!(matches!(peer.hear().await, ToServer::Hello { .. }));
        let heartbeat_every = Duration::from_secs(1);
        peer.say(ToAgent::Welcome {
            heartbeat_every,
            reconnect_spread: Duration::ZERO,
            servers: Vec::new(),
        })
        .await;
        peer
    }
}

fn start(servers: Vec<String>, tasks: &Tasks) -> (Link, mpsc::Receiver<Desired>) {
    let identity = Identity { node: testing::NODE, secret: NodeId::from_bits(2) };
    let (sender, node) = watch::channel(Arc::new(testing::node()));
    // The node may change as long as the link lives.
    tasks.spawn("node", Fate::Ends, {
        let stop = tasks.stopping();
        async move {
            stop.cancelled().await;
            drop(sender);
        }
    });
    let catalog = Catalog::default();
    let options = Options { servers, identity, node, catalog, client: Client::new() };
    Link::start(options, tasks)
}

fn update(number: u128, client_status: ClientStatus) -> AllocUpdate {
    AllocUpdate {
        id: AllocId::from_bits(number),
        client_status,
        client_description: String::new(),
        task_states: BTreeMap::new(),
        health: None,
    }
}

async fn reports(peer: &mut Peer) -> (u64, Vec<(u128, ClientStatus)>) {
    match peer.hear().await {
        ToServer::Allocs { sequence, updates } => {
            (sequence, updates.iter().map(|u| (u.id.bits(), u.client_status)).collect())
        }
        other => panic!("unexpected {other:?}"),
    }
}

#[tokio::test]
async fn reports_are_coalesced_while_one_is_in_flight() {
    let tasks = Tasks::new();
    let mut server = Server::start(&tasks).await;
    let (link, _desired) = start(vec![server.address.clone()], &tasks);
    let mut peer = server.accept().await;
    link.report(update(1, ClientStatus::Pending));
    let (sequence, first) = reports(&mut peer).await;
    assert_eq!(first, [(1, ClientStatus::Pending)]);
    link.report(update(1, ClientStatus::Running));
    link.report(update(2, ClientStatus::Pending));
    link.report(update(2, ClientStatus::Running));
    peer.say(ToAgent::Done { sequence, refused: BTreeMap::new() }).await;
    let (_, second) = reports(&mut peer).await;
    assert_eq!(second, [(1, ClientStatus::Running), (2, ClientStatus::Running)]);
    tasks.stop();
}

#[tokio::test]
async fn what_was_not_committed_is_reported_to_the_next_server() {
    let tasks = Tasks::new();
    let mut one = Server::start(&tasks).await;
    let mut two = Server::start(&tasks).await;
    let (link, _desired) = start(vec![one.address.clone(), two.address.clone()], &tasks);
    let mut peer = one.accept().await;
    link.report(update(1, ClientStatus::Running));
    reports(&mut peer).await;
    drop(peer);
    let mut peer = two.accept().await;
    assert_eq!(reports(&mut peer).await.1, [(1, ClientStatus::Running)]);
    tasks.stop();
}

#[tokio::test]
async fn the_copy_of_the_catalog_follows_and_outlives_the_server() {
    let tasks = Tasks::new();
    let mut server = Server::start(&tasks).await;
    let (link, mut desired) = start(vec![server.address.clone()], &tasks);
    let peer = server.accept().await;
    let node = CatalogNode {
        name: Arc::from("n"),
        id: String::new(),
        address: "1.2.3.4".to_owned(),
        tagged_addresses: BTreeMap::new(),
        meta: BTreeMap::new(),
        create_index: 0,
        modify_index: 0,
    };
    peer.say(ToAgent::CatalogAll(Box::default())).await;
    peer.say(ToAgent::CatalogChanged(vec![(7, CatalogChange::PutNode(node))])).await;
    let mut catalog = link.catalog();
    catalog.wait_for(|catalog| catalog.index() == 7).await.unwrap();
    // Who joins while something changes may be told of it once more.
    let old = CatalogChange::RemoveNode { node: Arc::from("n") };
    peer.say(ToAgent::CatalogChanged(vec![(7, old)])).await;
    let message = ToAgent::Desired {
        generation: 3,
        complete: true,
        allocs: vec![testing::alloc(1)],
        removed: Vec::new(),
    };
    peer.say(message).await;
    assert_eq!(desired.recv().await.unwrap().generation, 3);
    drop(peer);
    link.connected().wait_for(|connected| !connected).await.unwrap();
    assert!(catalog.borrow().node("n").is_some());
    // What happens here is known here, though nobody else can be told.
    let gone = CatalogChange::RemoveNode { node: Arc::from("n") };
    assert_eq!(link.change(vec![gone]).await, Err(LinkError::Disconnected));
    assert!(catalog.borrow().node("n").is_none());
    let peer = server.accept().await;
    peer.say(ToAgent::CatalogAll(Box::default())).await;
    tasks.stop();
}

#[tokio::test]
async fn catalog_changes_are_answered() {
    let tasks = Tasks::new();
    let mut server = Server::start(&tasks).await;
    let (link, _desired) = start(vec![server.address.clone()], &tasks);
    let mut peer = server.accept().await;
    link.connected().wait_for(|connected| *connected).await.unwrap();
    let change = CatalogChange::RemoveNode { node: Arc::from("x") };
    let (answer, ()) = tokio::join!(link.change(vec![change]), async {
        let ToServer::Catalog { sequence, changes } = peer.hear().await else {
            panic!("expected catalog changes");
        };
        assert_eq!(changes.len(), 1);
        let refused = BTreeMap::from([(0, "no".to_owned())]);
        peer.say(ToAgent::Done { sequence, refused }).await;
    });
    assert_eq!(answer, Ok(BTreeMap::from([(0, "no".to_owned())])));
    tasks.stop();
}
