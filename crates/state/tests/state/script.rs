//! The language of the example tests: one command a line, `->` and what it answers.
//!
//! Ids are a letter and a number: `n1` a node, `a1` an allocation, `e1` an evaluation, `d1` a
//! deployment. The first command is applied at index 1, the next at 2; the clock shows as many
//! seconds. A line that begins with `?` asks and is no command. Comments begin with `#`.

use std::collections::BTreeMap;
use std::sync::Arc;

use cos_model::catalog::{CatalogChange, Health};
use cos_model::kv::KvOp;
use cos_model::link::AllocUpdate;
use cos_model::plan::{DeploymentUpdate, Plan, PlannedStop};
use cos_model::session::{Behavior, LockDelay, Session, SessionOp};
use cos_model::{
    AllocId, AllocMetric, AllocatedPort, Allocation, ClientStatus, DeploymentId, DeploymentStatus,
    DesiredStatus, DesiredTransition, EvalId, EvalStatus, Evaluation, Job, JobKind, NodeId,
    NodeStatus, Periodic, SessionId, TaskPhase, TaskState, Timestamp, Value,
};
use cos_state::{Applied, Command, Reply, Request, SchedulerConfig, State};

use crate::samples::{self, GROUP};

mod show;

/// Runs a script and compares each answer.
#[track_caller]
pub(crate) fn check(script: &str) {
    let mut world = World::default();
    for line in script.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#')) {
        let (command, expected) = line.split_once("->").expect("every line has an arrow");
        let words: Vec<&str> = command.split_whitespace().collect();
        let actual = match words.split_first() {
            Some((&"?", question)) => show::answer(&world.state, question),
            _ => world.run(&words),
        };
        assert_eq!(actual, expected.trim(), "after: {command}");
    }
}

/// A state and the log that leads to it.
#[derive(Default)]
pub(crate) struct World {
    pub(crate) state: State,
    pub(crate) index: u64,
}

impl World {
    /// Applies a command at the next index.
    pub(crate) fn apply(&mut self, command: Command) -> Applied {
        self.index += 1;
        let at = seconds(self.index);
        self.state.apply(self.index, &Request::new(at, command))
    }

