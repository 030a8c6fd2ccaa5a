//! Agents that are killed, paused and left alone, and what their tasks and the cluster make of it.
//!
//! Times are printed, not asserted beyond what a busy machine keeps.

use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;
use tokio::time::Instant;

use crate::harness::{Agent, PATIENCE, Place, Site, get, get_json, put, until};
use crate::jobs::{id, ping, process, processes, sleeper};

/// How many tasks are taken up again in the test of that.
const MANY: u32 = 50;

/// A server, and clients that know it.
struct Pair {
    server: Agent,
    clients: Vec<Agent>,
    site: Site,
}

impl Pair {
    async fn start(clients: usize, server_keys: &str) -> Self {
        let site = Site::new();
        let role =
            format!("server {{\n  enabled = true\n  bootstrap_expect = 1\n{server_keys}}}\n");
        let mut server = site.agent("server", |_| role);
        let address = server.place.address;
        let mut clients: Vec<Agent> = (1..=clients)
            .map(|n| site.agent(&format!("client-{n}"), |place| place.client(&[address])))
            .collect();
        server.start();
        clients.iter_mut().for_each(Agent::start);
        let pair = Self { server, clients, site };
        pair.until_nodes("ready", pair.clients.len()).await;
        pair
    }

    async fn until_nodes(&self, status: &str, count: usize) {
        until(&format!("{count} nodes that are {status}"), PATIENCE, async || {
            let nodes = self.server.json("/v1/nodes").await?;
            let found = nodes.as_array()?.iter().filter(|node| node["Status"] == status).count();
            (found == count).then_some(())
        })
        .await;
    }

    async fn alloc(&self, id: &str) -> Value {
        let path = format!("/v1/allocation/{id}");
        until("the allocation", PATIENCE, async || self.server.json(&path).await).await
    }

    async fn until_client_status(&self, id: &str, status: &str) -> Value {
        until(&format!("{status} allocation"), PATIENCE, async || {
            let alloc = self.server.json(&format!("/v1/allocation/{id}")).await?;
            (alloc["ClientStatus"] == status).then_some(alloc)
        })
        .await
    }
}

/// The place of the client that runs an allocation.
fn client_of(alloc: &Value) -> usize {
    let name = alloc["NodeName"].as_str().expect("it has a node");
    let number = name.strip_prefix("client-").and_then(|n| n.parse::<usize>().ok());
    number.expect("nodes are numbered") - 1
}

#[tokio::test]
async fn a_dead_agent_is_noticed_soon_and_a_returning_one_stops_what_was_replaced() {
    let mut pair = Pair::start(2, "").await;
    let job = pair.site.file("sleeper.hcl", &sleeper("sleeper", 1, &["raw_exec"]));
    pair.server.run_job(&job).await;
    let first = pair.server.until_running("sleeper", 1).await.remove(0);
    let client = client_of(&first);
    let task = process(&pair.clients[client], &id(&first), "raw_exec", 1).await;

    pair.clients[client].kill();
    let killed = Instant::now();
    let second = until("replacement", PATIENCE, async || {
        let running = pair.server.running("sleeper").await;
        running.into_iter().find(|alloc| id(alloc) != id(&first))
    })
    .await;
    println!("kill -9 of an agent to the replacement running: {:?}", killed.elapsed());
    assert!(killed.elapsed() < Duration::from_secs(10));
    assert!(task.is_alive(), "the task outlived its agent");

    pair.clients[client].start();
    until("end of the old task", PATIENCE, async || (!task.is_alive()).then_some(())).await;
    let running = pair.server.until_running("sleeper", 1).await;
    assert_eq!(id(&running[0]), id(&second));
    assert_eq!(pair.alloc(&id(&first)).await["ClientStatus"], "lost");
}

#[tokio::test]
async fn an_agent_that_is_started_anew_takes_up_many_tasks_and_moves_none() {
    let mut pair = Pair::start(2, "").await;
    let text = sleeper("sleeper", MANY, &["raw_exec"])
        .replace("cpu    = 20", "cpu    = 1")
        .replace("memory = 16", "memory = 10");
    pair.server.run_job(&pair.site.file("sleeper.hcl", &text)).await;
    let before = processes(&pair.server, "sleeper").await;
    let allocs: Vec<String> = pair.server.running("sleeper").await.iter().map(id).collect();
    for round in ["killed", "ended"] {
        let client = &mut pair.clients[0];
        client.forget_log();
        if round == "killed" {
            client.kill();
        } else {
            assert!(client.end().await.success());
        }
        let restarted = Instant::now();
        client.start();
        let took_up = until("tasks to be taken up", PATIENCE, async || {
            client.log_lines("took up the tasks of the earlier agent").pop()
        });
        let line = took_up.await;
        let took = restarted.elapsed();
        println!("agent {round}, started to reattached: {took:?}; {line}");
        assert!(took < PATIENCE);
        pair.until_nodes("ready", 2).await;
    }
    let running: Vec<String> = pair.server.running("sleeper").await.iter().map(id).collect();
    assert_eq!(running, allocs);
    assert_eq!(processes(&pair.server, "sleeper").await, before, "no task was started anew");
}

