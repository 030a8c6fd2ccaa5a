//! The dialect over a real state machine in this process: requests in, answers as a client sees
//! them.

#![expect(clippy::unwrap_used, reason = "a test says by failing what went wrong")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use axum::body::Body;
use axum::http::Request;
use cos_compat_consul::{Consul, Discovery, router};
use cos_http::{
    AgentHealth, AgentIdentity, AgentInfo, Api, ApiError, Forwarder, LogLevel, Metrics,
};
use cos_model::catalog::{Catalog, CatalogChange, CatalogNode, Health};
use cos_model::link::ServerAddress;
use cos_model::{ServerId, Timestamp};
use cos_platform::Tasks;
use cos_state::{
    Command, Committed, ControlPlane, GroupChange, GroupError, GroupHealth, Leadership, Member,
    ProposeError, Reply, State, Topic,
};
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use http_body_util::BodyExt;
use proptest::prelude::*;
use serde_json::{Value, json};
use tokio::sync::watch;
use tower::ServiceExt;

/// One server and its discovery side, without consensus: a command is applied at once.
struct Fake {
    state: Mutex<State>,
    catalog: watch::Sender<Arc<Catalog>>,
    applied: watch::Sender<u64>,
}

impl Fake {
    fn new() -> Arc<Self> {
        let fake = Arc::new(Self {
            state: Mutex::default(),
            catalog: watch::channel(Arc::default()).0,
            applied: watch::channel(0).0,
        });
        let node = CatalogNode {
            name: "n1".into(),
            id: "id-1".to_owned(),
            address: "10.0.0.1".to_owned(),
            tagged_addresses: BTreeMap::new(),
            meta: BTreeMap::new(),
            create_index: 0,
            modify_index: 0,
        };
        fake.apply(Command::Catalog { changes: vec![CatalogChange::PutNode(node)] }).unwrap();
        fake
    }

    fn apply(&self, command: Command) -> Result<Committed, ProposeError> {
        let mut state = self.state.lock().unwrap();
        let index = state.index() + 1;
        let request = cos_state::Request::new(Timestamp(1), command);
        let reply = state.apply(index, &request).reply?;
        self.catalog.send_replace(Arc::new(state.catalog().clone()));
        self.applied.send_replace(index);
        Ok(Committed { index, reply })
    }
}

#[async_trait]
impl ControlPlane for Fake {
    async fn propose(&self, command: Command) -> Result<Committed, ProposeError> {
        self.apply(command)
    }

    fn state(&self) -> Arc<State> {
        Arc::new(self.state.lock().unwrap().clone())
    }

    async fn barrier(&self) -> Result<(), ProposeError> {
        Ok(())
    }

    async fn changed(&self, topics: &[Topic], index: u64, wait: Duration) {
        let mut applied = self.applied.subscribe();
        let newer = async {
            while topics.iter().all(|topic| self.state().topic_index(topic) <= index) {
                applied.changed().await.unwrap();
            }
        };
        tokio::time::timeout(wait, newer).await.ok();
    }

    fn leadership(&self) -> Leadership {
        let leader = ServerAddress {
            name: "n1".to_owned(),
            rpc: "10.0.0.1:4647".to_owned(),
            http: String::new(),
            consul_http: String::new(),
        };
        Leadership { leader: Some(leader), is_leader: true, ..Leadership::default() }
    }

    fn members(&self) -> Vec<Member> {
        Vec::new()
    }

    async fn join(&self, _addresses: &[String]) -> Result<usize, ProposeError> {
        Ok(0)
    }

    fn peers(&self) -> Vec<(ServerId, String, bool)> {
        vec![(ServerId::from_bits(1), "10.0.0.1:4647".to_owned(), true)]
    }

    async fn change_group(&self, change: GroupChange) -> Result<Option<ServerId>, GroupError> {
        match change {
            GroupChange::Transfer(to) => Ok(to),
            GroupChange::Remove(id) if id.bits() == 1 => Ok(None),
            GroupChange::Forget { name, .. } if name == "s1" => Ok(None),
            other => Err(GroupError::NotFound(format!("{other:?}"))),
        }
    }