    pub(crate) fn run(&mut self, words: &[&str]) -> String {
        let command = self.command(words);
        match self.apply(command).reply {
            Ok(Reply::Done) => "done".to_owned(),
            Ok(Reply::Job { job_modify_index, version }) => {
                format!("version {version} at {job_modify_index}")
            }
            Ok(Reply::Plan(outcome)) if outcome.refused.is_empty() => "applied".to_owned(),
            Ok(Reply::Plan(outcome)) => join(
                outcome.refused.iter().map(|(id, why)| format!("n{} refused: {why}", id.bits())),
            ),
            Ok(Reply::Kv(true)) => "written".to_owned(),
            Ok(Reply::Kv(false)) => "condition failed".to_owned(),
            Ok(Reply::Catalog(refused)) => format!("{refused:?}"),
            Ok(Reply::Restored { index, .. }) => format!("restored at {index}"),
            Err(refused) => refused.to_string(),
        }
    }

    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let options = Options(words);
        match words[0] {
            "node" => Command::RegisterNode { node: Box::new(node(words)), evals: Vec::new() },
            "status" => Command::SetNodeStatus {
                id: node_id(words[1]),
                status: node_status(words[2]),
                message: words[3..].join(" "),
                evals: Vec::new(),
            },
            "eligible" => Command::SetNodeEligibility {
                id: node_id(words[1]),
                eligible: words[2] == "true",
                evals: Vec::new(),
            },
            "drain" => Command::SetNodeDrain {
                id: node_id(words[1]),
                drain: (words[2] == "on").then(|| samples::drain(options.has("ignore_system"))),
                mark_eligible: options.has("eligible"),
                evals: Vec::new(),
            },
            "job" => Command::RegisterJob {
                job: Box::new(job(words)),
                expected_index: options.get("expect").map(|text| text.parse().unwrap()),
                eval: options.eval(words[1]),
            },
            "stop" => Command::StopJob {
                key: samples::job_key(words[1]),
                purge: options.has("purge"),
                eval: options.eval(words[1]),
            },
            "stable" => Command::SetJobStability {
                key: samples::job_key(words[1]),
                version: words[2].parse().unwrap(),
                stable: words[3] == "true",
            },
            "eval" => Command::PutEvals { evals: vec![eval(words)] },
            "plan" => Command::ApplyPlan { plan: Box::new(self.plan(words)) },
            "report" => Command::UpdateAllocs { updates: vec![report(words)], evals: Vec::new() },
            "hint" => {
                let hint = DesiredTransition {
                    migrate: options.has("migrate"),
                    force_reschedule: options.has("force"),
                    no_shutdown_delay: options.has("no_delay"),
                };
                let transitions = BTreeMap::from([(alloc_id(words[1]), hint)]);
                Command::SetTransitions { transitions, evals: Vec::new() }
            }
            "collect" => collect(words),
            "kv" => Command::Kv { ops: words[1..].split(|word| *word == ";").map(kv_op).collect() },
            "session" => Command::Session(session_op(words)),
            "catalog" => Command::Catalog { changes: vec![catalog_change(words)] },
            "config" => Command::SetSchedulerConfig(SchedulerConfig {
                reject_job_registration: options.has("reject"),
                ..SchedulerConfig::default()
            }),
            _ => self.command_about_deployment(words),
        }
    }

    fn command_about_deployment(&self, words: &[&str]) -> Command {
        let options = Options(words);
        match words[0] {
            "deployment" => Command::SetDeploymentStatus {
                update: DeploymentUpdate {
                    id: deployment_id(words[1]),
                    status: deployment_status(words[2]),
                    description: format!("set to {}", words[2]),
                },
                revert: options.get("revert").map(|version| {
                    let version = version.parse().unwrap();
                    let job = self.state.job_version(&samples::job_key("web"), version).unwrap();
                    Box::new(Job::clone(job))
                }),
                eval: options.eval("web"),
            },
            "promote" => Command::PromoteDeployment {
                id: deployment_id(words[1]),
                groups: options.get("group").map(|group| vec![group.to_owned()]),
                eval: None,
            },
            "health" => Command::SetAllocHealth {
                id: deployment_id(words[1]),
                healthy: marked(words, '+'),
                unhealthy: marked(words, '-'),
                eval: None,
            },
            other => panic!("no command `{other}`"),
        }
    }

    /// `plan e1 JOB place=ALLOC,NODE[,OPTION…] stop=ALLOC[,lost] deployment=D …`
    fn plan(&self, words: &[&str]) -> Plan {
        let job = self.state.job(&samples::job_key(words[2])).cloned();
        let job = job.unwrap_or_else(|| Arc::new(samples::job(words[2])));
        let mut plan = samples::plan(samples::eval(number(words[1]), words[2]));
        for word in &words[3..] {
            let (name, value) = word.split_once('=').unwrap_or((word, ""));
            let parts: Vec<&str> = value.split(',').collect();
            match name {
                "all_at_once" => plan.all_at_once = true,
                "place" => plan.placements.push(placement(&parts, &job, plan.eval_id)),
                "stop" => plan.stops.push(PlannedStop {
                    id: alloc_id(parts[0]),
                    desired: DesiredStatus::Stop,
                    description: "alloc not needed".to_owned(),
                    client_status: parts.get(1).map(|status| client_status(status)),
                }),
                "deployment" => {
                    let mut deployment = samples::deployment(number(parts[0]), &job);
                    let group = deployment.groups.get_mut(GROUP).unwrap();
                    group.desired_canaries = parts.get(1).map_or(0, |n| n.parse().unwrap());
                    group.promoted = group.desired_canaries == 0;
                    plan.deployment = Some(deployment);
                }
                "cancel" => plan.deployment_updates.push(DeploymentUpdate {
                    id: deployment_id(value),
                    status: DeploymentStatus::Cancelled,
                    description: "Cancelled due to newer version of job".to_owned(),
                }),
                "failed" => {
                    let failed = (GROUP.to_owned(), AllocMetric::default());
                    plan.eval.failed_groups = BTreeMap::from([failed]);
                }
                "blocked" => plan.new_evals.push(Evaluation {
                    status: EvalStatus::Blocked,
                    queued: BTreeMap::from([(GROUP.to_owned(), 1)]),
                    ..samples::eval(number(value), words[2])
                }),
                "followup" => {
                    plan.followups.insert(alloc_id(parts[0]), EvalId::from_bits(number(parts[1])));
                }
                other => panic!("a plan has no `{other}`"),
            }
        }
        plan
    }
}

pub(crate) fn seconds(seconds: u64) -> Timestamp {
    Timestamp(i64::try_from(seconds).unwrap() * 1_000_000_000)
}

/// The words of a command as flags (`purge`) and values (`cpu=5`).
struct Options<'a>(&'a [&'a str]);

impl<'a> Options<'a> {
    fn has(&self, name: &str) -> bool {
        self.0.contains(&name)
    }

    fn get(&self, name: &str) -> Option<&'a str> {
        self.0.iter().find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
    }

    fn eval(&self, job: &str) -> Option<Evaluation> {
        self.get("eval").map(|id| samples::eval(number(id), job))
    }
}

