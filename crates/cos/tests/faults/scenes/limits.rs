//! More than there is room for: descriptors, watchers, bytes.

use std::time::Duration;

use anyhow::{Context, ensure};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::{Outcome, Run};

/// How many descriptors a server gets, and how many connections are opened to it.
const DESCRIPTORS: u32 = 256;
const CONNECTIONS: usize = 400;

/// How many clients wait for one key.
const WATCHERS: usize = 1000;

/// How soon all of them have to know.
const TELL_TIME: Duration = Duration::from_secs(10);

pub(super) async fn descriptors(run: &mut Run<'_>) -> anyhow::Result<Outcome> {
    let (_, [victim, _]) = run.cluster.roles().await?;
    let server = &mut run.cluster.servers[victim];
    server.start.descriptors = Some(DESCRIPTORS);
    server.end().await?;
    server.start()?;
    run.cluster.make_whole().await?;
    run.make_leader(victim).await?;
    let address = run.cluster.servers[victim].port.address.clone();
    let mut held = Vec::new();
    for number in 0..CONNECTIONS {
        let port = if number % 2 == 0 { 4646 } else { 8500 };
        let opening = TcpStream::connect((address.as_str(), port));
        held.extend(tokio::time::timeout(Duration::from_millis(200), opening).await);
    }
    let others: Vec<usize> = (0..3).filter(|other| *other != victim).collect();
    let recovered = run.cluster.until_writes(&others).await?;
    run.load(Duration::from_secs(2)).await;
    ensure!(run.cluster.servers[victim].is_running(), "the server ended");
    drop(held);
    let after = run.cluster.until_writes(&[victim]).await?;
    let server = &mut run.cluster.servers[victim];
    server.start.descriptors = None;
    server.end().await?;
    server.start()?;
    run.cluster.make_whole().await?;
    let after = after.as_millis();
    Ok(Outcome::noted(recovered, format!("the server itself served again {after} ms after")))
}

pub(super) async fn watchers(run: &mut Run<'_>) -> anyhow::Result<Outcome> {
    let (leader, others) = run.cluster.roles().await?;
    let first = run.cluster.servers[leader].consul("/v1/kv/watched");
    run.cluster.put(&first, "before".to_owned()).await?;
    let client = reqwest::Client::builder().no_proxy().build()?;
    let index = client.get(&first).send().await?.headers()["x-consul-index"].to_str()?.to_owned();
    let mut waiting = JoinSet::new();
    for number in 0..WATCHERS {
        let server = &run.cluster.servers[others[number % 2]];
        let url = server.consul(&format!("/v1/kv/watched?raw&wait=60s&index={index}"));
        let client = client.clone();
        waiting.spawn(async move { client.get(url).send().await?.text().await });
    }
    run.load(Duration::from_secs(1)).await;
    run.cluster.servers[leader].kill();
    let recovered = run.cluster.until_a_write(&others).await?;
    let url = run.cluster.servers[others[0]].consul("/v1/kv/watched");
    run.cluster.put(&url, "after".to_owned()).await?;
    let begun = tokio::time::Instant::now();
    let told = async {
        while let Some(answer) = waiting.join_next().await {
            let text = answer?.context("a watcher was cut off")?;
            ensure!(text == "after", "a watcher was told {text:?}");
        }
        Ok(())
    };
    tokio::time::timeout(TELL_TIME, told).await.context("some watchers were not told")??;
    let told = begun.elapsed().as_millis();
    Ok(Outcome::noted(recovered, format!("{WATCHERS} watchers were told within {told} ms")))
}

pub(super) async fn oversize(run: &mut Run<'_>) -> anyhow::Result<Outcome> {
    let server = &run.cluster.servers[0];
    let value = server.consul("/v1/kv/oversize");
    let (status, text) = run.cluster.put(&value, "x".repeat(600 * 1024)).await?;
    ensure!(status == 413, "a value of 600 KiB: {status} {text}");
    let (status, text) = run.cluster.put(&value, "x".repeat(512 * 1024)).await?;
    ensure!(status == 200, "a value of 512 KiB: {status} {text}");
    let job = |bytes: usize| {
        serde_json::json!({ "Job": {
            "ID": "oversize", "Name": "oversize", "Type": "service", "Datacenters": ["*"],
            "Meta": { "filler": "x".repeat(bytes) },
            "TaskGroups": [{ "Name": "none", "Count": 0, "Tasks": [
                { "Name": "none", "Driver": "raw_exec", "Config": { "command": "/bin/true" } }
            ] }],
        } })
        .to_string()
    };
    let mut statuses = Vec::new();
    for mebibytes in [1, 8, 64] {
        let url = run.cluster.servers[0].http("/v1/jobs");
        // The connection may be cut while the body is still being sent.
        let answer = run.cluster.put(&url, job(mebibytes << 20)).await;
        let status = answer.map_or_else(|_| "cut off".to_owned(), |(status, _)| status.to_string());
        ensure!(mebibytes < 64 || status != "200", "a job of 64 MiB was taken");
        statuses.push(format!("{mebibytes} MiB: {status}"));
    }
    let recovered = run.cluster.until_writes(&[0, 1, 2]).await?;
    Ok(Outcome::noted(recovered, format!("jobs of {}", statuses.join(", "))))
}
