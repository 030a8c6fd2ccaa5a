//! Agents to test: a control plane that applies at once, small stand-ins for agent, machine and
//! planner, and the one way to hold an answer against what is expected.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Request, StatusCode};
use cos_http::{
    AgentHealth, AgentIdentity, AgentInfo, Api, ApiError, Forwarder, LocalNode, LogLevel, Metrics,
};
use cos_model::link::ServerAddress;
use cos_model::{
    AllocId, Evaluation, Job, JobKey, Node, NodeId, Plan, Timestamp, Trigger, samples,
};
use cos_platform::Tasks;
use cos_state::evaluations::eval_for_job;
use cos_state::{Command, ControlPlane, State};
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::Planner;

mod control;
mod machine;

use control::FakeControl;
use machine::FakeNode;

/// The time at which every test begins.
pub(super) const START: Timestamp = Timestamp(1_700_000_000_000_000_000);

/// The node that runs on the agent under test.
pub(super) const NODE: NodeId = NodeId::from_bits(0xA0);

/// The allocation that the machine under test has.
pub(super) const ALLOC: AllocId = AllocId::from_bits(0xB0);

fn server_address() -> ServerAddress {
    ServerAddress {
        name: "s1".to_owned(),
        rpc: "127.0.0.1:4647".to_owned(),
        http: "127.0.0.1:4646".to_owned(),
        consul_http: String::new(),
    }
}

struct FakeAgent {
    /// The HTTP address of the server that it knows.
    server: String,
    is_server: bool,
}

#[async_trait]
impl AgentInfo for FakeAgent {
    fn identity(&self) -> AgentIdentity {
        AgentIdentity {
            name: "s1".to_owned(),
            region: "global".to_owned(),
            datacenter: "dc1".to_owned(),
            http_address: "127.0.0.1:4646".to_owned(),
            is_server: self.is_server,
            is_client: true,
        }
    }

    fn config(&self) -> Value {
        json!({"Server": {"BootstrapExpect": 1}})
    }

    fn servers(&self) -> Vec<ServerAddress> {
        vec![ServerAddress { http: self.server.clone(), ..server_address() }]
    }

    async fn set_servers(&self, _addresses: &[String]) -> Result<(), ApiError> {
        Ok(())
    }

    fn stats(&self) -> BTreeMap<String, BTreeMap<String, String>> {
        BTreeMap::new()
    }

    fn health(&self) -> AgentHealth {
        AgentHealth { server: Some(Ok(())), client: Some(Err("no route".to_owned())) }
    }

    fn uptime(&self) -> Duration {
        Duration::from_secs(7)
    }

    fn logs(&self, _level: LogLevel, _json: bool) -> BoxStream<'static, String> {
        stream::iter(["one".to_owned(), "two".to_owned()]).boxed()
    }
}

/// Plans nothing, and says so in the evaluation.
struct FakePlanner;

impl Planner for FakePlanner {
    fn dry_run(&self, state: &State, job: Job) -> Plan {
        let eval: Evaluation = eval_for_job(&job, Trigger::JobRegister, 1, START);
        Plan { based_on: state.index(), at: START, ..samples::plan(eval) }
    }
}

/// An agent under test.
pub(super) struct Agent {
    pub(super) control: Arc<FakeControl>,
    router: Router,
}

/// An answer.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) text: String,
}

fn api(agent: FakeAgent) -> Api {
    let tasks = Tasks::new();
    Api {
        control: None,
        local: None,
        agent: Arc::new(agent),
        security: None,
        forwarder: Forwarder::new(tasks.clone(), None),
        metrics: Metrics::detached(),
        tasks,
    }
}

fn routers(api: &Api) -> Router {
    crate::router(api.clone(), Arc::new(FakePlanner)).merge(cos_http::router(api.clone()))
}

impl Agent {
    pub(super) fn new() -> Self {
        let control = Arc::new(FakeControl::new());
        let api = Api {
            control: Some(Arc::clone(&control) as Arc<dyn ControlPlane>),
            local: Some(Arc::new(FakeNode)),
            ..api(FakeAgent { server: server_address().http, is_server: true })
        };
        Self { control, router: routers(&api) }
    }

    /// A server that runs no tasks.
    pub(super) fn server() -> Self {
        let control = Arc::new(FakeControl::new());
        let api = Api {
            control: Some(Arc::clone(&control) as Arc<dyn ControlPlane>),
            ..api(FakeAgent { server: server_address().http, is_server: true })
        };
        Self { control, router: routers(&api) }
    }

    /// An agent that is no server and knows one. Its control plane is connected to nothing.
    pub(super) fn client(server: &str) -> Self {
        let local: Option<Arc<dyn LocalNode>> = Some(Arc::new(FakeNode));
        let api = Api { local, ..api(FakeAgent { server: server.to_owned(), is_server: false }) };
        Self { control: Arc::new(FakeControl::new()), router: routers(&api) }
    }