fn number(id: &str) -> u128 {
    id[1..].parse().unwrap_or_else(|_| panic!("`{id}` is no id"))
}

fn node_id(id: &str) -> NodeId {
    NodeId::from_bits(number(id))
}

fn alloc_id(id: &str) -> AllocId {
    AllocId::from_bits(number(id))
}

fn deployment_id(id: &str) -> DeploymentId {
    DeploymentId::from_bits(number(id))
}

fn node(words: &[&str]) -> cos_model::Node {
    let options = Options(words);
    let mut node = samples::node(number(words[1]));
    for (name, field) in [("name", &mut node.name), ("http", &mut node.http_address)] {
        if let Some(value) = options.get(name) {
            value.clone_into(field);
        }
    }
    if let Some(cpu) = options.get("cpu") {
        node.capacity.cpu_mhz = cpu.parse().unwrap();
    }
    if let Some(secret) = options.get("secret") {
        node.secret = NodeId::from_bits(secret.parse().unwrap());
    }
    if let Some(status) = options.get("status") {
        node.status = node_status(status);
    }
    node
}

fn job(words: &[&str]) -> Job {
    let options = Options(words);
    let mut job = samples::job(words[1]);
    job.kind = match options.get("kind") {
        Some("batch") => JobKind::Batch,
        Some("system") => JobKind::System,
        _ => JobKind::Service,
    };
    job.meta.extend(options.get("v").map(|v| ("v".to_owned(), v.to_owned())));
    if options.has("periodic") {
        let (specs, time_zone) = (vec!["@daily".to_owned()], "UTC".to_owned());
        job.periodic = Some(Periodic { enabled: true, specs, prohibit_overlap: false, time_zone });
    }
    if options.has("parameterized") {
        job.extras.insert("ParameterizedJob".to_owned(), Value::Map(BTreeMap::new()));
    }
    job
}

fn eval(words: &[&str]) -> Evaluation {
    let status = match words[3] {
        "pending" => EvalStatus::Pending,
        "blocked" => EvalStatus::Blocked,
        "complete" => EvalStatus::Complete,
        "failed" => EvalStatus::Failed,
        other => panic!("no evaluation is `{other}`"),
    };
    let mut eval = Evaluation { status, ..samples::eval(number(words[1]), words[2]) };
    if words.contains(&"unplaced") {
        eval.failed_groups.insert(GROUP.to_owned(), AllocMetric::default());
    }
    eval
}

fn placement(parts: &[&str], job: &Arc<Job>, eval_id: EvalId) -> Allocation {
    let mut alloc = samples::alloc(number(parts[0]), number(parts[1]), job);
    alloc.eval_id = eval_id;
    for part in &parts[2..] {
        match part.split_once(':').unwrap_or((part, "")) {
            ("canary", _) => alloc.canary = true,
            ("cpu", n) => alloc.resources.cpu_mhz = n.parse().unwrap(),
            ("in", d) => alloc.deployment_id = Some(deployment_id(d)),
            ("after", a) => alloc.previous = Some(alloc_id(a)),
            ("group", name) => alloc.group = Arc::from(name),
            ("port", port) => alloc.ports.push(AllocatedPort {
                label: "http".to_owned(),
                task: None,
                host_port: port.parse().unwrap(),
                to: 0,
                host_ip: "10.0.0.1".to_owned(),
            }),
            (other, _) => panic!("a placement has no `{other}`"),
        }
    }
    alloc
}

fn report(words: &[&str]) -> AllocUpdate {
    let options = Options(words);
    let health = |name: &str, is: bool| options.get(name).map(|id| (deployment_id(id), is));
    let mut task = TaskState::default();
    if words[2] == "running" {
        task.phase = TaskPhase::Running;
    }
    task.restarts = options.get("restarts").map_or(0, |n| n.parse().unwrap());
    AllocUpdate {
        id: alloc_id(words[1]),
        client_status: client_status(words[2]),
        client_description: String::new(),
        task_states: BTreeMap::from([("main".to_owned(), task)]),
        health: health("healthy", true).or_else(|| health("unhealthy", false)),
    }
}

