//! Consensus as the simulator models it: a small replicated log with terms, votes, quorum commit,
//! snapshots, single-server membership changes, leader transfer and confirmed reads.
//!
//! The real engine is behind `cos-raft` and is tested there; what stands above it is shipped code,
//! and this model gives that code every order of events that a correct log allows.
//!
//! # Invariants
//!
//! - **Pure.** Time and entropy are arguments; what has to be sent, written or told comes out.
//! - **Durable before said.** Votes and acknowledgements go out with the write that they rest on,
//!   and are sent once that is synced.
//! - What is committed is never replaced; [`Raft::receive`] panics rather than do it.
//!
//! # Deliberately absent
//!
//! - Pre-vote. A server that hears a leader ignores candidates instead, which has the same effect.
//! - Learners. A server that is taken in votes at once.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use crate::disk::{Entry, Payload, Record, ServerNumber, Snapshot, Stored, compact};
use crate::planted::Planted;
use crate::random::Random;

mod follow;
mod lead;
#[cfg(test)]
mod tests;

/// Time between two heartbeats of a leader, in microseconds.
pub const HEARTBEAT: u64 = 200_000;

/// The shortest and longest silence before an election.
pub const ELECTION: (u64, u64) = (1_000_000, 2_000_000);

/// How many entries one message carries at most.
const ENTRIES_MAX: usize = 64;

/// How many entries before a snapshot are kept for followers that lag a little.
const ENTRIES_KEPT: u64 = 16;

/// What servers say to each other.
#[derive(Clone, Debug)]
pub enum Message {
    /// Asks for a vote.
    RequestVote {
        /// The candidate's term.
        term: u64,
        /// Its last entry.
        last: (u64, u64),
        /// Whether the leader asked it to.
        is_transfer: bool,
    },
    /// Answers that.
    Vote {
        /// The voter's term.
        term: u64,
        /// Whether it is given.
        is_granted: bool,
    },
    /// Replicates, or shows that the leader is there.
    Append {
        /// The leader's term.
        term: u64,
        /// The index and term of the entry before.
        previous: (u64, u64),
        /// The entries.
        entries: Vec<Entry>,
        /// Up to where the leader has committed.
        commit: u64,
        /// Counts the leader's rounds, for reads.
        round: u64,
    },
    /// Answers that.
    Appended {
        /// The follower's term.
        term: u64,
        /// Up to where its log is the leader's, or where to try next.
        result: Result<u64, u64>,
        /// The round that is answered.
        round: u64,
    },
    /// Replaces a follower's state.
    Install {
        /// The leader's term.
        term: u64,
        /// The state.
        snapshot: Arc<Snapshot>,
    },
    /// Asks a follower to begin an election at once.
    TimeoutNow {
        /// The leader's term.
        term: u64,
    },
}

/// What follows from an input.
#[derive(Debug)]
pub enum Out {
    /// Send this now.
    Send(ServerNumber, Message),
    /// Write records; once they are synced, send what follows and call [`Raft::synced`].
    Write(Vec<Record>, Vec<(ServerNumber, Message)>, Option<(u64, u64)>),
    /// This server leads now.
    Elected,
    /// This server leads no longer.
    Deposed,
    /// A read may be answered: nothing is committed beyond what this index was.
    Read(u64, u64),
    /// A read will not be answered.
    ReadLost(u64),
    /// The state is to be replaced.
    Replace(Arc<Snapshot>),
}

#[derive(Debug)]
enum Role {
    Follower,
    Candidate(BTreeSet<ServerNumber>),
    Leader(Leading),
}

/// What only a leader knows.
#[derive(Debug, Default)]
struct Leading {
    /// The index of the entry with which it began.
    begin: u64,
    next: BTreeMap<ServerNumber, u64>,
    matched: BTreeMap<ServerNumber, u64>,
    /// Followers that have not answered what they were sent last.
    waiting: BTreeSet<ServerNumber>,
    heard: BTreeMap<ServerNumber, u64>,
    round: u64,
    /// The newest round that each follower answered.
    confirmed: BTreeMap<ServerNumber, u64>,
    /// Reads that wait: their round, the index they read at, and their token.
    reads: Vec<(u64, u64, u64)>,
    transfer: Option<(ServerNumber, u64)>,
    heartbeat_at: u64,
}

