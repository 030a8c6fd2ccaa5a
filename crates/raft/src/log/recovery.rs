//! What is in the directory when the log is opened.
//!
//! The rule: a tail that was being written when the machine stopped is cut off silently, because
//! nobody was told that it is durable. Everything else that is wrong stops the start with the
//! file and the place, because a server that forgets what it acknowledged breaks the whole
//! cluster. It was being written if no later batch is there and no hint says it was committed.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use cos_model::ServerId;
use cos_platform::disk::TEMPORARY_SUFFIX;
use cos_platform::{Disk, DiskFile};

use super::record::{self, Found, Record};
use super::segment::{self, Segment};
use super::state::{self, COMMITTED_NAME, Mark, STATE_NAME, State};
use super::{Place, View};

/// Why a log cannot be opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenLogError {
    /// The disk does not do what is asked.
    #[error("cannot {what}")]
    Io {
        what: String,
        #[source]
        source: io::Error,
    },
    /// Something that was acknowledged is damaged or gone.
    #[error(
        "{directory}/{file} is damaged at offset {offset}: {what}; {advice}",
        advice = advice(.directory)
    )]
    Damaged { directory: String, file: String, offset: u64, what: String },
    /// The directory belongs to another server.
    #[error(
        "{directory} belongs to server {found}, not to {expected}; to recover, write the former \
         into the file server-id of the server's directory if that is what was changed, or move \
         that directory away and start the server again, as a new member"
    )]
    WrongServer { directory: String, found: ServerId, expected: ServerId },
}

/// What helps a server that has lost something it acknowledged. It must not come back under its
/// old id with less than it had, so all that it holds goes, and with it the id.
pub(crate) fn advice(directory: &str) -> String {
    let all = directory.rsplit_once('/').map_or(directory, |(parent, _)| parent);
    format!(
        "to recover, move the directory {all} away and start the server again: it joins the other \
         servers as a new member and gets everything from them; where it is the only one, restore a \
         saved snapshot afterwards"
    )
}

/// What was found, ready to go on.
#[derive(Debug)]
pub(super) struct Recovered {
    pub(super) view: View,
    pub(super) state: State,
    pub(super) segments: VecDeque<Segment>,
    pub(super) committed: Arc<dyn DiskFile>,
}

/// Reads the directory, repairs its tail and removes what is left over.
pub(super) fn recover(disk: &dyn Disk, id: ServerId) -> Result<Recovered, OpenLogError> {
    let state = read_state(disk, id)?;
    let names = disk.names().map_err(io_error("list the log"))?;
    for name in names.iter().filter(|name| name.ends_with(TEMPORARY_SUFFIX)) {
        disk.remove(name).map_err(io_error("remove a left-over file"))?;
    }
    let hint = disk.read(COMMITTED_NAME).map_err(io_error("read the commit hint"))?;
    let hint = hint.as_deref().and_then(state::decode_committed);
    let mut firsts: Vec<u64> = names.iter().filter_map(|name| segment::first_of(name)).collect();
    firsts.sort_unstable();
    let purged_next = state.purged.map_or(0, |purged| purged.index + 1);
    // A purge that was cut short may have left any of them.
    while firsts.get(1).is_some_and(|second| *second <= purged_next) {
        let name = segment::name(firsts.remove(0));
        disk.remove(&name).map_err(io_error("remove a purged segment"))?;
    }

    let mut scan = Scan {
        disk,
        acknowledged: hint.map_or(0, |hint| hint.index + 1),
        purged: state.purged,
        chain: None,
        next: None,
        segments: VecDeque::new(),
        marks: BTreeMap::new(),
        places: VecDeque::new(),
    };
    for (position, first) in firsts.iter().enumerate() {
        scan.segment(*first, position + 1 == firsts.len())?;
    }
    scan.check_end()?;
    scan.drop_all_purged()?;
    let committed = disk.open(COMMITTED_NAME).map_err(io_error("open the commit hint"))?;
    disk.sync().map_err(io_error("sync the log directory"))?;
    Ok(scan.finish(state, hint, committed))
}

