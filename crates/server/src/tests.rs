//! Whole servers over loopback, with agents that only pretend to run tasks.

use std::collections::BTreeMap;
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cos_model::catalog::Catalog;
use cos_model::link::{AllocUpdate, ToAgent, ToServer};
use cos_model::{AllocId, Allocation, ClientStatus, Job, JobKind, Node, Trigger, Update};
use cos_platform::rpc::Client;
use cos_platform::{SystemClock, Tasks};
use cos_state::evaluations::eval_for_job;
use cos_state::{Command, ControlPlane, Reply, State, Topic};
use tokio::sync::mpsc;

use crate::{Config, Server, testing, wire};

mod alone;
mod group;
mod three;

/// How long a test waits for what must happen.
const PATIENCE: Duration = Duration::from_secs(20);

/// How often a pretended agent shows that it lives.
const HEARTBEAT: Duration = Duration::from_millis(300);

/// A server with a directory of its own, which vanishes with it.
struct Running {
    server: Server,
    tasks: Tasks,
    dir: tempfile::TempDir,
}

impl Running {
    async fn start(name: &str, adjust: impl FnOnce(&mut Config)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self::start_in(dir, name, adjust).await
    }

    async fn start_in(
        dir: tempfile::TempDir,
        name: &str,
        adjust: impl FnOnce(&mut Config),
    ) -> Self {
        let mut config =
            Config::alone(dir.path().to_owned(), name, IpAddr::V4(Ipv4Addr::LOCALHOST));
        adjust(&mut config);
        let tasks = Tasks::new();
        let started = Server::start(config, Arc::new(SystemClock::new()), tasks.clone());
        let server = Box::pin(started).await.unwrap();
        Self { server, tasks, dir }
    }

    /// Stops without good-bye.
    async fn stop(self) -> tempfile::TempDir {
        self.server.shutdown().await;
        self.tasks.stop();
        in_time("tasks to end", self.tasks.ended()).await;
        self.dir
    }
}

async fn in_time<T>(what: &str, future: impl Future<Output = T>) -> T {
    let done = tokio::time::timeout(PATIENCE, future).await;
    done.unwrap_or_else(|_elapsed| panic!("waited too long for {what}"))
}

/// Waits until the server's state shows something.
async fn shows<T>(
    server: &Server,
    what: &str,
    topic: Topic,
    mut find: impl FnMut(&State) -> Option<T>,
) -> T {
    let topics = [topic];
    in_time(what, async {
        loop {
            let state = server.state();
            if let Some(found) = find(&state) {
                return found;
            }
            server.changed(&topics, state.topic_index(&topics[0]), PATIENCE).await;
        }
    })
    .await
}

/// Registers a job together with its evaluation.
async fn run_job(server: &Server, job: &Job) -> u64 {
    let eval = eval_for_job(job, Trigger::JobRegister, server.new_id(), server.now());
    let command =
        Command::RegisterJob { job: Box::new(job.clone()), expected_index: None, eval: Some(eval) };
    let committed = in_time("the job to be registered", server.propose(command)).await.unwrap();
    match committed.reply {
        Reply::Job { version, .. } => version,
        other => panic!("{other:?}"),
    }
}

/// A service whose rollouts need health.
fn service(id: &str, count: u32) -> Job {
    let mut job = testing::job(id, JobKind::Service, count);
    job.groups[0].update = Some(Update::default());
    job
}

/// An agent that runs nothing and says what the test wants.
struct Agent {
    node: Node,
    _client: Client,
    send: mpsc::Sender<Bytes>,
    receive: mpsc::Receiver<Bytes>,
    allocs: BTreeMap<AllocId, Arc<Allocation>>,
    catalog: Catalog,
    acknowledged: u64,
    refused: BTreeMap<u32, String>,
    refusal: Option<String>,
    servers: usize,
}

impl Agent {
    async fn connect(server: &Server, node: Node) -> Self {
        let client = Client::new();
        let address = server.config().advertise.rpc.to_string();
        let (send, receive) =
            in_time("a stream", client.stream(&address, wire::AGENT_STREAM)).await.unwrap();
        let agent = Self {
            node: node.clone(),
            _client: client,
            send,
            receive,
            allocs: BTreeMap::new(),
            catalog: Catalog::default(),
            acknowledged: 0,
            refused: BTreeMap::new(),
            refusal: None,
            servers: 0,
        };
        agent.say(&ToServer::Hello { node: Box::new(node) }).await;
        agent
    }

    async fn say(&self, message: &ToServer) {
        self.send.send(wire::encode(message)).await.unwrap();
    }

    /// Reads what the server says until `is_so`, and lives meanwhile.
    async fn until(&mut self, what: &str, mut is_so: impl FnMut(&Self) -> bool) {
        in_time(what, async {
            while !is_so(self) {
                match tokio::time::timeout(HEARTBEAT, self.receive.recv()).await {
                    Ok(Some(message)) => self.hear(wire::decode(&message).unwrap()),
                    Ok(None) => panic!("the stream ended"),
                    Err(_) => self.say(&ToServer::Heartbeat).await,
                }
            }
        })
        .await;
    }

    fn hear(&mut self, message: ToAgent) {
        match message {
            ToAgent::Welcome { servers, .. } | ToAgent::Servers(servers) => {
                self.servers = servers.len();
            }
            ToAgent::Desired { complete, allocs, removed, .. } => {
                if complete {
                    self.allocs.clear();
                }
                self.allocs.extend(allocs.into_iter().map(|alloc| (alloc.id, alloc)));
                for id in removed {
                    self.allocs.remove(&id);
                }
            }
            ToAgent::CatalogAll(catalog) => self.catalog = *catalog,
            ToAgent::CatalogChanged(changes) => {
                for (index, change) in changes {
                    self.catalog.apply(index, &change).unwrap();
                }
            }
            ToAgent::Done { sequence, refused } => {
                self.acknowledged = sequence;
                self.refused = refused;
            }
            ToAgent::Refused(words) => self.refusal = Some(words),
        }
    }

    fn wanted(&self) -> Vec<Arc<Allocation>> {
        self.allocs.values().filter(|alloc| !alloc.is_terminal()).cloned().collect()
    }

    /// Reports one allocation and waits until that is committed.
    async fn report(&mut self, alloc: &Allocation, status: ClientStatus, healthy: Option<bool>) {
        let sequence = self.acknowledged + 1;
        let update = AllocUpdate {
            id: alloc.id,
            client_status: status,
            client_description: String::new(),
            task_states: BTreeMap::new(),
            health: alloc.deployment_id.zip(healthy),
        };
        self.say(&ToServer::Allocs { sequence, updates: vec![update] }).await;
        self.until("the report to be committed", |agent| agent.acknowledged == sequence).await;
    }
}