#[tokio::test]
async fn what_ended_while_the_agent_was_away_is_told_as_it_was() {
    let mut pair =
        Pair::start(1, "  heartbeat_grace = \"60s\"\n  closed_heartbeat_grace = \"60s\"\n").await;
    let job = |name: &str, script: &str| {
        let text = sleeper(name, 1, &["raw_exec"]).replace("exec sleep 100000", script);
        let text = text.replace("datacenters", "type = \"batch\"\n  datacenters");
        let restart = "attempts = 10\n      delay    = \"100ms\"";
        let never = "attempts = 0\n      mode     = \"fail\"";
        let update = "  update {\n    min_healthy_time = \"0s\"\n  }\n";
        text.replace(restart, never)
            .replace(update, "  reschedule {\n    attempts = 0\n    unlimited = false\n  }\n")
    };
    let go = pair.site.path().join("go");
    let wait = format!("while [ ! -e {} ]; do sleep 0.05; done;", go.display());
    let cases = [
        ("good", "exit 0", "complete", ("0", "0")),
        ("bad", "exit 7", "failed", ("7", "0")),
        ("killed", "kill -9 $$", "failed", ("137", "9")),
    ];
    let mut exits = Vec::new();
    for (name, end, ..) in cases {
        let text = job(name, &format!("{wait} {end}"));
        pair.server.run_job(&pair.site.file(&format!("{name}.hcl"), &text)).await;
        let alloc = id(&pair.server.until_running(name, 1).await[0]);
        process(&pair.clients[0], &alloc, "raw_exec", 1).await;
        let dir = pair.site.path().join("client-1/data/alloc").join(alloc);
        exits.push(dir.join(".shim/raw_exec/exit.json"));
    }
    pair.clients[0].kill();
    std::fs::write(&go, "").expect("the directory can be written");
    until("end of all tasks", PATIENCE, async || {
        exits.iter().all(|exit| exit.exists()).then_some(())
    })
    .await;
    let ended = now_nanos();
    pair.clients[0].start();
    for (name, _, status, (code, signal)) in cases {
        let told = until("story of the task", PATIENCE, async || {
            let allocs = pair.server.json(&format!("/v1/job/{name}/allocations")).await?;
            let alloc = allocs.as_array()?.first()?.clone();
            (alloc["ClientStatus"] == status).then_some(alloc)
        })
        .await;
        let events = told["TaskStates"]["raw_exec"]["Events"].as_array().expect("events").clone();
        let end = events.iter().find(|event| event["Type"] == "Terminated").expect("an end");
        assert_eq!(end["Details"]["exit_code"], code, "{name}: {end}");
        assert_eq!(end["Details"]["signal"], signal, "{name}: {end}");
        let finished = told["TaskStates"]["raw_exec"]["FinishedAt"].as_str().expect("a date");
        assert!(!finished.starts_with("0001"), "{finished}");
        let at = end["Time"].as_i64().expect("a time");
        assert!(at <= ended, "{name}: it ended before the agent was back, at {at} and not {ended}");
    }
}

fn now_nanos() -> i64 {
    cos_platform::Clock::unix_nanos(&cos_platform::SystemClock::new())
}

/// A service with a `disconnect` block.
fn disconnecting(policy: &str) -> String {
    let group = "group \"main\" {\n";
    sleeper("sleeper", 1, &["raw_exec"])
        .replace(group, &format!("{group}    disconnect {{\n{policy}\n    }}\n"))
}

#[tokio::test]
async fn a_paused_agent_is_waited_for_and_the_original_stays() {
    let pair = Pair::start(2, "").await;
    let text = disconnecting("lost_after = \"1h\"\nreconcile = \"keep_original\"");
    pair.server.run_job(&pair.site.file("sleeper.hcl", &text)).await;
    let first = pair.server.until_running("sleeper", 1).await.remove(0);
    let client = client_of(&first);
    let task = process(&pair.clients[client], &id(&first), "raw_exec", 1).await;

    pair.clients[client].signal(Signal::SIGSTOP);
    let unknown = pair.until_client_status(&id(&first), "unknown").await;
    assert_eq!(unknown["DesiredStatus"], "run");
    assert_eq!(unknown["AllocStates"][0]["Value"], "unknown", "{unknown}");
    pair.until_nodes("disconnected", 1).await;
    let status = pair.server.cos(&["node", "status"]).await.well();
    assert!(status.contains("disconnected"), "{status}");
    let status = pair.server.cos(&["job", "status", "sleeper"]).await.well();
    assert!(status.contains("unknown"), "{status}");
    let second = pair.server.until_running("sleeper", 1).await.remove(0);
    assert_ne!(id(&second), id(&first));

    pair.clients[client].signal(Signal::SIGCONT);
    pair.until_client_status(&id(&second), "complete").await;
    let running = pair.server.until_running("sleeper", 1).await;
    assert_eq!(id(&running[0]), id(&first));
    assert!(task.is_alive(), "it was never touched");
    pair.until_nodes("ready", 2).await;
    let evals = pair.server.json("/v1/job/sleeper/evaluations").await.expect("an answer");
    let triggers: Vec<&str> =
        evals.as_array().into_iter().flatten().filter_map(|e| e["TriggeredBy"].as_str()).collect();
    for trigger in ["reconnect", "max-disconnect-timeout"] {
        assert!(triggers.contains(&trigger), "{triggers:?}");
    }
}

