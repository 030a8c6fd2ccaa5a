//! Three servers and their clients: what works through any of them, and what faults leave intact.

use std::net::Ipv4Addr;
use std::time::Duration;

use crate::harness::{Agent, PATIENCE, Place, Process, Site, get, get_json, put, until};
use crate::jobs::{id, processes, sleeper};

/// How long a cluster may take to have a new leader that takes writes.
const ELECTION_TIME: Duration = Duration::from_secs(5);

/// How long the work of a lost client may be missing, with default timings.
const REPLACEMENT_TIME: Duration = Duration::from_secs(10);

/// Three servers that are told of each other, and clients that are told of all three.
struct Cluster {
    servers: Vec<Agent>,
    clients: Vec<Agent>,
    /// The last, so that it goes last.
    site: Site,
}

impl Cluster {
    fn new(clients: usize) -> Self {
        let site = Site::new();
        let servers: Vec<Agent> =
            (1..=3).map(|n| site.agent(&format!("server-{n}"), |_| String::new())).collect();
        let addresses: Vec<Ipv4Addr> = servers.iter().map(|server| server.place.address).collect();
        let join: Vec<String> =
            addresses.iter().map(|address| format!("\"{address}:{}\"", Place::SERF)).collect();
        let role = format!(
            "server {{\n  enabled = true\n  bootstrap_expect = 3\n  server_join {{\n    retry_join \
             = [{}]\n  }}\n}}\n",
            join.join(", ")
        );
        for server in &servers {
            server.configure(&role);
        }
        let clients = (1..=clients)
            .map(|n| site.agent(&format!("client-{n}"), |place| place.client(&addresses)))
            .collect();
        Self { servers, clients, site }
    }

    async fn start(&mut self) {
        self.servers.iter_mut().for_each(Agent::start);
        self.clients.iter_mut().for_each(Agent::start);
        let ready = self.clients.len();
        until("ready cluster", PATIENCE, async || {
            let nodes = self.servers[0].json("/v1/nodes").await?;
            let count = nodes.as_array()?.iter().filter(|node| node["Status"] == "ready").count();
            (count == ready).then_some(())
        })
        .await;
    }

    /// The place of the leader among the servers, as one that runs knows it.
    async fn leader(&self, ask: usize) -> usize {
        let address = until("leader", PATIENCE, async || {
            let leader = self.servers[ask].json("/v1/status/leader").await?;
            let leader = leader.as_str()?.to_owned();
            (!leader.is_empty()).then_some(leader)
        })
        .await;
        let is_it = |server: &Agent| address == format!("{}:{}", server.place.address, Place::RPC);
        self.servers.iter().position(is_it).expect("the leader is one of the servers")
    }
}

#[tokio::test]
async fn three_servers_form_forward_elect_and_come_back_with_everything() {
    let mut cluster = Cluster::new(2);
    cluster.start().await;
    let said = cluster.servers[2].cos(&["server", "members"]).await.well();
    assert_eq!(said.matches("alive").count(), 3, "{said}");

    // Whatever is asked of a follower, or of a client, is done.
    let leader = cluster.leader(0).await;
    let [first, second] = [(leader + 1) % 3, (leader + 2) % 3];
    assert!(put(&cluster.servers[first].consul("/v1/kv/one"), "1").await);
    assert!(put(&cluster.clients[0].consul("/v1/kv/two"), "2").await);
    let job = cluster.site.file("sleeper.hcl", &sleeper("sleeper", 4, &["raw_exec"]));
    let said = cluster.servers[first].run_job(&job).await;
    assert!(said.contains("successful"), "{said}");
    cluster.servers[second].until_running("sleeper", 4).await;
    let tasks = processes(&cluster.clients[1], "sleeper").await;
    assert_eq!(tasks.len(), 4);

    // Without its leader the cluster takes writes again soon.
    cluster.servers[leader].kill();
    until("write without the old leader", ELECTION_TIME, async || {
        put(&cluster.servers[first].consul("/v1/kv/three"), "3").await.then_some(())
    })
    .await;
    let next = cluster.leader(second).await;
    assert_ne!(next, leader);
    cluster.servers[leader].start();
    until("three voters", PATIENCE, async || {
        let peers = cluster.servers[leader].json("/v1/status/peers").await?;
        (peers.as_array()?.len() == 3).then_some(())
    })
    .await;

    // Without any server the tasks run on, and the servers come back with all they acknowledged.
    let allocs: Vec<String> =
        cluster.servers[first].running("sleeper").await.iter().map(id).collect();
    cluster.servers.iter_mut().for_each(Agent::kill);
    assert!(tasks.iter().all(Process::is_alive));
    cluster.servers.iter_mut().for_each(Agent::start);
    for (number, server) in cluster.servers.iter().enumerate() {
        for (key, value) in [("one", "1"), ("two", "2"), ("three", "3")] {
            let url = server.consul(&format!("/v1/kv/{key}?raw"));
            let found = until("key", PATIENCE, async || get(&url).await).await;
            assert_eq!(found, value, "server {number}");
        }
    }
    let leader = cluster.leader(0).await;
    let back: Vec<String> =
        cluster.servers[leader].running("sleeper").await.iter().map(id).collect();
    assert_eq!(back, allocs);
    assert_eq!(processes(&cluster.clients[0], "sleeper").await, tasks, "no task was started anew");

    // It is one cluster still: what is submitted now is carried out.
    cluster.servers[leader].cos(&["job", "stop", "-purge", "sleeper"]).await.well();
    until("end of the tasks", PATIENCE, async || {
        tasks.iter().all(|task| !task.is_alive()).then_some(())
    })
    .await;
}

#[tokio::test]
async fn the_work_of_a_lost_client_runs_elsewhere_and_is_not_doubled_when_it_returns() {
    let mut cluster = Cluster::new(2);
    cluster.start().await;
    let job = cluster.site.file("sleeper.hcl", &sleeper("sleeper", 2, &["raw_exec"]));
    cluster.servers[0].run_job(&job).await;
    let tasks = processes(&cluster.servers[1], "sleeper").await;
    let on_first = |alloc: &&serde_json::Value| alloc["NodeName"] == "client-1";
    let allocs = cluster.servers[0].running("sleeper").await;
    assert_eq!(allocs.iter().filter(on_first).count(), 1, "instances are kept apart: {allocs:?}");

    // The machine goes dark: its agent and all that it runs.
    cluster.clients[0].kill();
    cluster.clients[0].kill_tasks();
    until("replacement", REPLACEMENT_TIME, async || {
        let running = cluster.servers[0].running("sleeper").await;
        let elsewhere = running.iter().filter(|alloc| alloc["NodeName"] == "client-2").count();
        (running.len() == 2 && elsewhere == 2).then_some(())
    })
    .await;
    let lost = cluster.servers[0].json("/v1/job/sleeper/allocations").await.expect("an answer");
    let lost: Vec<_> =
        lost.as_array().into_iter().flatten().filter(|a| a["ClientStatus"] == "lost").collect();
    assert_eq!(lost.len(), 1);

    cluster.clients[0].start();
    until("return of the node", PATIENCE, async || {
        let nodes = get_json(&cluster.servers[0].http("/v1/nodes")).await?;
        nodes.as_array()?.iter().all(|node| node["Status"] == "ready").then_some(())
    })
    .await;
    cluster.servers[0].until_running("sleeper", 2).await;
    let after = processes(&cluster.servers[2], "sleeper").await;
    assert_eq!(
        after.iter().filter(|task| tasks.contains(task)).count(),
        1,
        "one was never touched"
    );
}
