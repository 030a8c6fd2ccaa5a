//! How long nobody can write after the leader is gone.
//!
//! # Invariants
//!
//! - For a leader that dies, only a write that began after its death counts: one that was under way
//!   may have been committed before.

use std::time::Duration;

use bytes::Bytes;
use cos_platform::{Fate, Tasks};
use hyper::Method;
use nix::sys::signal::Signal;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::BenchError;
use crate::cluster::Cluster;
use crate::options::Options;
use crate::report::{Report, millis, progress};
use crate::wire::{self, Connection};

/// The pause between two writes of which the first accepted one ends a round.
const WRITE_EVERY: Duration = Duration::from_millis(5);
/// How long a write may take before it counts as lost.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// A round without an accepted write for so long is a failure.
const ROUND_TIMEOUT: Duration = Duration::from_secs(30);
/// How long writes go on around a hand-over, on either side of it.
const AROUND: Duration = Duration::from_millis(500);

/// How a leader goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    Kill,
    Stop,
    Pause,
}

/// Takes leaders away, again and again.
pub(crate) async fn run(options: &Options) -> Result<Report, BenchError> {
    let kills: u32 = options.number("kills", 100)?;
    let servers: usize = options.number("servers", 3)?;
    let how = match options.word("how").unwrap_or("kill") {
        "kill" => How::Kill,
        "stop" => How::Stop,
        "pause" => How::Pause,
        other => {
            return Err(BenchError::Usage(format!("`-how={other}`: expected kill, stop or pause")));
        }
    };
    if servers < 3 {
        return Err(BenchError::Usage("a failover needs three servers at least".to_owned()));
    }
    let mut cluster = Cluster::start(servers, &options.directory()).await?;
    let mut gaps = Vec::new();
    for round in 0..kills {
        let leader = cluster.leader().await?;
        let gap = match how {
            How::Kill | How::Pause => Box::pin(lose(&mut cluster, leader, how, round)).await?,
            How::Stop => Box::pin(hand_over(&mut cluster, leader)).await?,
        };
        gaps.push(gap);
        if how != How::Pause {
            cluster.spawn(leader)?;
        }
        cluster.rejoined(leader).await?;
        progress(&format!("round {} of {kills}: {:.1} ms", round + 1, millis(gap)));
    }
    let mut report = Report::default();
    let figure = match how {
        How::Kill => "leader SIGKILL → first accepted write",
        How::Stop => "leader SIGTERM → longest time without an accepted write",
        How::Pause => "leader SIGSTOP → first accepted write",
    };
    report.add_durations(figure, &gaps);
    Ok(report)
}

/// Kills or pauses the leader and returns the time to the first write that began afterwards and
/// was accepted by another server.
async fn lose(
    cluster: &mut Cluster,
    leader: usize,
    how: How,
    round: u32,
) -> Result<Duration, BenchError> {
    let signal = if how == How::Kill { Signal::SIGKILL } else { Signal::SIGSTOP };
    let survivors: Vec<_> = (0..cluster.servers.len())
        .filter(|n| *n != leader)
        .map(|n| cluster.servers[n].consul)
        .collect();
    let (accepted, mut first) = mpsc::channel(1);
    let tasks = Tasks::new();
    let start = Instant::now();
    cluster.signal(leader, signal)?;
    let mut tick = tokio::time::interval(WRITE_EVERY);
    let mut number = 0_usize;
    let gap = loop {
        // Either arm may be dropped: a tick comes again, an answer stays in the channel.
        tokio::select! {
            Some(at) = first.recv() => break Instant::duration_since(&at, start),
            _ = tick.tick() => {}
        }
        if start.elapsed() > ROUND_TIMEOUT {
            return Err(cluster.failure(leader, "no write was accepted"));
        }
        let target = survivors[number % survivors.len()];
        let path = format!("/v1/kv/failover/{round}/{number}");
        let accepted = accepted.clone();
        number += 1;
        tasks.spawn("write", Fate::Ends, async move {
            let body = Bytes::from_static(b"value");
            let answer = wire::once(target, Method::PUT, &path, body, WRITE_TIMEOUT).await;
            if answer.is_ok_and(|answer| answer.status.is_success() && &answer.body[..] == b"true")
            {
                // Only the first one is waited for.
                let _ = accepted.try_send(Instant::now());
            }
        });
    };
    if how == How::Pause {
        cluster.signal(leader, Signal::SIGCONT)?;
    } else {
        cluster.ended(leader).await?;
    }
    Ok(gap)
}

/// Stops the leader in order and returns the longest time between two accepted writes of a client
/// that writes without a pause through another server.
async fn hand_over(cluster: &mut Cluster, leader: usize) -> Result<Duration, BenchError> {
    let other = (leader + 1) % cluster.servers.len();
    let tasks = Tasks::new();
    let mut connection = Connection::open(cluster.servers[other].consul, &tasks).await?;
    let mut longest = Duration::ZERO;
    let (start, mut last) = (Instant::now(), Instant::now());
    let mut is_told = false;
    let mut number = 0_u64;
    while start.elapsed() < AROUND * 2 {
        if !is_told && start.elapsed() > AROUND {
            is_told = true;
            // A server that was just started is sent what it lacks when its leader tries again,
            // which is no matter of this hand-over.
            longest = Duration::ZERO;
            cluster.signal(leader, Signal::SIGTERM)?;
        }
        let path = format!("/v1/kv/handover/{}", number % 64);
        number += 1;
        let answer = connection.send(Method::PUT, &path, Bytes::from_static(b"value")).await?;
        let now = Instant::now();
        if answer.status.is_success() {
            longest = longest.max(now - last);
            last = now;
        }
    }
    longest = longest.max(last.elapsed());
    cluster.ended(leader).await?;
    Ok(longest)
}
