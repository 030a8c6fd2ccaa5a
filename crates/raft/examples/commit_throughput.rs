//! How fast one server commits, with real syncs to a real disk.
//!
//! `cargo run --release -p cos-raft --example commit_throughput [directory]`. The directory (the
//! system's temporary one if none is given) decides which disk is measured.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use cos_model::ServerId;
use cos_platform::{Clock, Disk, Fate, SystemClock, Tasks, disk::Directory};
use cos_raft::{Config, Encode, Raft, StateMachine, Transport, TransportError};
use tokio::sync::mpsc;

const PAYLOAD_BYTES: usize = 256;
const PROPOSERS: [usize; 4] = [1, 16, 64, 256];
const SECONDS: u64 = 3;

/// Counts.
struct Counter(u64);

impl StateMachine for Counter {
    fn apply(&mut self, entries: Vec<(u64, Bytes)>) -> Vec<Bytes> {
        self.0 += entries.len() as u64;
        vec![Bytes::new(); entries.len()]
    }

    fn snapshot(&self) -> Encode {
        let count = self.0;
        Box::new(move || count.to_le_bytes().to_vec())
    }

    fn restore(&mut self, _index: u64, bytes: &[u8]) -> Result<(), String> {
        let bytes = bytes.try_into().map_err(|_wrong| "eight bytes are expected".to_owned())?;
        self.0 = u64::from_le_bytes(bytes);
        Ok(())
    }
}

/// Nobody else is there.
struct Nowhere;

#[async_trait]
impl Transport for Nowhere {
    async fn send(
        &self,
        _target: ServerId,
        _address: &str,
        _method: &str,
        _body: Bytes,
        _timeout: Duration,
    ) -> Result<Bytes, TransportError> {
        Err(TransportError::Unreachable("there is one server only".to_owned()))
    }
}

#[tokio::main]
#[expect(clippy::print_stdout, reason = "its figures are what this program is for")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let parent = std::env::args().nth(1).map_or_else(std::env::temp_dir, Into::into);
    let directory = tempfile::tempdir_in(parent)?;
    let clock = Arc::new(SystemClock::new());
    println!("append + sync alone: p50 {} µs", bare_sync(&clock, directory.path())?);

    let id = ServerId::from_bits(1);
    let config = Config::new(id, "nowhere", directory.path());
    let raft = Raft::start(config, Box::new(Counter(0)), Arc::new(Nowhere)).await?;
    raft.initialize(BTreeMap::from([(id, "nowhere".to_owned())])).await?;
    raft.metrics().wait_for(|metrics| metrics.is_leader).await?;
    println!("{:>9} {:>11} {:>9} {:>9}", "proposers", "commits/s", "p50 µs", "p99 µs");
    for proposers in PROPOSERS {
        let mut micros = measure(&raft, &clock, proposers).await;
        micros.sort_unstable();
        let rate = micros.len() as u64 / SECONDS;
        let at = |percent: usize| micros[(micros.len() - 1) * percent / 100];
        println!("{proposers:>9} {rate:>11} {:>9} {:>9}", at(50), at(99));
    }
    raft.shutdown().await;
    Ok(())
}

/// What a commit cannot be faster than.
fn bare_sync(clock: &SystemClock, path: &std::path::Path) -> std::io::Result<u128> {
    let file = Directory::open(path.join("bare"))?.open("file")?;
    file.reserve(1024 * 1024)?;
    file.write_at(0, &vec![0; 1024 * 1024])?;
    file.sync()?;
    let mut micros = Vec::new();
    for round in 0..500 {
        let start = clock.monotonic();
        file.write_at(round * PAYLOAD_BYTES as u64, &[1; PAYLOAD_BYTES])?;
        file.sync()?;
        micros.push(clock.monotonic().saturating_sub(start).as_micros());
    }
    micros.sort_unstable();
    Ok(micros[micros.len() / 2])
}

/// Lets so many propose one after the other, and returns how long each commit took.
async fn measure(raft: &Raft, clock: &Arc<SystemClock>, proposers: usize) -> Vec<u128> {
    let tasks = Tasks::new();
    let (sender, mut receiver) = mpsc::channel(1024);
    let end = clock.monotonic() + Duration::from_secs(SECONDS);
    for _ in 0..proposers {
        let (raft, clock, sender) = (raft.clone(), Arc::clone(clock), sender.clone());
        tasks.spawn("proposer", Fate::Ends, async move {
            let payload = Bytes::from(vec![7; PAYLOAD_BYTES]);
            while clock.monotonic() < end {
                let start = clock.monotonic();
                let committed = raft.propose(payload.clone()).await;
                let took = clock.monotonic().saturating_sub(start).as_micros();
                if committed.is_err() || sender.send(took).await.is_err() {
                    return;
                }
            }
        });
    }
    drop(sender);
    let mut micros = Vec::new();
    while let Some(took) = receiver.recv().await {
        micros.push(took);
    }
    micros
}