fn collect(words: &[&str]) -> Command {
    let ids = |letter: char| {
        words[1..].iter().filter(move |word| word.starts_with(letter) && !word.contains(':'))
    };
    Command::Collect {
        evals: ids('e').map(|id| EvalId::from_bits(number(id))).collect(),
        allocs: ids('a').map(|id| alloc_id(id)).collect(),
        deployments: ids('d').map(|id| deployment_id(id)).collect(),
        jobs: words.iter().filter_map(|w| w.strip_prefix("job:")).map(samples::job_key).collect(),
        nodes: ids('n').map(|id| node_id(id)).collect(),
    }
}

fn kv_op(words: &[&str]) -> KvOp {
    let key = words[1].to_owned();
    let value = || words[2].as_bytes().to_vec();
    match words[0] {
        "set" => KvOp::Set { key, value: value(), flags: 0 },
        "cas" => {
            let expected = words[3].parse().unwrap();
            KvOp::SetIfUnchanged { key, value: value(), flags: 0, expected }
        }
        "acquire" => KvOp::Acquire { key, value: value(), flags: 0, session: session_id(words[3]) },
        "release" => KvOp::Release { key, value: value(), flags: 0, session: session_id(words[3]) },
        "delete" => KvOp::Delete { key },
        "delete-cas" => KvOp::DeleteIfUnchanged { key, expected: words[2].parse().unwrap() },
        "delete-tree" => KvOp::DeleteTree { prefix: key },
        other => panic!("no operation `{other}`"),
    }
}

/// `session create s1 on=NODE [check=ID] [ttl=SECONDS] [delay=SECONDS] [delete]`, or another verb.
fn session_op(words: &[&str]) -> SessionOp {
    let options = Options(words);
    let seconds = |name: &str| {
        std::time::Duration::from_secs(options.get(name).map_or(0, |text| text.parse().unwrap()))
    };
    match words[1] {
        "create" => SessionOp::Create(Box::new(Session {
            id: session_id(words[2]),
            name: String::new(),
            node: Arc::from(options.get("on").unwrap()),
            node_checks: options.get("check").map(str::to_owned).into_iter().collect(),
            service_checks: Vec::new(),
            lock_delay: seconds("delay"),
            behavior: if options.has("delete") { Behavior::Delete } else { Behavior::Release },
            ttl: seconds("ttl"),
            create_index: 0,
            modify_index: 0,
            renew_index: 0,
        })),
        "destroy" => SessionOp::Destroy { id: session_id(words[2]) },
        "renew" => SessionOp::Renew { id: session_id(words[2]) },
        "expire" => {
            let seen = words[3].parse().unwrap();
            SessionOp::Expire { sessions: BTreeMap::from([(session_id(words[2]), seen)]) }
        }
        "end-delay" => {
            let delay = LockDelay { since: words[2].parse().unwrap(), lasts: seconds("lasts") };
            SessionOp::EndLockDelays { delays: [delay].into() }
        }
        other => panic!("no session does `{other}`"),
    }
}

/// `catalog set|remove NODE CHECK [passing|warning|critical]`
fn catalog_change(words: &[&str]) -> CatalogChange {
    let (node, id) = (Arc::from(words[2]), Arc::from(words[3]));
    let status = match words.get(4) {
        Some(&"passing") => Health::Passing,
        Some(&"warning") => Health::Warning,
        _ => Health::Critical,
    };
    match words[1] {
        "set" => CatalogChange::SetCheck { node, id, status, output: String::new() },
        "remove" => CatalogChange::RemoveCheck { node, id },
        other => panic!("the catalog does not `{other}`"),
    }
}

fn session_id(id: &str) -> SessionId {
    SessionId::from_bits(number(id))
}

fn marked(words: &[&str], mark: char) -> Vec<AllocId> {
    words.iter().filter_map(|word| word.strip_prefix(mark)).map(alloc_id).collect()
}

fn node_status(name: &str) -> NodeStatus {
    let all = [NodeStatus::Initializing, NodeStatus::Ready, NodeStatus::Down];
    all.into_iter().find(|status| status.name() == name).unwrap()
}

fn client_status(name: &str) -> ClientStatus {
    use ClientStatus::{Complete, Failed, Lost, Pending, Running, Unknown};
    let all = [Pending, Running, Complete, Failed, Lost, Unknown];
    all.into_iter().find(|status| status.name() == name).unwrap()
}

fn deployment_status(name: &str) -> DeploymentStatus {
    use DeploymentStatus::{Cancelled, Failed, Paused, Running, Successful};
    let all = [Running, Paused, Failed, Successful, Cancelled];
    all.into_iter().find(|status| status.name() == name).unwrap()
}

fn join(parts: impl Iterator<Item = String>) -> String {
    parts.collect::<Vec<_>>().join("; ")
}
