//! The thread that writes.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex};

use cos_platform::{Disk, DiskFile};
use tokio::sync::mpsc;

use super::segment::{self, Segment};
use super::state::{self, State};
use super::{Done, Entry, Layout, Mark, Place, View, Vote, lock, record};

/// How much is written with one call at most; keeps the memory of a batch bounded.
const BATCH_BYTES_MAX: usize = 8 * 1024 * 1024;
/// How many operations are taken together.
const BATCH_OPERATIONS_MAX: usize = 1024;

/// What the writer is asked to do.
pub(super) enum Operation {
    Append { entries: Vec<Entry>, done: Done },
    Truncate { keep: Option<Mark>, done: Done },
    Purge { upto: Mark, done: Done },
    Vote { vote: Vote, done: Done },
    Stop { done: Done },
}

impl std::fmt::Debug for Operation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Append { .. } => "append",
            Self::Truncate { .. } => "truncate",
            Self::Purge { .. } => "purge",
            Self::Vote { .. } => "vote",
            Self::Stop { .. } => "stop",
        })
    }
}

#[derive(Debug)]
pub(super) struct Writer {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) layout: Layout,
    pub(super) state: State,
    pub(super) segments: VecDeque<Segment>,
    pub(super) committed: Arc<dyn DiskFile>,
    pub(super) view: Arc<Mutex<View>>,
}

/// Appends that share one write and one sync.
#[derive(Default)]
struct Batch {
    entries: Vec<Entry>,
    bytes: usize,
    done: Vec<Done>,
}

impl Writer {
    /// Works until it is stopped or all handles are gone.
    pub(super) fn run(mut self, mut operations: mpsc::Receiver<Operation>) {
        let mut failure: Option<io::Error> = None;
        let mut taken = VecDeque::new();
        let mut last_hint = None;
        while let Some(operation) = operations.blocking_recv() {
            taken.push_back(operation);
            while taken.len() < BATCH_OPERATIONS_MAX {
                match operations.try_recv() {
                    Ok(operation) => taken.push_back(operation),
                    Err(_) => break,
                }
            }
            while let Some(operation) = taken.pop_front() {
                if let Some(failure) = &failure {
                    operation.done()(Err(copy(failure)));
                    continue;
                }
                if let Operation::Stop { done } = operation {
                    self.write_hint(&mut last_hint);
                    return done(Ok(()));
                }
                failure = self.perform(operation, &mut taken).err();
                if let Some(error) = &failure {
                    tracing::error!(%error, "the raft log cannot be written any more");
                }
            }
            if failure.is_none() {
                self.write_hint(&mut last_hint);
            }
        }
    }

    /// Performs one operation, or a whole batch of appends if it is one. The callers are told
    /// here; the error that is returned is for the operations after it.
    fn perform(&mut self, operation: Operation, taken: &mut VecDeque<Operation>) -> io::Result<()> {
        let (outcome, done) = match operation {
            Operation::Append { entries, done } => {
                let mut batch = Batch::default();
                batch.add(entries, done);
                while batch.bytes < BATCH_BYTES_MAX {
                    match taken.pop_front() {
                        Some(Operation::Append { entries, done }) => batch.add(entries, done),
                        Some(other) => {
                            taken.push_front(other);
                            break;
                        }
                        None => break,
                    }
                }
                (self.append(&batch.entries), batch.done)
            }
            Operation::Truncate { keep, done } => (self.truncate(keep), vec![done]),
            Operation::Purge { upto, done } => (self.purge(upto), vec![done]),
            Operation::Vote { vote, done } => {
                self.state.vote = Some(vote);
                (self.state.save(self.disk.as_ref()), vec![done])
            }
            Operation::Stop { done } => (Ok(()), vec![done]),
        };
        for done in done {
            done(outcome.as_ref().map(|&()| ()).map_err(copy));
        }
        outcome
    }

    /// Writes entries and syncs once.
    fn append(&mut self, entries: &[Entry]) -> io::Result<()> {
        let Some(first) = entries.first().map(|entry| entry.mark.index) else { return Ok(()) };
        let bytes: usize =
            entries.iter().map(|entry| record::HEADER_BYTES + entry.payload.len()).sum();
        let is_new = self.make_room(first, bytes as u64)?;
        let segment = self.segments.back_mut().expect("room was just made");
        let mut records = Vec::with_capacity(bytes);
        let mut places = Vec::with_capacity(entries.len());
        for entry in entries {
            let start = records.len();
            segment.crc = record::encode(entry, segment.crc, first, &mut records);
            let length = u32::try_from(records.len() - start).expect("a record is bounded");
            let offset = segment.end + start as u64;
            places.push(Place { segment: segment.first, offset, length });
        }
        segment.write(records, self.layout.segment_bytes)?;
        segment.file.sync()?;
        if is_new {
            self.disk.sync()?;
        }
        let mut view = lock(&self.view);
        if view.places.is_empty() {
            view.places_first = first;
        }
        view.places.extend(places);
        view.shrink_tail();
        Ok(())
    }