    async fn group_health(&self) -> Result<GroupHealth, GroupError> {
        Err(GroupError::NoLeader)
    }

    fn new_id(&self) -> u128 {
        7
    }

    fn now(&self) -> Timestamp {
        Timestamp(1)
    }
}

#[async_trait]
impl Discovery for Fake {
    fn catalog(&self) -> watch::Receiver<Arc<Catalog>> {
        self.catalog.subscribe()
    }

    async fn change(&self, changes: Vec<CatalogChange>) -> Result<BTreeMap<u32, String>, ApiError> {
        match self.apply(Command::Catalog { changes })?.reply {
            Reply::Catalog(refused) => Ok(refused),
            other => panic!("the catalog answers for itself, not {other:?}"),
        }
    }

    async fn report(&self, check: &str, status: Health, output: &str) -> Result<(), ApiError> {
        let (node, id) = ("n1".into(), check.into());
        let change = CatalogChange::SetCheck { node, id, status, output: output.to_owned() };
        self.change(vec![change]).await.map(drop)
    }

    fn allows_scripts(&self) -> bool {
        false
    }
}

struct Agent;

#[async_trait]
impl AgentInfo for Agent {
    fn identity(&self) -> AgentIdentity {
        AgentIdentity {
            name: "n1".to_owned(),
            region: "global".to_owned(),
            is_server: true,
            ..AgentIdentity::default()
        }
    }

    fn config(&self) -> Value {
        Value::Null
    }

    fn servers(&self) -> Vec<ServerAddress> {
        Vec::new()
    }

    async fn set_servers(&self, _addresses: &[String]) -> Result<(), ApiError> {
        Ok(())
    }

    fn stats(&self) -> BTreeMap<String, BTreeMap<String, String>> {
        BTreeMap::new()
    }

    fn health(&self) -> AgentHealth {
        AgentHealth::default()
    }

    fn uptime(&self) -> Duration {
        Duration::ZERO
    }

    fn logs(&self, _level: LogLevel, _json: bool) -> BoxStream<'static, String> {
        futures_util::stream::empty().boxed()
    }
}

fn consul(fake: &Arc<Fake>) -> axum::Router {
    let tasks = Tasks::new();
    let api = Api {
        control: Some(Arc::<Fake>::clone(fake)),
        local: None,
        agent: Arc::new(Agent),
        security: None,
        forwarder: Forwarder::new(tasks.clone(), None),
        metrics: Metrics::detached(),
        tasks,
    };
    router(Consul { api, discovery: Arc::<Fake>::clone(fake) })
}

/// Sends one request; returns status, index and body.
async fn ask(router: &axum::Router, line: &str, body: &str) -> (u16, u64, String) {
    let (method, path) = line.split_once(' ').unwrap();
    let request =
        Request::builder().method(method).uri(path).body(Body::from(body.to_owned())).unwrap();
    let response = router.clone().oneshot(request).await.unwrap();
    let status = response.status().as_u16();
    let index = response
        .headers()
        .get("x-consul-index")
        .map_or(0, |index| index.to_str().unwrap().parse().unwrap());
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    (status, index, String::from_utf8_lossy(&bytes).into_owned())
}

/// Runs requests in order and compares each answer's status and text, the latter by its parts.
async fn check(rows: &[(&str, &str, u16, &[&str])]) {
    let router = consul(&Fake::new());
    for (line, body, status, parts) in rows {
        let (actual, _, text) = ask(&router, line, body).await;
        assert_eq!(actual, *status, "{line} {body}: {text}");
        for part in *parts {
            assert!(text.contains(part), "{line}: {part} is missing in {text}");
        }
    }
}

const WEB: &str = r#"{"Name":"web","id":"web-1","Port":"80","tags":["a","b"],
    "check":{"TTL":"10s","deregister_critical_service_after":"90m"}}"#;

