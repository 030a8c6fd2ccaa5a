//! What the agent keeps over a restart: who it is, its allocations, where their tasks stand, and
//! the handles by which drivers find them again.
//!
//! One thread writes, so that no task ever waits for the disk unless it asks to. What is queued
//! while a commit runs goes into the next one.
//!
//! # Invariants
//!
//! - **In order.** Writes take effect in the order in which they were given.
//! - **Durable on request.** [`Store::write_durably`] returns after an fsync; everything else is
//!   safe within [`FLUSH_AFTER`].
//! - **Named fields.** Values are `MessagePack` with field names, so a newer agent reads older values.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use cos_drivers::TaskHandle;
use cos_model::{AllocId, Allocation, NodeId, TaskPhase, Timestamp};
use redb::{Database, Durability, ReadableDatabase, ReadableTable, TableDefinition};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use crate::task_machine::Record;

const IDENTITY: TableDefinition<'_, &str, u128> = TableDefinition::new("identity");
const ALLOCS: TableDefinition<'_, u128, &[u8]> = TableDefinition::new("allocations");
const RECORDS: TableDefinition<'_, (u128, &str), &[u8]> = TableDefinition::new("tasks");
const HANDLES: TableDefinition<'_, (u128, &str), &[u8]> = TableDefinition::new("handles");

/// When servers were last heard of, in nanoseconds since 1970.
const CONTACTS: TableDefinition<'_, &str, i64> = TableDefinition::new("contacts");
const CONTACT: &str = "server";

/// How long a write that nobody waits for may stay in memory.
pub const FLUSH_AFTER: Duration = Duration::from_millis(200);

/// The cache of the database: what is kept is small and read once.
const CACHE_BYTES: usize = 1024 * 1024;

/// The state cannot be read or written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The file cannot be opened.
    #[error("cannot open {path}: {why}")]
    Open {
        /// The file.
        path: PathBuf,
        /// Why not.
        why: String,
    },
    /// The file holds something else than expected.
    #[error("cannot read the agent's state: {0}")]
    Read(String),
    /// A write failed.
    #[error("cannot write the agent's state: {0}")]
    Write(String),
}

/// One thing to be kept or forgotten.
#[derive(Clone, Debug)]
pub enum Write {
    /// An allocation as the servers describe it.
    Alloc(Arc<Allocation>),
    /// Where a task stands.
    Record {
        /// Its allocation.
        alloc: AllocId,
        /// Its name.
        task: String,
        /// Where it stands.
        record: Record,
    },
    /// How a driver finds a task.
    Handle {
        /// Its allocation.
        alloc: AllocId,
        /// Its name.
        task: String,
        /// The handle.
        handle: KeptHandle,
    },
    /// A driver cannot find a task any more.
    NoHandle {
        /// Its allocation.
        alloc: AllocId,
        /// Its name.
        task: String,
    },
    /// Nothing is left of an allocation.
    Forget(AllocId),
    /// A server was heard of.
    Contact(Timestamp),
}

/// What was kept of one allocation.
#[derive(Clone, Debug)]
pub struct Kept {
    /// The allocation.
    pub alloc: Arc<Allocation>,
    /// Where its tasks stood.
    pub records: BTreeMap<String, Record>,
    /// How drivers find its tasks.
    pub handles: BTreeMap<String, KeptHandle>,
}

/// A driver's handle and the run of the task that it belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptHandle {
    /// How often the task had been restarted when this run began.
    pub restarts: u64,
    /// The handle.
    pub handle: TaskHandle,
}

impl KeptHandle {
    /// Whether it belongs to the run that the record speaks of.
    pub fn is_live(&self, record: &Record) -> bool {
        record.state.phase != TaskPhase::Dead && self.restarts == record.state.restarts
    }
}

/// Who this node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The node's id.
    pub node: NodeId,
    /// The secret that authenticates it.
    pub secret: NodeId,
}

/// A handle to the writing thread.
#[derive(Clone, Debug)]
pub struct Store {
    orders: mpsc::Sender<Order>,
    /// When an earlier agent last heard of a server, if it noted that.
    last_contact: Option<Timestamp>,
}

/// Writes, and where the answer goes if somebody waits for it.
#[derive(Debug)]
struct Order {
    writes: Vec<Write>,
    done: Option<oneshot::Sender<Result<(), StoreError>>>,
}

