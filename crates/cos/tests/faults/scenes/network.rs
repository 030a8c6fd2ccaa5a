//! Networks that lose what they are given.

use std::time::Duration;

use super::{Outcome, Run};
use crate::cluster::{Cluster, SERVERS};
use crate::lab::cut;

/// How long a fault lasts.
const FAULT_TIME: Duration = Duration::from_secs(4);

fn heal(cluster: &Cluster) -> anyhow::Result<()> {
    cluster.servers.iter().try_for_each(|server| server.port.heal())
}

/// Cuts one server off from the two others.
fn isolate(cluster: &Cluster, server: usize) -> anyhow::Result<()> {
    for other in (0..SERVERS).filter(|other| *other != server) {
        cut(&cluster.servers[server].port, &cluster.servers[other].port)?;
    }
    Ok(())
}

pub(super) async fn isolate_leader(run: &mut Run<'_>) -> anyhow::Result<Outcome> {
    let (leader, others) = run.cluster.roles().await?;
    isolate(run.cluster, leader)?;
    let recovered = run.cluster.until_a_write(&others).await?;
    run.load(FAULT_TIME).await;
    heal(run.cluster)?;
    run.load(Duration::from_secs(1)).await;
    Ok(Outcome::after(recovered))
}

pub(super) async fn isolate_follower(run: &mut Run<'_>) -> anyhow::Result<Outcome> {
    let (leader, [follower, other]) = run.cluster.roles().await?;
    isolate(run.cluster, follower)?;
    let recovered = run.cluster.until_writes(&[leader, other]).await?;
    run.load(FAULT_TIME).await;
    heal(run.cluster)?;
    // One that comes back does not disturb those that went on.
    let unmoved = run.cluster.leader().await? == leader;
    Ok(Outcome::noted(recovered, if unmoved { "" } else { "the leader changed" }))
}

pub(super) async fn isolate_all(run: &mut Run<'_>) -> anyhow::Result<Outcome> {
    for server in 0..SERVERS {
        isolate(run.cluster, server)?;
    }
    run.load(FAULT_TIME).await;
    heal(run.cluster)?;
    Ok(Outcome::noted(run.cluster.until_a_write(&[0, 1, 2]).await?, "counted from the healing"))
}

pub(super) async fn cut_pair(run: &mut Run<'_>) -> anyhow::Result<Outcome> {
    let (leader, [follower, bridge]) = run.cluster.roles().await?;
    cut(&run.cluster.servers[leader].port, &run.cluster.servers[follower].port)?;
    let recovered = run.cluster.until_a_write(&[leader, bridge]).await?;
    run.load(FAULT_TIME).await;
    heal(run.cluster)?;
    Ok(Outcome::after(recovered))
}

pub(super) async fn deaf_leader(run: &mut Run<'_>) -> anyhow::Result<Outcome> {
    let (leader, others) = run.cluster.roles().await?;
    for other in others {
        run.cluster.servers[leader].port.deafen(&run.cluster.servers[other].port)?;
    }
    one_way(run, &others).await
}

pub(super) async fn mute_leader(run: &mut Run<'_>) -> anyhow::Result<Outcome> {
    let (leader, others) = run.cluster.roles().await?;
    for other in others {
        run.cluster.servers[other].port.deafen(&run.cluster.servers[leader].port)?;
    }
    one_way(run, &others).await
}

async fn one_way(run: &mut Run<'_>, others: &[usize]) -> anyhow::Result<Outcome> {
    let recovered = run.cluster.until_a_write(others).await?;
    run.load(FAULT_TIME).await;
    heal(run.cluster)?;
    Ok(Outcome::after(recovered))
}

pub(super) async fn flap(run: &mut Run<'_>) -> anyhow::Result<Outcome> {
    for _ in 0..10 {
        let victim = usize::try_from(run.draw(SERVERS as u64))?;
        isolate(run.cluster, victim)?;
        let time = Duration::from_millis(100 + run.draw(700));
        run.load(time).await;
        heal(run.cluster)?;
        let time = Duration::from_millis(100 + run.draw(400));
        run.load(time).await;
    }
    Ok(Outcome::noted(run.cluster.until_a_write(&[0, 1, 2]).await?, "counted from the healing"))
}

pub(super) async fn lose(run: &mut Run<'_>) -> anyhow::Result<Outcome> {
    for one in 0..SERVERS {
        for other in (0..SERVERS).filter(|other| *other != one) {
            run.cluster.servers[one].port.lose(&run.cluster.servers[other].port, 0.2)?;
        }
    }
    let recovered = run.cluster.until_a_write(&[0, 1, 2]).await?;
    run.load(FAULT_TIME * 2).await;
    heal(run.cluster)?;
    Ok(Outcome::noted(recovered, "a write got through while packets were lost"))
}
