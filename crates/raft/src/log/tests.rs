//! The log against a model, against crashes, and against damage.

use std::sync::Arc;

use bytes::Bytes;
use cos_model::ServerId;
use cos_platform::Disk;
use cos_platform::disk::MemoryDisk;
use proptest::prelude::*;
use tokio::sync::oneshot;

use super::record::HEADER_BYTES;
use super::{Entry, Kind, Layout, Log, Mark, OpenLogError, Vote, segment};

mod crash;

const ID: ServerId = ServerId::from_bits(7);
const SMALL: Layout = Layout { segment_bytes: 512 };

fn open(disk: &MemoryDisk) -> Result<Log, OpenLogError> {
    Log::open(Arc::new(disk.clone()), ID, SMALL)
}

fn entry(term: u64, index: u64, length: usize) -> Entry {
    let kind = match length % 3 {
        0 => Kind::Blank,
        1 => Kind::Normal,
        _ => Kind::Membership,
    };
    let byte = u8::try_from(index % 251).unwrap();
    Entry { mark: Mark { term, index }, kind, payload: Bytes::from(vec![byte; length]) }
}

async fn append(log: &Log, entries: Vec<Entry>) {
    let (sender, receiver) = oneshot::channel();
    let done = Box::new(move |outcome| sender.send(outcome).unwrap());
    log.append(entries, done).await.unwrap();
    receiver.await.unwrap().unwrap();
}

async fn all(log: &Log) -> Vec<Entry> {
    log.read(0, u64::MAX, usize::MAX).await.unwrap()
}

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

/// Entries in batches of two, so that both kinds of neighbours occur.
async fn filled(disk: &MemoryDisk, batches: u64) -> Vec<Entry> {
    let log = open(disk).unwrap();
    let mut entries = Vec::new();
    for batch in 0..batches {
        let pair = vec![entry(1, batch * 2, 10), entry(1, batch * 2 + 1, 3)];
        append(&log, pair.clone()).await;
        entries.extend(pair);
    }
    log.stop().await;
    entries
}

#[derive(Clone, Debug)]
enum Step {
    Append(Vec<usize>),
    Truncate(u64),
    Purge(u64),
    Vote(u64),
    Crash,
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => prop::collection::vec(0..200_usize, 1..6).prop_map(Step::Append),
        1 => (0..12_u64).prop_map(Step::Truncate),
        1 => (0..20_u64).prop_map(Step::Purge),
        1 => any::<u64>().prop_map(Step::Vote),
        1 => Just(Step::Crash),
    ]
}

/// The definition: a list and three values.
#[derive(Debug, Default)]
struct Model {
    entries: Vec<Entry>,
    purged: Option<Mark>,
    vote: Option<Vote>,
    term: u64,
}

impl Model {
    fn last(&self) -> Option<Mark> {
        self.entries.last().map(|entry| entry.mark).or(self.purged)
    }

    fn next(&self) -> u64 {
        self.last().map_or(0, |last| last.index + 1)
    }
}

