//! Devices that are slow, fail, or forget what was not made durable; by the door that
//! `docs/fault-injection.md` describes, which release builds do not have.

use std::time::Duration;

use anyhow::ensure;

use super::{Outcome, Run};

/// How long a device is slow.
const FAULT_TIME: Duration = Duration::from_secs(4);

/// How soon a server whose device failed has to end.
const END_TIME: Duration = Duration::from_secs(10);

/// How many writes lead to a snapshot, with room to spare.
const ENTRIES: usize = 9000;

pub(super) async fn slow_leader(run: &mut Run<'_>) -> anyhow::Result<Outcome> {
    let (leader, _) = run.cluster.roles().await?;
    slow(run, leader).await
}

pub(super) async fn slow_follower(run: &mut Run<'_>) -> anyhow::Result<Outcome> {
    let (_, [follower, _]) = run.cluster.roles().await?;
    slow(run, follower).await
}

async fn slow(run: &mut Run<'_>, victim: usize) -> anyhow::Result<Outcome> {
    run.cluster.servers[victim].set_disk("sync slow=1000ms")?;
    let recovered = run.cluster.until_a_write(&[0, 1, 2]).await?;
    run.load(FAULT_TIME).await;
    run.cluster.servers[victim].set_disk("")?;
    Ok(Outcome::after(recovered))
}

pub(super) async fn failing_sync_on_leader(run: &mut Run<'_>) -> anyhow::Result<Outcome> {
    let (leader, _) = run.cluster.roles().await?;
    fail(run, leader, "sync io log-").await
}

pub(super) async fn failing_write_on_leader(run: &mut Run<'_>) -> anyhow::Result<Outcome> {
    let (leader, _) = run.cluster.roles().await?;
    fail(run, leader, "write io log-").await
}

pub(super) async fn failing_sync_on_follower(run: &mut Run<'_>) -> anyhow::Result<Outcome> {
    let (_, [follower, _]) = run.cluster.roles().await?;
    fail(run, follower, "sync io log-").await
}

/// Nobody knows what a device holds after it failed, so the server has to end.
async fn fail(run: &mut Run<'_>, victim: usize, rule: &str) -> anyhow::Result<Outcome> {
    run.cluster.servers[victim].set_disk(rule)?;
    let others: Vec<usize> = (0..3).filter(|server| *server != victim).collect();
    let recovered = run.cluster.until_a_write(&others).await?;
    let ended = run.cluster.servers[victim].ended(END_TIME).await;
    run.cluster.servers[victim].set_disk("")?;
    ended?;
    Ok(Outcome::noted(recovered, "the server ended"))
}

/// A snapshot that cannot be written costs the server at most, which others replace.
pub(super) async fn no_room_for_snapshots(run: &mut Run<'_>) -> anyhow::Result<Outcome> {
    let (leader, _) = run.cluster.roles().await?;
    run.cluster.servers[leader].set_disk("write full snap-")?;
    let client = reqwest::Client::builder().no_proxy().build()?;
    let mut writes = tokio::task::JoinSet::new();
    for writer in 0..32 {
        let url = run.cluster.servers[leader].consul(&format!("/v1/kv/many/{writer}"));
        let client = client.clone();
        writes.spawn(async move {
            for number in 0..ENTRIES / 32 {
                client.put(&url).body(number.to_string()).send().await.ok();
            }
        });
    }
    while writes.join_next().await.is_some() {}
    let others: Vec<usize> = (0..3).filter(|server| *server != leader).collect();
    let recovered = run.cluster.until_a_write(&others).await?;
    let is_running = run.cluster.servers[leader].is_running();
    run.cluster.servers[leader].set_disk("")?;
    run.cluster.servers[leader].start()?;
    run.cluster.until_writes(&[0, 1, 2]).await?;
    let said = if is_running { "the server went on" } else { "the server ended" };
    Ok(Outcome::noted(recovered, said))
}

/// All machines lose their power at once: what was not made durable is gone.
pub(super) async fn power_lost(run: &mut Run<'_>) -> anyhow::Result<Outcome> {
    for server in &run.cluster.servers {
        server.set_disk("write hold")?;
    }
    run.load(FAULT_TIME).await;
    for server in &mut run.cluster.servers {
        server.kill();
    }
    for server in &mut run.cluster.servers {
        server.set_disk("")?;
        server.start()?;
    }
    let recovered = run.cluster.until_a_write(&[0, 1, 2]).await?;
    ensure!(recovered < FAULT_TIME * 5, "it took {recovered:?}");
    Ok(Outcome::after(recovered))
}
