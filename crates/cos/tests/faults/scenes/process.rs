//! Processes that die or stop.

use std::time::Duration;

use nix::sys::signal::Signal;

use super::{Outcome, Run};

pub(super) async fn kill_leader(run: &mut Run<'_>) -> anyhow::Result<Outcome> {
    let (leader, others) = run.cluster.roles().await?;
    run.cluster.servers[leader].kill();
    let recovered = run.cluster.until_a_write(&others).await?;
    run.load(Duration::from_secs(1)).await;
    Ok(Outcome::after(recovered))
}

pub(super) async fn kill_follower(run: &mut Run<'_>) -> anyhow::Result<Outcome> {
    let (leader, [follower, other]) = run.cluster.roles().await?;
    run.cluster.servers[follower].kill();
    let recovered = run.cluster.until_writes(&[leader, other]).await?;
    run.load(Duration::from_secs(1)).await;
    Ok(Outcome::after(recovered))
}

pub(super) async fn kill_all(run: &mut Run<'_>) -> anyhow::Result<Outcome> {
    for server in &mut run.cluster.servers {
        server.kill();
    }
    for server in &mut run.cluster.servers {
        server.start()?;
    }
    Ok(Outcome::after(run.cluster.until_a_write(&[0, 1, 2]).await?))
}

pub(super) async fn end_leader(run: &mut Run<'_>) -> anyhow::Result<Outcome> {
    let (leader, others) = run.cluster.roles().await?;
    run.cluster.servers[leader].signal(Signal::SIGTERM)?;
    let recovered = run.cluster.until_a_write(&others).await?;
    run.cluster.servers[leader].ended(Duration::from_secs(15)).await?;
    Ok(Outcome::after(recovered))
}

pub(super) async fn pause_leader(run: &mut Run<'_>) -> anyhow::Result<Outcome> {
    pause(run, Duration::from_secs(3)).await
}

pub(super) async fn pause_leader_long(run: &mut Run<'_>) -> anyhow::Result<Outcome> {
    pause(run, Duration::from_secs(10)).await
}

async fn pause(run: &mut Run<'_>, time: Duration) -> anyhow::Result<Outcome> {
    let (leader, others) = run.cluster.roles().await?;
    run.cluster.servers[leader].signal(Signal::SIGSTOP)?;
    let recovered = run.cluster.until_a_write(&others).await?;
    run.load(time.saturating_sub(recovered)).await;
    run.cluster.servers[leader].signal(Signal::SIGCONT)?;
    // What it believed to be, it may not act on.
    run.load(Duration::from_secs(1)).await;
    Ok(Outcome::after(recovered))
}

pub(super) async fn pause_follower(run: &mut Run<'_>) -> anyhow::Result<Outcome> {
    let (leader, [follower, other]) = run.cluster.roles().await?;
    run.cluster.servers[follower].signal(Signal::SIGSTOP)?;
    let recovered = run.cluster.until_writes(&[leader, other]).await?;
    run.load(Duration::from_secs(5)).await;
    run.cluster.servers[follower].signal(Signal::SIGCONT)?;
    Ok(Outcome::after(recovered))
}

pub(super) async fn pause_all(run: &mut Run<'_>) -> anyhow::Result<Outcome> {
    for signal in [Signal::SIGSTOP, Signal::SIGCONT] {
        for server in &run.cluster.servers {
            server.signal(signal)?;
        }
        if signal == Signal::SIGSTOP {
            run.load(Duration::from_secs(1)).await;
        }
    }
    Ok(Outcome::after(run.cluster.until_a_write(&[0, 1, 2]).await?))
}
