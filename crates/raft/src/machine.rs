//! What this crate asks of a state machine, and the engine's view of it.
//!
//! Applying is done in batches, in log order, on one task. A snapshot is captured on that task,
//! which must be cheap, and encoded and written on a thread that may block.

use std::io;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use futures_util::{FutureExt, Stream, StreamExt};
use openraft::EntryPayload;
use openraft::storage::{ApplyResponder, EntryResponder, RaftSnapshotBuilder, RaftStateMachine};
use tokio::sync::watch;

use crate::snapshot::Snapshots;
use crate::types::{LogId, Payload, Snapshot, SnapshotMeta, StoredMembership, Types};

/// How many entries are applied with one call.
const BATCH_ENTRIES_MAX: usize = 1024;

/// Encodes a captured state; called once, on a thread that may block.
pub type Encode = Box<dyn FnOnce() -> Vec<u8> + Send>;

/// A replicated state machine: the same entries in the same order lead to the same state.
pub trait StateMachine: Send + 'static {
    /// Applies committed entries (index and payload) in order and returns one reply for each. Fewer
    /// mean that it cannot go on, which ends consensus on this server.
    fn apply(&mut self, entries: Vec<(u64, Bytes)>) -> Vec<Bytes>;

    /// Captures the state cheaply; what is returned encodes the capture later.
    fn snapshot(&self) -> Encode;

    /// Replaces the state by a snapshot that covers all entries up to and with `index`.
    fn restore(&mut self, index: u64, bytes: &[u8]) -> Result<(), String>;
}

/// The state machine, for the engine.
pub(crate) struct Applier {
    /// In a mutex only because the engine wants what it owns to be `Sync`; nobody shares it.
    machine: Mutex<Box<dyn StateMachine>>,
    snapshots: Snapshots,
    applied: Option<LogId>,
    membership: StoredMembership,
    /// How many entries are applied: one more than the index of the last.
    progress: watch::Sender<u64>,
}

impl Applier {
    pub(crate) fn new(
        machine: Box<dyn StateMachine>,
        snapshots: Snapshots,
        progress: watch::Sender<u64>,
    ) -> Self {
        Self {
            machine: Mutex::new(machine),
            snapshots,
            applied: None,
            membership: StoredMembership::default(),
            progress,
        }
    }

    fn apply_batch(&mut self, batch: Batch) -> io::Result<()> {
        let count = batch.payloads.len();
        if count > 0 {
            let replies = self.machine().apply(batch.payloads);
            if replies.len() != count {
                let text = format!("{count} entries applied with {} replies", replies.len());
                return Err(io::Error::other(text));
            }
            for (responder, reply) in batch.responders.into_iter().zip(replies) {
                if let Some(responder) = responder {
                    responder.send(reply);
                }
            }
        }
        // Entries of the engine itself come after those of the machine in no batch: see `push`.
        if let Some(last) = batch.last {
            self.applied = Some(last);
            self.progress.send_replace(last.index() + 1);
        }
        Ok(())
    }

    fn machine(&mut self) -> &mut dyn StateMachine {
        self.machine.get_mut().unwrap_or_else(PoisonError::into_inner).as_mut()
    }
}

/// Entries for one call of the machine.
#[derive(Default)]
struct Batch {
    payloads: Vec<(u64, Bytes)>,
    responders: Vec<Option<ApplyResponder<Types>>>,
    last: Option<LogId>,
}

impl RaftStateMachine<Types> for Applier {
    type SnapshotData = Bytes;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        Ok((self.applied, self.membership.clone()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> io::Result<()>
    where
        S: Stream<Item = io::Result<EntryResponder<Types>>> + Unpin + Send,
    {
        let mut batch = Batch::default();
        loop {
            // What is ready belongs to the batch; only an empty batch waits.
            let next = match entries.next().now_or_never() {
                Some(next) => next,
                None if batch.last.is_some() => {
                    self.apply_batch(std::mem::take(&mut batch))?;
                    continue;
                }
                None => entries.next().await,
            };
            let Some(next) = next else { break };
            let (entry, responder) = next?;
            batch.last = Some(entry.log_id);
            match entry.payload {
                EntryPayload::Normal(Payload(payload)) => {
                    batch.payloads.push((entry.log_id.index(), payload));
                    batch.responders.push(responder);
                    if batch.payloads.len() < BATCH_ENTRIES_MAX {
                        continue;
                    }
                    self.apply_batch(std::mem::take(&mut batch))?;
                }
                EntryPayload::Blank => self.finish(&mut batch, responder)?,
                EntryPayload::Membership(membership) => {
                    self.membership = StoredMembership::new(Some(entry.log_id), membership);
                    self.finish(&mut batch, responder)?;
                }
            }
        }
        self.apply_batch(batch)
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        let meta =
            SnapshotMeta { last_log_id: self.applied, last_membership: self.membership.clone() };
        let encode = Mutex::new(Some(self.machine().snapshot()));
        Builder { encode, meta, snapshots: self.snapshots.clone() }
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, content: Bytes) -> io::Result<()> {
        let (snapshots, saved) = (self.snapshots.clone(), (meta.clone(), content.clone()));
        block(move || {
            // At a start the engine installs what is on disk already.
            let current = snapshots.newest()?.map(|current| current.meta);
            if current.as_ref() == Some(&saved.0) {
                Ok(())
            } else {
                snapshots.save(&saved.0, &saved.1)
            }
        })
        .await?;
        let index = meta.last_log_id.map_or(0, |last| last.index());
        self.machine().restore(index, &content).map_err(io::Error::other)?;
        self.applied = meta.last_log_id;
        self.membership = meta.last_membership.clone();
        self.progress.send_replace(meta.last_log_id.map_or(0, |last| last.index() + 1));
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<Snapshot>> {
        let snapshots = self.snapshots.clone();
        block(move || snapshots.newest()).await
    }
}

impl Applier {
    /// Applies the batch up to an entry of the engine itself, and answers for that.
    fn finish(
        &mut self,
        batch: &mut Batch,
        responder: Option<ApplyResponder<Types>>,
    ) -> io::Result<()> {
        self.apply_batch(std::mem::take(batch))?;
        if let Some(responder) = responder {
            responder.send(Bytes::new());
        }
        Ok(())
    }
}

/// Encodes and writes one captured snapshot.
pub(crate) struct Builder {
    encode: Mutex<Option<Encode>>,
    meta: SnapshotMeta,
    snapshots: Snapshots,
}

impl RaftSnapshotBuilder<Types> for Builder {
    type SnapshotData = Bytes;

    async fn build_snapshot(&mut self) -> io::Result<Snapshot> {
        let encode = self.encode.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        let encode = encode.ok_or_else(|| io::Error::other("built already"))?;
        let (meta, snapshots) = (self.meta.clone(), self.snapshots.clone());
        block(move || {
            let content = Bytes::from(encode());
            snapshots.save(&meta, &content)?;
            Ok(Snapshot { meta, snapshot: content })
        })
        .await
    }
}

async fn block<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}