async fn step(model: &mut Model, log: &mut Log, disk: &mut MemoryDisk, step: Step) {
    match step {
        Step::Append(lengths) => {
            let next = model.next();
            let entries = lengths.into_iter().zip(next..);
            let entries: Vec<Entry> =
                entries.map(|(length, index)| entry(model.term, index, length)).collect();
            append(log, entries.clone()).await;
            model.entries.extend(entries);
        }
        Step::Truncate(count) => {
            let kept = model.entries.len().saturating_sub(usize::try_from(count).unwrap());
            model.entries.truncate(kept);
            model.term += 1;
            log.truncate(model.last()).await.unwrap();
        }
        Step::Purge(ahead) => {
            // Also past the end, as after a snapshot from elsewhere.
            let index = model.purged.map_or(0, |purged| purged.index + 1) + ahead;
            let known = model.entries.iter().find(|entry| entry.mark.index == index);
            let upto = known.map_or(Mark { term: model.term, index }, |entry| entry.mark);
            log.purge(upto).await.unwrap();
            model.entries.retain(|entry| entry.mark.index > index);
            model.purged = Some(upto);
        }
        Step::Vote(candidate) => {
            model.term += 1;
            let candidate = ServerId::from_bits(candidate.into());
            let vote =
                Vote { term: model.term, candidate, granted: candidate.bits().is_multiple_of(2) };
            log.save_vote(vote).await.unwrap();
            model.vote = Some(vote);
        }
        Step::Crash => {
            *disk = disk.crashed();
            log.stop().await;
            *log = open(disk).unwrap();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever is done in whatever order, with crashes in between: what was reported done is
    /// there, and nothing else.
    #[test]
    fn it_is_a_list_that_survives_crashes(steps in prop::collection::vec(any_step(), 1..24)) {
        run(async {
            let mut disk = MemoryDisk::new();
            let (mut model, mut log) = (Model::default(), open(&disk).unwrap());
            for next in steps.into_iter().chain([Step::Crash]) {
                step(&mut model, &mut log, &mut disk, next).await;
                assert_eq!(all(&log).await, model.entries);
                assert_eq!((log.last(), log.purged()), (model.last(), model.purged));
                assert_eq!(log.vote(), model.vote);
            }
        });
    }

    /// No content of a segment makes recovery panic.
    #[test]
    fn no_content_panics(content in prop::collection::vec(any::<u8>(), 0..300), at in 0..200_usize) {
        run(async {
            let disk = MemoryDisk::new();
            filled(&disk, 2).await;
            let mut segment = disk.read(&segment::name(0)).unwrap().unwrap();
            let end = segment.len().min(at + content.len());
            segment[at..end].copy_from_slice(&content[..end - at]);
            disk.put(&segment::name(0), segment);
            drop(open(&disk));
        });
    }
}

#[test]
fn a_tail_torn_at_any_byte_is_cut() {
    run(async {
        let disk = MemoryDisk::new();
        let entries = filled(&disk, 3).await;
        let name = segment::name(0);
        let content = disk.read(&name).unwrap().unwrap();
        let pair = HEADER_BYTES * 2 + 13;
        let (start, end) = (segment::HEADER_BYTES + pair * 2, segment::HEADER_BYTES + pair * 3);
        for (cut, filler) in (start..end).flat_map(|cut| [(cut, 0), (cut, 0xa5)]) {
            let torn = disk.crashed();
            let mut content = content.clone();
            content[cut..].fill(filler);
            torn.put(&name, content);
            let log = open(&torn).unwrap();
            let left = all(&log).await;
            assert!(left.len() >= 4, "what was synced before is kept: cut at {cut}");
            assert_eq!(left, entries[..left.len()], "cut at {cut}");
            let next = left.len() as u64;
            append(&log, vec![entry(2, next, 50)]).await;
            log.stop().await;
            let again = open(&torn).unwrap();
            assert_eq!(all(&again).await.last(), Some(&entry(2, next, 50)), "cut at {cut}");
        }
    });
}

#[test]
fn a_page_lost_within_the_last_batch_is_a_torn_tail() {
    run(async {
        let disk = MemoryDisk::new();
        let entries = filled(&disk, 2).await;
        let name = segment::name(0);
        let mut content = disk.read(&name).unwrap().unwrap();
        let start = segment::HEADER_BYTES + HEADER_BYTES * 2 + 13;
        content[start..start + HEADER_BYTES + 10].fill(0);
        disk.put(&name, content);
        assert_eq!(all(&open(&disk).unwrap()).await, entries[..2]);
    });
}

#[test]
fn a_byte_flipped_before_the_last_batch_stops_the_start() {
    run(async {
        let disk = MemoryDisk::new();
        filled(&disk, 9).await;
        let names: Vec<_> =
            disk.names().unwrap().into_iter().filter(|n| n.starts_with("log-")).collect();
        assert_eq!(names.len(), 2, "both a full segment and the last one are tried");
        for (position, name) in names.iter().enumerate() {
            let content = disk.read(name).unwrap().unwrap();
            let used = content.iter().rposition(|byte| *byte != 0).unwrap() + 1;
            let end = if position == 0 { used } else { used - HEADER_BYTES * 2 - 13 };
            for at in 0..end {
                let damaged = disk.crashed();
                let mut content = content.clone();
                content[at] ^= 0x10;
                damaged.put(name, content);
                let error = open(&damaged).unwrap_err();
                let OpenLogError::Damaged { file, offset, .. } = &error else { panic!("{error}") };
                assert_eq!(file, name, "byte {at}: {error}");
                assert!(usize::try_from(*offset).unwrap() <= at, "byte {at}: {error}");
                assert!(error.to_string().contains("to recover"), "{error}");
            }
        }
    });
}

#[test]
fn what_is_known_to_be_committed_is_missed() {
    run(async {
        let disk = MemoryDisk::new();
        let log = open(&disk).unwrap();
        append(&log, vec![entry(1, 0, 10)]).await;
        append(&log, vec![entry(1, 1, 10)]).await;
        log.note_committed(Some(Mark { term: 1, index: 1 }));
        log.stop().await;
        assert_eq!(open(&disk).unwrap().committed(), Some(Mark { term: 1, index: 1 }));
        let name = segment::name(0);
        let mut content = disk.read(&name).unwrap().unwrap();
        let last = segment::HEADER_BYTES + HEADER_BYTES + 10;
        content[last..].fill(0);
        disk.put(&name, content);
        let error = open(&disk).unwrap_err().to_string();
        assert!(error.contains("committed entries from 1 on are missing"), "{error}");
        disk.remove(&name).unwrap();
        let error = open(&disk).unwrap_err().to_string();
        assert!(error.contains("committed entries from 0 on are missing"), "{error}");
    });
}

#[test]
fn a_missing_segment_and_a_foreign_directory_are_noticed() {
    run(async {
        let disk = MemoryDisk::new();
        filled(&disk, 12).await;
        let error = Log::open(Arc::new(disk.clone()), ServerId::from_bits(8), SMALL).unwrap_err();
        assert!(matches!(error, OpenLogError::WrongServer { .. }), "{error}");
        disk.remove(&segment::name(0)).unwrap();
        let error = open(&disk).unwrap_err().to_string();
        assert!(error.contains("before it are missing"), "{error}");
        disk.put("state", b"nonsense".to_vec());
        let error = open(&disk).unwrap_err().to_string();
        assert!(error.contains("/state is damaged"), "{error}");
    });
}

#[test]
fn a_broken_device_ends_the_log_for_good() {
    run(async {
        let disk = MemoryDisk::new();
        let log = open(&disk).unwrap();
        append(&log, vec![entry(1, 0, 10)]).await;
        disk.break_syncs();
        let (sender, receiver) = oneshot::channel();
        let done = Box::new(move |outcome: std::io::Result<()>| sender.send(outcome).unwrap());
        log.append(vec![entry(1, 1, 10)], done).await.unwrap();
        assert!(receiver.await.unwrap().is_err());
        assert!(log.save_vote(Vote { term: 9, candidate: ID, granted: false }).await.is_err());
        assert_eq!(all(&open(&disk.crashed()).unwrap()).await, [entry(1, 0, 10)]);
    });
}

#[test]
fn a_read_stops_at_its_limit_but_returns_something() {
    run(async {
        let disk = MemoryDisk::new();
        let entries = filled(&disk, 4).await;
        let log = open(&disk).unwrap();
        assert_eq!(log.read(1, 8, 1).await.unwrap(), entries[1..2]);
        assert_eq!(log.read(3, 5, usize::MAX).await.unwrap(), entries[3..5]);
        assert_eq!(log.read(6, 6, usize::MAX).await.unwrap(), []);
        append(&log, vec![entry(1, 8, 10)]).await;
        assert_eq!(log.read(7, 99, usize::MAX).await.unwrap(), [entry(1, 7, 3), entry(1, 8, 10)]);
    });
}
