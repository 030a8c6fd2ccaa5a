//! The durable log: entries, the vote, and what was purged.
//!
//! One thread writes. It takes everything that was queued while the previous sync ran, writes it
//! with one call, syncs once, and then tells everybody; that is the group commit. Readers see an
//! entry as soon as it is queued, from memory; entries that left memory are read from their
//! segment.
//!
//! Invariants: indexes are consecutive; nothing is reported done before it is durable; the order
//! on disk is the order of the calls. After the first failed write or sync the log accepts
//! nothing any more, because nobody knows then what the disk holds.
//!
//! Deliberately absent: any knowledge of consensus (`store` translates), and compaction (the
//! caller says up to where a snapshot makes entries superfluous).

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use cos_model::ServerId;
use cos_platform::{Disk, DiskFile};
use tokio::sync::{mpsc, oneshot};

pub(crate) use record::{kind, number};
pub(crate) use recovery::{OpenLogError, advice};
#[cfg(test)]
pub(crate) use state::State;
pub(crate) use state::{Mark, Vote};

use self::record::Found;
use self::writer::{Operation, Writer};

mod record;
mod recovery;
mod segment;
mod state;
#[cfg(test)]
mod tests;
mod writer;

/// How much of the newest entries stays in memory. Followers that lag by less, and the state
/// machine, never touch the disk.
const TAIL_BYTES_MAX: usize = 8 * 1024 * 1024;
/// How many operations wait for the writer before their callers wait too.
const QUEUE_OPERATIONS: usize = 4096;

/// What an entry carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Nothing: a new leader's first entry.
    Blank,
    /// A payload of the state machine.
    Normal,
    /// A membership.
    Membership,
}

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) mark: Mark,
    pub(crate) kind: Kind,
    pub(crate) payload: Bytes,
}

/// Called once the operation is durable or has failed.
pub(crate) type Done = Box<dyn FnOnce(io::Result<()>) + Send>;

/// How a log is laid out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    /// How large a segment is made; a batch that is larger gets a segment of its size.
    pub(crate) segment_bytes: u64,
}

impl Default for Layout {
    fn default() -> Self {
        Self { segment_bytes: 16 * 1024 * 1024 }
    }
}

/// The log. Clones are handles to the same log.
#[derive(Clone, Debug)]
pub(crate) struct Log {
    view: Arc<Mutex<View>>,
    queue: mpsc::Sender<Operation>,
}

/// What readers see.
#[derive(Debug)]
struct View {
    vote: Option<Vote>,
    purged: Option<Mark>,
    committed: Option<Mark>,
    last: Option<Mark>,
    /// The newest entries, without a gap, up to `last`.
    tail: VecDeque<Entry>,
    tail_bytes: usize,
    /// Where entries are on disk, from index `places_first` on.
    places: VecDeque<Place>,
    places_first: u64,
    /// Open segments by their first index.
    files: BTreeMap<u64, Arc<dyn DiskFile>>,
}

/// Where one entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    segment: u64,
    offset: u64,
    length: u32,
}

impl Log {
    /// Opens the log of server `id`, recovers what is there and starts the writer.
    pub(crate) fn open(
        disk: Arc<dyn Disk>,
        id: ServerId,
        layout: Layout,
    ) -> Result<Self, OpenLogError> {
        let recovered = recovery::recover(disk.as_ref(), id)?;
        let view = Arc::new(Mutex::new(recovered.view));
        let (queue, operations) = mpsc::channel(QUEUE_OPERATIONS);
        let writer = Writer {
            disk,
            layout,
            state: recovered.state,
            segments: recovered.segments,
            committed: recovered.committed,
            view: Arc::clone(&view),
        };
        cos_platform::thread::spawn_urgent("raft-log", move || writer.run(operations))
            .map_err(|source| OpenLogError::Io { what: "start the writer".to_owned(), source })?;
        Ok(Self { view, queue })
    }

    /// The vote as it was last saved.
    pub(crate) fn vote(&self) -> Option<Vote> {
        self.lock().vote
    }

    /// The last entry that was purged.
    pub(crate) fn purged(&self) -> Option<Mark> {
        self.lock().purged
    }

    /// The last entry, or the last purged one if there is none.
    pub(crate) fn last(&self) -> Option<Mark> {
        self.lock().last
    }

    /// The last entry that is known to be committed; after a restart it may be an older one.
    pub(crate) fn committed(&self) -> Option<Mark> {
        self.lock().committed
    }

    /// Notes what is committed. It becomes durable with what is written next; losing it costs
    /// nothing but a later catching up.
    pub(crate) fn note_committed(&self, committed: Option<Mark>) {
        self.lock().committed = committed;
    }

    /// Appends entries, which must follow the last one. They can be read when this returns and
    /// are durable when `done` is called.
    pub(crate) async fn append(&self, entries: Vec<Entry>, done: Done) -> io::Result<()> {
        {
            let mut view = self.lock();
            for entry in &entries {
                if view.last.is_some_and(|last| last.index + 1 != entry.mark.index) {
                    return Err(io::Error::other("entries must follow the last one"));
                }
                view.last = Some(entry.mark);
                view.tail_bytes += entry.payload.len();
                view.tail.push_back(entry.clone());
            }
        }
        self.submit(Operation::Append { entries, done }).await
    }

    /// Drops all entries after `keep`, durably.
    pub(crate) async fn truncate(&self, keep: Option<Mark>) -> io::Result<()> {
        self.lock().truncate(keep);
        self.perform(|done| Operation::Truncate { keep, done }).await
    }

    /// Drops all entries up to and with `upto`, durably. `upto` may lie behind the last entry.
    pub(crate) async fn purge(&self, upto: Mark) -> io::Result<()> {
        self.lock().purge(upto);
        self.perform(|done| Operation::Purge { upto, done }).await
    }

