//! What others see of the allocations on this machine: a copy of each one's state, and the way to
//! its runner.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cos_drivers::TaskHandle;
use cos_model::{AllocId, Allocation, ClientStatus, TaskState};
use tokio::sync::{mpsc, watch};

use crate::runner::Message;

/// One allocation as it is now.
#[derive(Clone, Debug)]
pub struct AllocView {
    /// As the servers last described it.
    pub alloc: Arc<Allocation>,
    /// What happens with it here.
    pub status: ClientStatus,
    /// Why, in words.
    pub description: String,
    /// What happens with each task.
    pub task_states: BTreeMap<String, TaskState>,
    /// The drivers' handles of tasks that run.
    pub handles: BTreeMap<String, TaskHandle>,
    /// Whether nothing of it runs or will run, and nothing is left outside its directories.
    pub over: bool,
}

/// All allocations. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    entries: Arc<Mutex<BTreeMap<AllocId, Entry>>>,
    changed: watch::Sender<()>,
}

#[derive(Debug)]
struct Entry {
    runner: mpsc::Sender<Message>,
    view: Option<Arc<AllocView>>,
}

impl Default for Table {
    fn default() -> Self {
        Self { entries: Arc::default(), changed: watch::Sender::new(()) }
    }
}

impl Table {
    fn entries(&self) -> MutexGuard<'_, BTreeMap<AllocId, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds an allocation with its runner.
    pub(crate) fn add(&self, id: AllocId, runner: mpsc::Sender<Message>) {
        self.entries().insert(id, Entry { runner, view: None });
    }

    /// Shows an allocation as it is now.
    pub(crate) fn show(&self, id: AllocId, view: AllocView) {
        if let Some(entry) = self.entries().get_mut(&id) {
            entry.view = Some(Arc::new(view));
        }
        self.changed.send_replace(());
    }

    pub(crate) fn remove(&self, id: AllocId) {
        self.entries().remove(&id);
        self.changed.send_replace(());
    }

    pub(crate) fn view(&self, id: AllocId) -> Option<Arc<AllocView>> {
        self.entries().get(&id)?.view.clone()
    }

    pub(crate) fn views(&self) -> Vec<Arc<AllocView>> {
        self.entries().values().filter_map(|entry| entry.view.clone()).collect()
    }

    pub(crate) fn runner(&self, id: AllocId) -> Option<mpsc::Sender<Message>> {
        self.entries().get(&id).map(|entry| entry.runner.clone())
    }

    pub(crate) fn runners(&self) -> Vec<(AllocId, mpsc::Sender<Message>)> {
        self.entries().iter().map(|(id, entry)| (*id, entry.runner.clone())).collect()
    }

    /// Finds the handle of a task that runs.
    pub(crate) fn handle(&self, id: AllocId, task: &str) -> Option<TaskHandle> {
        self.view(id)?.handles.get(task).cloned()
    }

    /// Tells when anything was shown or removed.
    pub(crate) fn changed(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }
}