#[tokio::test]
async fn a_service_registers_reports_and_leaves() {
    check(&[
        ("PUT /v1/agent/service/register", WEB, 200, &[]),
        ("GET /v1/health/service/web?passing=1", "", 200, &["[]"]),
        ("PUT /v1/agent/check/pass/service:web-1?note=fine", "", 200, &[]),
        (
            "GET /v1/health/service/web?passing=1",
            "",
            200,
            &["\"Port\":80", "\"Output\":\"fine\"", "\"TTL\":\"10s\"", "\"1h30m0s\""],
        ),
        // Registering again must not make a passing check critical.
        ("PUT /v1/agent/service/register", WEB, 200, &[]),
        ("GET /v1/health/service/web?passing", "", 200, &["web-1"]),
        ("GET /v1/health/service/web?passing=perhaps", "", 400, &["Invalid value for ?passing"]),
        ("GET /v1/health/service/web?tag=a&tag=c", "", 200, &["[]"]),
        ("GET /v1/catalog/services", "", 200, &["{\"web\":[\"a\",\"b\"]}"]),
        ("GET /v1/catalog/services?filter=%22a%22+in+ServiceTags", "", 200, &["\"web\""]),
        ("GET /v1/catalog/services?filter=%22c%22+in+ServiceTags", "", 200, &["{}"]),
        ("GET /v1/catalog/node/n1?filter=Service==web", "", 200, &["\"web-1\"", "\"n1\""]),
        ("GET /v1/catalog/node/n1?filter=Service==db", "", 200, &["\"Services\":{}", "\"n1\""]),
        (
            "GET /v1/catalog/service/web",
            "",
            200,
            &["\"ServicePort\":80", "\"Address\":\"10.0.0.1\""],
        ),
        ("GET /v1/catalog/service/none", "", 200, &["[]"]),
        ("GET /v1/catalog/service/", "", 400, &["Missing service name"]),
        ("GET /v1/health/state/passing", "", 200, &["\"ServiceTags\":[\"a\",\"b\"]"]),
        ("GET /v1/health/node/n1", "", 200, &["service:web-1"]),
        ("GET /v1/agent/services", "", 200, &["\"web-1\":{"]),
        ("GET /v1/agent/health/service/name/web?format=text", "", 200, &["passing"]),
        ("PUT /v1/agent/service/maintenance/web-1?enable=true", "", 200, &[]),
        ("GET /v1/agent/health/service/id/web-1", "", 503, &["critical"]),
        ("PUT /v1/agent/service/maintenance/web-1?enable=false", "", 200, &[]),
        ("PUT /v1/agent/service/deregister/web-1", "", 200, &[]),
        ("PUT /v1/agent/service/deregister/web-1", "", 404, &["Unknown service ID"]),
        ("GET /v1/catalog/services", "", 200, &["{}"]),
    ])
    .await;
}

#[tokio::test]
async fn whoever_watches_names_sleeps_through_health_and_scaling() {
    let router = consul(&Fake::new());
    let index_of = async |path: &str| ask(&router, &format!("GET {path}"), "").await.1;
    ask(&router, "PUT /v1/agent/service/register", WEB).await;
    let (names, nodes) =
        (index_of("/v1/catalog/services").await, index_of("/v1/catalog/nodes").await);
    let web = index_of("/v1/health/service/web").await;
    let second = WEB.replace("web-1", "web-2").replace("80", "81");
    ask(&router, "PUT /v1/agent/check/pass/service:web-1", "").await;
    ask(&router, "PUT /v1/agent/service/register", &second).await;
    assert_eq!(index_of("/v1/catalog/services").await, names);
    assert_eq!(index_of("/v1/catalog/nodes").await, nodes);
    assert!(index_of("/v1/health/service/web").await > web);
    let tagged = WEB.replace("\"b\"", "\"c\"");
    ask(&router, "PUT /v1/agent/service/register", &tagged).await;
    assert!(index_of("/v1/catalog/services").await > names);
    assert_eq!(index_of("/v1/catalog/nodes").await, nodes);
}

