//! The leader's part: replication, commitment, reads, membership, hand-over.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{ELECTION, ENTRIES_MAX, HEARTBEAT, Leading, Message, Out, Raft, Role};
use crate::disk::{Entry, Payload, Record, ServerNumber};
use crate::planted::Planted;

/// How long a leader that hands over takes no proposals.
const TRANSFER_WAIT: u64 = 1_000_000;

impl Raft {
    pub(super) fn begin_to_lead(&mut self, now: u64) {
        let begin = self.last_index() + 1;
        let mut leading = Leading { begin, ..Leading::default() };
        for other in self.others() {
            leading.next.insert(other, begin);
            leading.heard.insert(other, now);
        }
        self.role = Role::Leader(leading);
        self.leader = Some(self.id);
        self.out.push(Out::Elected);
        self.add(Payload::Noop);
        self.lead_on(now);
    }

    /// Proposes an entry. Returns its index and term, or who leads.
    pub fn propose(&mut self, payload: Payload) -> Result<(u64, u64), Option<ServerNumber>> {
        match &self.role {
            Role::Leader(leading) if leading.transfer.is_none() => {}
            Role::Leader(_) => return Err(None),
            _ => return Err(self.leader),
        }
        let index = self.add(payload);
        for other in self.others() {
            self.replicate(other, false);
        }
        Ok((index, self.term))
    }

    /// Begins to change the group by one server. False if that cannot be done now.
    pub fn change_group(&mut self, members: BTreeSet<ServerNumber>) -> bool {
        let Role::Leader(leading) = &self.role else { return false };
        let is_settled = self.groups.last().is_none_or(|(index, _)| *index <= self.commit);
        let has_begun = self.commit >= leading.begin;
        if !is_settled || !has_begun || leading.transfer.is_some() || members.is_empty() {
            return false;
        }
        self.propose(Payload::Members(members)).is_ok()
    }

    /// Begins to hand leadership over.
    pub fn hand_over(&mut self, to: ServerNumber, now: u64) {
        let is_other = to != self.id && self.members().contains(&to);
        if let Role::Leader(leading) = &mut self.role
            && is_other
        {
            leading.transfer = Some((to, now + TRANSFER_WAIT));
            self.finish_hand_over();
        }
    }

    /// Asks for a read of everything committed so far. The answer comes as [`Out::Read`] or
    /// [`Out::ReadLost`]. False if this server does not lead.
    pub fn read(&mut self, token: u64) -> bool {
        let commit = self.commit;
        let Role::Leader(leading) = &mut self.role else { return false };
        if commit < leading.begin {
            return false;
        }
        leading.round += 1;
        leading.reads.push((leading.round, commit, token));
        for other in self.others() {
            self.replicate(other, true);
        }
        self.answer_reads();
        true
    }

    /// Takes the news that its own entries up to an index of a term are durable.
    pub fn synced(&mut self, (term, index): (u64, u64)) {
        if let Role::Leader(leading) = &mut self.role
            && term == self.term
        {
            let own = leading.matched.entry(self.id).or_default();
            *own = index.max(*own);
            self.advance();
        }
    }

    pub(super) fn lead_on(&mut self, now: u64) {
        let quorum = self.quorum();
        let members = self.members().clone();
        let Role::Leader(leading) = &mut self.role else { return };
        let heard = |other: &&ServerNumber| {
            leading.heard.get(*other).is_some_and(|at| now < at + ELECTION.1)
        };
        let reachable = members.iter().filter(|other| **other == self.id || heard(other)).count();
        let has_left = !members.contains(&self.id)
            && self.groups.last().is_some_and(|(index, _)| *index <= self.commit);
        if reachable < quorum || has_left {
            return self.become_follower(now);
        }
        if leading.transfer.is_some_and(|(_, until)| now >= until) {
            leading.transfer = None;
        }
        leading.heartbeat_at = now + HEARTBEAT;
        for other in self.others() {
            self.replicate(other, true);
        }
    }

