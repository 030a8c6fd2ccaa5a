//! How soon many that wait for a change have heard of it: agents, which are told of every change of
//! the catalog on their streams, and clients with a blocking read each, which ask anew at once.

use std::time::Duration;

use bytes::Bytes;
use cos_platform::{Fate, Tasks};
use hyper::Method;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::BenchError;
use crate::cluster::Cluster;
use crate::fleet::Fleet;
use crate::options::Options;
use crate::report::{Report, Spread, progress};
use crate::wire::{self, Line};

/// How long all watchers may take.
const HEARD_TIMEOUT: Duration = Duration::from_secs(30);
/// The rest between two changes, in which the watchers ask anew.
const REST: Duration = Duration::from_millis(1500);
/// The watched key.
const PATH: &str = "/v1/kv/watched";
/// Where services are entered.
const REGISTER_PATH: &str = "/v1/catalog/register";

/// Measures both, one after the other.
pub(crate) async fn run(options: &Options) -> Result<Report, BenchError> {
    let watchers: usize = options.number("watchers", 5000)?;
    let changes: usize = options.number("changes", 20)?;
    let servers: usize = options.number("servers", 3)?;
    let mut cluster = Cluster::start(servers, &options.directory()).await?;
    let mut report = Report::default();
    agents(&mut cluster, watchers, changes, &mut report).await?;
    Box::pin(reads(&mut cluster, watchers, changes, &mut report)).await?;
    Ok(report)
}

/// Changes a service, of which all agents are told.
async fn agents(
    cluster: &mut Cluster,
    watchers: usize,
    changes: usize,
    report: &mut Report,
) -> Result<(), BenchError> {
    let leader = cluster.leader().await?;
    let leader = cluster.servers[leader].consul;
    let tasks = Tasks::new();
    let addresses: Vec<_> = cluster.servers.iter().map(|server| server.rpc).collect();
    let mut fleet = Fleet::start(watchers, &addresses, &tasks).await?;
    let (mut receipts, mut last) = (Vec::new(), Vec::new());
    for change in 0..=changes {
        tokio::time::sleep(REST).await;
        fleet.forget_changes();
        let start = Instant::now();
        register(leader, change).await?;
        let told = fleet.changed(HEARD_TIMEOUT).await?;
        let times: Vec<_> =
            told.into_iter().map(|at| at.saturating_duration_since(start)).collect();
        progress(&format!("change {change} of {changes} was told to all agents"));
        // The first one also brings what servers say of themselves when they begin.
        if change > 0 {
            last.push(Spread::of(&times).max);
            receipts.extend(times);
        }
    }
    report.add_durations(&format!("change of a service → each of {watchers} agents"), &receipts);
    report.add_durations("change of a service → the last of them", &last);
    Ok(())
}

/// Changes one key that everybody waits for.
async fn reads(
    cluster: &mut Cluster,
    watchers: usize,
    changes: usize,
    report: &mut Report,
) -> Result<(), BenchError> {
    let leader = cluster.leader().await?;
    let leader = cluster.servers[leader].consul;
    let servers = cluster.servers.len();
    write(leader, 0).await?;
    let tasks = Tasks::new();
    let (told, mut heard) = mpsc::channel(watchers.max(1));
    for number in 0..watchers {
        let address = cluster.servers[number % servers].consul;
        let line = Line::open(address).await?;
        let told = told.clone();
        tasks.spawn("watcher", Fate::Ends, async move {
            // One that fails is missed below.
            drop(watch(line, told).await);
        });
    }
    drop(told);
    let mut receipts = Vec::new();
    let mut last = Vec::new();
    for change in 1..=changes {
        tokio::time::sleep(REST).await;
        let start = Instant::now();
        write(leader, change).await?;
        let mut times = Vec::with_capacity(watchers);
        while times.len() < watchers {
            let at = tokio::time::timeout_at(start + HEARD_TIMEOUT, heard.recv()).await;
            let Ok(Some(at)) = at else {
                let count = times.len();
                return Err(cluster.failure(0, &format!("{count} of {watchers} watchers heard")));
            };
            times.push(at.saturating_duration_since(start));
        }
        progress(&format!("change {change} of {changes} was heard by all"));
        last.push(Spread::of(&times).max);
        receipts.extend(times);
    }
    report.add_durations(&format!("change of a key → each of {watchers} reads"), &receipts);
    report.add_durations("change of a key → the last of them", &last);
    Ok(())
}

/// Enters a service that has another address with every change.
async fn register(leader: std::net::SocketAddr, number: usize) -> Result<(), BenchError> {
    let [.., high, low] = number.to_be_bytes();
    let service = serde_json::json!({
        "Node": "bench-watched", "Address": "127.0.0.1",
        "Service": { "Service": "watched", "Address": format!("127.9.{high}.{low}"), "Port": 80 },
    });
    let body = Bytes::from(service.to_string());
    let answer = wire::once(leader, Method::PUT, REGISTER_PATH, body, HEARD_TIMEOUT).await?;
    if answer.status.is_success() {
        return Ok(());
    }
    Err(BenchError::Failed(format!("service refused: {}", answer.status)))
}

async fn write(leader: std::net::SocketAddr, number: usize) -> Result<(), BenchError> {
    let body = Bytes::from(number.to_string());
    let answer = wire::once(leader, Method::PUT, PATH, body, HEARD_TIMEOUT).await?;
    if answer.status.is_success() {
        return Ok(());
    }
    Err(BenchError::Failed(format!("write refused: {}", answer.status)))
}

/// Waits for changes and says when each came.
async fn watch(mut line: Line, told: mpsc::Sender<Instant>) -> Result<(), BenchError> {
    let mut index = line.ask(PATH).await?.index;
    loop {
        let heard = line.ask(&format!("{PATH}?index={index}&wait=5m")).await?;
        if heard.index > index && told.send(heard.at).await.is_err() {
            return Ok(());
        }
        index = heard.index;
    }
}