impl Store {
    /// Opens the state, draws an identity if there is none, and reads what was kept. Blocks.
    pub fn open(
        path: &Path,
        draw: impl Fn() -> u128,
    ) -> Result<(Self, Identity, Vec<Kept>), StoreError> {
        let failed = |why: String| StoreError::Open { path: path.to_owned(), why };
        let database = open(path)?;
        let identity = identify(&database, draw).map_err(read_error)?;
        let kept = read_all(&database)?;
        let last_contact = read_contact(&database).map_err(read_error)?;
        let (orders, inbox) = mpsc::channel();
        std::thread::Builder::new()
            .name("agent-state".to_owned())
            .spawn(move || serve(&database, &inbox))
            .map_err(|error| failed(error.to_string()))?;
        Ok((Self { orders, last_contact }, identity, kept))
    }

    /// When an earlier agent last heard of a server, if it noted that.
    pub fn last_contact(&self) -> Option<Timestamp> {
        self.last_contact
    }

    /// Queues writes.
    pub fn write(&self, writes: Vec<Write>) {
        if !writes.is_empty() && self.orders.send(Order { writes, done: None }).is_err() {
            tracing::error!("the agent's state is no longer written");
        }
    }

    /// Queues writes and returns when they are on disk.
    pub async fn write_durably(&self, writes: Vec<Write>) -> Result<(), StoreError> {
        let (done, answer) = oneshot::channel();
        let gone = || StoreError::Write("the writer has stopped".to_owned());
        if self.orders.send(Order { writes, done: Some(done) }).is_err() {
            return Err(gone());
        }
        answer.await.unwrap_or_else(|_| Err(gone()))
    }
}

fn open(path: &Path) -> Result<Database, StoreError> {
    let failed = |why: String| StoreError::Open { path: path.to_owned(), why };
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(|error| failed(error.to_string()))?;
    }
    redb::Builder::new()
        .set_cache_size(CACHE_BYTES)
        .create(path)
        .map_err(|error| failed(error.to_string()))
}

/// The identity of the node whose state is in this file, drawn now if it has none yet. Blocks; the
/// file is closed again when this returns.
pub fn identity(path: &Path, draw: impl Fn() -> u128) -> Result<Identity, StoreError> {
    let database = open(path)?;
    identify(&database, draw).map_err(read_error)
}

/// Writes until the last handle is gone.
fn serve(database: &Database, inbox: &mpsc::Receiver<Order>) {
    let mut unflushed = false;
    loop {
        let first = if unflushed {
            inbox.recv_timeout(FLUSH_AFTER)
        } else {
            inbox.recv().map_err(mpsc::RecvTimeoutError::from)
        };
        let mut orders = match first {
            Ok(order) => vec![order],
            Err(mpsc::RecvTimeoutError::Timeout) => Vec::new(),
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
        };
        orders.extend(inbox.try_iter());
        let awaited = orders.iter().any(|order| order.done.is_some());
        let durable = awaited || orders.is_empty();
        let result = commit(database, &orders, durable)
            .map_err(|error| StoreError::Write(error.to_string()));
        if let Err(error) = &result {
            tracing::error!(%error, "agent state not written");
        }
        unflushed = !durable;
        for done in orders.into_iter().filter_map(|order| order.done) {
            // Whoever waited may have gone.
            drop(done.send(result.clone()));
        }
    }
    if unflushed && let Err(error) = commit(database, &[], true) {
        tracing::error!(%error, "agent state not flushed");
    }
}

fn commit(database: &Database, orders: &[Order], durable: bool) -> Result<(), redb::Error> {
    let mut transaction = database.begin_write()?;
    let durability = if durable { Durability::Immediate } else { Durability::None };
    transaction.set_durability(durability)?;
    {
        let mut allocs = transaction.open_table(ALLOCS)?;
        let mut records = transaction.open_table(RECORDS)?;
        let mut handles = transaction.open_table(HANDLES)?;
        let mut contacts = transaction.open_table(CONTACTS)?;
        for write in orders.iter().flat_map(|order| &order.writes) {
            match write {
                Write::Alloc(alloc) => {
                    allocs.insert(alloc.id.bits(), encode(&**alloc).as_slice())?;
                }
                Write::Record { alloc, task, record } => {
                    records.insert((alloc.bits(), task.as_str()), encode(record).as_slice())?;
                }
                Write::Handle { alloc, task, handle } => {
                    handles.insert((alloc.bits(), task.as_str()), encode(handle).as_slice())?;
                }
                Write::NoHandle { alloc, task } => {
                    handles.remove((alloc.bits(), task.as_str()))?;
                }
                Write::Contact(at) => {
                    contacts.insert(CONTACT, at.0)?;
                }
                Write::Forget(alloc) => {
                    let bits = alloc.bits();
                    allocs.remove(bits)?;
                    records.retain(|(owner, _), _| owner != bits)?;
                    handles.retain(|(owner, _), _| owner != bits)?;
                }
            }
        }
    }
    transaction.commit()?;
    Ok(())
}

