//! Every moment at which the power may go: each operation of the disk is recorded, and the log is
//! opened on what may be there after a crash before it, after it, and in its middle.
//!
//! What may be there: all that was synced, and of what was not, any part; of a write, also its
//! first half.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};

use cos_platform::disk::MemoryDisk;
use cos_platform::{Disk, DiskFile};

use super::{ID, Model, SMALL, all, append, entry, run};
use crate::log::{Entry, Log, Mark, Vote};

/// With more that is not synced at a time, only some of the subsets are tried.
const SUBSETS_MAX: u32 = 64;

#[derive(Clone, Debug)]
enum Operation {
    Write { file: usize, offset: u64, bytes: Vec<u8> },
    Resize { file: usize, length: u64 },
    SyncFile { file: usize },
    Name { name: String, file: usize },
    Remove { name: String },
    Rename { from: String, to: String },
    SyncNames,
}

#[derive(Debug, Default)]
struct Journal {
    operations: Vec<Operation>,
    names: BTreeMap<String, usize>,
    files: usize,
}

/// A disk in memory that remembers what was done to it.
#[derive(Clone, Debug, Default)]
struct Recorder {
    now: MemoryDisk,
    journal: Arc<Mutex<Journal>>,
}

impl Recorder {
    fn note(&self, operation: Operation) {
        self.journal.lock().unwrap().operations.push(operation);
    }

    fn count(&self) -> usize {
        self.journal.lock().unwrap().operations.len()
    }
}

impl Disk for Recorder {
    fn describe(&self) -> String {
        "recorder".to_owned()
    }

    fn names(&self) -> io::Result<Vec<String>> {
        self.now.names()
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let below = self.now.open(name)?;
        let mut journal = self.journal.lock().unwrap();
        let known = journal.names.get(name).copied();
        let file = if let Some(file) = known {
            file
        } else {
            let file = journal.files;
            journal.files += 1;
            journal.names.insert(name.to_owned(), file);
            journal.operations.push(Operation::Name { name: name.to_owned(), file });
            file
        };
        Ok(Arc::new(RecordedFile { below, file, disk: self.clone() }))
    }

    fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        self.now.read(name)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.now.remove(name)?;
        let known = self.journal.lock().unwrap().names.remove(name);
        if known.is_some() {
            self.note(Operation::Remove { name: name.to_owned() });
        }
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.now.rename(from, to)?;
        let mut journal = self.journal.lock().unwrap();
        let file = journal.names.remove(from).unwrap();
        journal.names.insert(to.to_owned(), file);
        journal.operations.push(Operation::Rename { from: from.to_owned(), to: to.to_owned() });
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.now.sync()?;
        self.note(Operation::SyncNames);
        Ok(())
    }
}

#[derive(Debug)]
struct RecordedFile {
    below: Arc<dyn DiskFile>,
    file: usize,
    disk: Recorder,
}

impl DiskFile for RecordedFile {
    fn length(&self) -> io::Result<u64> {
        self.below.length()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.below.read_at(offset, buffer)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.below.write_at(offset, bytes)?;
        self.disk.note(Operation::Write { file: self.file, offset, bytes: bytes.to_vec() });
        Ok(())
    }

    fn resize(&self, length: u64) -> io::Result<()> {
        self.below.resize(length)?;
        self.disk.note(Operation::Resize { file: self.file, length });
        Ok(())
    }

    fn reserve(&self, length: u64) -> io::Result<()> {
        let length = self.length()?.max(length);
        self.resize(length)
    }

    fn sync(&self) -> io::Result<()> {
        self.below.sync()?;
        self.disk.note(Operation::SyncFile { file: self.file });
        Ok(())
    }
}

/// What is on the device: content by file, and names.
#[derive(Clone, Debug, Default)]
struct Device {
    contents: BTreeMap<usize, Vec<u8>>,
    names: BTreeMap<String, usize>,
}

impl Device {
    /// Does an operation, or the first half of a write.
    fn perform(&mut self, operation: &Operation, is_torn: bool) {
        match operation {
            Operation::Write { file, offset, bytes } => {
                let end = if is_torn { bytes.len() / 2 } else { bytes.len() };
                let content = self.contents.entry(*file).or_default();
                let offset = usize::try_from(*offset).unwrap();
                if content.len() < offset + end {
                    content.resize(offset + end, 0);
                }
                content[offset..offset + end].copy_from_slice(&bytes[..end]);
            }
            Operation::Resize { file, length } => {
                let length = usize::try_from(*length).unwrap();
                self.contents.entry(*file).or_default().resize(length, 0);
            }
            Operation::Name { name, file } => {
                self.names.insert(name.clone(), *file);
            }
            Operation::Remove { name } => {
                self.names.remove(name);
            }
            Operation::Rename { from, to } => {
                if let Some(file) = self.names.remove(from) {
                    self.names.insert(to.clone(), file);
                }
            }
            Operation::SyncFile { .. } | Operation::SyncNames => {}
        }
    }

    fn disk(&self) -> MemoryDisk {
        let disk = MemoryDisk::new();
        for (name, file) in &self.names {
            disk.put(name, self.contents.get(file).cloned().unwrap_or_default());
        }
        disk
    }
}

