//! `cos agent`: from configuration to a running agent, and to its end.
//!
//! The order is visible here: settings, sockets, server, client, discovery, listeners, wait, drain.
//! Everything that can fail for a reason that a user can mend fails before anything is served.

use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use cos_agent::AgentHandle;
use cos_http::{Api, Forwarder, Metrics};
use cos_model::catalog::Catalog;
use cos_platform::tls::Web;
use cos_platform::{Clock, Fate, Sockets, SystemClock, Tasks};
use cos_server::Server;
use cos_state::ControlPlane;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tracing::level_filters::LevelFilter;

use crate::adapters::{Info, LocalAgent, Membership, Naming, Planning, ServerSink};
use crate::bridge::{self, Bridge};
use crate::config::{Endpoint, Endpoints, Flags, Settings};
use crate::error::{chain, fail};
use crate::replacement::{End, Replacement};
use crate::runtime;

mod client;
mod limits;
mod security;
mod server;

/// How long the end may take before it is cut short.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(4);
/// How long a development agent may take to end its tasks.
const TASKS_TIMEOUT: Duration = Duration::from_secs(30);

/// Runs the command.
pub(crate) fn main(arguments: &[String]) -> ExitCode {
    let flags = match Flags::parse(arguments) {
        Ok(flags) => flags,
        Err(error) => return fail(&chain(&error)),
    };
    if flags.help {
        print_usage();
        return ExitCode::SUCCESS;
    }
    let settings = match Settings::load(&flags) {
        Ok(settings) => settings,
        Err(error) => return fail(&chain(&error)),
    };
    let replacement = Replacement::prepare();
    match runtime::block_on(run(settings, &replacement)) {
        Ok(Ok(End::Stopped)) => ExitCode::SUCCESS,
        Ok(Ok(End::Replaced)) => fail(&replacement.carry_out()),
        Ok(Err(error)) => fail(&format!("{error:#}")),
        Err(error) => fail(&format!("cannot start: {error}")),
    }
}

#[expect(clippy::print_stdout, reason = "help goes to the user")]
fn print_usage() {
    println!("{}", Flags::usage().trim_end());
}

async fn run(settings: Settings, replacement: &Replacement) -> anyhow::Result<End> {
    let hub = cos_platform::logging::LogHub::new(level(&settings));
    hub.install()?;
    let mut signals = cos_platform::shutdown::Signals::listen()?;
    let scratch = Scratch::for_settings(&settings)?;
    let settings = Arc::new(Settings { data_dir: Some(scratch.dir.clone()), ..settings });
    for warning in &settings.warnings {
        tracing::warn!("configuration: {warning}");
    }
    let tasks = Tasks::new();
    // Joining a cluster may wait for long; who asks the agent to end meanwhile is heard.
    let started = tokio::select! {
        started = Box::pin(App::start(&settings, hub, &replacement.sockets, &tasks)) => started,
        end = replacement.wait(&mut signals) => {
            tasks.stop();
            scratch.remove();
            return Ok(end);
        }
    };
    let app = match started {
        Ok(app) => app,
        Err(error) => {
            tasks.stop();
            scratch.remove();
            return Err(error);
        }
    };
    tracing::info!(
        name = app.name,
        server = app.server.is_some(),
        client = app.agent.is_some(),
        http = %app.endpoints.http.bind,
        "agent started"
    );
    let stopping = tasks.stopping();
    replacement.sockets.settle();
    let end = tokio::select! {
        // Whichever comes first ends the wait; the other has nothing to lose.
        end = replacement.wait(&mut signals) => Some(end),
        () = stopping.cancelled() => None,
    };
    app.drain(settings.dev && end != Some(End::Replaced), &tasks).await;
    scratch.remove();
    let end =
        end.ok_or_else(|| anyhow::anyhow!("a vital part of the agent ended; the log says which"))?;
    tracing::info!(?end, "stopped");
    Ok(end)
}

fn level(settings: &Settings) -> LevelFilter {
    let name = settings.log_level.as_deref().unwrap_or("info");
    LevelFilter::from_str(&name.to_lowercase()).unwrap_or(LevelFilter::INFO)
}

/// The directory for state: as configured, or for development one that is removed at the end.
struct Scratch {
    dir: std::path::PathBuf,
    is_temporary: bool,
}

impl Scratch {
    fn for_settings(settings: &Settings) -> anyhow::Result<Self> {
        let is_temporary = settings.data_dir.is_none();
        let dir = settings.data_dir.clone().unwrap_or_else(|| {
            let unique = cos_platform::entropy::draw() >> 96;
            std::env::temp_dir().join(format!("cos-dev-{unique:08x}"))
        });
        std::fs::create_dir_all(&dir)
            .map_err(|error| anyhow::anyhow!("cannot make data_dir {}: {error}", dir.display()))?;
        Ok(Self { dir, is_temporary })
    }