    /// Saves the vote, durably.
    pub(crate) async fn save_vote(&self, vote: Vote) -> io::Result<()> {
        self.perform(|done| Operation::Vote { vote, done }).await?;
        self.lock().vote = Some(vote);
        Ok(())
    }

    /// Ends the writer after all that is queued. The log can be opened again afterwards.
    pub(crate) async fn stop(&self) {
        // An error means that the writer is gone already.
        drop(self.perform(|done| Operation::Stop { done }).await);
    }

    /// Reads entries from `start` to before `end`. Stops early at what is not there, and after
    /// the entry that makes the payloads reach `bytes_max`.
    pub(crate) async fn read(
        &self,
        start: u64,
        end: u64,
        bytes_max: usize,
    ) -> io::Result<Vec<Entry>> {
        let planned = self.lock().plan(start, end, bytes_max);
        if planned.on_disk.is_empty() {
            return Ok(planned.in_memory);
        }
        let mut entries = tokio::task::spawn_blocking(move || read_places(&planned.on_disk))
            .await
            .map_err(io::Error::other)??;
        entries.extend(planned.in_memory);
        Ok(entries)
    }

    async fn perform(&self, operation: impl FnOnce(Done) -> Operation) -> io::Result<()> {
        let (sender, receiver) = oneshot::channel();
        let done: Done = Box::new(move |outcome| {
            // A caller that was dropped does not care.
            drop(sender.send(outcome));
        });
        self.submit(operation(done)).await?;
        receiver.await.map_err(io::Error::other)?
    }

    async fn submit(&self, operation: Operation) -> io::Result<()> {
        self.queue.send(operation).await.map_err(|_closed| stopped())
    }

    fn lock(&self) -> MutexGuard<'_, View> {
        lock(&self.view)
    }
}

fn lock(view: &Mutex<View>) -> MutexGuard<'_, View> {
    view.lock().unwrap_or_else(PoisonError::into_inner)
}

fn stopped() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "the log has stopped")
}

struct Planned {
    on_disk: Vec<(Arc<dyn DiskFile>, Place)>,
    in_memory: Vec<Entry>,
}

impl View {
    fn tail_first(&self) -> u64 {
        self.tail.front().map_or(u64::MAX, |entry| entry.mark.index)
    }

    fn truncate(&mut self, keep: Option<Mark>) {
        let next = keep.map_or(0, |keep| keep.index + 1);
        while self.tail.back().is_some_and(|entry| entry.mark.index >= next) {
            let dropped = self.tail.pop_back().expect("the loop saw an entry");
            self.tail_bytes -= dropped.payload.len();
        }
        self.last = keep.or(self.purged);
    }

    fn purge(&mut self, upto: Mark) {
        while self.tail.front().is_some_and(|entry| entry.mark.index <= upto.index) {
            let dropped = self.tail.pop_front().expect("the loop saw an entry");
            self.tail_bytes -= dropped.payload.len();
        }
        // By index, not by term: a snapshot may replace entries of a later term that were never
        // committed.
        if self.purged.is_none_or(|purged| purged.index < upto.index) {
            self.purged = Some(upto);
        }
        if self.last.is_none_or(|last| last.index <= upto.index) {
            self.last = self.purged;
        }
    }

    /// Lets go of entries that are on disk, oldest first, until the tail is small enough.
    fn shrink_tail(&mut self) {
        let written = self.places_first + self.places.len() as u64;
        while self.tail_bytes > TAIL_BYTES_MAX && self.tail_first() < written {
            let dropped = self.tail.pop_front().expect("a tail with bytes has an entry");
            self.tail_bytes -= dropped.payload.len();
        }
    }

    fn plan(&self, start: u64, end: u64, bytes_max: usize) -> Planned {
        let start = start.max(self.purged.map_or(0, |purged| purged.index + 1));
        let end = end.min(self.last.map_or(0, |last| last.index + 1));
        let (tail_first, mut bytes) = (self.tail_first(), 0);
        let mut planned = Planned { on_disk: Vec::new(), in_memory: Vec::new() };
        for index in start..end {
            if bytes >= bytes_max {
                break;
            }
            if index >= tail_first {
                let Some(entry) = offset_in(tail_first, index).and_then(|at| self.tail.get(at))
                else {
                    break;
                };
                bytes += entry.payload.len();
                planned.in_memory.push(entry.clone());
            } else {
                let place = offset_in(self.places_first, index).and_then(|at| self.places.get(at));
                let Some((place, file)) =
                    place.and_then(|place| Some((place, self.files.get(&place.segment)?)))
                else {
                    break;
                };
                bytes += place.length as usize;
                planned.on_disk.push((Arc::clone(file), *place));
            }
        }
        planned
    }
}

fn offset_in(first: u64, index: u64) -> Option<usize> {
    usize::try_from(index.checked_sub(first)?).ok()
}

fn read_places(places: &[(Arc<dyn DiskFile>, Place)]) -> io::Result<Vec<Entry>> {
    let mut entries = Vec::with_capacity(places.len());
    for (file, place) in places {
        let mut bytes = vec![0; place.length as usize];
        file.read_at(place.offset, &mut bytes)?;
        match record::find(&bytes.into(), 0) {
            Found::Record(record) => entries.push(record.entry),
            Found::Nothing | Found::Damage => {
                let text = format!(
                    "damaged log entry in segment {} at offset {}",
                    segment::name(place.segment),
                    place.offset
                );
                return Err(io::Error::new(io::ErrorKind::InvalidData, text));
            }
        }
    }
    Ok(entries)
}
