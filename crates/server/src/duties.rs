//! What a leader has to do besides leading: notices what the state asks for, and says what follows.
//!
//! Pure: events, reports and signs of life go in together with what there is to see at that moment,
//! and effects come out of [`Duties::act`]. Around it stand `leader`, which carries the effects out
//! with tasks and proposals, and the simulator.
//!
//! # Invariants
//!
//! - **No clock and no entropy.** Both come with the [`Sight`].
//! - **One errand per subject.** What changes while one is under way is looked at afterwards.
//! - **Nothing of it is worth keeping.** A new leader begins anew from the state.
//!
//! # Deliberately absent
//!
//! - Who belongs to the consensus group. [`Effect::Members`] says when to look at that; gossip and
//!   consensus are the shell's.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use cos_model::{DeploymentId, EvalId, EvalStatus, Evaluation, NodeId, NodeStatus, Timestamp};
use cos_state::garbage::Thresholds;
use cos_state::{Command, Event, State};

use crate::alarms::Alarms;
use crate::blocked::Blocked;
use crate::broker::{Broker, Counts, Nack};
use crate::drain;
use crate::evals::Ids;
use crate::heartbeat::{Heartbeats, Limits};
use crate::sessions::SessionTimers;
use crate::work::Verdict;

mod looks;

/// How often plans that lost against others are tried again although no room appeared.
const CONFLICTS_EVERY: Duration = Duration::from_mins(1);

/// The longest time between two looks at everything that depends on time.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// What there is to see at a moment.
pub struct Sight<'a> {
    /// The state, at least as new as what is being told.
    pub state: &'a State,
    /// The date.
    pub date: Timestamp,
    /// The monotonic clock.
    pub clock: Duration,
    /// Draws fresh ids.
    pub ids: Ids<'a>,
}

impl std::fmt::Debug for Sight<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sight").field("date", &self.date).field("clock", &self.clock).finish()
    }
}

/// What the duties are told once.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How many evaluations are worked on at the same time, at least one.
    pub workers: usize,
    /// How long agents may be silent.
    pub heartbeats: Limits,
    /// Time between two collections of garbage.
    pub gc_interval: Duration,
    /// How old garbage must be.
    pub gc: Thresholds,
}

/// Whom an errand is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// A rollout.
    Deployment(DeploymentId),
    /// The nodes that are being emptied.
    Drains,
    /// A node's status.
    Node(NodeId),
    /// The servers.
    Members,
    /// What is over and old.
    Garbage,
    /// Sessions and lock delays whose time is over.
    Sessions,
}

/// What has to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Work an evaluation off and report by [`Duties::worked`].
    Work(Arc<Evaluation>),
    /// Propose commands in order and report by [`Duties::ran`], whatever came of them.
    Errand(Subject, Vec<Command>),
    /// Propose a command of which nothing is reported.
    Propose(Box<Command>),
    /// Look at the servers and report by [`Duties::ran`] with [`Subject::Members`].
    Members,
}

/// The duties of one term.
#[derive(Debug)]
pub struct Duties {
    settings: Settings,
    broker: Broker,
    blocked: Blocked,
    heartbeats: Heartbeats,
    /// When the last job that waits for a disconnected node gives up.
    disconnected: Alarms<NodeId, Timestamp>,
    sessions: SessionTimers,
    working: usize,
    /// Errands under way.
    running: BTreeSet<Subject>,
    /// Deployments to look at.
    deployments: BTreeSet<DeploymentId>,
    /// When deployments have to be looked at although nothing happens.
    deadlines: Alarms<DeploymentId, Timestamp>,
    drains_changed: bool,
    /// Whether any node is being emptied.
    has_drains: bool,
    members_changed: bool,
    /// When, by the monotonic clock, garbage is collected next.
    collect_at: Duration,
    /// When, by the monotonic clock, conflicts are tried again.
    conflicts_at: Duration,
    /// Index up to which events were taken.
    seen: u64,
    /// What was decided and not handed out yet.
    effects: Vec<Effect>,
}

impl Duties {
    /// Begins with what the state says, as after an election.
    pub fn begin(settings: Settings, sight: &mut Sight<'_>) -> Self {
        let mut duties = Self {
            broker: Broker::default(),
            blocked: Blocked::default(),
            heartbeats: Heartbeats::new(settings.heartbeats),
            disconnected: Alarms::default(),
            sessions: SessionTimers::default(),
            working: 0,
            running: BTreeSet::new(),
            deployments: BTreeSet::new(),
            deadlines: Alarms::default(),
            drains_changed: true,
            has_drains: true,
            members_changed: true,
            collect_at: sight.clock + settings.gc_interval,
            conflicts_at: sight.clock + CONFLICTS_EVERY,
            seen: 0,
            effects: Vec::new(),
            settings,
        };
        duties.restore(sight);
        duties
    }