fn identify(database: &Database, draw: impl Fn() -> u128) -> Result<Identity, redb::Error> {
    let transaction = database.begin_write()?;
    let identity = {
        let mut table = transaction.open_table(IDENTITY)?;
        let mut get = |name: &str| -> Result<NodeId, redb::Error> {
            if let Some(bits) = table.get(name)?.map(|bits| bits.value()) {
                return Ok(NodeId::from_bits(bits));
            }
            let bits = draw();
            table.insert(name, bits)?;
            Ok(NodeId::from_bits(bits))
        };
        Identity { node: get("node")?, secret: get("secret")? }
    };
    transaction.open_table(ALLOCS)?;
    transaction.open_table(RECORDS)?;
    transaction.open_table(HANDLES)?;
    transaction.open_table(CONTACTS)?;
    transaction.commit()?;
    Ok(identity)
}

fn read_contact(database: &Database) -> Result<Option<Timestamp>, redb::Error> {
    let transaction = database.begin_read()?;
    let contacts = transaction.open_table(CONTACTS)?;
    Ok(contacts.get(CONTACT)?.map(|at| Timestamp(at.value())))
}

fn read_all(database: &Database) -> Result<Vec<Kept>, StoreError> {
    let transaction = database.begin_read().map_err(read_error)?;
    let allocs = transaction.open_table(ALLOCS).map_err(read_error)?;
    let records = transaction.open_table(RECORDS).map_err(read_error)?;
    let handles = transaction.open_table(HANDLES).map_err(read_error)?;
    let mut kept = Vec::new();
    for entry in allocs.iter().map_err(read_error)? {
        let (id, value) = entry.map_err(read_error)?;
        let alloc: Allocation = decode(value.value())?;
        kept.push(Kept {
            alloc: Arc::new(alloc),
            records: read_tasks(&records, id.value())?,
            handles: read_tasks(&handles, id.value())?,
        });
    }
    Ok(kept)
}

fn read_tasks<T: DeserializeOwned>(
    table: &impl ReadableTable<(u128, &'static str), &'static [u8]>,
    alloc: u128,
) -> Result<BTreeMap<String, T>, StoreError> {
    let mut found = BTreeMap::new();
    for entry in table.range((alloc, "")..).map_err(read_error)? {
        let (key, value) = entry.map_err(read_error)?;
        let (owner, task) = key.value();
        if owner != alloc {
            break;
        }
        found.insert(task.to_owned(), decode(value.value())?);
    }
    Ok(found)
}

fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    rmp_serde::to_vec_named(value).expect("plain data with text keys always has a MessagePack form")
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, StoreError> {
    rmp_serde::from_slice(bytes).map_err(read_error)
}

fn read_error(error: impl std::fmt::Display) -> StoreError {
    StoreError::Read(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[tokio::test]
    async fn what_was_written_is_there_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("client/state.db");
        let alloc = testing::alloc(1);
        let (store, first, kept) = Store::open(&path, || 7).unwrap();
        assert!(kept.is_empty());
        let record = Record::default();
        store.write(vec![
            Write::Alloc(Arc::clone(&alloc)),
            Write::Record { alloc: alloc.id, task: "web".to_owned(), record: record.clone() },
        ]);
        let handle = KeptHandle { restarts: 0, handle: testing::handle("web", 42) };
        let write = Write::Handle { alloc: alloc.id, task: "web".to_owned(), handle };
        assert_eq!(store.last_contact(), None);
        store.write_durably(vec![write, Write::Contact(Timestamp(9))]).await.unwrap();
        drop(store);

        let (store, second, kept) = reopen(&path).await;
        assert_eq!(first, second);
        assert_eq!(kept.len(), 1);
        assert_eq!(kept[0].alloc, alloc);
        assert_eq!(kept[0].records["web"], record);
        assert_eq!(kept[0].handles["web"].handle.pid, 42);
        assert_eq!(store.last_contact(), Some(Timestamp(9)));
        store.write_durably(vec![Write::Forget(alloc.id)]).await.unwrap();
        drop(store);
        assert!(reopen(&path).await.2.is_empty());
    }

    /// The writer closes the file a moment after the last handle is dropped.
    async fn reopen(path: &Path) -> (Store, Identity, Vec<Kept>) {
        loop {
            match Store::open(path, || 8) {
                Ok(opened) => return opened,
                Err(StoreError::Open { .. }) => tokio::task::yield_now().await,
                Err(error) => panic!("{error}"),
            }
        }
    }
}
