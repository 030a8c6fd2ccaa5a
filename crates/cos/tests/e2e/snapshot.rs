//! A saved state in a cluster that never saw it: the same content, and agents that go on.

use std::net::Ipv4Addr;

use serde_json::Value;

use crate::harness::{Agent, PATIENCE, Place, Site, get, put, until};
use crate::jobs::{id, process, sleeper};

/// The hash of the content of a saved state.
async fn hash_of(agent: &Agent, file: &str) -> String {
    let shown = agent.cos(&["operator", "snapshot", "inspect", "-json", file]).await.well();
    let meta: Value = serde_json::from_str(&shown).expect("it is JSON");
    let hash = meta["Meta"]["StateHash"].as_str().unwrap_or_else(|| panic!("no hash in {shown}"));
    hash.to_owned()
}

/// The hash that each server says it restored, or nothing if one has not yet.
fn restored(servers: &[Agent]) -> Vec<String> {
    let of = |line: &String| {
        let hash = line.split("hash=").nth(1)?;
        Some(hash.split_whitespace().next()?.trim_matches('"').to_owned())
    };
    let lines = |server: &Agent| server.log_lines("state restored from a saved one");
    servers
        .iter()
        .flat_map(|server| lines(server).iter().filter_map(of).collect::<Vec<_>>())
        .collect()
}

#[tokio::test]
async fn a_new_cluster_takes_over_a_saved_state_and_the_agents_of_the_old_one() {
    let site = Site::new();
    let alone = "server {\n  enabled = true\n  bootstrap_expect = 1\n}\n";
    let mut old = site.agent("old-server", |_| alone.to_owned());
    let mut servers: Vec<Agent> =
        (1..=3).map(|n| site.agent(&format!("new-server-{n}"), |_| String::new())).collect();
    let addresses: Vec<Ipv4Addr> = servers.iter().map(|server| server.place.address).collect();
    let everywhere: Vec<Ipv4Addr> =
        std::iter::once(old.place.address).chain(addresses.iter().copied()).collect();
    let mut client = site.agent("client", |place| place.client(&everywhere));
    old.start();
    client.start();
    until("ready node", PATIENCE, async || {
        let nodes = old.json("/v1/nodes").await?;
        (nodes.as_array()?.first()?["Status"] == "ready").then_some(())
    })
    .await;
    old.run_job(&site.file("kept.hcl", &sleeper("kept", 1, &["raw_exec"]))).await;
    let kept = id(&old.until_running("kept", 1).await[0]);
    let kept_task = process(&client, &kept, "raw_exec", 1).await;
    assert!(put(&old.consul("/v1/kv/saved"), "value").await);

    let file = site.path().join("backup.snap").display().to_string();
    old.cos(&["operator", "snapshot", "save", &file]).await.well();
    let saved = hash_of(&old, &file).await;
    // What comes after is not in the file.
    old.run_job(&site.file("late.hcl", &sleeper("late", 1, &["raw_exec"]))).await;
    let late = id(&old.until_running("late", 1).await[0]);
    let late_task = process(&client, &late, "raw_exec", 1).await;
    assert!(put(&old.consul("/v1/kv/late"), "value").await);
    old.kill();

    let join: Vec<String> =
        addresses.iter().map(|address| format!("\"{address}:{}\"", Place::SERF)).collect();
    for server in &mut servers {
        server.configure(&format!(
            "server {{\n  enabled = true\n  bootstrap_expect = 3\n  server_join {{\n    retry_join \
             = [{}]\n  }}\n}}\n",
            join.join(", ")
        ));
        server.start();
    }
    until("new cluster", PATIENCE, async || {
        put(&servers[0].consul("/v1/kv/before"), "value").await.then_some(())
    })
    .await;
    servers[1].cos(&["operator", "snapshot", "restore", &file]).await.well();
    let told = until("restored state", PATIENCE, async || {
        let told = restored(&servers);
        (!told.is_empty()).then_some(told)
    })
    .await;
    assert_eq!(told, [saved], "what was restored is what was saved");
    for server in &servers {
        let value = until("saved key", PATIENCE, async || {
            get(&server.consul("/v1/kv/saved?raw&stale")).await
        })
        .await;
        assert_eq!(value, "value");
        for gone in ["late", "before"] {
            assert_eq!(get(&server.consul(&format!("/v1/kv/{gone}?raw"))).await, None, "{gone}");
        }
    }

    // The agent finds the new servers, keeps what they know and stops what they do not.
    until("end of the task that nobody knows", PATIENCE, async || {
        (!late_task.is_alive()).then_some(())
    })
    .await;
    let running = servers[2].until_running("kept", 1).await;
    assert_eq!(id(&running[0]), kept);
    assert!(kept_task.is_alive(), "the task was started anew");
    client.end().await;
}
