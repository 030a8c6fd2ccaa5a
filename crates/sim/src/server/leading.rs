//! The leader's duties: fed with what happens, carried out with simulated time.

use std::time::Duration;

use cos_model::{EvalId, NodeId, Plan};
use cos_server::config::Timing;
use cos_server::duties::{Duties, Effect, Settings, Sight, Subject};
use cos_server::work::{self, Step, Work};
use cos_state::garbage::Thresholds;
use cos_state::{Command, Event as StateEvent, ProposeError, Reply};

use super::{Lead, Origin, Server};
use crate::context::{Body, Context, ServerTimer};
use crate::network::Peer;
use crate::random::Random;

/// How many evaluations are worked on at the same time: more than one, so that plans compete.
const WORKERS: usize = 3;

/// How old garbage is: young, so that a short run sees it collected.
const AGE: Duration = Duration::from_secs(20);

fn settings() -> Settings {
    let gc =
        Thresholds { evals: AGE, batch_evals: AGE, jobs: AGE, nodes: AGE * 100, deployments: AGE };
    let heartbeats = Timing::default().heartbeats;
    Settings { workers: WORKERS, heartbeats, gc_interval: Duration::from_secs(15), gc }
}

/// Calls something pure with what there is to see now.
macro_rules! see {
    ($server:expr, $context:expr, |$sight:ident| $body:expr) => {{
        let date = $context.date($server.clock);
        let clock = Duration::from_micros($context.now);
        let random: &mut Random = &mut $context.random;
        let mut ids = || random.id();
        let mut sight = Sight { state: &$server.state, date, clock, ids: &mut ids };
        let $sight = &mut sight;
        $body
    }};
}

impl Server {
    /// Begins with the duties once all that was ever committed is applied.
    pub(super) fn begin_duties(&mut self, context: &mut Context) {
        let is_ready = self.raft.began().is_some_and(|began| self.applied >= began);
        if self.lead.is_some() || !is_ready {
            return;
        }
        let duties = see!(self, context, |sight| Duties::begin(settings(), sight));
        let term = self.raft.term();
        let works = std::collections::BTreeMap::new();
        self.lead = Some(Lead { term, duties, works, wake_at: 0 });
        self.act(context);
    }

    pub(super) fn happened(
        &mut self,
        index: u64,
        events: &[(u64, StateEvent)],
        context: &mut Context,
    ) {
        if let Some(lead) = &mut self.lead {
            see!(self, context, |sight| lead.duties.happened(index, events, sight));
            self.act(context);
        }
    }

    pub(super) fn take_liveness(
        &mut self,
        heard: &[NodeId],
        closed: &[NodeId],
        context: &mut Context,
    ) {
        if let Some(lead) = &mut self.lead {
            see!(self, context, |sight| {
                for id in heard {
                    lead.duties.heard(*id, sight);
                }
                for id in closed {
                    lead.duties.closed(*id, sight);
                }
            });
            self.act(context);
        }
    }

    /// Tells the leader, here or elsewhere, which agents were heard of.
    pub(super) fn relay(&mut self, context: &mut Context) {
        let heard: Vec<NodeId> = std::mem::take(&mut self.heard).into_iter().collect();
        if !heard.is_empty() {
            self.tell_leader(heard, Vec::new(), context);
        }
    }

    pub(super) fn tell_leader(
        &mut self,
        heard: Vec<NodeId>,
        closed: Vec<NodeId>,
        context: &mut Context,
    ) {
        match self.raft.leader() {
            Some(leader) if leader == self.number => self.take_liveness(&heard, &closed, context),
            Some(leader) => {
                let body = Body::Liveness(heard, closed);
                context.send(self.peer(), Peer::Server(leader), &body);
            }
            None => {}
        }
    }

    pub(super) fn look(&mut self, term: u64, context: &mut Context) {
        if let Some(lead) = self.lead.as_mut().filter(|lead| lead.term == term) {
            lead.wake_at = 0;
            self.act(context);
        }
    }

