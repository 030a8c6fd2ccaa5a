//! A client's agent that dies or cannot write, while its tasks run.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};
use nix::sys::signal::Signal;

use super::disk::{fill, put_back, put_on_small_disk};
use super::{Outcome, Run};
use crate::cluster::{PATIENCE, until};

/// How many tasks run.
const TASKS: usize = 3;

/// The argument by which the processes of the tasks are found.
const MARK: &str = "98765432";

/// How long the agent is away.
const AWAY_TIME: Duration = Duration::from_secs(2);

/// Has tasks run, and returns their processes.
async fn run_tasks(run: &Run<'_>) -> anyhow::Result<Vec<String>> {
    let job = serde_json::json!({ "Job": {
        "ID": "sleepers", "Name": "sleepers", "Type": "service", "Datacenters": ["*"],
        "TaskGroups": [{ "Name": "sleepers", "Count": TASKS, "EphemeralDisk": { "SizeMB": 20 }, "Tasks": [{
            "Name": "sleeper", "Driver": "raw_exec",
            "Config": { "command": "/bin/sleep", "args": [MARK] },
            "Resources": { "CPU": 10, "MemoryMB": 10 },
            "LogConfig": { "MaxFiles": 1, "MaxFileSizeMB": 1 },
        }] }],
    } });
    let url = run.cluster.servers[0].http("/v1/jobs");
    let (status, text) = run.cluster.put(&url, job.to_string()).await?;
    ensure!(status == 200, "the job is refused: {text}");
    until("running tasks", PATIENCE, async || {
        let found = processes();
        (found.len() == TASKS).then_some(found)
    })
    .await
}

/// Ends the tasks.
async fn stop_tasks(run: &Run<'_>) -> anyhow::Result<()> {
    let client = reqwest::Client::builder().no_proxy().build()?;
    let url = run.cluster.servers[0].http("/v1/job/sleepers?purge=true");
    client.delete(url).timeout(PATIENCE).send().await?;
    until("end of the tasks", PATIENCE, async || processes().is_empty().then_some(())).await
}

/// The processes of the tasks: their numbers with the times at which they began.
fn processes() -> Vec<String> {
    let is_task = |dir: &Path| {
        let words = std::fs::read(dir.join("cmdline")).unwrap_or_default();
        words == format!("/bin/sleep\0{MARK}\0").into_bytes()
    };
    let begun = |dir: &Path| {
        let stat = std::fs::read_to_string(dir.join("stat")).ok()?;
        Some(stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.to_owned())
    };
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut found: Vec<String> = entries
        .map(|entry| entry.path())
        .filter(|dir| is_task(dir))
        .filter_map(|dir| Some(format!("{} {}", dir.display(), begun(&dir)?)))
        .collect();
    found.sort();
    found
}

/// Waits until the client's agent serves its API and its node is ready.
async fn until_ready(run: &Run<'_>) -> anyhow::Result<Duration> {
    let begun = tokio::time::Instant::now();
    let client = &run.cluster.clients[0];
    until("ready node", PATIENCE, async || {
        run.cluster.ask(&client.http("/v1/agent/self")).await?;
        let nodes = run.cluster.ask(&run.cluster.servers[0].http("/v1/nodes")).await?;
        nodes.contains("\"Status\":\"ready\"").then_some(())
    })
    .await?;
    Ok(begun.elapsed())
}

pub(super) async fn kill(run: &mut Run<'_>) -> anyhow::Result<Outcome> {
    let before = run_tasks(run).await?;
    run.cluster.clients[0].kill();
    run.load(AWAY_TIME).await;
    ensure!(processes() == before, "a task ended with its agent");
    run.cluster.clients[0].start()?;
    let recovered = until_ready(run).await?;
    run.load(AWAY_TIME).await;
    ensure!(processes() == before, "a task was started anew");
    stop_tasks(run).await?;
    Ok(Outcome::noted(recovered, "every task kept its process; stands for the OOM killer, too"))
}

pub(super) async fn pause(run: &mut Run<'_>) -> anyhow::Result<Outcome> {
    let before = run_tasks(run).await?;
    run.cluster.clients[0].signal(Signal::SIGSTOP)?;
    run.load(Duration::from_secs(1)).await;
    run.cluster.clients[0].signal(Signal::SIGCONT)?;
    let recovered = until_ready(run).await?;
    run.load(AWAY_TIME).await;
    ensure!(processes() == before, "a task was started anew");
    stop_tasks(run).await?;
    Ok(Outcome::noted(recovered, "every task kept its process"))
}

pub(super) async fn replace(run: &mut Run<'_>) -> anyhow::Result<Outcome> {
    let before = run_tasks(run).await?;
    let pid = run.cluster.clients[0].pid().context("it runs")?;
    let from = run.cluster.clients[0].log_length();
    run.cluster.clients[0].signal(Signal::SIGUSR2)?;
    until("another program", PATIENCE, async || {
        run.cluster.clients[0].log_since(from).contains("agent started").then_some(())
    })
    .await?;
    let recovered = until_ready(run).await?;
    ensure!(run.cluster.clients[0].pid() == Some(pid), "it is another process");
    ensure!(run.cluster.clients[0].is_running(), "it ended");
    ensure!(processes() == before, "a task was started anew");
    stop_tasks(run).await?;
    Ok(Outcome::noted(recovered, "the same process, the same tasks"))
}

pub(super) async fn disk_full(run: &mut Run<'_>) -> anyhow::Result<Outcome> {
    let client = &mut run.cluster.clients[0];
    client.end().await?;
    put_on_small_disk(client, "size=128m")?;
    client.start()?;
    until_ready(run).await?;
    let before = run_tasks(run).await?;
    let data = run.cluster.clients[0].data();
    fill(&data)?;
    // What it is asked to do now it cannot write down.
    let url = run.cluster.servers[0].http("/v1/jobs");
    let more = serde_json::json!({ "Job": {
        "ID": "more", "Name": "more", "Type": "batch", "Datacenters": ["*"],
        "TaskGroups": [{ "Name": "more", "Count": 1, "EphemeralDisk": { "SizeMB": 20 }, "Tasks": [{
            "Name": "more", "Driver": "raw_exec", "Config": { "command": "/bin/true" },
            "Resources": { "CPU": 10, "MemoryMB": 10 },
            "LogConfig": { "MaxFiles": 1, "MaxFileSizeMB": 1 },
        }] }],
    } });
    run.cluster.put(&url, more.to_string()).await?;
    run.load(AWAY_TIME * 2).await;
    ensure!(processes() == before, "a task ended because the disk is full");
    let ended = !run.cluster.clients[0].is_running();
    std::fs::remove_file(data.join("filler"))?;
    run.cluster.clients[0].start()?;
    let recovered = until_ready(run).await?;
    ensure!(processes() == before, "a task was started anew");
    stop_tasks(run).await?;
    let client = &mut run.cluster.clients[0];
    client.end().await?;
    put_back(client)?;
    client.start()?;
    until_ready(run).await?;
    let said = if ended { "the agent ended" } else { "the agent went on" };
    Ok(Outcome::noted(recovered, format!("{said}; every task kept its process")))
}
