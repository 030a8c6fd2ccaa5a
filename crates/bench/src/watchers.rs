//! How soon many clients that wait for a change have heard of it.

use std::time::Duration;

use bytes::Bytes;
use cos_platform::{Fate, Tasks};
use hyper::Method;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::BenchError;
use crate::cluster::Cluster;
use crate::options::Options;
use crate::report::{Report, Spread, progress};
use crate::wire::{self, Connection};

/// How long all watchers may take.
const HEARD_TIMEOUT: Duration = Duration::from_secs(30);
/// The rest between two changes, in which the watchers ask anew.
const REST: Duration = Duration::from_millis(1500);
/// The watched key.
const PATH: &str = "/v1/kv/watched";

/// Changes one key that everybody waits for.
pub(crate) async fn run(options: &Options) -> Result<Report, BenchError> {
    let watchers: usize = options.number("watchers", 5000)?;
    let changes: usize = options.number("changes", 20)?;
    let servers: usize = options.number("servers", 3)?;
    let mut cluster = Cluster::start(servers, &options.directory()).await?;
    let leader = cluster.leader().await?;
    let leader = cluster.servers[leader].consul;
    write(leader, 0).await?;
    let tasks = Tasks::new();
    let (told, mut heard) = mpsc::channel(watchers.max(1));
    for number in 0..watchers {
        let address = cluster.servers[number % servers].consul;
        let connection = Connection::open(address, &tasks).await?;
        let told = told.clone();
        tasks.spawn("watcher", Fate::Ends, async move {
            // One that fails is missed below.
            drop(watch(connection, told).await);
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
    let mut report = Report::default();
    report.add_durations(&format!("change → each of {watchers} watchers"), &receipts);
    report.add_durations("change → the last of them", &last);
    Ok(report)
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
async fn watch(mut connection: Connection, told: mpsc::Sender<Instant>) -> Result<(), BenchError> {
    let mut index = connection.send(Method::GET, PATH, Bytes::new()).await?.index;
    loop {
        let path = format!("{PATH}?index={index}&wait=5m");
        let answer = connection.send(Method::GET, &path, Bytes::new()).await?;
        if !answer.status.is_success() {
            return Err(BenchError::Failed(format!("{}", answer.status)));
        }
        if answer.index > index && told.send(Instant::now()).await.is_err() {
            return Ok(());
        }
        index = answer.index;
    }
}
