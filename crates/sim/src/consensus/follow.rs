//! The follower's part: votes, entries, snapshots.

use std::sync::Arc;

use super::{ELECTION, Message, Out, Raft};
use crate::disk::{Entry, Record, ServerNumber, Snapshot};
use crate::planted::Planted;

impl Raft {
    pub(super) fn vote_on(
        &mut self,
        from: ServerNumber,
        term: u64,
        last: (u64, u64),
        is_transfer: bool,
        now: u64,
    ) {
        // Whoever hears a leader does not help to depose it.
        let hears_leader =
            self.is_leader() || (self.leader.is_some() && now < self.heard_at + ELECTION.0);
        if term > self.term && hears_leader && !is_transfer {
            return;
        }
        if term > self.term {
            self.yield_to(term, now);
        }
        let is_new_enough = (last.1, last.0) >= (self.last_term(), self.last_index());
        let is_free =
            self.vote.is_none_or(|vote| vote == from) || self.planted == Some(Planted::DoubleVote);
        let is_granted = term == self.term && is_new_enough && is_free && !self.is_leader();
        let answer = (from, Message::Vote { term: self.term, is_granted });
        if is_granted {
            self.vote = Some(from);
            self.postpone_election(now);
            let record = Record::Vote(self.term, self.vote);
            self.out.push(Out::Write(vec![record], vec![answer], None));
        } else {
            self.out.push(Out::Write(Vec::new(), vec![answer], None));
        }
    }

    /// Follows whoever leads in a term. False if the term is over.
    fn follow(&mut self, from: ServerNumber, term: u64, now: u64) -> bool {
        if term < self.term {
            return false;
        }
        if term > self.term {
            self.yield_to(term, now);
        }
        self.become_follower(now);
        self.role = super::Role::Follower;
        self.leader = Some(from);
        self.heard_at = now;
        self.postpone_election(now);
        true
    }

    pub(super) fn append(
        &mut self,
        from: ServerNumber,
        (term, round, commit): (u64, u64, u64),
        previous: (u64, u64),
        entries: Vec<Entry>,
        now: u64,
    ) {
        let answer =
            |raft: &Self, result| (from, Message::Appended { term: raft.term, result, round });
        if !self.follow(from, term, now) {
            let refused = answer(self, Err(0));
            return self.out.push(Out::Write(Vec::new(), vec![refused], None));
        }
        let known = self.term_at(previous.0);
        let is_known = previous.0 <= self.base.0 || known == Some(previous.1);
        if !is_known {
            let next = previous.0.min(self.last_index() + 1).max(1);
            let refused = answer(self, Err(next));
            return self.out.push(Out::Write(Vec::new(), vec![refused], None));
        }
        let matched = previous.0 + entries.len() as u64;
        let mut records = Vec::new();
        for entry in entries {
            if entry.index <= self.base.0 || self.term_at(entry.index) == Some(entry.term) {
                continue;
            }
            self.truncate(entry.index);
            self.push(entry.clone());
            records.push(Record::Entry(entry));
        }
        self.commit = self.commit.max(commit.min(matched));
        let done = answer(self, Ok(matched));
        self.out.push(Out::Write(records, vec![done], None));
    }

    /// Drops the entries from an index on.
    fn truncate(&mut self, index: u64) {
        assert!(
            index > self.commit || self.planted.is_some(),
            "server {} would replace entry {index}, which is committed",
            self.id
        );
        while self.log.back().is_some_and(|last| last.index >= index) {
            self.log.pop_back();
        }
        while self.groups.len() > 1 && self.groups.last().is_some_and(|(from, _)| *from >= index) {
            self.groups.pop();
        }
    }

    pub(super) fn install(
        &mut self,
        from: ServerNumber,
        term: u64,
        snapshot: Arc<Snapshot>,
        now: u64,
    ) {
        if !self.follow(from, term, now) {
            let refused = Message::Appended { term: self.term, result: Err(0), round: 0 };
            return self.out.push(Out::Write(Vec::new(), vec![(from, refused)], None));
        }
        let done = Message::Appended { term: self.term, result: Ok(snapshot.index), round: 0 };
        if snapshot.index <= self.commit {
            return self.out.push(Out::Write(Vec::new(), vec![(from, done)], None));
        }
        self.commit = snapshot.index;
        if self.term_at(snapshot.index) != Some(snapshot.term) {
            self.groups.clear();
        }
        self.groups.retain(|(index, _)| *index > snapshot.index);
        self.groups.insert(0, (snapshot.index, snapshot.members.clone()));
        self.out.push(Out::Replace(Arc::clone(&snapshot)));
        let index = snapshot.index;
        self.adopt(snapshot, index, vec![(from, done)]);
    }
}