    fn remove(&self) {
        if self.is_temporary
            && let Err(error) = std::fs::remove_dir_all(&self.dir)
        {
            tracing::warn!(dir = %self.dir.display(), %error, "cannot remove");
        }
    }
}

/// A running agent.
struct App {
    name: String,
    endpoints: Endpoints,
    server: Option<Server>,
    agent: Option<AgentHandle>,
}

/// What the parts of an agent share while it is put together.
struct Parts<'a> {
    settings: &'a Settings,
    endpoints: &'a Endpoints,
    name: &'a str,
    clock: &'a Arc<dyn Clock>,
    sockets: &'a Sockets,
    tasks: &'a Tasks,
    /// How many files tasks may open before they ask for more.
    open_files: u64,
}

impl App {
    async fn start(
        settings: &Arc<Settings>,
        hub: cos_platform::logging::LogHub,
        sockets: &Sockets,
        tasks: &Tasks,
    ) -> anyhow::Result<Self> {
        let name = settings.name.clone().unwrap_or_else(host_name);
        let endpoints = settings.endpoints(machine_address())?;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let files = cos_platform::raise_open_files()?;
        let parts = Parts {
            settings,
            endpoints: &endpoints,
            name: &name,
            clock: &clock,
            sockets,
            tasks,
            open_files: files.given,
        };
        // Sockets first: a busy port is told before anything else happens.
        let http = bind("HTTP", endpoints.http, sockets)?;
        let consul = bind_if("Consul HTTP", endpoints.consul_http, sockets)?;
        let secured = Box::pin(security::start(&parts)).await?;
        let server = server::start(&parts, &secured).await?;
        let agent = client::start(&parts, &secured).await?;
        keep_membership(&parts, &secured, agent.as_ref());
        let catalog = catalog_of(server.as_ref(), agent.as_ref());
        start_dns(&parts, &catalog).await?;
        let ingress = start_ingress(&parts, &catalog)?;
        let info = Info::new(
            Arc::clone(settings),
            name.clone(),
            endpoints.clone(),
            server.clone(),
            agent.clone(),
            hub,
        );
        let info = Arc::new(info.secured(secured.word));
        let control = server.clone().map(|server| Arc::new(server) as Arc<dyn ControlPlane>);
        let api = Api {
            control,
            local: agent.clone().map(|agent| Arc::new(LocalAgent::new(agent)) as _),
            security: server.clone().map(|server| Arc::new(Membership::new(server)) as _),
            agent: info,
            forwarder: Forwarder::new(tasks.clone(), secured.members.clone()),
            metrics: Metrics::install()?,
            tasks: tasks.clone(),
        };
        let router = cos_http::router(api.clone()).merge(cos_compat_nomad::router(
            api.clone(),
            Arc::new(Planning::new(Arc::clone(&clock))),
        ));
        let [nomad_limits, consul_limits] = limits::of_listeners(&settings.limits, files, &catalog);
        cos_http::listener::serve(http, router, secured.web.clone(), &nomad_limits, tasks);
        let naming = parts_of_naming(&parts, server.clone(), agent.clone());
        let consul_routes = consul_routes(api, Naming::new(&naming, catalog));
        let mut served = Vec::new();
        if let Some(listener) = consul {
            served.push(listener.local_addr()?);
            let web = Web::new(secured.members.clone());
            let routes = consul_routes.clone();
            cos_http::listener::serve(listener, routes, web, &consul_limits, tasks);
        }
        served.extend(ingress.iter().flat_map(|ingress| ingress.proxy_addresses().to_vec()));
        bridge::follow(
            Bridge {
                consul: endpoints
                    .consul_http
                    .map(|e| (e.bind.port(), consul_routes, consul_limits)),
                ingress: endpoints.ingress.map(|e| e.bind.port()).zip(ingress),
                served,
            },
            tasks,
        );
        Ok(Self { name, endpoints, server, agent })
    }

    /// Ends in order: tasks if this is a development agent, then consensus, then everything.
    async fn drain(&self, dev: bool, tasks: &Tasks) {
        if dev && let Some(agent) = &self.agent {
            drop(tokio::time::timeout(TASKS_TIMEOUT, agent.stop_tasks()).await);
        }
        if let Some(server) = &self.server {
            drop(tokio::time::timeout(DRAIN_TIMEOUT, server.shutdown()).await);
        }
        tasks.stop();
        if tokio::time::timeout(DRAIN_TIMEOUT, tasks.ended()).await.is_err() {
            tracing::warn!("some work did not end in time and is cut short");
        }
    }
}