/// What was synced after so many operations, and what was done since and was not.
fn after(operations: &[Operation]) -> (Device, Vec<&Operation>) {
    let (mut device, mut pending) = (Device::default(), Vec::<&Operation>::new());
    for operation in operations {
        let is_synced = |other: &Operation| match (operation, other) {
            (
                Operation::SyncFile { file },
                Operation::Write { file: other, .. } | Operation::Resize { file: other, .. },
            ) => file == other,
            (
                Operation::SyncNames,
                Operation::Name { .. } | Operation::Remove { .. } | Operation::Rename { .. },
            ) => true,
            _ => false,
        };
        let (synced, rest) = pending.into_iter().partition(|other| is_synced(other));
        pending = rest;
        let synced: Vec<&Operation> = synced;
        for operation in synced {
            device.perform(operation, false);
        }
        if !matches!(operation, Operation::SyncFile { .. } | Operation::SyncNames) {
            pending.push(operation);
        }
    }
    (device, pending)
}

/// What may be on the device when the power goes after these operations.
fn possible(operations: &[Operation]) -> Vec<MemoryDisk> {
    let (synced, pending) = after(operations);
    let subsets = 1_u32 << pending.len().min(12);
    let step = (subsets / SUBSETS_MAX).max(1);
    let mut disks = Vec::new();
    for subset in (0..subsets).step_by(step as usize).chain([subsets - 1]) {
        let mut device = synced.clone();
        for (position, operation) in pending.iter().enumerate() {
            if position >= 12 || subset & (1 << position) != 0 {
                device.perform(operation, false);
            }
        }
        disks.push(device.disk());
    }
    if let Some((last, before)) = pending.split_last() {
        let mut device = synced;
        for operation in before {
            device.perform(operation, false);
        }
        device.perform(last, true);
        disks.push(device.disk());
    }
    disks
}

/// What the log was told to hold, once each thing was acknowledged.
#[derive(Clone, Debug)]
struct Acknowledged {
    operations: usize,
    entries: Vec<Entry>,
    purged: Option<Mark>,
    vote: Option<Vote>,
}

async fn fill(recorder: &Recorder) -> Vec<Acknowledged> {
    let log = Log::open(Arc::new(recorder.clone()), ID, SMALL).unwrap();
    let mut model = Model::default();
    let mut told = Vec::new();
    let mut note = |model: &Model| {
        told.push(Acknowledged {
            operations: recorder.count(),
            entries: model.entries.clone(),
            purged: model.purged,
            vote: model.vote,
        });
    };
    note(&model);
    for round in 0..6_u64 {
        for length in [10, 40, 120] {
            let next = model.next();
            let pair = vec![entry(model.term, next, length), entry(model.term, next + 1, 5)];
            append(&log, pair.clone()).await;
            model.entries.extend(pair);
            note(&model);
        }
        log.note_committed(model.entries.first().map(|entry| entry.mark));
        if round % 2 == 1 {
            let kept = model.entries.len() - 3;
            model.entries.truncate(kept);
            model.term += 1;
            log.truncate(model.last()).await.unwrap();
            note(&model);
        }
        let vote = Vote { term: round + 1, candidate: ID, granted: round % 2 == 0 };
        log.save_vote(vote).await.unwrap();
        model.vote = Some(vote);
        note(&model);
        if round % 3 == 2 {
            let upto = model.entries[4].mark;
            log.purge(upto).await.unwrap();
            model.entries.retain(|entry| entry.mark.index > upto.index);
            model.purged = Some(upto);
            note(&model);
        }
    }
    log.stop().await;
    told
}

/// Whether the log may be so between two things that were acknowledged.
async fn check(disk: MemoryDisk, before: &Acknowledged, then: &Acknowledged, moment: usize) {
    let log = Log::open(Arc::new(disk), ID, SMALL)
        .unwrap_or_else(|error| panic!("after operation {moment}: {error}"));
    assert!([before.vote, then.vote].contains(&log.vote()), "vote after operation {moment}");
    let purged = log.purged();
    assert!([before.purged, then.purged].contains(&purged), "purged after operation {moment}");
    let held = |told: &Acknowledged| -> Vec<Entry> {
        let first = purged.map_or(0, |purged| purged.index + 1);
        told.entries.iter().filter(|entry| entry.mark.index >= first).cloned().collect()
    };
    let (old, new, found) = (held(before), held(then), all(&log).await);
    let is_start = |of: &[Entry]| of.len() >= found.len() && of[..found.len()] == found[..];
    assert!(is_start(&old) || is_start(&new), "entries after operation {moment}: {found:?}");
    assert!(found.len() >= old.len().min(new.len()), "lost after operation {moment}");
    // It goes on from there.
    let next = found.last().map_or(purged, |last| Some(last.mark)).map_or(0, |last| last.index + 1);
    append(&log, vec![entry(99, next, 7)]).await;
    log.stop().await;
}

#[test]
fn whenever_the_power_goes_what_was_acknowledged_is_there_and_nothing_else() {
    run(async {
        let recorder = Recorder::default();
        let told = fill(&recorder).await;
        let operations = recorder.journal.lock().unwrap().operations.clone();
        let first = told.first().unwrap().operations;
        let mut tried = 0;
        for moment in first..=operations.len() {
            let at = told.iter().rposition(|told| told.operations <= moment).unwrap();
            let then = told.get(at + 1).unwrap_or(&told[at]);
            for disk in possible(&operations[..moment]) {
                check(disk, &told[at], then, moment).await;
                tried += 1;
            }
        }
        assert!(tried > 300, "{tried}");
    });
}