    /// Sees to it that the last segment can take `bytes` more; a batch never spans two. Returns
    /// whether the segment is new.
    fn make_room(&mut self, first: u64, bytes: u64) -> io::Result<bool> {
        let room = self.segments.back().map(|last| (last.end, last.crc));
        let chain = match room {
            Some((end, _)) if end + bytes <= self.layout.segment_bytes => return Ok(false),
            Some((_, crc)) => crc,
            None => 0,
        };
        let size = self.layout.segment_bytes.max(segment::HEADER_BYTES as u64 + bytes);
        let segment = Segment::create(self.disk.as_ref(), first, chain, size)?;
        lock(&self.view).files.insert(first, Arc::clone(&segment.file));
        self.segments.push_back(segment);
        Ok(true)
    }

    /// Cuts everything after `keep`, last segments first, so that no gap can appear.
    fn truncate(&mut self, keep: Option<Mark>) -> io::Result<()> {
        let next = keep.map_or(0, |keep| keep.index + 1);
        while let Some(last) = self.segments.back() {
            if last.first < next {
                break;
            }
            self.disk.remove(&segment::name(last.first))?;
            self.disk.sync()?;
            lock(&self.view).files.remove(&last.first);
            self.segments.pop_back();
        }
        let cut = {
            let mut view = lock(&self.view);
            let kept =
                usize::try_from(next.saturating_sub(view.places_first)).unwrap_or(usize::MAX);
            let cut = view.places.get(kept).copied();
            view.places.truncate(kept);
            cut
        };
        let Some((cut, segment)) = cut.zip(self.segments.back_mut()) else { return Ok(()) };
        if cut.segment != segment.first {
            return Ok(());
        }
        let crc = chain_at(segment, cut)?;
        segment.cut(cut.offset, crc, self.layout.segment_bytes)
    }

    /// Notes what is purged, durably, and then removes the segments that hold nothing else.
    fn purge(&mut self, upto: Mark) -> io::Result<()> {
        if self.state.purged.is_none_or(|purged| purged.index < upto.index) {
            self.state.purged = Some(upto);
            self.state.save(self.disk.as_ref())?;
        }
        let mut view = lock(&self.view);
        let dropped = usize::try_from((upto.index + 1).saturating_sub(view.places_first))
            .unwrap_or(usize::MAX)
            .min(view.places.len());
        view.places.drain(..dropped);
        view.places_first += dropped as u64;
        let needed = view.places.front().map(|place| place.segment);
        drop(view);
        // Without any entry left, the next one starts a new segment after the purged ones.
        while let Some(first) = self.segments.front().map(|segment| segment.first) {
            if needed.is_some_and(|needed| first >= needed) {
                break;
            }
            self.disk.remove(&segment::name(first))?;
            lock(&self.view).files.remove(&first);
            self.segments.pop_front();
        }
        self.disk.sync()
    }

    /// Notes on disk what is committed, if it is durable itself. Failing is no harm.
    fn write_hint(&self, last_hint: &mut Option<Mark>) {
        let (committed, written) = {
            let view = lock(&self.view);
            (view.committed, view.places_first + view.places.len() as u64)
        };
        if let Some(mark) = committed.filter(|mark| mark.index < written)
            && *last_hint != Some(mark)
            && self.committed.write_at(0, &state::encode_committed(mark)).is_ok()
        {
            *last_hint = Some(mark);
        }
    }
}

impl Batch {
    fn add(&mut self, entries: Vec<Entry>, done: Done) {
        self.bytes += entries.iter().map(|entry| entry.payload.len()).sum::<usize>();
        self.entries.extend(entries);
        self.done.push(done);
    }
}

impl Operation {
    fn done(self) -> Done {
        match self {
            Self::Append { done, .. }
            | Self::Truncate { done, .. }
            | Self::Purge { done, .. }
            | Self::Vote { done, .. }
            | Self::Stop { done } => done,
        }
    }
}

/// The checksum that the record at `cut` continues, which is that of the last one that stays.
fn chain_at(segment: &Segment, cut: Place) -> io::Result<u32> {
    let mut bytes = [0; 4];
    segment.file.read_at(cut.offset + record::CHAIN_OFFSET, &mut bytes)?;
    Ok(u32::from_le_bytes(bytes))
}

/// Errors of the disk cannot be cloned, and many wait for the same.
fn copy(error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), error.to_string())
}
