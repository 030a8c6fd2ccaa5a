//! Disks that have no room left, as small file systems in memory.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::{Outcome, Run};
use crate::agent::Agent;
use crate::lab::run as run_command;

/// How large the disk is, besides what is on it already.
const ROOM_MIB: u64 = 24;

/// The size of the values by which the log is made to need more room.
const VALUE_BYTES: usize = 256 * 1024;

/// How many of them are written; together they are more than the disk has.
const VALUES: usize = 160;

/// How long a server may take to notice that it cannot go on.
const NOTICE_TIME: Duration = Duration::from_secs(10);

/// Moves an agent's data to a disk of its own.
pub(super) fn put_on_small_disk(agent: &mut Agent, options: &str) -> anyhow::Result<()> {
    let before = agent.dir.join("data.before");
    std::fs::rename(agent.data(), &before)?;
    agent.mount(options)?;
    copy(&before, &agent.data())?;
    Ok(std::fs::remove_dir_all(before)?)
}

/// Moves it back to where there is room.
pub(super) fn put_back(agent: &mut Agent) -> anyhow::Result<()> {
    let after = agent.dir.join("data.after");
    std::fs::create_dir_all(&after)?;
    copy(&agent.data(), &after)?;
    agent.unmount();
    agent.wipe()?;
    std::fs::remove_dir(agent.data())?;
    Ok(std::fs::rename(after, agent.data())?)
}

fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    run_command(Command::new("cp").arg("-a").arg(from.join(".")).arg(to))
}

/// Takes all room that is left.
pub(super) fn fill(dir: &Path) -> std::io::Result<()> {
    let block = vec![0_u8; 1 << 16];
    let mut file = std::fs::File::create(dir.join("filler"))?;
    while std::io::Write::write_all(&mut file, &block).is_ok() {}
    Ok(())
}

/// Takes all names that are left.
fn fill_names(dir: &Path) -> std::io::Result<()> {
    let fillers = dir.join("fillers");
    std::fs::create_dir(&fillers)?;
    for number in 0.. {
        if std::fs::write(fillers.join(number.to_string()), "").is_err() {
            return Ok(());
        }
    }
    unreachable!("a file system has an end");
}

fn used_mib(dir: &Path) -> anyhow::Result<u64> {
    let output = Command::new("du").args(["-sm"]).arg(dir).output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(text.split_whitespace().next().unwrap_or("0").parse()?)
}

/// What runs out.
#[derive(Clone, Copy, PartialEq, Eq)]
enum What {
    Room,
    Names,
}

async fn run_out(run: &mut Run<'_>, on_leader: bool, what: What) -> anyhow::Result<Outcome> {
    let (leader, [follower, _]) = run.cluster.roles().await?;
    let victim = if on_leader { leader } else { follower };
    let size = used_mib(&run.cluster.servers[victim].data())? + ROOM_MIB;
    let agent = &mut run.cluster.servers[victim];
    agent.end().await?;
    put_on_small_disk(agent, &format!("size={size}m,nr_inodes=200"))?;
    agent.start()?;
    run.cluster.make_whole().await?;
    if on_leader {
        run.make_leader(victim).await?;
    }
    let data = run.cluster.servers[victim].data();
    match what {
        What::Room => fill(&data)?,
        What::Names => fill_names(&data)?,
    }
    let others: Vec<usize> = (0..3).filter(|server| *server != victim).collect();
    let mut recovered = run.cluster.until_a_write(&others).await?;
    for number in 0..VALUES {
        let url = run.cluster.servers[others[number % 2]].consul(&format!("/v1/kv/large-{number}"));
        // It may fail while the leader changes; the load is what is judged.
        run.cluster.put(&url, "x".repeat(VALUE_BYTES)).await.ok();
    }
    recovered = recovered.max(run.cluster.until_a_write(&others).await?);
    let agent = &mut run.cluster.servers[victim];
    let ended = agent.ended(NOTICE_TIME).await.is_ok();
    agent.kill();
    std::fs::remove_file(data.join("filler")).ok();
    std::fs::remove_dir_all(data.join("fillers")).ok();
    put_back(agent)?;
    agent.start()?;
    run.cluster.make_whole().await?;
    Ok(Outcome::noted(recovered, if ended { "the server ended" } else { "the server went on" }))
}

pub(super) async fn full_on_leader(run: &mut Run<'_>) -> anyhow::Result<Outcome> {
    run_out(run, true, What::Room).await
}

pub(super) async fn full_on_follower(run: &mut Run<'_>) -> anyhow::Result<Outcome> {
    run_out(run, false, What::Room).await
}

pub(super) async fn no_inodes_on_leader(run: &mut Run<'_>) -> anyhow::Result<Outcome> {
    run_out(run, true, What::Names).await
}
