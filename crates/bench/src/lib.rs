//! `cos bench`: measures what an operator wants to know before trusting a cluster with work: how
//! long a failover takes, what a durable write costs, how fast a server is back, how soon watchers
//! hear of a change.
//!
//! Every measurement starts servers of its own from the running executable, on loopback and in a
//! directory of its own, and ends them however it ends. A peer is measured in turns with cos.
//!
//! # Invariants
//!
//! - Nothing is measured on a cluster that somebody uses.
//! - What is printed was counted; what could not be measured is an error.
//!
//! # Deliberately absent
//!
//! - Judging. The goals stand in the documentation, beside the figures.

mod cluster;
mod etcd;
mod failover;
mod fleet;
mod nodes;
mod options;
mod report;
mod restart;
mod watchers;
mod wire;
mod write;

use std::io;
use std::pin::Pin;

use options::Options;
use report::Report;

const USAGE: &str = "Usage: cos bench <measurement> [options]

  Measures this program on this machine. Servers are started for it on loopback, in a temporary
  directory, and ended afterwards; clusters that run already are not touched.

Measurements:

  failover    Time from the end of a leader to the first accepted write.
  write       Latency and processor time of durable writes, beside etcd if it is there.
  restart     Time from the start of a server with a large state to its first answers.
  watchers    Time from a change to the last of many agents, and of many blocking reads.
  nodes       Cost of many nodes, and time from the death of one to its replacement.

Options:

  -json                 Prints JSON.
  -dir=<path>           Where the servers keep their data (default: the system's temporary
                        directory). Use a disk; on a memory file system a sync costs nothing.
  -servers=<n>          How many servers take part.
  failover: -kills=<n> (100), -how=<kill|stop|pause> (kill: SIGKILL, stop: SIGTERM with a hand-over,
                        pause: SIGSTOP, as if the machine were gone)
  write:    -clients=<n> (256), -seconds=<n> (5), -rounds=<n> (5), -bytes=<n> (256),
            -etcd=<path> (etcd on the PATH; -etcd=none leaves the peer out)
  restart:  -allocs=<n> (100000), -nodes=<n> (5000), -rounds=<n> (5)
  watchers: -watchers=<n> (5000), -changes=<n> (20)
  nodes:    -nodes=<n> (5000), -allocs=<n> (5000), -kills=<n> (5)";

/// Why a measurement did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// It was called wrongly.
    #[error("{0}\nSee `cos bench -help`")]
    Usage(String),
    /// A server could not be started, or did not do what it should.
    #[error("{0}")]
    Failed(String),
    /// A file, a process or a connection.
    #[error("{what}")]
    Io {
        /// What was tried.
        what: String,
        /// Why it did not work.
        #[source]
        source: io::Error,
    },
}

impl BenchError {
    fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}

/// Runs a measurement and returns what is to be printed. `arguments` follow `cos bench`.
pub async fn run(arguments: &[String]) -> Result<String, BenchError> {
    let (first, rest) = arguments
        .split_first()
        .map_or(("", &[][..]), |(first, rest)| (first.trim_start_matches('-'), rest));
    if matches!(first, "" | "h" | "help") || rest.iter().any(|word| is_help(word)) {
        return Ok(USAGE.to_owned());
    }
    let options = Options::parse(rest)?;
    raise_descriptor_limit();
    let measurement: Running<'_> = match first {
        "failover" => Box::pin(failover::run(&options)),
        "write" => Box::pin(write::run(&options)),
        "restart" => Box::pin(restart::run(&options)),
        "watchers" => Box::pin(watchers::run(&options)),
        "nodes" => Box::pin(nodes::run(&options)),
        other => return Err(BenchError::Usage(format!("there is no measurement `{other}`"))),
    };
    // Dropping a measurement half done ends the servers that it started.
    let report = tokio::select! {
        report = measurement => report?,
        () = told_to_stop() => return Err(BenchError::Failed("stopped by a signal".to_owned())),
    };
    Ok(if options.is_on("json") { report.json() } else { report.table() })
}

/// A measurement at work.
type Running<'a> = Pin<Box<dyn Future<Output = Result<Report, BenchError>> + Send + 'a>>;

/// Waits for SIGINT or SIGTERM.
async fn told_to_stop() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut interrupt), Ok(mut terminate)) =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}

fn is_help(word: &str) -> bool {
    matches!(word.trim_start_matches('-'), "h" | "help")
}

/// Thousands of connections need as many descriptors, here and in the servers that inherit this.
fn raise_descriptor_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
    {
        // Without it the measurement says which connection could not be made.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}
