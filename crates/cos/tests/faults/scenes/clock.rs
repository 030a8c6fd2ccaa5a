//! Clocks that are set, by Debian's `libfaketime` and a file that it reads.
//!
//! The monotonic clock goes on, as when an administrator or NTP sets a machine's clock.

use std::path::Path;
use std::time::Duration;

use super::{Outcome, Run};
use crate::agent::Agent;

const LIBRARY: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1";

/// How long a clock stays wrong.
const FAULT_TIME: Duration = Duration::from_secs(4);

/// Has an agent read its clock through the library from its next start on.
fn prepare(agent: &mut Agent) -> anyhow::Result<()> {
    anyhow::ensure!(Path::new(LIBRARY).exists(), "needs Debian's package libfaketime");
    let file = agent.dir.join("clock");
    set(agent, "+0")?;
    agent.start.environment = vec![
        ("LD_PRELOAD".to_owned(), LIBRARY.to_owned()),
        ("FAKETIME_TIMESTAMP_FILE".to_owned(), file.display().to_string()),
        ("FAKETIME_NO_CACHE".to_owned(), "1".to_owned()),
        ("FAKETIME_DONT_FAKE_MONOTONIC".to_owned(), "1".to_owned()),
    ];
    Ok(())
}

/// Sets a clock by an offset such as `+3600s`.
fn set(agent: &Agent, offset: &str) -> anyhow::Result<()> {
    // In one step: the library reads the file at every look.
    let (new, file) = (agent.dir.join("clock.new"), agent.dir.join("clock"));
    std::fs::write(&new, format!("{offset}\n"))?;
    Ok(std::fs::rename(new, file)?)
}

/// Starts all servers with clocks that can be set.
async fn restart(run: &mut Run<'_>) -> anyhow::Result<()> {
    for server in &mut run.cluster.servers {
        server.end().await?;
        prepare(server)?;
        server.start()?;
    }
    run.cluster.make_whole().await
}

/// Starts all servers without the library again.
async fn undo(run: &mut Run<'_>) -> anyhow::Result<()> {
    for server in &mut run.cluster.servers {
        server.end().await?;
        server.start.environment.clear();
        server.start()?;
    }
    run.cluster.make_whole().await
}

async fn jump(run: &mut Run<'_>, on_leader: bool, offsets: &[&str]) -> anyhow::Result<Outcome> {
    restart(run).await?;
    let (leader, [follower, _]) = run.cluster.roles().await?;
    let victim = if on_leader { leader } else { follower };
    let term = run.cluster.leader().await?;
    let mut recovered = Duration::ZERO;
    for offset in offsets {
        set(&run.cluster.servers[victim], offset)?;
        recovered = recovered.max(run.cluster.until_writes(&[0, 1, 2]).await?);
        run.load(FAULT_TIME).await;
    }
    let kept = run.cluster.leader().await? == term;
    undo(run).await?;
    Ok(Outcome::noted(recovered, if kept { "the leader stayed" } else { "the leader changed" }))
}

pub(super) async fn leader_ahead(run: &mut Run<'_>) -> anyhow::Result<Outcome> {
    jump(run, true, &["+3600s"]).await
}

pub(super) async fn leader_behind(run: &mut Run<'_>) -> anyhow::Result<Outcome> {
    jump(run, true, &["-3600s"]).await
}

pub(super) async fn follower_ahead(run: &mut Run<'_>) -> anyhow::Result<Outcome> {
    jump(run, false, &["+3600s"]).await
}

pub(super) async fn to_and_fro(run: &mut Run<'_>) -> anyhow::Result<Outcome> {
    jump(run, true, &["+3600s", "-3600s", "+0", "-86400s"]).await
}