    /// Forgets what was noted of a state that another one has replaced.
    pub fn start_over(&mut self, sight: &mut Sight<'_>) {
        self.broker = Broker::default();
        self.blocked = Blocked::default();
        self.heartbeats = Heartbeats::new(self.settings.heartbeats);
        self.disconnected = Alarms::default();
        self.sessions = SessionTimers::default();
        self.deployments.clear();
        self.deadlines = Alarms::default();
        self.restore(sight);
    }

    /// Takes everything from the state, as when events were missed.
    pub fn restore(&mut self, sight: &mut Sight<'_>) {
        let state = sight.state;
        for eval in state.evals().filter(|eval| !eval.is_terminal()) {
            // Whether a blocked one missed room cannot be known; one look settles it.
            self.broker.enqueue(eval, sight.date);
        }
        self.heartbeats.resize(state.node_count());
        for node in state.nodes() {
            self.watch_node(node, sight);
        }
        self.deployments.extend(state.deployments().filter(|d| d.is_active()).map(|d| d.id));
        self.sessions.restore(state, sight.clock);
        self.drains_changed = true;
        self.has_drains = drain::is_under_way(state);
        self.members_changed = true;
        self.seen = state.index();
    }

    /// Takes what applying entries made happen, each event with its index. What is known already is
    /// passed over.
    pub fn happened(&mut self, index: u64, events: &[(u64, Event)], sight: &mut Sight<'_>) {
        if index <= self.seen {
            return;
        }
        self.seen = index;
        for (index, event) in events {
            self.take_event(*index, event, sight);
        }
    }

    /// Takes a worker's report.
    pub fn worked(&mut self, id: EvalId, verdict: Verdict, sight: &mut Sight<'_>) {
        self.working -= 1;
        match verdict {
            Verdict::Done => {
                let surplus = self.broker.ack(id);
                self.cancel(&surplus, "overtaken by a newer evaluation of the job");
                self.reblock(id, sight);
            }
            Verdict::Again => {
                if let Nack::GiveUp(eval) = self.broker.nack(id, sight.date) {
                    self.give_up(&eval, sight);
                }
            }
        }
    }

    /// Takes the end of an errand.
    pub fn ran(&mut self, subject: Subject) {
        self.running.remove(&subject);
    }

    /// Notes that a node was heard of.
    pub fn heard(&mut self, id: NodeId, sight: &mut Sight<'_>) {
        self.heartbeats.resize(sight.state.node_count());
        match sight.state.node(id).map(|node| node.status) {
            Some(NodeStatus::Ready) => self.heartbeats.heard(id, sight.clock),
            // It was given up and is there all the same.
            Some(_) => self.bring_up(id, sight),
            None => {}
        }
    }

    /// Notes that a node's connection closed without good-bye.
    pub fn closed(&mut self, id: NodeId, sight: &mut Sight<'_>) {
        self.heartbeats.closed(id, sight.clock);
    }

    /// Notes that a node's agent stops and means to be back.
    pub fn leaving(&mut self, id: NodeId, sight: &mut Sight<'_>) {
        self.heartbeats.leaving(id, sight.clock);
    }

    /// Notes that servers came, went or changed.
    pub fn members_changed(&mut self) {
        self.members_changed = true;
    }

    /// Says all that can be begun now.
    pub fn act(&mut self, sight: &mut Sight<'_>) -> Vec<Effect> {
        while self.working < self.settings.workers
            && let Some(eval) = self.broker.dequeue(sight.date)
        {
            self.working += 1;
            self.effects.push(Effect::Work(eval));
        }
        self.look_at_deployments(sight);
        self.look_at_drains(sight);
        self.look_at_nodes(sight);
        self.look_at_sessions(sight);
        self.look_at_members();
        self.look_at_time(sight);
        std::mem::take(&mut self.effects)
    }

