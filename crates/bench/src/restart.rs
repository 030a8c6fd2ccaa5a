//! How soon a server with a large state is back after it was killed.

use std::time::Duration;

use bytes::Bytes;
use cos_platform::Tasks;
use hyper::Method;
use nix::sys::signal::Signal;
use tokio::time::Instant;

use crate::cluster::Cluster;
use crate::options::Options;
use crate::report::{Report, progress};
use crate::{BenchError, nodes, wire};

/// How long a server may take to answer.
const BACK_TIMEOUT: Duration = Duration::from_mins(1);
/// The pause between two tries; the precision of the figures.
const TRY_EVERY: Duration = Duration::from_millis(2);

/// Fills a single server, and kills it again and again.
pub(crate) async fn run(options: &Options) -> Result<Report, BenchError> {
    let allocs: usize = options.number("allocs", 100_000)?;
    let nodes: usize = options.number("nodes", 5000)?;
    let rounds: usize = options.number("rounds", 5)?;
    let servers: usize = options.number("servers", 1)?;
    if servers != 1 {
        let text = "the restart of one server is measured; see failover for several";
        return Err(BenchError::Usage(text.to_owned()));
    }
    let mut cluster = Cluster::start(1, &options.directory()).await?;
    let mut report = Report::default();
    let tasks = Tasks::new();
    let mut fleet = nodes::register(&cluster, nodes, &tasks, &mut report).await?;
    nodes::place(&mut cluster, &mut fleet, allocs, &mut report).await?;
    let count = settled(&cluster, allocs).await?;
    cluster.signal(0, Signal::SIGKILL)?;
    cluster.ended(0).await?;
    drop(fleet);
    let (mut reads, mut writes) = (Vec::new(), Vec::new());
    for round in 1..=rounds {
        let start = Instant::now();
        cluster.spawn(0)?;
        first(&cluster, start, Method::GET, "/v1/job/bench-0", &mut reads).await?;
        first(&cluster, start, Method::PUT, "/v1/kv/restart", &mut writes).await?;
        progress(&format!("round {round} of {rounds}: the server is back"));
        let back = running(&cluster, 0).await?;
        if back != count {
            return Err(
                cluster.failure(0, &format!("{count} ran before the restart, {back} after"))
            );
        }
        cluster.signal(0, Signal::SIGKILL)?;
        cluster.ended(0).await?;
    }
    report.add_durations("start → first read", &reads);
    report.add_durations("start → first write", &writes);
    Ok(report)
}

/// Asks until it is answered.
async fn first(
    cluster: &Cluster,
    start: Instant,
    method: Method,
    path: &str,
    times: &mut Vec<Duration>,
) -> Result<(), BenchError> {
    let server = &cluster.servers[0];
    let address = if method == Method::GET { server.http } else { server.consul };
    while start.elapsed() < BACK_TIMEOUT {
        let body = Bytes::from_static(b"back");
        let answer = wire::once(address, method.clone(), path, body, BACK_TIMEOUT).await;
        if answer.is_ok_and(|answer| answer.status.is_success()) {
            times.push(start.elapsed());
            return Ok(());
        }
        tokio::time::sleep(TRY_EVERY).await;
    }
    Err(cluster.failure(0, "the server does not answer"))
}

/// Waits until the last reports have arrived. Returns how many allocations of the first job run.
async fn settled(cluster: &Cluster, allocs: usize) -> Result<u64, BenchError> {
    let jobs = allocs.div_ceil(nodes::JOB_COUNT_MAX);
    let sizes = [
        (0, allocs.min(nodes::JOB_COUNT_MAX)),
        (jobs - 1, allocs - (jobs - 1) * nodes::JOB_COUNT_MAX),
    ];
    let start = Instant::now();
    for (job, size) in sizes {
        while running(cluster, job).await? != size as u64 {
            if start.elapsed() > BACK_TIMEOUT {
                return Err(cluster.failure(0, "not everything that was started runs"));
            }
            tokio::time::sleep(TRY_EVERY).await;
        }
    }
    Ok(sizes[0].1 as u64)
}

/// How many allocations of a job run, as the server tells it.
async fn running(cluster: &Cluster, job: usize) -> Result<u64, BenchError> {
    let path = format!("/v1/job/bench-{job}/summary");
    let summary = wire::get(cluster.servers[0].http, &path, BACK_TIMEOUT).await?;
    let running = summary["Summary"]["group"]["Running"].as_u64();
    running.ok_or_else(|| BenchError::Failed(format!("{path}: unexpected answer {summary}")))
}
