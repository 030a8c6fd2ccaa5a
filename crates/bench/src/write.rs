//! What a durable write costs: closed loops of clients that put keys, against servers of ours and
//! against etcd, in turns.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use cos_platform::{Fate, Tasks};
use hyper::Method;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::BenchError;
use crate::cluster::Cluster;
use crate::etcd::{Etcd, Writer};
use crate::options::Options;
use crate::report::{Report, Spread, median, millis, progress};
use crate::wire::Connection;

/// How many keys are written to, so that state does not grow with speed.
const KEYS: u64 = 4096;
/// The part of each round that is not counted.
const WARM_UP: Duration = Duration::from_millis(500);

/// What one round of one system came to.
#[derive(Debug)]
struct Round {
    writes: u64,
    elapsed: Duration,
    processor: Duration,
    latency: Spread,
}

impl Round {
    fn per_second(&self) -> f64 {
        count(self.writes) / self.elapsed.as_secs_f64()
    }

    /// Processor time of all servers for one write, in microseconds.
    fn cost(&self) -> f64 {
        self.processor.as_secs_f64() * 1e6 / count(self.writes.max(1))
    }
}

/// Whom a client writes to.
enum Target {
    Cos(Connection),
    Etcd(Box<Writer>),
}

/// Measures one client and many, of ours and of the peer.
pub(crate) async fn run(options: &Options) -> Result<Report, BenchError> {
    let clients: u64 = options.number("clients", 256)?;
    let seconds: u64 = options.number("seconds", 5)?;
    let rounds: usize = options.number("rounds", 5)?;
    let bytes: usize = options.number("bytes", 256)?;
    let servers: usize = options.number("servers", 3)?;
    let length = Duration::from_secs(seconds);
    let directory = options.directory();
    let mut cluster = Cluster::start(servers, &directory).await?;
    let etcd = match options.word("etcd").unwrap_or("etcd") {
        "none" => None,
        program => Etcd::start(program, servers, &directory).await?,
    };
    let value = Bytes::from(vec![b'v'; bytes]);
    let mut report = Report::default();
    for clients in [1, clients] {
        let mut ours = Vec::new();
        let mut theirs = Vec::new();
        for round in 1..=rounds {
            progress(&format!("{clients} clients, round {round} of {rounds}"));
            let leader = cluster.leader().await?;
            let leader = cluster.servers[leader].consul;
            let load = Load { clients, length, value: value.clone() };
            ours.push(Box::pin(load.on_cos(&cluster, leader)).await?);
            if let Some(etcd) = &etcd {
                theirs.push(Box::pin(load.on_etcd(etcd)).await?);
            }
        }
        show(&mut report, "cos", clients, &ours);
        show(&mut report, "etcd", clients, &theirs);
        if !theirs.is_empty() {
            let ratios: Vec<f64> = ours
                .iter()
                .zip(&theirs)
                .map(|(ours, theirs)| theirs.cost() / ours.cost())
                .collect();
            let each: Vec<String> = ratios.iter().map(|ratio| format!("{ratio:.1}")).collect();
            let figure = format!("processor time per write, {clients} clients, etcd : cos");
            report.add(figure, median(&ratios), "", each.join(" "));
        }
    }
    Ok(report)
}

fn show(report: &mut Report, who: &str, clients: u64, rounds: &[Round]) {
    if rounds.is_empty() {
        return;
    }
    let of = |value: &dyn Fn(&Round) -> f64| median(&rounds.iter().map(value).collect::<Vec<_>>());
    let name = |figure: &str| format!("{who}, {clients} clients: {figure}");
    report.add(name("latency, p50"), of(&|round| millis(round.latency.p50)), "ms", "");
    report.add(name("latency, p99"), of(&|round| millis(round.latency.p99)), "ms", "");
    report.add(name("writes"), of(&Round::per_second), "/s", "");
    report.add(name("processor time per write, all servers"), of(&Round::cost), "µs", "");
}

/// Some clients for some time.
#[derive(Clone)]
struct Load {
    clients: u64,
    length: Duration,
    value: Bytes,
}

impl Load {
    async fn on_cos(&self, cluster: &Cluster, leader: SocketAddr) -> Result<Round, BenchError> {
        let tasks = Tasks::new();
        let mut targets = Vec::new();
        for _ in 0..self.clients {
            targets.push(Target::Cos(Connection::open(leader, &tasks).await?));
        }
        self.drive(targets, &|| cluster.processor_time(), &tasks).await
    }

    async fn on_etcd(&self, etcd: &Etcd) -> Result<Round, BenchError> {
        let tasks = Tasks::new();
        let mut targets = Vec::new();
        for _ in 0..self.clients {
            targets.push(Target::Etcd(Box::new(etcd.writer().await?)));
        }
        self.drive(targets, &|| etcd.processor_time(), &tasks).await
    }

    /// Lets every client write until the time is over.
    async fn drive(
        &self,
        targets: Vec<Target>,
        processor_time: &(dyn Fn() -> Result<Duration, BenchError> + Sync),
        tasks: &Tasks,
    ) -> Result<Round, BenchError> {
        let begin = Instant::now() + WARM_UP;
        let end = begin + self.length;
        let (report, mut reports) = mpsc::channel(1024);
        for (number, target) in (0_u64..).zip(targets) {
            let (report, value) = (report.clone(), self.value.clone());
            tasks.spawn("writer", Fate::Ends, async move {
                let latencies = write(target, number, value, begin, end).await;
                // Whoever does not wait any more has failed already.
                drop(report.send(latencies).await);
            });
        }
        drop(report);
        tokio::time::sleep_until(begin).await;
        let before = processor_time()?;
        tokio::time::sleep_until(end).await;
        let processor = processor_time()?.saturating_sub(before);
        let mut latencies = Vec::new();
        while let Some(some) = reports.recv().await {
            latencies.extend(some?);
        }
        let writes = latencies.len() as u64;
        let latency = Spread::of(&latencies);
        Ok(Round { writes, elapsed: self.length, processor, latency })
    }
}

/// One client's closed loop. Counts what began and ended within the measured time.
async fn write(
    mut target: Target,
    client: u64,
    value: Bytes,
    begin: Instant,
    end: Instant,
) -> Result<Vec<Duration>, BenchError> {
    let mut latencies = Vec::new();
    let mut number = client;
    loop {
        let started = Instant::now();
        if started >= end {
            return Ok(latencies);
        }
        number = (number * 1_103_515_245 + 12_345) % 0x8000_0000;
        let key = number % KEYS;
        match &mut target {
            Target::Cos(connection) => {
                let path = format!("/v1/kv/bench/{key}");
                let answer = connection.send(Method::PUT, &path, value.clone()).await?;
                if !answer.status.is_success() {
                    let text = String::from_utf8_lossy(&answer.body).into_owned();
                    return Err(BenchError::Failed(format!(
                        "write refused: {} {text}",
                        answer.status
                    )));
                }
            }
            Target::Etcd(writer) => writer.put(&format!("bench/{key}"), &value).await?,
        }
        let ended = Instant::now();
        if started >= begin && ended <= end {
            latencies.push(ended - started);
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of a measurement are far below 2^52")]
fn count(number: u64) -> f64 {
    number as f64
}
