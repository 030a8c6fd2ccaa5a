//! Proposals: into the own log or to the leader, and what came of them.

use std::sync::Arc;

use cos_state::{Command, ProposeError, Reply, Request, decode_request, encode_request};

use super::{Asker, Origin, Placed, Server, undone};
use crate::context::{Answer, Body, Context, Outcome, ServerTimer, Undone};
use crate::disk::{Payload, Proposal};
use crate::invariants::Fact;
use crate::network::Peer;

/// How long a proposal may take.
const PROPOSAL_WAIT: u64 = 10_000_000;

/// The wait before what agents asked for is proposed again.
const RETRY_WAIT: u64 = 100_000;

/// The wait after an errand that failed.
const FAILED_ERRAND_WAIT: u64 = 500_000;

impl Server {
    pub(super) fn propose(&mut self, command: Command, origin: Origin, context: &mut Context) {
        let request = Request::new(context.date(self.clock), command);
        // What goes into a log goes through its encoding.
        let request = match decode_request(&encode_request(&request)) {
            Ok(read) if read == request => read,
            other => {
                return context.watch.fail(format!("encoding changed {request:?} to {other:?}"));
            }
        };
        let id = context.number();
        let proposal = Arc::new(Proposal { id, request });
        if let Origin::Client(_, number) = origin {
            let fingerprint = Payload::Command(Arc::clone(&proposal)).fingerprint();
            context.tell(&Fact::Proposed { number, fingerprint });
        }
        match self.raft.propose(Payload::Command(Arc::clone(&proposal))) {
            Ok((index, _)) => {
                self.placed.insert(index, Placed { proposal: id, asker: Asker::Here(origin) });
                self.wait(PROPOSAL_WAIT, ServerTimer::Overdue(id), context);
            }
            Err(Some(leader)) if leader != self.number && !origin.is_of_leader() => {
                self.forwarded.insert(id, origin);
                context.send(self.peer(), Peer::Server(leader), &Body::Forward(proposal));
                self.wait(PROPOSAL_WAIT, ServerTimer::Overdue(id), context);
            }
            Err(_) => self.finish(origin, Err(Undone::NotLeader), context),
        }
    }

    pub(super) fn take_forwarded(
        &mut self,
        from: usize,
        proposal: Arc<Proposal>,
        context: &mut Context,
    ) {
        let id = proposal.id;
        if let Ok((index, _)) = self.raft.propose(Payload::Command(proposal)) {
            self.placed.insert(index, Placed { proposal: id, asker: Asker::There(from) });
        } else {
            let answer = undone(id, Undone::NotLeader);
            context.send(self.peer(), Peer::Server(from), &answer);
        }
    }

    pub(super) fn take_answer(
        &mut self,
        proposal: u64,
        answer: Result<(u64, Outcome), Undone>,
        context: &mut Context,
    ) {
        let Some(origin) = self.forwarded.remove(&proposal) else { return };
        match answer {
            Ok((index, outcome)) if self.applied >= index => {
                self.finish(origin, Ok((index, outcome)), context);
            }
            Ok((index, outcome)) => {
                self.unapplied.entry(index).or_default().push((origin, outcome));
            }
            Err(why) => self.finish(origin, Err(why), context),
        }
    }

    /// An entry was applied: whoever proposed it is told.
    pub(super) fn resolve(
        &mut self,
        index: u64,
        proposal: u64,
        outcome: Outcome,
        context: &mut Context,
    ) {
        let Some(placed) = self.placed.remove(&index) else { return };
        let is_same = placed.proposal == proposal;
        match placed.asker {
            Asker::Here(origin) if is_same => self.finish(origin, Ok((index, outcome)), context),
            Asker::Here(origin) => self.finish(origin, Err(Undone::Unknown), context),
            Asker::There(server) => {
                let answer = if is_same {
                    Body::Forwarded(placed.proposal, Ok((index, outcome)))
                } else {
                    undone(placed.proposal, Undone::Unknown)
                };
                context.send(self.peer(), Peer::Server(server), &answer);
            }
        }
    }

    /// What was committed elsewhere and is applied here now.
    pub(super) fn resume_waiting(&mut self, context: &mut Context) {
        while let Some(first) = self.unapplied.first_entry()
            && *first.key() <= self.applied
        {
            let (index, waiting) = first.remove_entry();
            for (origin, outcome) in waiting {
                self.finish(origin, Ok((index, outcome)), context);
            }
        }
        while let Some(first) = self.reads.first_entry()
            && *first.key() <= self.applied
        {
            for (client, number) in first.remove() {
                self.answer(client, number, Answer::Read(self.state.index()), context);
            }
        }
    }

    /// A proposal took too long.
    pub(super) fn give_up(&mut self, proposal: u64, context: &mut Context) {
        if let Some(origin) = self.forwarded.remove(&proposal) {
            return self.finish(origin, Err(Undone::Unknown), context);
        }
        let place = self.placed.iter().find(|(_, placed)| placed.proposal == proposal);
        if let Some(index) = place.map(|(index, _)| *index)
            && let Some(Placed { asker: Asker::Here(origin), .. }) = self.placed.remove(&index)
        {
            self.finish(origin, Err(Undone::Unknown), context);
        }
    }

    fn finish(
        &mut self,
        origin: Origin,
        result: Result<(u64, Outcome), Undone>,
        context: &mut Context,
    ) {
        match origin {
            Origin::Nobody => {}
            Origin::Work(term, eval) => self.proposed(term, eval, reply_of(result), context),
            Origin::Errand(term, subject, rest) => {
                let (wait, rest) = match result {
                    Ok((_, Ok(_))) => (0, rest),
                    Ok((_, Err(_))) => (FAILED_ERRAND_WAIT, rest),
                    Err(_) => (FAILED_ERRAND_WAIT, Vec::new()),
                };
                self.wait(wait, ServerTimer::Errand(term, subject, rest), context);
            }
            Origin::Reports => match result {
                Ok(_) => self.acknowledge(context),
                Err(_) => self.wait(RETRY_WAIT, ServerTimer::Reports, context),
            },
            Origin::Registration(stream) => self.registered(stream, &result, context),
            Origin::Catalog(stream, sequence, changes) => match result {
                Ok((_, Ok(Reply::Catalog(refused)))) => {
                    self.changed(stream, sequence, refused, context);
                }
                Ok(_) => self.changed(stream, sequence, std::collections::BTreeMap::new(), context),
                Err(_) => {
                    let again = ServerTimer::Catalog(stream, sequence, changes);
                    self.wait(RETRY_WAIT, again, context);
                }
            },
            Origin::Client(client, number) => {
                let answer = match result {
                    Ok((index, outcome)) => Answer::Done(index, outcome),
                    Err(Undone::NotLeader) => Answer::NotLeader(self.raft.leader()),
                    Err(Undone::Unknown) => Answer::Unknown,
                };
                self.answer(client, number, answer, context);
            }
        }
    }

    pub(super) fn answer(&self, client: usize, number: u64, answer: Answer, context: &mut Context) {
        context.send(self.peer(), Peer::Client(client), &Body::Answer(number, answer));
    }
}

impl Origin {
    /// Whether only a leader may propose it.
    fn is_of_leader(&self) -> bool {
        matches!(self, Self::Work(..) | Self::Errand(..) | Self::Nobody)
    }
}

fn reply_of(result: Result<(u64, Outcome), Undone>) -> Result<Reply, ProposeError> {
    Ok(result?.1?)
}
