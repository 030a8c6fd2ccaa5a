//! Three servers, perhaps a client, and ways to wait for them.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::time::Instant;

use crate::agent::{Agent, Role};
use crate::lab::{Lab, Port};

/// How many servers there are.
pub(crate) const SERVERS: usize = 3;

/// How long anything may take that nothing is promised about. A server that lost its data comes
/// back as a new member within two minutes.
pub(crate) const PATIENCE: Duration = Duration::from_mins(3);

/// The pause between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// How long one probe may take before it is sent again.
const PROBE_TIME: Duration = Duration::from_millis(300);

/// The agents of a run.
#[derive(Debug)]
pub(crate) struct Cluster {
    /// The servers.
    pub(crate) servers: Vec<Agent>,
    /// The clients.
    pub(crate) clients: Vec<Agent>,
    client: reqwest::Client,
    probes: u64,
}

impl Cluster {
    /// Makes the agents without starting them.
    pub(crate) fn new(lab: &mut Lab, dir: &Path, clients: u8) -> anyhow::Result<Self> {
        let ports: Vec<Port> =
            (1..=3).map(|number| lab.connect(number)).collect::<Result<_, _>>()?;
        let agent =
            |name: &str, role, port: &Port| Agent::new(dir, name, role, port.clone(), &ports);
        let servers = (1..)
            .zip(&ports)
            .map(|(number, port)| agent(&format!("server-{number}"), Role::Server, port))
            .collect::<Result<_, _>>()?;
        let clients = (1..=clients)
            .map(|number| {
                let port = lab.connect(10 + number)?;
                agent(&format!("client-{number}"), Role::Client, &port)
            })
            .collect::<Result<_, _>>()?;
        let client = reqwest::Client::builder().pool_max_idle_per_host(0).no_proxy().build()?;
        Ok(Self { servers, clients, client, probes: 0 })
    }

    /// Starts everything that does not run, lets everything through, and waits until each server
    /// votes and takes writes. A new member learns first, and without its vote the next fault
    /// would meet a group that has none to lose.
    pub(crate) async fn make_whole(&mut self) -> anyhow::Result<()> {
        for agent in self.servers.iter_mut().chain(&mut self.clients) {
            agent.port.heal()?;
            agent.set_disk("")?;
            if agent.is_running() {
                agent.signal(nix::sys::signal::Signal::SIGCONT)?;
            }
            agent.start()?;
        }
        self.until_writes(&[0, 1, 2]).await?;
        until("group of three voters", PATIENCE, async || {
            let url = self.servers[0].http("/v1/operator/raft/configuration");
            let configuration: serde_json::Value =
                serde_json::from_str(&self.ask(&url).await?).ok()?;
            let members = configuration["Servers"].as_array()?;
            let votes = members.iter().filter(|member| member["Voter"] == true).count();
            (members.len() == SERVERS && votes == SERVERS).then_some(())
        })
        .await
    }

    /// Waits until each of these servers takes a write, and says how long that took.
    pub(crate) async fn until_writes(&mut self, servers: &[usize]) -> anyhow::Result<Duration> {
        let begun = Instant::now();
        for server in servers {
            while !self.write(*server).await {
                if begun.elapsed() > PATIENCE {
                    bail!("server-{} takes no writes within {PATIENCE:?}", server + 1);
                }
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        }
        Ok(begun.elapsed())
    }

    /// Waits until any of these servers takes a write, and says how long that took.
    pub(crate) async fn until_a_write(&mut self, servers: &[usize]) -> anyhow::Result<Duration> {
        let begun = Instant::now();
        let mut probes = tokio::task::JoinSet::new();
        for server in servers {
            let url = self.servers[*server].consul("/v1/kv/probe");
            let client = self.client.clone();
            probes.spawn(async move {
                // One that was passed on to a leader that is gone may hang, so others follow it.
                while !sent(client.put(&url).timeout(PROBE_TIME).body("x")).await {
                    tokio::time::sleep(LOOK_AGAIN).await;
                }
            });
        }
        let first = tokio::time::timeout(PATIENCE, probes.join_next()).await;
        anyhow::ensure!(first.is_ok(), "none of {servers:?} takes a write within {PATIENCE:?}");
        Ok(begun.elapsed())
    }

    async fn write(&mut self, server: usize) -> bool {
        self.probes += 1;
        let url = self.servers[server].consul("/v1/kv/probe");
        sent(self.client.put(url).timeout(PROBE_TIME).body(self.probes.to_string())).await
    }

    /// Which server leads.
    pub(crate) async fn leader(&self) -> anyhow::Result<usize> {
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            for server in &self.servers {
                let answer = self.ask(&server.consul("/v1/status/leader")).await;
                let is_it = |other: &&Agent| {
                    answer.as_deref() == Some(&format!("\"{}:4647\"", other.port.address))
                };
                if let Some(place) = self.servers.iter().position(|other| is_it(&other)) {
                    return Ok(place);
                }
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        bail!("no server knows a leader")
    }

    /// The leader and the two others.
    pub(crate) async fn roles(&self) -> anyhow::Result<(usize, [usize; 2])> {
        let leader = self.leader().await?;
        Ok((leader, [(leader + 1) % SERVERS, (leader + 2) % SERVERS]))
    }

    /// Asks for a page; none unless it is answered with success.
    pub(crate) async fn ask(&self, url: &str) -> Option<String> {
        let response = self.client.get(url).timeout(PROBE_TIME).send().await.ok()?;
        if response.status().is_success() { response.text().await.ok() } else { None }
    }

    /// Puts something; says the status and the answer.
    pub(crate) async fn put(&self, url: &str, body: String) -> anyhow::Result<(u16, String)> {
        let sent = self.client.put(url).timeout(PATIENCE).body(body).send();
        let response = sent.await.context("no answer")?;
        Ok((response.status().as_u16(), response.text().await?))
    }
}

/// Sends a request and says whether it was answered with success.
async fn sent(request: reqwest::RequestBuilder) -> bool {
    request.send().await.is_ok_and(|response| response.status().is_success())
}

/// Looks again and again until there is something.
pub(crate) async fn until<T>(
    what: &str,
    patience: Duration,
    mut look: impl AsyncFnMut() -> Option<T>,
) -> anyhow::Result<T> {
    let begun = Instant::now();
    loop {
        if let Some(found) = look().await {
            return Ok(found);
        }
        if begun.elapsed() > patience {
            bail!("no {what} within {patience:?}");
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}