/// One server's part in consensus.
#[derive(Debug)]
pub struct Raft {
    id: ServerNumber,
    term: u64,
    vote: Option<ServerNumber>,
    role: Role,
    leader: Option<ServerNumber>,
    log: VecDeque<Entry>,
    /// Index and term of the last entry that is no longer in the log.
    base: (u64, u64),
    snapshot: Option<Arc<Snapshot>>,
    /// The groups in force, oldest first, each with the index from which it is.
    groups: Vec<(u64, BTreeSet<ServerNumber>)>,
    commit: u64,
    heard_at: u64,
    election_at: u64,
    random: Random,
    planted: Option<Planted>,
    out: Vec<Out>,
}

impl Raft {
    /// Starts from what is stored. `group` is the first group, which a server that joins later does
    /// not know.
    pub fn start(
        id: ServerNumber,
        stored: Stored,
        group: BTreeSet<ServerNumber>,
        (now, random): (u64, Random),
        planted: Option<Planted>,
    ) -> Self {
        let mut groups = vec![(0, group)];
        let mut base = (0, 0);
        if let Some(snapshot) = &stored.snapshot {
            groups = vec![(snapshot.index, snapshot.members.clone())];
            base = (snapshot.index, snapshot.term);
        }
        for entry in &stored.log {
            if let Payload::Members(members) = &entry.payload
                && entry.index > base.0
            {
                groups.push((entry.index, members.clone()));
            }
        }
        let commit = base.0;
        if let Some(first) = stored.log.front() {
            // Entries before the snapshot are kept; what stands before them nobody needs.
            base = (first.index - 1, if first.index - 1 == base.0 { base.1 } else { 0 });
        }
        let mut raft = Self {
            id,
            term: stored.term,
            vote: stored.vote,
            role: Role::Follower,
            leader: None,
            log: stored.log,
            base,
            snapshot: stored.snapshot,
            groups,
            commit,
            heard_at: 0,
            election_at: 0,
            random,
            planted,
            out: Vec::new(),
        };
        raft.postpone_election(now);
        raft
    }

    /// The term.
    pub fn term(&self) -> u64 {
        self.term
    }

    /// Whether this server leads.
    pub fn is_leader(&self) -> bool {
        matches!(self.role, Role::Leader(_))
    }

    /// Who leads, as far as this server knows.
    pub fn leader(&self) -> Option<ServerNumber> {
        self.leader
    }

    /// The index with which this server's leadership began.
    pub fn began(&self) -> Option<u64> {
        match &self.role {
            Role::Leader(leading) => Some(leading.begin),
            _ => None,
        }
    }

    /// Up to where is known to be committed.
    pub fn commit(&self) -> u64 {
        self.commit
    }

    /// The entry at an index, if it is still in the log.
    pub fn entry(&self, index: u64) -> Option<&Entry> {
        let place = index.checked_sub(self.base.0 + 1)?;
        self.log.get(usize::try_from(place).ok()?)
    }

    /// How many entries the log holds.
    pub fn log_length(&self) -> usize {
        self.log.len()
    }