fn read_state(disk: &dyn Disk, id: ServerId) -> Result<State, OpenLogError> {
    let Some(content) = disk.read(STATE_NAME).map_err(io_error("read the state file"))? else {
        let state = State::new(id);
        state.save(disk).map_err(io_error("write the state file"))?;
        return Ok(state);
    };
    let state = State::decode(&content).ok_or_else(|| OpenLogError::Damaged {
        directory: disk.describe(),
        file: STATE_NAME.to_owned(),
        offset: 0,
        what: "its checksum or its version is wrong".to_owned(),
    })?;
    if state.id != id {
        let directory = disk.describe();
        return Err(OpenLogError::WrongServer { directory, found: state.id, expected: id });
    }
    Ok(state)
}

fn io_error(what: &str) -> impl FnOnce(io::Error) -> OpenLogError {
    let what = what.to_owned();
    move |source| OpenLogError::Io { what, source }
}

/// The walk through all segments.
struct Scan<'a> {
    disk: &'a dyn Disk,
    /// Everything before this index was acknowledged for sure.
    acknowledged: u64,
    purged: Option<Mark>,
    /// The checksum of the last record.
    chain: Option<u32>,
    /// The index that must come next.
    next: Option<u64>,
    segments: VecDeque<Segment>,
    marks: BTreeMap<u64, Mark>,
    places: VecDeque<Place>,
}