    pub(super) fn appended(
        &mut self,
        from: ServerNumber,
        (term, round): (u64, u64),
        result: Result<u64, u64>,
        now: u64,
    ) {
        if term > self.term {
            return self.yield_to(term, now);
        }
        let last = self.last_index();
        let Role::Leader(leading) = &mut self.role else { return };
        if term < self.term {
            return;
        }
        leading.heard.insert(from, now);
        let confirmed = leading.confirmed.entry(from).or_default();
        *confirmed = round.max(*confirmed);
        leading.waiting.remove(&from);
        let next = match result {
            Ok(matched) => {
                let known = leading.matched.entry(from).or_default();
                *known = matched.max(*known);
                *known + 1
            }
            Err(next) => next.max(1),
        };
        leading.next.insert(from, next);
        self.answer_reads();
        self.advance();
        self.finish_hand_over();
        if next <= last {
            self.replicate(from, false);
        }
    }

    fn add(&mut self, payload: Payload) -> u64 {
        let entry = Entry { term: self.term, index: self.last_index() + 1, payload };
        let index = entry.index;
        self.push(entry.clone());
        let durable = Some((self.term, index));
        self.out.push(Out::Write(vec![Record::Entry(entry)], Vec::new(), durable));
        index
    }

    /// Sends a follower what it lacks. Unless forced, only if it has answered what it was sent.
    fn replicate(&mut self, to: ServerNumber, is_forced: bool) {
        let begin = self.last_index() + 1;
        let Role::Leader(leading) = &mut self.role else { return };
        if !leading.waiting.insert(to) && !is_forced {
            return;
        }
        let round = leading.round;
        let next = *leading.next.entry(to).or_insert(begin);
        let previous = next - 1;
        let message = match self.term_at(previous) {
            Some(term)
                if previous >= self.base.0 && (previous > self.base.0 || self.is_base_sure()) =>
            {
                let skip = usize::try_from(previous - self.base.0).unwrap_or(usize::MAX);
                let entries = self.log.iter().skip(skip).take(ENTRIES_MAX).cloned().collect();
                let commit = self.commit;
                let previous = (previous, term);
                Message::Append { term: self.term, previous, entries, commit, round }
            }
            _ => match &self.snapshot {
                Some(snapshot) => {
                    Message::Install { term: self.term, snapshot: Arc::clone(snapshot) }
                }
                None => return,
            },
        };
        self.out.push(Out::Send(to, message));
    }

    /// Whether the term before the log is known: after a restart it may not be.
    fn is_base_sure(&self) -> bool {
        self.base.0 == 0 || self.base.1 > 0
    }

    fn advance(&mut self) {
        let (quorum, members) = (self.quorum(), self.members().clone());
        let Role::Leader(leading) = &self.role else { return };
        let mut matched: Vec<u64> = members
            .iter()
            .map(|member| leading.matched.get(member).copied().unwrap_or_default())
            .collect();
        matched.sort_unstable_by(|a, b| b.cmp(a));
        let mut reached = matched.get(quorum - 1).copied().unwrap_or_default();
        if self.planted == Some(Planted::CommitWithoutQuorum) {
            reached = self.last_index();
        }
        if reached > self.commit && self.term_at(reached) == Some(self.term) {
            self.commit = reached;
        }
    }

    fn answer_reads(&mut self) {
        let (quorum, members, own) = (self.quorum(), self.members().clone(), self.id);
        let Role::Leader(leading) = &mut self.role else { return };
        let is_confirmed = |round: u64| {
            let agree = |member: &&ServerNumber| {
                **member == own || leading.confirmed.get(*member).is_some_and(|at| *at >= round)
            };
            members.iter().filter(agree).count() >= quorum
        };
        let (done, left) = leading.reads.iter().partition(|(round, _, _)| is_confirmed(*round));
        leading.reads = left;
        let done: Vec<(u64, u64, u64)> = done;
        self.out.extend(done.iter().map(|(_, index, token)| Out::Read(*token, *index)));
    }

    fn finish_hand_over(&mut self) {
        let last = self.last_index();
        let Role::Leader(leading) = &self.role else { return };
        if let Some((to, _)) = leading.transfer
            && leading.matched.get(&to).copied().unwrap_or_default() >= last
        {
            self.out.push(Out::Send(to, Message::TimeoutNow { term: self.term }));
        }
    }
}