    /// Serves the agent's routes on a socket of its own and returns its address.
    pub(super) async fn listen(&self, tasks: &Tasks) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let limits = cos_http::Limits::equal(cos_http::limits::Settings::default());
        let web = cos_platform::tls::Web::default();
        cos_http::listener::serve(listener, self.router.clone(), web, &limits, tasks);
        address
    }

    /// An agent with a node and a registered job `web`.
    pub(super) fn with_job() -> Self {
        let agent = Self::new();
        agent.control.apply(Command::RegisterNode { node: Box::new(node()), evals: Vec::new() });
        agent.control.apply(register(job("web", 2)));
        agent
    }

    pub(super) async fn ask(&self, method: &str, uri: &str, body: Vec<u8>) -> Answer {
        let request = Request::builder().method(method).uri(uri).body(Body::from(body)).unwrap();
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        let bytes = to_bytes(response.into_body(), usize::MAX).await.unwrap();
        Answer { status, headers, text: String::from_utf8_lossy(&bytes).into_owned() }
    }

    /// Sends a request and holds the status and a part of the body against what is expected.
    /// Returns the whole body.
    #[track_caller]
    pub(super) fn check(
        &self,
        (method, uri, body): (&str, &str, Value),
        status: u16,
        expected: &Value,
    ) -> Value {
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        let answer = futures_util::FutureExt::now_or_never(self.ask(method, uri, body)).unwrap();
        assert_eq!(answer.status.as_u16(), status, "{method} {uri}: {}", answer.text);
        let found = serde_json::from_str(&answer.text).unwrap_or(Value::String(answer.text));
        assert_part(expected, &found, &format!("{method} {uri}"));
        found
    }

    /// Checks a read.
    #[track_caller]
    pub(super) fn get(&self, uri: &str, status: u16, expected: &Value) -> Value {
        self.check(("GET", uri, Value::Null), status, expected)
    }
}

/// Every field of `expected` must be in `found`; other fields may be there as well. An expected
/// text that ends with `…` is the beginning of what is found.
#[track_caller]
fn assert_part(expected: &Value, found: &Value, place: &str) {
    match (expected, found) {
        (Value::Object(expected), Value::Object(found)) => {
            for (key, value) in expected {
                let inner = found.get(key).unwrap_or(&Value::Null);
                assert_part(value, inner, &format!("{place} .{key}"));
            }
        }
        (Value::Array(expected), Value::Array(found)) => {
            assert_eq!(expected.len(), found.len(), "{place}: {found:?}");
            for (number, (expected, found)) in expected.iter().zip(found).enumerate() {
                assert_part(expected, found, &format!("{place} [{number}]"));
            }
        }
        (Value::String(expected), Value::String(found)) if expected.ends_with('…') => {
            assert!(found.starts_with(expected.trim_end_matches('…')), "{place}: {found}");
        }
        _ => assert_eq!(expected, found, "{place}"),
    }
}

/// A job of one group with one task.
pub(super) fn job(id: &str, count: u32) -> Job {
    crate::spec::read_job(&job_json(id, count)).unwrap().job
}

pub(super) fn job_json(id: &str, count: u32) -> Value {
    json!({
        "ID": id, "Name": id, "Type": "service", "Datacenters": ["dc1"],
        "TaskGroups": [{
            "Name": "app", "Count": count,
            "Tasks": [{
                "Name": "web", "Driver": "raw_exec", "Config": {"command": "/bin/true"},
                "Resources": {"CPU": 100, "MemoryMB": 64},
            }],
        }],
    })
}

pub(super) fn register(job: Job) -> Command {
    Command::RegisterJob { job: Box::new(job), expected_index: None, eval: None }
}

pub(super) fn key(id: &str) -> JobKey {
    JobKey::new("default", id)
}

pub(super) fn node() -> Node {
    Node {
        name: "n1".to_owned(),
        http_address: "127.0.0.1:1".to_owned(),
        address: "127.0.0.1".to_owned(),
        capacity: cos_model::Resources { cpu_mhz: 1000, memory_mib: 500, disk_mib: 9000 },
        reserved: cos_model::Resources { cpu_mhz: 100, ..cos_model::Resources::default() },
        cores: 2,
        reserved_ports: vec![22],
        attributes: BTreeMap::from([("nomad.version".to_owned(), "1.10.0".to_owned())]),
        drivers: BTreeMap::from([(
            "docker".to_owned(),
            cos_model::DriverState { detected: true, healthy: true, ..Default::default() },
        )]),
        status_updated_at: START,
        ..samples::node(NODE.bits())
    }
}

/// Places one allocation of a registered job on the node, as a scheduler would.
pub(super) fn place(agent: &Agent, job_id: &str, alloc: AllocId) {
    use cos_model::{AllocatedPort, AllocatedTask, Allocation, Resources};
    let state = agent.control.state();
    let job = Arc::clone(state.job(&key(job_id)).unwrap());
    let mut plan = FakePlanner.dry_run(&state, Job::clone(&job));
    plan.eval_id = cos_model::EvalId::from_bits(alloc.bits());
    plan.eval.id = plan.eval_id;
    agent.control.apply(Command::PutEvals { evals: vec![plan.eval.clone()] });
    plan.eval.status = cos_model::EvalStatus::Complete;
    let taken = Resources { cpu_mhz: 100, memory_mib: 64, disk_mib: 0 };
    plan.placements.push(Allocation {
        eval_id: plan.eval_id,
        node_name: "n1".into(),
        tasks: BTreeMap::from([(
            "web".to_owned(),
            AllocatedTask { resources: taken, memory_max_mib: 0 },
        )]),
        ports: vec![AllocatedPort {
            label: "http".to_owned(),
            task: None,
            host_port: 21000,
            to: 0,
            host_ip: "127.0.0.1".to_owned(),
        }],
        create_time: START,
        modify_time: START,
        ..samples::alloc(alloc.bits(), NODE.bits(), &job)
    });
    agent.control.apply(Command::ApplyPlan { plan: Box::new(plan) });
}