/// Keeps a client's certificate fresh.
fn keep_membership(parts: &Parts<'_>, secured: &security::Secured, agent: Option<&AgentHandle>) {
    let (Some(member), Some(agent)) = (&secured.member, agent) else { return };
    let (member, agent) = (Arc::clone(member), agent.clone());
    let configured = parts.settings.client_servers();
    let servers = move || {
        let known = agent.servers().borrow().clone();
        let known = known.into_iter().map(|server| server.rpc);
        known.chain(configured.iter().map(|address| with_port(address, client::RPC_PORT))).collect()
    };
    let work = member.run(servers, parts.tasks.stopping());
    parts.tasks.spawn("membership", Fate::Vital, work);
}

/// The catalog as the server has it, or the client's copy.
fn catalog_of(
    server: Option<&Server>,
    agent: Option<&AgentHandle>,
) -> watch::Receiver<Arc<Catalog>> {
    match (server, agent) {
        (Some(server), _) => server.catalog(),
        (None, Some(agent)) => agent.catalog(),
        (None, None) => unreachable!("the settings were checked to have a role"),
    }
}

fn consul_routes(api: Api, naming: Naming) -> axum::Router {
    cos_compat_consul::router(cos_compat_consul::Consul { api, discovery: Arc::new(naming) })
}

fn parts_of_naming(
    parts: &Parts<'_>,
    server: Option<Server>,
    agent: Option<AgentHandle>,
) -> crate::adapters::NamingParts {
    crate::adapters::NamingParts {
        name: parts.name.into(),
        clock: Arc::clone(parts.clock),
        tasks: parts.tasks.clone(),
        scripts: parts.settings.enable_script_checks,
        sink: server.map(ServerSink::new),
        agent,
    }
}

async fn start_dns(
    parts: &Parts<'_>,
    catalog: &watch::Receiver<Arc<Catalog>>,
) -> anyhow::Result<()> {
    let Some(endpoint) = parts.endpoints.dns else { return Ok(()) };
    let config = cos_discovery::Config {
        addresses: vec![endpoint.bind],
        zone: cos_discovery::Zone {
            domain: vec!["consul".to_owned()],
            datacenter: parts.settings.region(),
        },
    };
    cos_discovery::Dns::start(config, catalog.clone(), Arc::clone(parts.clock), parts.tasks)
        .await?;
    Ok(())
}

fn start_ingress(
    parts: &Parts<'_>,
    catalog: &watch::Receiver<Arc<Catalog>>,
) -> anyhow::Result<Option<cos_ingress::Ingress>> {
    let Some(endpoint) = parts.endpoints.ingress else { return Ok(None) };
    let config = cos_ingress::Config {
        proxy_addresses: vec![endpoint.bind],
        ui_addresses: parts.endpoints.ingress_ui.map(|ui| ui.bind).into_iter().collect(),
        datacenter: parts.settings.datacenter(),
        workers: crate::ingress::workers(),
        sockets: parts.sockets.clone(),
    };
    let ingress = cos_ingress::Ingress::start(config, catalog.clone(), parts.clock, parts.tasks)?;
    Ok(Some(ingress))
}

fn bind_if(
    what: &str,
    endpoint: Option<Endpoint>,
    sockets: &Sockets,
) -> anyhow::Result<Option<TcpListener>> {
    endpoint.map(|endpoint| bind(what, endpoint, sockets)).transpose()
}

fn bind(what: &str, endpoint: Endpoint, sockets: &Sockets) -> anyhow::Result<TcpListener> {
    sockets
        .listen(endpoint.bind)
        .map_err(|error| anyhow::anyhow!("cannot listen on {} ({what}): {error}", endpoint.bind))
}

/// Addresses of others may leave out the port.
fn with_port(address: &str, port: u16) -> String {
    let has_port = address.parse::<SocketAddr>().is_ok()
        || address
            .rsplit_once(':')
            .is_some_and(|(host, port)| !host.contains(':') && port.parse::<u16>().is_ok());
    if has_port { address.to_owned() } else { format!("{address}:{port}") }
}

/// The name of the machine, as the kernel knows it.
fn host_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .ok()
        .map(|name| name.trim().to_owned())
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "localhost".to_owned())
}

/// The address by which others would reach this machine: the one used towards the outside. No
/// packet is sent.
fn machine_address() -> Option<IpAddr> {
    let socket = std::net::UdpSocket::bind(("0.0.0.0", 0)).ok()?;
    // An address reserved for documentation; connecting a datagram socket only chooses a route.
    socket.connect(SocketAddr::from(([192, 0, 2, 1], 9))).ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_unspecified() && !address.is_loopback()).then_some(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_join_address_without_a_port_gets_the_usual_one() {
        for (given, expected) in [
            ("10.0.0.1", "10.0.0.1:4648"),
            ("10.0.0.1:5000", "10.0.0.1:5000"),
            ("host", "host:4648"),
            ("[::1]:5000", "[::1]:5000"),
        ] {
            assert_eq!(with_port(given, 4648), expected);
        }
    }
}
