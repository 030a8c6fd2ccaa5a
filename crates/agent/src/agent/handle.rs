//! What a running agent can be asked.

use std::collections::BTreeMap;
use std::sync::Arc;

use cos_drivers::{Driver, ExecRequest, ExecSession, TaskStats};
use cos_model::catalog::{Catalog, CatalogChange};
use cos_model::link::ServerAddress;
use cos_model::{AllocId, Node, NodeId};
use tokio::sync::{oneshot, watch};

use super::{AgentHandle, AllocError, STOP_TIMEOUT, destroy};
use crate::checks;
use crate::config::Config;
use crate::directories::AllocDirectory;
use crate::files::AllocFiles;
use crate::host_stats::{self, HostStats};
use crate::link::{Link, LinkError};
use crate::runner::Message;
use crate::table::AllocView;

impl AgentHandle {
    /// The node's id.
    pub fn node_id(&self) -> NodeId {
        self.identity.node
    }

    /// The node as it registers now; it holds the secret.
    pub fn node(&self) -> Arc<Node> {
        Arc::clone(&self.host.node.borrow())
    }

    /// The configuration.
    pub fn config(&self) -> &Config {
        &self.host.config
    }

    /// This agent's copy of the catalog.
    pub fn catalog(&self) -> watch::Receiver<Arc<Catalog>> {
        self.host.link.catalog()
    }

    /// The servers, the connected one first.
    pub fn servers(&self) -> watch::Receiver<Vec<ServerAddress>> {
        self.host.link.servers()
    }

    /// Whether a server is connected.
    pub fn connected(&self) -> watch::Receiver<bool> {
        self.host.link.connected()
    }

    /// The link, for questions to the servers and changes of the catalog.
    pub fn link(&self) -> &Link {
        &self.host.link
    }

    /// The health checks of this node.
    pub fn checks(&self) -> &checks::Runner {
        &self.host.checks
    }

    /// Commits changes of the catalog through a server.
    pub async fn change_catalog(
        &self,
        changes: Vec<CatalogChange>,
    ) -> Result<BTreeMap<u32, String>, LinkError> {
        self.host.link.change(changes).await
    }

    /// All allocations on this node.
    pub fn allocs(&self) -> Vec<Arc<AllocView>> {
        self.host.table.views()
    }

    /// One allocation on this node.
    pub fn alloc(&self, id: AllocId) -> Result<Arc<AllocView>, AllocError> {
        self.host.table.view(id).ok_or(AllocError::Unknown(id))
    }

    /// Tells when any allocation changed.
    pub fn allocs_changed(&self) -> watch::Receiver<()> {
        self.host.table.changed()
    }

    /// The files of an allocation.
    pub fn files(&self, id: AllocId) -> Result<AllocFiles, AllocError> {
        let view = self.alloc(id)?;
        let directory = AllocDirectory::new(&self.host.config.alloc_root(), view.alloc.id);
        Ok(AllocFiles::new(directory.root().to_owned()))
    }

    /// Runs a command in a task.
    pub async fn exec(
        &self,
        id: AllocId,
        task: &str,
        request: &ExecRequest,
    ) -> Result<ExecSession, AllocError> {
        let view = self.alloc(id)?;
        if !view.task_states.contains_key(task) {
            return Err(AllocError::Refused(format!("unknown task name {task:?}")));
        }
        let handle = view
            .handles
            .get(task)
            .ok_or_else(|| AllocError::Refused(format!("task {task:?} is not running.")))?;
        let driver = self.driver(&handle.driver)?;
        driver.exec(handle, request).await.map_err(|error| AllocError::Refused(error.to_string()))
    }

    /// Restarts one task of an allocation, or all that run.
    pub async fn restart(&self, id: AllocId, task: Option<&str>) -> Result<(), AllocError> {
        let task = task.map(str::to_owned);
        self.ask(id, |reply| Message::Restart(task, reply)).await
    }

    /// Signals one task of an allocation, or all that run.
    pub async fn signal(
        &self,
        id: AllocId,
        task: Option<&str>,
        signal: &str,
    ) -> Result<(), AllocError> {
        if cos_drivers::signal::number(signal).is_none() {
            return Err(AllocError::Refused(format!("invalid signal: {signal}")));
        }
        let (task, signal) = (task.map(str::to_owned), signal.to_owned());
        self.ask(id, |reply| Message::Signal(task, signal, reply)).await
    }

    /// Tells what the tasks of an allocation use, by task.
    pub async fn alloc_stats(
        &self,
        id: AllocId,
    ) -> Result<BTreeMap<String, TaskStats>, AllocError> {
        let view = self.alloc(id)?;
        let mut stats = BTreeMap::new();
        for (task, handle) in &view.handles {
            let driver = self.driver(&handle.driver)?;
            // A task that ended a moment ago has no figures any more.
            if let Ok(found) = driver.stats(handle).await {
                stats.insert(task.clone(), found);
            }
        }
        Ok(stats)
    }

    /// Tells what the machine uses.
    pub async fn host_stats(&self) -> Result<HostStats, AllocError> {
        let stats = host_stats::look(&self.host.config, self.host.clock.unix_nanos()).await;
        stats.map_err(|error| AllocError::Refused(error.to_string()))
    }

    /// Removes an ended allocation's files, or those of all ended allocations.
    pub async fn collect_garbage(&self, id: Option<AllocId>) -> Result<(), AllocError> {
        let views = match id {
            Some(id) => vec![self.alloc(id)?],
            None => self.allocs(),
        };
        for view in views.into_iter().filter(|view| view.over) {
            if let Some(done) = destroy(&self.host, view.alloc.id).await {
                // An error means that the runner has gone, and everything with it.
                done.await.ok();
            }
        }
        Ok(())
    }

    /// Ends all tasks, as a development agent does before it stops. Returns when they have ended,
    /// or after a minute.
    pub async fn stop_tasks(&self) {
        for (_, runner) in self.host.table.runners() {
            drop(runner.send(Message::Stop).await);
        }
        let mut changed = self.host.table.changed();
        let all_over = async {
            while !self.host.table.views().iter().all(|view| view.over) {
                if changed.changed().await.is_err() {
                    return;
                }
            }
        };
        if tokio::time::timeout(STOP_TIMEOUT, all_over).await.is_err() {
            tracing::error!("some tasks did not end in time");
        }
    }

    async fn ask(
        &self,
        id: AllocId,
        message: impl FnOnce(oneshot::Sender<Result<(), String>>) -> Message,
    ) -> Result<(), AllocError> {
        let runner = self.host.table.runner(id).ok_or(AllocError::Unknown(id))?;
        let (reply, answer) = oneshot::channel();
        let gone = || AllocError::Unknown(id);
        if runner.send(message(reply)).await.is_err() {
            return Err(gone());
        }
        answer.await.ok().ok_or_else(gone)?.map_err(AllocError::Refused)
    }

    fn driver(&self, name: &str) -> Result<&Arc<dyn Driver>, AllocError> {
        let missing = || AllocError::Refused(format!("driver {name:?} is not available"));
        self.host.drivers.get(name).ok_or_else(missing)
    }
}