#[tokio::test]
async fn a_killed_agent_is_waited_for_and_the_replacement_stays() {
    let mut pair = Pair::start(2, "").await;
    let text = disconnecting("lost_after = \"1h\"\nreconcile = \"keep_replacement\"");
    pair.server.run_job(&pair.site.file("sleeper.hcl", &text)).await;
    let first = pair.server.until_running("sleeper", 1).await.remove(0);
    let client = client_of(&first);
    let task = process(&pair.clients[client], &id(&first), "raw_exec", 1).await;
    pair.clients[client].kill();
    pair.until_client_status(&id(&first), "unknown").await;
    let second = pair.server.until_running("sleeper", 1).await.remove(0);
    pair.clients[client].start();
    until("end of the original", PATIENCE, async || (!task.is_alive()).then_some(())).await;
    let running = pair.server.until_running("sleeper", 1).await;
    assert_eq!(id(&running[0]), id(&second));
    pair.until_client_status(&id(&first), "complete").await;
}

#[tokio::test]
async fn an_agent_without_servers_stops_what_wants_that_and_keeps_the_rest_serving() {
    let mut pair = Pair::start(1, "").await;
    let text = disconnecting("stop_on_client_after = \"2s\"");
    pair.server.run_job(&pair.site.file("sleeper.hcl", &text)).await;
    let first = pair.server.until_running("sleeper", 1).await.remove(0);
    let mortal = process(&pair.clients[0], &id(&first), "raw_exec", 1).await;
    pair.server.run_job(&pair.site.file("ping.hcl", &ping(&pair.clients[0], 2))).await;
    let client = &pair.clients[0];
    let page = client.ingress("/ping?hop=10");
    until("route", PATIENCE, async || get(&page).await).await;
    assert!(put(&client.consul("/v1/kv/key"), "value").await);

    pair.server.kill();
    until("end of the task", PATIENCE, async || (!mortal.is_alive()).then_some(())).await;
    let passing = client.consul("/v1/health/service/ping-service?passing=1");
    let instances = |entries: Value| entries.as_array().map(Vec::len);
    assert!(get(&page).await.is_some(), "the ingress goes on");
    assert_eq!(get_json(&passing).await.and_then(instances), Some(2), "names go on");

    // Even an agent that is started anew meanwhile has names and routes.
    pair.clients[0].kill();
    pair.clients[0].start();
    until("route without servers", PATIENCE, async || get(&page).await).await;
    assert_eq!(get_json(&passing).await.and_then(instances), Some(2));

    pair.server.start();
    pair.until_nodes("ready", 1).await;
    pair.server.until_running("ping-service", 2).await;
    // What was stopped here runs again, as its job wants.
    pair.server.until_running("sleeper", 1).await;
}

#[tokio::test]
async fn a_process_without_file_handles_goes_on_and_recovers() {
    let site = Site::new();
    let both = |place: &Place| {
        let server = "server {\n  enabled = true\n  bootstrap_expect = 1\n}\n\
                      limits {\n  http_max_conns_per_client = 0\n  http_max_conns = 100000\n}\n";
        format!("{server}{}", place.client(&[place.address]))
    };
    let mut agent = site.agent("both", both);
    agent.limit_open_files(160);
    agent.start_alone().await;
    let address = (agent.place.address, Place::HTTP);
    let mut held = Vec::new();
    for _ in 0..400 {
        // Those beyond what the process can take wait in the kernel's queue.
        let connecting = tokio::net::TcpStream::connect(address);
        if let Ok(Ok(stream)) = tokio::time::timeout(Duration::from_millis(200), connecting).await {
            held.push(stream);
        }
    }
    assert!(held.len() > 160, "{} were held", held.len());
    let url = agent.http("/v1/status/leader");
    until("an answer in spite of them", PATIENCE, async || get(&url).await).await;
    println!("memory with {} idle connections: {} KiB", held.len(), agent.memory_kib());
    drop(held);
    until("an answer", PATIENCE, async || get(&url).await).await;
    assert!(put(&agent.consul("/v1/kv/key"), "value").await);
    assert!(
        agent.log_lines("cannot accept").len() < 20,
        "it is told once per shortage: {:?}",
        agent.log_lines("cannot accept").len()
    );
}