impl Scan<'_> {
    fn segment(&mut self, first: u64, is_last: bool) -> Result<(), OpenLogError> {
        let name = segment::name(first);
        let read = self.disk.read(&name).map_err(io_error("read a segment"))?;
        let content = Bytes::from(read.unwrap_or_default());
        let damaged = |offset, what: &str| self.damaged(first, offset, what);
        let Some(chain) = segment::read_header(&content, first) else {
            if is_last && first >= self.acknowledged && later_batch(&content, 0, first).is_none() {
                // It was being made when the machine stopped.
                return self.disk.remove(&name).map_err(io_error("remove an empty segment"));
            }
            return Err(damaged(0, "it has no valid header"));
        };
        if self.next.is_some_and(|next| next != first) {
            return Err(damaged(0, "entries between it and the segment before are missing"));
        }
        if self.chain.is_some_and(|previous| previous != chain) {
            return Err(damaged(0, "it does not continue the segment before"));
        }
        self.records(first, chain, &content, is_last)
    }

    fn records(
        &mut self,
        first: u64,
        chain: u32,
        content: &Bytes,
        is_last: bool,
    ) -> Result<(), OpenLogError> {
        let (mut chain, mut next, mut offset) = (chain, first, segment::HEADER_BYTES);
        let clean = loop {
            match record::find(content, offset) {
                Found::Record(record)
                    if record.chain == chain && record.entry.mark.index == next =>
                {
                    self.keep(first, offset, &record);
                    (chain, next, offset) = (record.crc, next + 1, offset + record.length);
                }
                Found::Nothing => {
                    break content[offset.min(content.len())..].iter().all(|byte| *byte == 0);
                }
                Found::Record(_) | Found::Damage => break false,
            }
        };
        if !clean {
            self.check_torn(first, offset, next, content, is_last)?;
        }
        let file = self.disk.open(&segment::name(first)).map_err(io_error("open a segment"))?;
        let mut segment = Segment::resume(first, file, offset as u64, chain);
        if !clean {
            tracing::warn!(
                segment = segment::name(first),
                offset,
                index = next,
                "cut a torn tail off the raft log"
            );
            segment
                .cut(offset as u64, chain, content.len() as u64)
                .map_err(io_error("cut a torn tail"))?;
        }
        self.segments.push_back(segment);
        (self.chain, self.next) = (Some(chain), Some(next));
        Ok(())
    }

    /// Decides whether what is wrong at `offset` was never acknowledged.
    fn check_torn(
        &self,
        first: u64,
        offset: usize,
        next: u64,
        content: &Bytes,
        is_last: bool,
    ) -> Result<(), OpenLogError> {
        if !is_last {
            return Err(self.damaged(first, offset, "another segment follows"));
        }
        if next < self.acknowledged {
            let what = format!("entry {next} was committed");
            return Err(self.damaged(first, offset, &what));
        }
        match later_batch(content, offset, next) {
            Some(later) => {
                let what = format!("a valid later entry follows at offset {later}");
                Err(self.damaged(first, offset, &what))
            }
            None => Ok(()),
        }
    }

    fn keep(&mut self, segment: u64, offset: usize, record: &Record) {
        let mark = record.entry.mark;
        if self.purged.is_some_and(|purged| mark.index <= purged.index) {
            return;
        }
        // Only the end and the hinted place are asked for later.
        self.marks.retain(|index, _| index + 1 == self.acknowledged);
        self.marks.insert(mark.index, mark);
        let length = u32::try_from(record.length).expect("a record is bounded");
        self.places.push_back(Place { segment, offset: offset as u64, length });
    }

    /// Checks that nothing is missing before the first and after the last entry.
    fn check_end(&self) -> Result<(), OpenLogError> {
        let purged_next = self.purged.map_or(0, |purged| purged.index + 1);
        let oldest = self.segments.front().map(|segment| segment.first);
        if let Some(oldest) = oldest.filter(|oldest| *oldest > purged_next) {
            let what = format!("entries {purged_next} to {} before it are missing", oldest - 1);
            return Err(self.damaged(oldest, 0, &what));
        }
        let next = self.next.unwrap_or(0).max(purged_next);
        if next < self.acknowledged {
            let last = self.segments.back();
            let what = format!("committed entries from {next} on are missing");
            let (first, end) = last.map_or((next, 0), |last| (last.first, last.end));
            return Err(self.damaged(first, usize::try_from(end).unwrap_or(usize::MAX), &what));
        }
        Ok(())
    }

    /// Where everything was purged, also what never was in this log, the next entry does not
    /// follow what is here.
    fn drop_all_purged(&mut self) -> Result<(), OpenLogError> {
        let next = self.next.unwrap_or(0);
        if self.purged.is_none_or(|purged| purged.index + 1 < next) {
            return Ok(());
        }
        for segment in self.segments.drain(..) {
            let name = segment::name(segment.first);
            self.disk.remove(&name).map_err(io_error("remove a purged segment"))?;
        }
        self.places.clear();
        self.marks.clear();
        Ok(())
    }

    fn damaged(&self, first: u64, offset: usize, what: &str) -> OpenLogError {
        OpenLogError::Damaged {
            directory: self.disk.describe(),
            file: segment::name(first),
            offset: offset as u64,
            what: what.to_owned(),
        }
    }

    fn finish(self, state: State, hint: Option<Mark>, committed: Arc<dyn DiskFile>) -> Recovered {
        let purged = state.purged;
        let next = self.next.unwrap_or(0);
        let last = self.marks.last_key_value().map(|(_, mark)| *mark).or(purged);
        let hint = hint.filter(|hint| self.marks.get(&hint.index) == Some(hint));
        let view = View {
            vote: state.vote,
            purged,
            committed: hint,
            last,
            tail: VecDeque::new(),
            tail_bytes: 0,
            places_first: next - self.places.len() as u64,
            places: self.places,
            files: self
                .segments
                .iter()
                .map(|segment| (segment.first, Arc::clone(&segment.file)))
                .collect(),
        };
        Recovered { view, state, segments: self.segments, committed }
    }
}

/// Looks after `offset`, at every place, for a valid record of a batch that began after the entry
/// `next`. There is one only if the batch with `next` in it had been synced.
fn later_batch(content: &Bytes, offset: usize, next: u64) -> Option<usize> {
    let end = content.iter().rposition(|byte| *byte != 0)? + 1;
    (offset + 1..end).find(|at| {
        // A look at the index first: it is far cheaper than a checksum at every place.
        let index = content.get(at + 16..at + 24).and_then(|bytes| bytes.try_into().ok());
        let index = index.map_or(0, u64::from_le_bytes);
        index > next
            && index - next < content.len() as u64
            && matches!(record::find(content, *at),
                Found::Record(record) if record.batch_first > next)
    })
}
