//! `cos ingress`: an ingress as a program of its own, for running it as a job. It follows the
//! catalog of an agent over HTTP.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use cos_model::catalog::Catalog;
use cos_platform::{Clock, Fate, SystemClock, Tasks};
use tokio::sync::watch;
use tracing::level_filters::LevelFilter;

use crate::error::fail;
use crate::replacement::{End, Replacement};
use crate::runtime;

/// The longest wait for a change of the catalog in one request.
const WAIT: &str = "60s";
/// How long to rest after the agent did not answer.
const RETRY_PAUSE: Duration = Duration::from_millis(500);
/// How long the end may take before it is cut short.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(4);
/// How long to wait for the first catalog before giving up.
const FIRST_TIMEOUT: Duration = Duration::from_secs(10);
/// More workers than this do not help on the machines that run one.
const WORKERS_MAX: usize = 4;

const USAGE: &str = "Usage: cos ingress [options]

  Serves the routes that service tags name (urlprefix-…), as the ingress inside agents does.

Options:

  -proxy-addr=<host:port>   Where clients connect (default 127.0.0.1:9999).
  -ui-addr=<host:port>      Where the routing table is shown (default 127.0.0.1:9998).
  -registry=<host:port>     The agent whose catalog is followed (default 127.0.0.1:8500).
  -datacenter=<name>        What $DC in tags stands for.";

/// How many workers an ingress has on this machine.
pub(crate) fn workers() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get).clamp(1, WORKERS_MAX)
}

struct Options {
    proxy: SocketAddr,
    ui: SocketAddr,
    registry: String,
    datacenter: String,
}

/// Runs the command.
pub(crate) fn main(arguments: &[String]) -> ExitCode {
    if arguments.iter().any(|argument| matches!(argument.trim_start_matches('-'), "h" | "help")) {
        print_usage();
        return ExitCode::SUCCESS;
    }
    let options = match parse(arguments) {
        Ok(options) => options,
        Err(problem) => return fail(&problem),
    };
    let replacement = Replacement::prepare();
    match runtime::block_on(run(options, &replacement)) {
        Ok(Ok(End::Stopped)) => ExitCode::SUCCESS,
        Ok(Ok(End::Replaced)) => fail(&replacement.carry_out()),
        Ok(Err(error)) => fail(&format!("{error:#}")),
        Err(error) => fail(&format!("cannot start: {error}")),
    }
}

#[expect(clippy::print_stdout, reason = "help goes to the user")]
fn print_usage() {
    println!("{USAGE}");
}

fn parse(arguments: &[String]) -> Result<Options, String> {
    let mut options = Options {
        proxy: SocketAddr::from(([127, 0, 0, 1], 9999)),
        ui: SocketAddr::from(([127, 0, 0, 1], 9998)),
        registry: "127.0.0.1:8500".to_owned(),
        datacenter: String::new(),
    };
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        let name = argument.trim_start_matches('-');
        let (name, value) = match name.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (name, rest.next().cloned()),
        };
        let value = value.ok_or_else(|| format!("flag needs an argument: -{name}"))?;
        let address = |text: &str| {
            text.parse::<SocketAddr>()
                .ok()
                .ok_or_else(|| format!("-{name}={text}: expected an address like 127.0.0.1:9999"))
        };
        match name {
            "proxy-addr" => options.proxy = address(&value)?,
            "ui-addr" => options.ui = address(&value)?,
            "registry" => options.registry = value,
            "datacenter" => options.datacenter = value,
            other => return Err(format!("flag provided but not defined: -{other}\n\n{USAGE}")),
        }
    }
    Ok(options)
}

async fn run(options: Options, replacement: &Replacement) -> anyhow::Result<End> {
    let sockets = &replacement.sockets;
    cos_platform::logging::LogHub::new(LevelFilter::INFO).install()?;
    let mut signals = cos_platform::shutdown::Signals::listen()?;
    let tasks = Tasks::new();
    let source = Source {
        url: format!("http://{}/v1/cos/catalog", options.registry),
        http: reqwest::Client::new(),
    };
    let (index, first) = tokio::time::timeout(FIRST_TIMEOUT, source.first())
        .await
        .map_err(|_elapsed| anyhow::anyhow!("no catalog from {} within 10 s", options.registry))?;
    let (publish, catalog) = watch::channel(Arc::new(first));
    let config = cos_ingress::Config {
        proxy_addresses: vec![options.proxy],
        ui_addresses: vec![options.ui],
        datacenter: options.datacenter,
        workers: workers(),
        sockets: sockets.clone(),
    };
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    cos_ingress::Ingress::start(config, catalog, &clock, &tasks)?;
    let stopping = tasks.stopping();
    tasks.spawn("catalog", Fate::Vital, async move {
        // A question that is open at the end has nothing to lose.
        tokio::select! {
            () = source.follow(index, publish) => {}
            () = stopping.cancelled() => {}
        }
    });
    tracing::info!(proxy = %options.proxy, ui = %options.ui, "ingress started");
    let stopping = tasks.stopping();
    sockets.settle();
    let end = tokio::select! {
        // Whichever comes first ends the program; the other has nothing to lose.
        end = replacement.wait(&mut signals) => end,
        () = stopping.cancelled() => anyhow::bail!("a vital part of the ingress ended"),
    };
    tasks.stop();
    if tokio::time::timeout(DRAIN_TIMEOUT, tasks.ended()).await.is_err() {
        tracing::warn!("some requests did not end in time and are cut short");
    }
    Ok(end)
}

/// An agent's catalog over HTTP.
struct Source {
    url: String,
    http: reqwest::Client,
}

impl Source {
    /// Asks until there is an answer.
    async fn first(&self) -> (u64, Catalog) {
        loop {
            match self.after(0).await {
                Ok(found) => return found,
                Err(error) => tracing::warn!(%error, "no catalog yet"),
            }
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }

    async fn after(&self, index: u64) -> anyhow::Result<(u64, Catalog)> {
        let url = format!("{}?index={index}&wait={WAIT}", self.url);
        let response = self.http.get(url).send().await?.error_for_status()?;
        let header = response.headers().get("x-consul-index").cloned();
        let index = header.as_ref().and_then(|value| value.to_str().ok()?.parse().ok());
        let bytes = response.bytes().await?;
        Ok((index.unwrap_or(1), rmp_serde::from_slice(&bytes)?))
    }

    /// Publishes each new catalog. While the agent is away the last one stays in force.
    async fn follow(self, mut index: u64, publish: watch::Sender<Arc<Catalog>>) {
        while !publish.is_closed() {
            match self.after(index).await {
                Ok((newest, catalog)) => {
                    // An agent that started anew counts anew.
                    index = if newest < index { 0 } else { newest };
                    publish.send_replace(Arc::new(catalog));
                }
                Err(error) => {
                    tracing::debug!(%error, "catalog cannot be read");
                    tokio::time::sleep(RETRY_PAUSE).await;
                }
            }
        }
    }
}
