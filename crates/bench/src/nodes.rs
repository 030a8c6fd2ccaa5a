//! What many nodes cost their servers, how fast work is placed on them, and how soon the work of a
//! node that died runs elsewhere.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use cos_platform::Tasks;
use hyper::Method;
use serde_json::json;
use tokio::time::Instant;

use crate::cluster::Cluster;
use crate::fleet::{Fleet, Started};
use crate::options::Options;
use crate::report::{Report, progress};
use crate::{BenchError, wire};

/// How long the idle cluster is looked at.
const IDLE: Duration = Duration::from_secs(10);
/// How long placing everything may take.
const PLACE_TIMEOUT: Duration = Duration::from_mins(10);
/// How long replacing the work of one node may take.
const REPLACE_TIMEOUT: Duration = Duration::from_mins(1);
/// Instances of one job at most.
pub(crate) const JOB_COUNT_MAX: usize = 100;
/// How long registering a job may take while many are being placed.
const REGISTER_TIMEOUT: Duration = Duration::from_secs(30);

/// Measures registration, idling, placement and replacement.
pub(crate) async fn run(options: &Options) -> Result<Report, BenchError> {
    let nodes: usize = options.number("nodes", 5000)?;
    let allocs: usize = options.number("allocs", 5000)?;
    let kills: usize = options.number("kills", 5)?;
    let servers: usize = options.number("servers", 3)?;
    if kills >= nodes {
        return Err(BenchError::Usage("`-kills` must leave a node".to_owned()));
    }
    let mut cluster = Cluster::start(servers, &options.directory()).await?;
    let tasks = Tasks::new();
    let mut report = Report::default();
    let mut fleet = register(&cluster, nodes, &tasks, &mut report).await?;
    idle(&cluster, &mut report).await?;
    let started = place(&mut cluster, &mut fleet, allocs, &mut report).await?;
    let mut on_node = BTreeMap::<usize, usize>::new();
    for event in &started {
        *on_node.entry(event.node).or_default() += 1;
    }
    let mut gaps = Vec::new();
    for _ in 0..kills {
        let Some((node, count)) = on_node.pop_first() else { break };
        let start = Instant::now();
        fleet.kill(node);
        let replaced = fleet.started(count, REPLACE_TIMEOUT).await?;
        progress(&format!("the work of node {node} runs elsewhere"));
        gaps.extend(replaced.iter().map(|event| event.at.saturating_duration_since(start)).max());
        for event in replaced {
            *on_node.entry(event.node).or_default() += 1;
        }
    }
    report.add_durations("node dead → all of its work running elsewhere", &gaps);
    Ok(report)
}

/// Registers all nodes.
pub(crate) async fn register(
    cluster: &Cluster,
    nodes: usize,
    tasks: &Tasks,
    report: &mut Report,
) -> Result<Fleet, BenchError> {
    let servers: Vec<SocketAddr> = cluster.servers.iter().map(|server| server.rpc).collect();
    let (start, before) = (Instant::now(), cluster.processor_time()?);
    let fleet = Fleet::start(nodes, &servers, tasks).await?;
    progress(&format!("{nodes} nodes are registered"));
    let (elapsed, spent) = (start.elapsed(), cluster.processor_time()?.saturating_sub(before));
    report.add("nodes registered", per(nodes, elapsed), "/s", format!("{nodes} nodes"));
    let each = spent.as_secs_f64() * 1e6 / count(nodes);
    report.add("processor time per registration, all servers", each, "µs", "");
    Ok(fleet)
}

async fn idle(cluster: &Cluster, report: &mut Report) -> Result<(), BenchError> {
    let before = cluster.processor_time()?;
    tokio::time::sleep(IDLE).await;
    let spent = cluster.processor_time()?.saturating_sub(before);
    let share = spent.as_secs_f64() / IDLE.as_secs_f64() * 100.0;
    report.add("processor, idle, all servers", share, "% of a core", "heartbeats only");
    Ok(())
}

/// Registers jobs until so many allocations run, and returns where they do.
pub(crate) async fn place(
    cluster: &mut Cluster,
    fleet: &mut Fleet,
    allocs: usize,
    report: &mut Report,
) -> Result<Vec<Started>, BenchError> {
    let leader = cluster.leader().await?;
    let http = cluster.servers[leader].http;
    let (start, before) = (Instant::now(), cluster.processor_time()?);
    let submit = async {
        let mut left = allocs;
        let mut number = 0;
        while left > 0 {
            let size = left.min(JOB_COUNT_MAX);
            submit(http, number, size).await?;
            left -= size;
            number += 1;
            progress(&format!("job {number} is registered, {left} allocations to go"));
        }
        Ok::<_, BenchError>(())
    };
    let ((), started) = tokio::try_join!(submit, fleet.started(allocs, PLACE_TIMEOUT))?;
    let (elapsed, spent) = (start.elapsed(), cluster.processor_time()?.saturating_sub(before));
    let jobs = format!("{allocs} in jobs of {JOB_COUNT_MAX}");
    report.add("allocations placed and running", per(allocs, elapsed), "/s", jobs);
    let each = spent.as_secs_f64() * 1e6 / count(allocs);
    report.add("processor time per allocation, all servers", each, "µs", "");
    let memory = cluster.memory(leader)?;
    let detail = format!("{allocs} allocations");
    report.add("resident memory of the leader", mebi(memory), "MiB", detail);
    Ok(started)
}

async fn submit(http: SocketAddr, number: usize, size: usize) -> Result<(), BenchError> {
    let job = json!({ "Job": {
        "ID": format!("bench-{number}"),
        "Name": format!("bench-{number}"),
        "Type": "service",
        "Datacenters": ["dc1"],
        "TaskGroups": [{
            "Name": "group",
            "Count": size,
            "Tasks": [{
                "Name": "task",
                "Driver": "raw_exec",
                "Config": { "command": "/bin/sleep", "args": ["3600"] },
                "Resources": { "CPU": 20, "MemoryMB": 32 },
            }],
        }],
    }});
    let body = Bytes::from(job.to_string());
    let answer = wire::once(http, Method::PUT, "/v1/jobs", body, REGISTER_TIMEOUT).await?;
    if answer.status.is_success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&answer.body).into_owned();
    Err(BenchError::Failed(format!("job refused: {} {text}", answer.status)))
}

fn per(number: usize, elapsed: Duration) -> f64 {
    count(number) / elapsed.as_secs_f64()
}

#[expect(clippy::cast_precision_loss, reason = "counts of a measurement are far below 2^52")]
fn count(number: usize) -> f64 {
    number as f64
}

/// Bytes as mebibytes.
#[expect(clippy::cast_precision_loss, reason = "sizes of processes are far below 2^52")]
fn mebi(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
