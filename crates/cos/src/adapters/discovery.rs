//! The discovery side of an agent for the Consul dialect: its catalog, the way to change it, and
//! the runner of its checks.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use cos_agent::checks::{NoScripts, Options, Runner};
use cos_agent::{AgentHandle, CatalogSink, TtlError};
use cos_compat_consul::Discovery;
use cos_http::ApiError;
use cos_model::catalog::{Catalog, CatalogChange, Health};
use cos_platform::{Clock, Tasks};
use cos_server::Server;
use cos_state::{Command, ControlPlane, ProposeError, Reply};
use tokio::sync::watch;

/// What the discovery side is made from.
pub(crate) struct NamingParts {
    pub(crate) name: Arc<str>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) tasks: Tasks,
    /// Whether callers may register checks that run programs.
    pub(crate) scripts: bool,
    pub(crate) sink: Option<ServerSink>,
    pub(crate) agent: Option<AgentHandle>,
}

/// How long the answer to a report waits for the catalog to have it.
const REPORT_WAIT: Duration = Duration::from_secs(1);

/// The discovery side of an agent.
pub(crate) struct Naming {
    name: Arc<str>,
    catalog: watch::Receiver<Arc<Catalog>>,
    checks: Runner,
    sink: Option<ServerSink>,
    agent: Option<AgentHandle>,
    scripts: bool,
}

/// Changes of the catalog through this process's own server.
#[derive(Clone, Debug)]
pub(crate) struct ServerSink(Server);

impl ServerSink {
    pub(crate) fn new(server: Server) -> Self {
        Self(server)
    }

    async fn propose(
        &self,
        changes: Vec<CatalogChange>,
    ) -> Result<BTreeMap<u32, String>, ProposeError> {
        let committed = self.0.propose(Command::Catalog { changes }).await?;
        match committed.reply {
            Reply::Catalog(refused) => Ok(refused),
            _ => Ok(BTreeMap::new()),
        }
    }
}

#[async_trait]
impl CatalogSink for ServerSink {
    async fn change(&self, changes: Vec<CatalogChange>) -> Result<BTreeMap<u32, String>, String> {
        self.propose(changes).await.map_err(|error| error.to_string())
    }
}

impl Naming {
    /// A client part runs the checks of its node already; a mere server gets a runner of its own.
    pub(crate) fn new(parts: &NamingParts, catalog: watch::Receiver<Arc<Catalog>>) -> Self {
        let checks = match (&parts.agent, &parts.sink) {
            (Some(agent), _) => agent.checks().clone(),
            (None, Some(sink)) => {
                let options = Options {
                    node: Arc::clone(&parts.name),
                    catalog: catalog.clone(),
                    sink: Arc::new(sink.clone()),
                    scripts: Arc::new(NoScripts),
                    clock: Arc::clone(&parts.clock),
                };
                Runner::start(options, &parts.tasks)
            }
            (None, None) => unreachable!("the settings were checked to have a role"),
        };
        Self {
            name: Arc::clone(&parts.name),
            catalog,
            checks,
            sink: parts.sink.clone(),
            agent: parts.agent.clone(),
            scripts: parts.scripts && parts.agent.is_some(),
        }
    }
}

#[async_trait]
impl Discovery for Naming {
    fn catalog(&self) -> watch::Receiver<Arc<Catalog>> {
        self.catalog.clone()
    }

    async fn change(&self, changes: Vec<CatalogChange>) -> Result<BTreeMap<u32, String>, ApiError> {
        if let Some(sink) = &self.sink {
            return Ok(sink.propose(changes).await?);
        }
        let Some(agent) = &self.agent else {
            return Err(ApiError::internal("this agent has no way to change the catalog"));
        };
        agent.change_catalog(changes).await.map_err(|error| ApiError::internal(error.to_string()))
    }

    async fn report(&self, check: &str, status: Health, output: &str) -> Result<(), ApiError> {
        self.checks.update_ttl(check, status, output).await.map_err(|error| {
            let message = error.to_string();
            match error {
                TtlError::Unknown(_) => ApiError::not_found(message),
                TtlError::NotTtl(_) => ApiError::bad_request(message),
                TtlError::Stopping => ApiError::internal(message),
            }
        })?;
        // Whoever reported may ask at once: this agent's next answer has it, unless no server
        // takes the report now; then it is repeated until one does.
        let mut catalog = self.catalog.clone();
        let is_there = |catalog: &Arc<Catalog>| {
            catalog.check(&self.name, check).is_none_or(|check| check.status == status)
        };
        tokio::time::timeout(REPORT_WAIT, catalog.wait_for(is_there)).await.ok();
        Ok(())
    }

    fn allows_scripts(&self) -> bool {
        self.scripts
    }
}