    /// Begins all that can be begun, and sees to it that it is looked again in time.
    fn act(&mut self, context: &mut Context) {
        let Some(lead) = &mut self.lead else { return };
        let effects = see!(self, context, |sight| lead.duties.act(sight));
        let term = lead.term;
        for effect in effects {
            match effect {
                Effect::Work(eval) => {
                    let id = eval.id;
                    if let Some(lead) = &mut self.lead {
                        lead.works.insert(id, Work::new(eval));
                    }
                    self.follow_step(term, id, Step::Plan, context);
                }
                Effect::Errand(subject, commands) => self.go_on(term, subject, commands, context),
                Effect::Propose(command) => self.propose(*command, Origin::Nobody, context),
                Effect::Members => {
                    // The simulator's operators change the group; the duties only notice.
                    if let Some(lead) = &mut self.lead {
                        lead.duties.ran(Subject::Members);
                    }
                }
            }
        }
        let Some(lead) = &mut self.lead else { return };
        let wait = see!(self, context, |sight| lead.duties.next_look(sight));
        let at = context.now + u64::try_from(wait.as_micros()).unwrap_or(u64::MAX / 2);
        if lead.wake_at == 0 || at < lead.wake_at {
            lead.wake_at = at;
            self.wait(at - context.now, ServerTimer::Duties(term), context);
        }
    }

    fn follow_step(&mut self, term: u64, id: EvalId, step: Step, context: &mut Context) {
        let Some(lead) = self.lead.as_mut().filter(|lead| lead.term == term) else { return };
        match step {
            Step::Plan => {
                let Some(work) = lead.works.get(&id) else { return };
                let (date, random) = (context.date(self.clock), &mut context.random);
                let plan = work::make_plan(&self.state, work.eval(), date, &mut || random.id());
                // Planning takes a while, in which the state goes on.
                let wait = context.random.between(200, 30_000);
                self.wait(wait, ServerTimer::Planned(term, id, Box::new(plan)), context);
            }
            Step::Propose(command) => self.propose(*command, Origin::Work(term, id), context),
            Step::Over(verdict) => {
                lead.works.remove(&id);
                see!(self, context, |sight| lead.duties.worked(id, verdict, sight));
                self.act(context);
            }
        }
    }

    pub(super) fn planned(
        &mut self,
        term: u64,
        id: EvalId,
        plan: Result<Plan, String>,
        context: &mut Context,
    ) {
        if let Err(why) = &plan {
            context.watch.fail(format!("the scheduler failed: {why}"));
        }
        let lead = self.lead.as_mut().filter(|lead| lead.term == term);
        let Some(work) = lead.and_then(|lead| lead.works.get_mut(&id)) else { return };
        let step = work.planned(plan);
        self.follow_step(term, id, step, context);
    }

    pub(super) fn proposed(
        &mut self,
        term: u64,
        id: EvalId,
        reply: Result<Reply, ProposeError>,
        context: &mut Context,
    ) {
        let date = context.date(self.clock);
        let lead = self.lead.as_mut().filter(|lead| lead.term == term);
        let Some(work) = lead.and_then(|lead| lead.works.get_mut(&id)) else { return };
        let random = &mut context.random;
        let step = work.proposed(reply, date, &mut || random.id());
        self.follow_step(term, id, step, context);
    }

    /// Proposes the next command of an errand, or reports its end.
    pub(super) fn go_on(
        &mut self,
        term: u64,
        subject: Subject,
        mut commands: Vec<Command>,
        context: &mut Context,
    ) {
        let Some(lead) = self.lead.as_mut().filter(|lead| lead.term == term) else { return };
        if commands.is_empty() {
            lead.duties.ran(subject);
            return self.act(context);
        }
        let first = commands.remove(0);
        self.propose(first, Origin::Errand(term, subject, commands), context);
    }
}