    /// The entries that the log holds.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.log.iter()
    }

    /// The last index of the log.
    pub fn last_index(&self) -> u64 {
        self.log.back().map_or(self.base.0, |entry| entry.index)
    }

    /// Who belongs to the group.
    pub fn members(&self) -> &BTreeSet<ServerNumber> {
        static NOBODY: BTreeSet<ServerNumber> = BTreeSet::new();
        self.groups.last().map_or(&NOBODY, |(_, members)| members)
    }

    /// Takes out what follows from the inputs so far.
    pub fn take_out(&mut self) -> Vec<Out> {
        std::mem::take(&mut self.out)
    }

    /// Takes a snapshot of the state at an index that was committed.
    pub fn snapshot(&mut self, index: u64, bytes: Vec<u8>) {
        let Some(term) = self.term_at(index) else { return };
        let members = self.group_at(index);
        let snapshot = Arc::new(Snapshot { index, term, members, bytes });
        self.adopt(snapshot, index.saturating_sub(ENTRIES_KEPT), Vec::new());
    }

    /// Makes a snapshot the newest, and drops what it makes needless.
    fn adopt(
        &mut self,
        snapshot: Arc<Snapshot>,
        compacted: u64,
        then: Vec<(ServerNumber, Message)>,
    ) {
        let kept_term = self.term_at(compacted);
        compact(&mut self.log, &snapshot, compacted);
        self.base = match (self.log.front(), kept_term) {
            (Some(first), Some(term)) if first.index == compacted + 1 => (compacted, term),
            (Some(_), _) => self.base,
            (None, _) => (snapshot.index, snapshot.term),
        };
        self.snapshot = Some(Arc::clone(&snapshot));
        self.out.push(Out::Write(vec![Record::Snapshot(snapshot, compacted)], then, None));
    }

    /// Lets time pass.
    pub fn tick(&mut self, now: u64) {
        match &self.role {
            Role::Leader(_) => self.lead_on(now),
            _ if now >= self.election_at => {
                if self.members().contains(&self.id) {
                    self.campaign(now, false);
                } else {
                    self.postpone_election(now);
                }
            }
            _ => {}
        }
    }

    /// When [`Raft::tick`] is due.
    pub fn due(&self) -> u64 {
        match &self.role {
            Role::Leader(leading) => leading.heartbeat_at,
            _ => self.election_at,
        }
    }

    /// Takes a message.
    pub fn receive(&mut self, from: ServerNumber, message: Message, now: u64) {
        match message {
            Message::RequestVote { term, last, is_transfer } => {
                self.vote_on(from, term, last, is_transfer, now);
            }
            Message::Vote { term, is_granted } => self.take_vote(from, term, is_granted, now),
            Message::Append { term, previous, entries, commit, round } => {
                self.append(from, (term, round, commit), previous, entries, now);
            }
            Message::Appended { term, result, round } => {
                self.appended(from, (term, round), result, now);
            }
            Message::Install { term, snapshot } => self.install(from, term, snapshot, now),
            Message::TimeoutNow { term } => {
                if term == self.term && !self.is_leader() {
                    self.campaign(now, true);
                }
            }
        }
    }

    fn campaign(&mut self, now: u64, is_transfer: bool) {
        self.term += 1;
        self.vote = Some(self.id);
        self.leader = None;
        self.role = Role::Candidate(BTreeSet::new());
        self.postpone_election(now);
        let last = (self.last_index(), self.last_term());
        let ask = Message::RequestVote { term: self.term, last, is_transfer };
        let mut then: Vec<_> = self.others().into_iter().map(|to| (to, ask.clone())).collect();
        // Its own vote counts once it is on disk, like any other.
        then.push((self.id, Message::Vote { term: self.term, is_granted: true }));
        self.out.push(Out::Write(vec![Record::Vote(self.term, self.vote)], then, None));
    }

    fn take_vote(&mut self, from: ServerNumber, term: u64, is_granted: bool, now: u64) {
        if term > self.term {
            return self.yield_to(term, now);
        }
        let quorum = self.quorum();
        let Role::Candidate(votes) = &mut self.role else { return };
        if term < self.term || !is_granted {
            return;
        }
        votes.insert(from);
        if votes.len() >= quorum {
            self.begin_to_lead(now);
        }
    }

    /// Takes over a newer term.
    fn yield_to(&mut self, term: u64, now: u64) {
        self.become_follower(now);
        self.term = term;
        self.vote = None;
        self.leader = None;
        self.out.push(Out::Write(vec![Record::Vote(term, None)], Vec::new(), None));
    }

    fn become_follower(&mut self, now: u64) {
        if let Role::Leader(leading) = std::mem::replace(&mut self.role, Role::Follower) {
            self.leader = None;
            self.out.extend(leading.reads.iter().map(|(_, _, token)| Out::ReadLost(*token)));
            self.out.push(Out::Deposed);
            self.postpone_election(now);
        }
    }

    fn postpone_election(&mut self, now: u64) {
        self.election_at = now + self.random.between(ELECTION.0, ELECTION.1);
    }

    fn others(&self) -> Vec<ServerNumber> {
        self.members().iter().copied().filter(|member| *member != self.id).collect()
    }

    fn quorum(&self) -> usize {
        self.members().len() / 2 + 1
    }

    fn last_term(&self) -> u64 {
        self.log.back().map_or(self.base.1, |entry| entry.term)
    }

    fn term_at(&self, index: u64) -> Option<u64> {
        if index == self.base.0 {
            return Some(self.base.1);
        }
        self.entry(index).map(|entry| entry.term)
    }

    fn group_at(&self, index: u64) -> BTreeSet<ServerNumber> {
        let group = self.groups.iter().rfind(|(from, _)| *from <= index);
        group.map(|(_, members)| members.clone()).unwrap_or_default()
    }

    /// Puts an entry at the end of the log.
    fn push(&mut self, entry: Entry) {
        if let Payload::Members(members) = &entry.payload {
            self.groups.push((entry.index, members.clone()));
        }
        self.log.push_back(entry);
    }
}
