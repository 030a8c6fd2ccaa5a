//! Stories of a small group of servers, and properties of all stories.

use std::collections::{BTreeSet, VecDeque};

use super::*;
use crate::disk::Disk;

/// Servers whose messages are delivered by hand.
struct Group {
    servers: Vec<Raft>,
    disks: Vec<Disk>,
    now: u64,
    mail: VecDeque<(usize, usize, Message)>,
    cut: BTreeSet<usize>,
    elected: Vec<(usize, u64)>,
    reads: Vec<u64>,
}

impl Group {
    fn new(count: usize, planted: Option<Planted>) -> Self {
        let members: BTreeSet<usize> = (0..count).collect();
        let start = |id: usize| {
            let random = Random::new(id as u64);
            Raft::start(id, Stored::default(), members.clone(), (0, random), planted)
        };
        Self {
            servers: (0..count).map(start).collect(),
            disks: (0..count).map(|_| Disk::default()).collect(),
            now: 0,
            mail: VecDeque::new(),
            cut: BTreeSet::new(),
            elected: Vec::new(),
            reads: Vec::new(),
        }
    }

    /// Syncs, sends and delivers until nothing is under way.
    fn settle(&mut self) {
        loop {
            for id in 0..self.servers.len() {
                for out in self.servers[id].take_out() {
                    self.carry_out(id, out);
                }
            }
            let Some((from, to, message)) = self.mail.pop_front() else { break };
            if from == to || !(self.cut.contains(&from) || self.cut.contains(&to)) {
                self.servers[to].receive(from, message, self.now);
            }
        }
    }

    fn carry_out(&mut self, id: usize, out: Out) {
        match out {
            Out::Send(to, message) => self.mail.push_back((id, to, message)),
            Out::Write(records, then, durable) => {
                let number = self.disks[id].write(records).unwrap();
                self.disks[id].sync(number);
                self.mail.extend(then.into_iter().map(|(to, message)| (id, to, message)));
                if let Some(durable) = durable {
                    self.servers[id].synced(durable);
                }
            }
            Out::Elected => self.elected.push((id, self.servers[id].term())),
            Out::Read(token, _) => self.reads.push(token),
            Out::Deposed | Out::ReadLost(_) | Out::Replace(_) => {}
        }
    }

    /// Lets time pass in steps.
    fn pass(&mut self, micros: u64) {
        let end = self.now + micros;
        while self.now < end {
            self.now += 50_000;
            for id in 0..self.servers.len() {
                if self.servers[id].due() <= self.now {
                    self.servers[id].tick(self.now);
                }
            }
            self.settle();
        }
    }

    fn leader(&self) -> usize {
        let leads = |id: &usize| self.servers[*id].is_leader() && !self.cut.contains(id);
        (0..self.servers.len()).find(leads).expect("somebody leads")
    }

    fn propose(&mut self) -> (u64, u64) {
        let leader = self.leader();
        let placed = self.servers[leader].propose(Payload::Noop).unwrap();
        self.settle();
        placed
    }
}

#[test]
fn a_group_elects_one_and_commits_everywhere() {
    let mut group = Group::new(3, None);
    group.pass(3_000_000);
    let (index, _) = group.propose();
    group.pass(500_000);
    assert!(group.servers.iter().all(|server| server.commit() == index));
    assert_eq!(group.elected.len(), 1);
}

#[test]
fn a_leader_that_is_cut_off_is_replaced_and_commits_nothing() {
    let mut group = Group::new(3, None);
    group.pass(3_000_000);
    let old = group.leader();
    group.cut.insert(old);
    let before = group.servers[old].commit();
    group.servers[old].propose(Payload::Noop).unwrap();
    group.pass(6_000_000);
    assert_eq!(group.servers[old].commit(), before);
    assert!(!group.servers[old].is_leader(), "without a quorum it steps down");
    let (index, _) = group.propose();
    group.cut.clear();
    group.pass(3_000_000);
    assert!(group.servers[old].commit() >= index);
}

#[test]
fn a_follower_that_lags_far_behind_gets_a_snapshot() {
    let mut group = Group::new(3, None);
    group.pass(3_000_000);
    let leader = group.leader();
    let lagging = (leader + 1) % 3;
    group.cut.insert(lagging);
    let last = (0..100).map(|_| group.propose().0).last().unwrap();
    group.servers[leader].snapshot(last, b"state".to_vec());
    group.settle();
    assert!(group.servers[leader].log_length() <= 17);
    group.cut.clear();
    group.pass(4_000_000);
    assert!(group.servers[lagging].commit() >= last);
}

#[test]
fn a_restart_goes_on_from_what_was_stored() {
    let mut group = Group::new(3, None);
    group.pass(3_000_000);
    let last = (0..50).map(|_| group.propose().0).last().unwrap();
    let leader = group.leader();
    group.servers[leader].snapshot(last - 5, b"state".to_vec());
    group.settle();
    let stored = group.disks[leader].crash(&mut Random::new(1), None);
    let members = (0..3).collect();
    group.servers[leader] = Raft::start(leader, stored, members, (group.now, Random::new(9)), None);
    assert_eq!(group.servers[leader].commit(), last - 5);
    assert_eq!(group.servers[leader].last_index(), last);
    group.pass(4_000_000);
    let next = group.propose().0;
    group.pass(500_000);
    assert!(group.servers.iter().all(|server| server.commit() >= next));
}

#[test]
fn leadership_is_handed_over_and_reads_are_confirmed() {
    let mut group = Group::new(3, None);
    group.pass(3_000_000);
    let (old, now) = (group.leader(), group.now);
    assert!(group.servers[old].read(7));
    group.settle();
    assert_eq!(group.reads, [7]);
    let next = (old + 1) % 3;
    group.servers[old].hand_over(next, now);
    group.settle();
    assert_eq!(group.leader(), next);
}

#[test]
fn servers_are_taken_in_and_let_go_one_by_one() {
    let mut group = Group::new(4, None);
    let three: BTreeSet<usize> = (0..3).collect();
    for server in &mut group.servers {
        server.groups = vec![(0, three.clone())];
    }
    group.servers[3].groups = vec![(0, BTreeSet::new())];
    group.pass(3_000_000);
    let leader = group.leader();
    assert!(group.servers[leader].change_group((0..4).collect()));
    assert!(!group.servers[leader].change_group(three), "one change at a time");
    group.pass(1_000_000);
    assert_eq!(group.servers[3].members().len(), 4);
    assert!(group.servers[3].commit() > 0);
}

#[test]
fn planted_bugs_break_what_they_should() {
    let mut group = Group::new(3, Some(Planted::CommitWithoutQuorum));
    group.pass(3_000_000);
    let leader = group.leader();
    group.cut.insert(leader);
    let (index, _) = group.servers[leader].propose(Payload::Noop).unwrap();
    group.settle();
    assert_eq!(group.servers[leader].commit(), index);

    let mut group = Group::new(3, Some(Planted::DoubleVote));
    for from in [1, 2] {
        let ask = Message::RequestVote { term: 5, last: (0, 0), is_transfer: true };
        group.servers[0].receive(from, ask, 0);
    }
    let granted = group.servers[0]
        .take_out()
        .into_iter()
        .filter_map(|out| match out {
            Out::Write(_, then, _) => Some(then),
            _ => None,
        })
        .flatten()
        .filter(|(_, message)| matches!(message, Message::Vote { is_granted: true, .. }));
    assert_eq!(granted.count(), 2);
}