    /// How long nothing has to be done unless something happens.
    pub fn next_look(&self, sight: &Sight<'_>) -> Duration {
        let by_date = [
            self.broker.next_due().filter(|_| self.working < self.settings.workers),
            self.deadlines.next(),
            self.disconnected.next(),
            self.has_drains.then(|| drain::next_deadline(sight.state, sight.date)).flatten(),
        ];
        let by_clock = [
            self.heartbeats.next_due(),
            self.sessions.next_due().filter(|_| !self.running.contains(&Subject::Sessions)),
            Some(self.collect_at),
            Some(self.conflicts_at),
        ];
        let dates = by_date.into_iter().flatten().map(|at| at.since(sight.date));
        let clocks = by_clock.into_iter().flatten().map(|at| at.saturating_sub(sight.clock));
        dates.chain(clocks).min().unwrap_or(LOOK_EVERY).clamp(Duration::from_millis(1), LOOK_EVERY)
    }

    /// How many evaluations are where in the queue.
    pub fn queued(&self) -> Counts {
        self.broker.counts()
    }

    /// How many evaluations wait for room.
    pub fn blocked(&self) -> usize {
        self.blocked.count()
    }

    /// How many nodes are expected to be heard of.
    pub fn expected(&self) -> usize {
        self.heartbeats.count()
    }

    /// One that stays blocked may be recorded as it was, which is no event.
    fn reblock(&mut self, id: EvalId, sight: &mut Sight<'_>) {
        let state = sight.state;
        if let Some(eval) = state.eval(id).filter(|eval| eval.status == EvalStatus::Blocked) {
            self.take_eval(eval, sight);
        }
    }

    fn take_event(&mut self, index: u64, event: &Event, sight: &mut Sight<'_>) {
        match event {
            Event::EvalChanged(eval) => self.take_eval(eval, sight),
            Event::EvalRemoved(id) => {
                self.broker.remove(*id);
                self.blocked.remove(*id);
            }
            Event::NodeChanged(id) => self.take_node(index, *id, sight),
            Event::NodeRemoved(id) => {
                self.heartbeats.forget(*id);
                self.disconnected.cancel(*id);
            }
            Event::AllocPlanned(alloc) => {
                self.deployments.extend(alloc.deployment_id);
                self.drains_changed |= self.has_drains;
            }
            Event::AllocReported(alloc) => {
                self.deployments.extend(alloc.deployment_id);
                // A replacement that runs lets the next one of its group move.
                self.drains_changed |= self.has_drains;
                if alloc.is_client_terminal() {
                    self.wake(index, alloc.node_id, sight);
                }
            }
            Event::AllocRemoved { .. } => self.drains_changed |= self.has_drains,
            Event::DeploymentChanged(deployment) => {
                self.deployments.insert(deployment.id);
            }
            Event::DeploymentRemoved(id) => {
                self.deadlines.cancel(*id);
            }
            Event::CatalogChanged(_) => self.members_changed = true,
            Event::SessionRenewed(session) => self.sessions.renewed(session, sight.clock),
            Event::SessionEnded(id) => self.sessions.ended(*id),
            Event::LockDelayed(delay) => self.sessions.delayed(*delay, sight.clock),
            Event::JobChanged(_)
            | Event::JobRemoved(_)
            | Event::KvChanged(_)
            | Event::SchedulerConfigChanged
            | Event::TrustChanged
            | Event::AutopilotConfigChanged
            | Event::Restored => {}
        }
    }

    fn take_eval(&mut self, eval: &Arc<Evaluation>, sight: &mut Sight<'_>) {
        self.broker.put(eval, sight.date);
        if eval.status == EvalStatus::Blocked && self.broker.is_outstanding(eval.id) {
            // Its worker is about to say so; then it is looked at with the state of that moment.
            return;
        }
        let admission = self.blocked.put(sight.state, eval);
        if let Some(woken) = admission.wake {
            self.broker.enqueue(&woken, sight.date);
        }
        self.cancel(admission.cancel.as_slice(), "a newer one of the job is blocked");
    }

    fn take_node(&mut self, index: u64, id: NodeId, sight: &mut Sight<'_>) {
        self.drains_changed = true;
        self.has_drains = drain::is_under_way(sight.state);
        let Some(node) = sight.state.node(id) else { return };
        self.watch_node(node, sight);
        if node.takes_work() {
            self.wake(index, id, sight);
        }
    }

    /// Room appeared on a node.
    fn wake(&mut self, index: u64, node: NodeId, sight: &mut Sight<'_>) {
        let state = sight.state;
        let Some(node) = state.node(node).filter(|node| node.takes_work()) else { return };
        for eval in self.blocked.wake(state, node, index) {
            self.broker.enqueue(&eval, sight.date);
        }
    }
}