#[tokio::test]
async fn wrong_input_names_the_place_and_changes_nothing() {
    check(&[
        ("PUT /v1/agent/service/register", "{", 400, &["Request decode failed"]),
        ("PUT /v1/agent/service/register", "{}", 400, &["Missing service name"]),
        ("PUT /v1/agent/service/register", r#"{"Name":"a","Port":"x"}"#, 400, &["Port"]),
        ("PUT /v1/agent/service/register", r#"{"Name":"a","Tags":"x"}"#, 400, &["Tags"]),
        ("PUT /v1/agent/service/register", r#"{"Name":"a","Port":70000}"#, 400, &["Port"]),
        (
            "PUT /v1/agent/service/register",
            r#"{"Name":"a","Check":{"HTTP":"http://x","TTL":"1s"}}"#,
            400,
            &["exactly one"],
        ),
        (
            "PUT /v1/agent/service/register",
            r#"{"Name":"a","Check":{"Args":["ls"],"Interval":"1s"}}"#,
            400,
            &["Scripts are disabled"],
        ),
        (
            "PUT /v1/agent/service/register",
            r#"{"Name":"a","Check":{"GRPC":"x","Interval":"1s"}}"#,
            400,
            &["does not support GRPC"],
        ),
        ("PUT /v1/agent/check/pass/none", "", 404, &["Unknown check ID"]),
        ("PUT /v1/agent/check/update/none", r#"{"Status":"odd"}"#, 400, &["odd"]),
        ("GET /v1/catalog/services?dc=other", "", 500, &["No path to datacenter"]),
        ("GET /v1/catalog/services?stale&consistent", "", 400, &["conflicting semantics"]),
        ("GET /v1/catalog/services?index=x", "", 400, &["Invalid index"]),
        ("GET /v1/catalog/services?filter=%3D%3D", "", 400, &["boolean expression"]),
        ("PUT /v1/txn", "", 501, &["transactions"]),
        ("GET /v1/nothing", "", 404, &[]),
        ("GET /v1/catalog/services", "", 200, &["{}"]),
    ])
    .await;
}

#[tokio::test]
async fn keys_are_written_compared_listed_and_deleted() {
    check(&[
        ("GET /v1/kv/a/b", "", 404, &[]),
        ("PUT /v1/kv/a/b?flags=42", "hello", 200, &["true"]),
        ("GET /v1/kv/a/b", "", 200, &["\"Value\":\"aGVsbG8=\"", "\"Flags\":42"]),
        ("GET /v1/kv/a/b?raw", "", 200, &["hello"]),
        ("PUT /v1/kv/a/b?cas=0", "x", 200, &["false"]),
        ("PUT /v1/kv/a/c/d?cas=0", "x", 200, &["true"]),
        ("GET /v1/kv/a/?recurse", "", 200, &["a/b", "a/c/d"]),
        ("GET /v1/kv/a/?keys&separator=/", "", 200, &["[\"a/b\",\"a/c/\"]"]),
        ("GET /v1/kv/?keys", "", 200, &["[\"a/b\",\"a/c/d\"]"]),
        ("DELETE /v1/kv/a?recurse&cas=1", "", 400, &["Conflicting flags"]),
        ("DELETE /v1/kv/a/b?cas=1", "", 200, &["false"]),
        ("DELETE /v1/kv/a?recurse", "", 200, &["true"]),
        ("GET /v1/kv/?keys", "", 200, &["[]"]),
        ("PUT /v1/kv/", "x", 400, &["Missing key name"]),
        ("PUT /v1/kv/a?acquire=s", "x", 500, &["invalid session \"s\""]),
        ("PUT /v1/kv/a?acquire=", "x", 500, &["missing session"]),
        ("PUT /v1/kv/a?acquire=s&cas=1", "x", 400, &["Conflicting flags"]),
    ])
    .await;
}

#[tokio::test]
async fn a_session_holds_a_key_until_it_ends() {
    const ID: &str = "00000000-0000-0000-0000-000000000007";
    let (info, renew) =
        (format!("GET /v1/session/info/{ID}"), format!("PUT /v1/session/renew/{ID}"));
    let (acquire, release) =
        (format!("PUT /v1/kv/k?acquire={ID}"), format!("PUT /v1/kv/k?release={ID}"));
    let destroy = format!("PUT /v1/session/destroy/{ID}");
    let missing = format!("Session id '{ID}' not found");
    let held = format!("\"LockIndex\":1,\"ModifyIndex\":4,\"Session\":\"{ID}\"");
    check(&[
        ("PUT /v1/session/create", "", 500, &["Missing check 'serfHealth' registration"]),
        (
            "PUT /v1/session/create",
            r#"{"Name":"lock","Checks":[],"TTL":"15s","LockDelay":1,"Behavior":"release"}"#,
            200,
            &[&format!("{{\"ID\":\"{ID}\"}}")],
        ),
        (&info, "", 200, &["\"LockDelay\":1000000000", "\"TTL\":\"15s\"", "\"Node\":\"n1\""]),
        ("GET /v1/session/info/none", "", 200, &["[]"]),
        ("GET /v1/session/list", "", 200, &["\"NodeChecks\":[]", "\"ServiceChecks\":null"]),
        ("GET /v1/session/node/n1", "", 200, &["\"Name\":\"lock\""]),
        ("GET /v1/session/node/other", "", 200, &["[]"]),
        (&acquire, "x", 200, &["true"]),
        ("GET /v1/kv/k", "", 200, &[&held]),
        (&renew, "", 200, &["\"ModifyIndex\":3"]),
        (&release, "y", 200, &["true"]),
        ("GET /v1/kv/k", "", 200, &["\"LockIndex\":1"]),
        (&acquire, "x", 200, &["true"]),
        (&destroy, "", 200, &["true"]),
        (&destroy, "", 200, &["true"]),
        (&renew, "", 404, &[&missing]),
        ("PUT /v1/session/renew/none", "", 404, &["Session id 'none' not found"]),
        (&acquire, "x", 500, &["invalid session"]),
        (&info, "", 200, &["[]"]),
        ("PUT /v1/session/destroy/", "", 400, &["Missing session"]),
        ("GET /v1/session/node/", "", 400, &["Missing node name"]),
    ])
    .await;
}

#[tokio::test]
async fn a_session_that_cannot_be_is_refused() {
    check(&[
        ("PUT /v1/session/create", r#"{"TTL":"1s"}"#, 500, &["must be between [10s=24h0m0s]"]),
        ("PUT /v1/session/create", r#"{"TTL":"x"}"#, 500, &["Invalid Session TTL 'x'"]),
        ("PUT /v1/session/create", r#"{"Behavior":"x"}"#, 500, &["Invalid Behavior setting 'x'"]),
        ("PUT /v1/session/create", r#"{"Node":"x"}"#, 500, &["Missing node registration"]),
        ("PUT /v1/session/create", r#"{"Checks":1}"#, 400, &["Checks"]),
        ("PUT /v1/session/create", r#"{"LockDelay":[]}"#, 400, &["LockDelay"]),
        ("PUT /v1/session/create", "[", 400, &["Request decode failed"]),
    ])
    .await;
}

#[tokio::test]
async fn a_read_of_sessions_and_one_of_a_key_wake_when_a_lock_ends() {
    let fake = Fake::new();
    let router = consul(&fake);
    ask(&router, "PUT /v1/session/create", r#"{"Checks":[]}"#).await;
    let id = "00000000-0000-0000-0000-000000000007";
    ask(&router, &format!("PUT /v1/kv/k?acquire={id}"), "x").await;
    let (_, key_index, _) = ask(&router, "GET /v1/kv/k", "").await;
    let (_, index, _) = ask(&router, "GET /v1/session/list", "").await;
    let (key, list) = (
        format!("GET /v1/kv/k?wait=5s&index={key_index}"),
        format!("GET /v1/session/list?wait=5s&index={index}"),
    );
    let destroy = format!("PUT /v1/session/destroy/{id}");
    let (key, list, _) =
        tokio::join!(ask(&router, &key, ""), ask(&router, &list, ""), ask(&router, &destroy, ""));
    assert!(!key.2.contains("Session"), "{key:?}");
    assert_eq!(list.2, "[]");
}

#[tokio::test]
async fn a_read_waits_for_its_own_service_and_for_its_own_key() {
    let fake = Fake::new();
    let router = consul(&fake);
    let (_, index, _) = ask(&router, "GET /v1/health/service/web", "").await;
    let waiting = format!("GET /v1/health/service/web?wait=5s&index={index}");
    let key = "GET /v1/kv/k?wait=5s&index=1";
    let changes = async {
        ask(&router, "PUT /v1/agent/service/register", r#"{"Name":"other"}"#).await;
        ask(&router, "PUT /v1/kv/other", "x").await;
        ask(&router, "PUT /v1/agent/service/register", r#"{"Name":"web"}"#).await;
        ask(&router, "PUT /v1/kv/k", "x").await;
    };
    let (service, key, ()) =
        tokio::join!(ask(&router, &waiting, ""), ask(&router, key, ""), changes);
    assert!(service.2.contains("\"Service\":\"web\""), "{service:?}");
    assert!(service.1 > index);
    assert_eq!(key.0, 200, "{key:?}");
}

#[tokio::test]
async fn the_agent_and_the_cluster_say_who_they_are() {
    check(&[
        (
            "GET /v1/agent/self",
            "",
            200,
            &["\"Datacenter\":\"global\"", "\"NodeName\":\"n1\"", "\"Server\":true"],
        ),
        ("GET /v1/catalog/nodes", "", 200, &["\"lan\":\"10.0.0.1\""]),
        ("GET /v1/catalog/datacenters", "", 200, &["[\"global\"]"]),
        ("GET /v1/catalog/node/n1", "", 200, &["\"Services\":{}"]),
        ("GET /v1/catalog/node/none", "", 200, &["null"]),
        ("GET /v1/status/leader", "", 200, &["\"10.0.0.1:4647\""]),
        ("GET /v1/status/peers", "", 200, &["[\"10.0.0.1:4647\"]"]),
        ("GET /", "", 200, &["Consul Agent"]),
    ])
    .await;
    let router = consul(&Fake::new());
    let (_, _, text) = ask(&router, "GET /v1/agent/members", "").await;
    let members: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(members[0]["Status"], json!(1));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever the body, there is an answer, and nothing begins by halves.
    #[test]
    fn no_definition_of_a_session_panics(
        body in "\\{?\"?(Name|Node|Checks|TTL|LockDelay|ServiceChecks)?\"?:?.{0,40}\\}?"
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let fake = Fake::new();
            let router = consul(&fake);
            let (status, _, text) = ask(&router, "PUT /v1/session/create", &body).await;
            assert_eq!(fake.state().sessions().count(), usize::from(status == 200), "{text}");
            ask(&router, &format!("PUT /v1/kv/k?acquire={}", encode(&body)), "x").await;
            ask(&router, &format!("PUT /v1/session/renew/{}", encode(&body)), "").await;
        });
    }

    /// Whatever the body, there is an answer, and no 500.
    #[test]
    fn no_body_panics(body in "\\{?\"?(Name|Check|Port|TTL|Meta|Status)?\"?:?.{0,40}\\}?") {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let router = consul(&Fake::new());
            for path in [
                "/v1/agent/service/register",
                "/v1/agent/check/register",
                "/v1/catalog/register",
                "/v1/catalog/deregister",
                "/v1/agent/check/update/x",
            ] {
                let (status, _, text) = ask(&router, &format!("PUT {path}"), &body).await;
                assert!(status < 500, "{path} {body}: {status} {text}");
            }
        });
    }
}

/// A text as part of an address, every byte escaped.
fn encode(text: &str) -> String {
    text.bytes().fold(String::new(), |all, byte| all + &format!("%{byte:02X}"))
}
