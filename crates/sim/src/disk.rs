//! A server's disk: what was written is there after a crash only if it was synced, what was not may
//! be there in part, and its last record may be torn.
//!
//! # Invariants
//!
//! - What was synced survives.
//! - Of what was not, a prefix survives: the log is one file.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use cos_state::Request;

use crate::planted::Planted;
use crate::random::Random;

/// The number of a server.
pub type ServerNumber = usize;

/// A command under way, with the number by which whoever proposed it knows it.
#[derive(Debug)]
pub struct Proposal {
    /// The number.
    pub id: u64,
    /// The command and its time.
    pub request: Request,
}

/// What an entry says.
#[derive(Clone, Debug)]
pub enum Payload {
    /// Nothing; a leader begins with it.
    Noop,
    /// Who belongs to the group from here on.
    Members(BTreeSet<ServerNumber>),
    /// A command to the state.
    Command(Arc<Proposal>),
}

impl Payload {
    /// A number that tells payloads apart.
    pub fn fingerprint(&self) -> u64 {
        match self {
            Self::Noop => 1,
            Self::Members(members) => {
                members.iter().fold(2, |sum, member| sum * 31 + *member as u64 + 3)
            }
            Self::Command(proposal) => proposal.id << 8,
        }
    }
}

/// One entry of the log.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The term of the leader that made it.
    pub term: u64,
    /// Its place.
    pub index: u64,
    /// What it says.
    pub payload: Payload,
}

/// The state at an index.
#[derive(Debug)]
pub struct Snapshot {
    /// The last entry it contains.
    pub index: u64,
    /// That entry's term.
    pub term: u64,
    /// Who belonged to the group then.
    pub members: BTreeSet<ServerNumber>,
    /// The state as `cos-state` writes it.
    pub bytes: Vec<u8>,
}

/// One thing written.
#[derive(Clone, Debug)]
pub enum Record {
    /// Term and vote.
    Vote(u64, Option<ServerNumber>),
    /// An entry; it replaces what stood at its index and after it.
    Entry(Entry),
    /// A snapshot, and the index up to which entries are no longer needed.
    Snapshot(Arc<Snapshot>, u64),
}

/// What a server finds when it starts.
#[derive(Clone, Debug, Default)]
pub struct Stored {
    /// The newest term it knew.
    pub term: u64,
    /// Whom it voted for in that term.
    pub vote: Option<ServerNumber>,
    /// The newest snapshot.
    pub snapshot: Option<Arc<Snapshot>>,
    /// The entries after what was compacted.
    pub log: VecDeque<Entry>,
}

/// The disk.
#[derive(Debug, Default)]
pub struct Disk {
    durable: Stored,
    pending: VecDeque<(u64, Record)>,
    written: u64,
    synced: u64,
    /// Whether writes fail.
    pub is_full: bool,
}

impl Disk {
    /// Writes records. Returns the number up to which has to be synced for them to be durable, or
    /// nothing if the disk is full.
    pub fn write(&mut self, records: Vec<Record>) -> Option<u64> {
        if self.is_full && !records.is_empty() {
            return None;
        }
        for record in records {
            self.written += 1;
            self.pending.push_back((self.written, record));
        }
        Some(self.written)
    }

    /// Whether everything up to a number is durable.
    pub fn is_synced(&self, number: u64) -> bool {
        self.synced >= number
    }

    /// Makes everything up to a number durable.
    pub fn sync(&mut self, number: u64) {
        while let Some((at, _)) = self.pending.front()
            && *at <= number
        {
            if let Some((_, record)) = self.pending.pop_front() {
                self.durable.take(record);
            }
        }
        self.synced = self.synced.max(number);
    }

    /// Loses what was not synced, but for a prefix. Returns what a server finds afterwards.
    pub fn crash(&mut self, random: &mut Random, planted: Option<Planted>) -> Stored {
        let survivors = random.index(self.pending.len() + 1);
        let is_torn = random.chance(500);
        for (place, (_, record)) in std::mem::take(&mut self.pending).into_iter().enumerate() {
            if place < survivors {
                self.durable.take(record);
            } else if is_torn && planted == Some(Planted::TornTailAccepted) {
                // The checksum would have said so.
                if let Record::Entry(entry) = record {
                    self.durable.take(Record::Entry(Entry { payload: Payload::Noop, ..entry }));
                }
                break;
            }
        }
        self.synced = self.written;
        self.durable.clone()
    }

    /// Begins anew, empty.
    pub fn wipe(&mut self) {
        *self = Self::default();
    }
}

impl Stored {
    fn take(&mut self, record: Record) {
        match record {
            Record::Vote(term, vote) => (self.term, self.vote) = (term, vote),
            Record::Entry(entry) => {
                while self.log.back().is_some_and(|last| last.index >= entry.index) {
                    self.log.pop_back();
                }
                self.log.push_back(entry);
            }
            Record::Snapshot(snapshot, compacted) => {
                compact(&mut self.log, &snapshot, compacted);
                self.snapshot = Some(snapshot);
            }
        }
    }
}

/// Drops what a snapshot makes needless: entries up to `compacted`, and all if they do not lead on
/// from it.
pub fn compact(log: &mut VecDeque<Entry>, snapshot: &Snapshot, compacted: u64) {
    let fits = log.iter().any(|entry| entry.index == snapshot.index && entry.term == snapshot.term);
    if !fits {
        log.clear();
    }
    while log.front().is_some_and(|first| first.index <= compacted) {
        log.pop_front();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(index: u64) -> Record {
        Record::Entry(Entry { term: 1, index, payload: Payload::Members([7].into()) })
    }

    fn indexes(stored: &Stored) -> Vec<u64> {
        stored.log.iter().map(|entry| entry.index).collect()
    }

    #[test]
    fn what_was_synced_survives_and_of_the_rest_a_prefix() {
        for seed in 0..50 {
            let mut disk = Disk::default();
            let synced = disk.write(vec![entry(1), entry(2)]).unwrap();
            disk.sync(synced);
            disk.write(vec![entry(3), entry(4)]).unwrap();
            let found = indexes(&disk.crash(&mut Random::new(seed), None));
            assert!(found.starts_with(&[1, 2]), "{found:?}");
            assert!([1, 2, 3, 4].starts_with(&found), "{found:?}");
        }
    }

    #[test]
    fn a_full_disk_takes_nothing_and_a_torn_record_is_not_believed() {
        let mut disk = Disk { is_full: true, ..Disk::default() };
        assert_eq!(disk.write(vec![entry(1)]), None);
        let is_believed = |planted| {
            (0..50).any(|seed| {
                let mut disk = Disk::default();
                disk.write(vec![entry(1)]).unwrap();
                let found = disk.crash(&mut Random::new(seed), planted);
                found.log.iter().any(|entry| matches!(entry.payload, Payload::Noop))
            })
        };
        assert!(!is_believed(None));
        assert!(is_believed(Some(Planted::TornTailAccepted)));
    }

    #[test]
    fn an_entry_replaces_what_follows_its_place() {
        let mut disk = Disk::default();
        let last = disk.write(vec![entry(1), entry(2), entry(3), entry(2)]).unwrap();
        disk.sync(last);
        assert_eq!(indexes(&disk.durable), [1, 2]);
    }
}
