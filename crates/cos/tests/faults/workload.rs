//! Clients that read and write through all servers at once, and what they were told.
//!
//! # Invariants
//!
//! - Each client does one thing at a time.
//! - An operation counts as failed only if it certainly took no effect: nobody could be connected
//!   to, or the server said that it did nothing. Whatever else is no answer is unknown.
//! - No value is written twice.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cos_faults::{LockAct, Operation, RegisterAct, Value as Written};
use serde_json::Value;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::cluster::{Cluster, SERVERS};

/// How many clients there are.
const CLIENTS: u32 = 9;

/// How long a client waits for an answer.
const ANSWER_TIME: Duration = Duration::from_secs(2);

/// The rest of a client between two operations, so that the suite does not measure itself.
const REST: Duration = Duration::from_millis(3);

/// The rest after an operation that failed.
const REST_AFTER_FAILURE: Duration = Duration::from_millis(30);

/// How many objects of each kind are used at a time.
const OBJECTS: usize = 4;

/// How many operations an object sees before another one takes its place, so that each history
/// stays small enough to be judged.
const OPERATIONS_MAX: usize = 150;

/// The node of the catalog on which the sessions of clients stand; it never goes.
const SESSIONS_ON: &str = "fault-suite";

/// What clients saw.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// By key or job, each as it would be asked for.
    pub(crate) registers: BTreeMap<Object, Vec<Operation<RegisterAct>>>,
    /// By key.
    pub(crate) locks: BTreeMap<String, Vec<Operation<LockAct>>>,
    /// Operations that were sent.
    pub(crate) operations: usize,
    /// Operations that were answered.
    pub(crate) acknowledged: usize,
    /// What may not be and is no matter of order.
    pub(crate) faults: Vec<String>,
}

/// A register in one of its forms.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Object {
    /// A key.
    Key(String),
    /// A job, by a value in its `meta`.
    Job(String),
}

/// Running clients.
#[derive(Debug)]
pub(crate) struct Workload {
    shared: Arc<Shared>,
    clients: JoinSet<()>,
}

#[derive(Debug)]
struct Shared {
    begun: Instant,
    /// The addresses of the servers, without ports.
    addresses: Vec<String>,
    /// Distinguishes the objects of one workload from those of another.
    name: String,
    stop: AtomicBool,
    drawn: AtomicU64,
    uses: [AtomicUsize; 3 * OBJECTS],
    seen: Mutex<Seen>,
}

/// How an operation ended.
enum End<T> {
    Answered(T),
    Failed,
    Unknown,
}

impl Workload {
    /// Starts clients of a cluster that takes writes.
    pub(crate) async fn start(cluster: &Cluster, name: &str, seed: u64) -> anyhow::Result<Self> {
        let addresses = cluster.servers.iter().map(|server| server.port.address.clone()).collect();
        let shared = Arc::new(Shared {
            begun: Instant::now(),
            addresses,
            name: name.to_owned(),
            stop: AtomicBool::new(false),
            drawn: AtomicU64::new(1),
            uses: std::array::from_fn(|_| AtomicUsize::new(0)),
            seen: Mutex::default(),
        });
        let node = serde_json::json!({ "Node": SESSIONS_ON, "Address": "192.0.2.1" });
        let register = cluster.servers[0].consul("/v1/catalog/register");
        let (status, text) = cluster.put(&register, node.to_string()).await?;
        anyhow::ensure!(status == 200, "the node of sessions is refused: {text}");
        let mut clients = JoinSet::new();
        for number in 1..=CLIENTS {
            let random = seed ^ u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let http = reqwest::Client::builder().no_proxy().timeout(ANSWER_TIME).build()?;
            let client = Client {
                shared: Arc::clone(&shared),
                http,
                number,
                random,
                session: None,
                found: BTreeMap::new(),
                indexes: BTreeMap::new(),
            };
            clients.spawn(client.run());
        }
        Ok(Self { shared, clients })
    }

    /// Stops the clients, reads everything once more, and returns what was seen.
    pub(crate) async fn finish(mut self) -> Seen {
        self.shared.stop.store(true, Ordering::Relaxed);
        while self.clients.join_next().await.is_some() {}
        let objects: Vec<Object> = self.shared.seen().registers.keys().cloned().collect();
        let mut reader = Client {
            shared: Arc::clone(&self.shared),
            http: reqwest::Client::new(),
            number: 0,
            random: 0,
            session: None,
            found: BTreeMap::new(),
            indexes: BTreeMap::new(),
        };
        for (turn, object) in objects.into_iter().enumerate() {
            reader.read(turn % SERVERS, &object).await;
        }
        std::mem::take(&mut *self.shared.seen())
    }
}

impl Shared {
    fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().expect("no client panics while it holds this")
    }

    fn now(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_nanos()).expect("a run is shorter than centuries")
    }

    /// The object that takes this place now.
    fn object(&self, place: usize) -> String {
        let uses = self.uses[place].fetch_add(1, Ordering::Relaxed);
        format!("{}-{place}-{}", self.name, uses / OPERATIONS_MAX)
    }
}

struct Client {
    shared: Arc<Shared>,
    http: reqwest::Client,
    number: u32,
    random: u64,
    session: Option<String>,
    /// What this client last found under each key, with its index.
    found: BTreeMap<String, (Option<Written>, u64)>,
    /// The index of the last answer of each server to each question.
    indexes: BTreeMap<(usize, String), u64>,
}

impl Client {
    async fn run(mut self) {
        while !self.shared.stop.load(Ordering::Relaxed) {
            let server = self.draw(SERVERS);
            let place = self.draw(OBJECTS);
            let went_well = match self.draw(20) {
                0..6 => self.read_key(server, place).await,
                6..10 => self.write(server, place).await,
                10..14 => self.compare_and_set(server, place).await,
                14 => self.delete(server, place).await,
                15..18 => self.lock(server, OBJECTS + place).await,
                18 => self.register_job(server, 2 * OBJECTS + place).await,
                _ => self.read_job(server, 2 * OBJECTS + place).await,
            };
            tokio::time::sleep(if went_well { REST } else { REST_AFTER_FAILURE }).await;
        }
    }

    /// The next number below a bound: the generator of Steele, Lea and Flood.
    fn draw(&mut self, below: usize) -> usize {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.random;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((bits ^ (bits >> 31)) % below as u64).expect("it is below a usize")
    }

    async fn read_key(&mut self, server: usize, place: usize) -> bool {
        let object = Object::Key(self.shared.object(place));
        if self.draw(8) == 0 {
            return self.read_stale(server, &object).await;
        }
        self.read(server, &object).await
    }

    async fn read_job(&mut self, server: usize, place: usize) -> bool {
        let object = Object::Job(self.shared.object(place));
        self.read(server, &object).await
    }

    /// Reads what is promised to be the newest.
    async fn read(&mut self, server: usize, object: &Object) -> bool {
        let (path, header) = match object {
            Object::Key(key) => (self.consul(server, &format!("/v1/kv/{key}")), "x-consul-index"),
            Object::Job(job) => (self.nomad(server, &format!("/v1/job/{job}")), "x-nomad-index"),
        };
        let called = self.call();
        let Some((status, index, text)) = self.get(&path, header).await else { return false };
        let found = match (status, object) {
            (404, _) => None,
            (200, Object::Key(_)) => {
                serde_json::from_str::<Value>(&text).ok().map(|v| v[0].clone())
            }
            (200, Object::Job(_)) => serde_json::from_str::<Value>(&text).ok(),
            _ => return false,
        };
        let value = found.as_ref().map(|found| value_of(object, found));
        if let Object::Key(key) = object {
            let index =
                found.as_ref().map_or(0, |found| found["ModifyIndex"].as_u64().unwrap_or(0));
            self.found.insert(key.clone(), (value, index));
        }
        // A job that is not there is an error, which has no index.
        if index.is_some() || found.is_some() || matches!(object, Object::Key(_)) {
            self.check_index(server, object, index);
        }
        self.record(object, called, Some(()), RegisterAct::Read(value));
        true
    }

    /// Reads what may be old, and has to say so.
    async fn read_stale(&mut self, server: usize, object: &Object) -> bool {
        let Object::Key(key) = object else { return true };
        let path = self.consul(server, &format!("/v1/kv/{key}?stale"));
        self.call();
        let Ok(response) = self.http.get(path).send().await else { return false };
        if !matches!(response.status().as_u16(), 200 | 404) {
            return false;
        }
        for header in ["x-consul-index", "x-consul-knownleader", "x-consul-lastcontact"] {
            if !response.headers().contains_key(header) {
                self.shared.seen().faults.push(format!("a stale read without {header}"));
            }
        }
        self.shared.seen().acknowledged += 1;
        true
    }

    /// What a client reads by default never gets older, server by server.
    fn check_index(&mut self, server: usize, object: &Object, index: Option<u64>) {
        let complain = |text| self.shared.seen().faults.push(text);
        let Some(index) = index else {
            complain(format!("{object:?} was read without an index"));
            return;
        };
        let last = self.indexes.entry((server, format!("{object:?}"))).or_default();
        if index < *last {
            complain(format!("the index of {object:?} went from {last} back to {index}"));
        }
        *last = index;
    }

    async fn write(&mut self, server: usize, place: usize) -> bool {
        let key = self.shared.object(place);
        let value = self.fresh();
        let called = self.call();
        let end = self.put_key(server, &key, "", &value.to_string()).await;
        self.record_write(&Object::Key(key), called, &end, RegisterAct::Write(value))
    }

    async fn delete(&mut self, server: usize, place: usize) -> bool {
        let key = self.shared.object(place);
        let url = self.consul(server, &format!("/v1/kv/{key}"));
        let called = self.call();
        let end = self.send(self.http.delete(url)).await;
        self.record_write(&Object::Key(key), called, &end, RegisterAct::Delete)
    }

    async fn compare_and_set(&mut self, server: usize, place: usize) -> bool {
        let key = self.shared.object(place);
        let (expected, index) = self.found.get(&key).copied().unwrap_or_default();
        let new = self.fresh();
        let called = self.call();
        let end = self.put_key(server, &key, &format!("?cas={index}"), &new.to_string()).await;
        let cas = |done| RegisterAct::Cas { expected, new, done };
        let object = Object::Key(key);
        match end {
            End::Answered(done) => self.record(&object, called, Some(()), cas(Some(done))),
            End::Unknown => self.record(&object, called, None, cas(None)),
            End::Failed => return false,
        }
        true
    }

    async fn register_job(&mut self, server: usize, place: usize) -> bool {
        let job = self.shared.object(place);
        let value = self.fresh();
        let body = serde_json::json!({ "Job": {
            "ID": job, "Name": job, "Type": "service", "Datacenters": ["*"],
            "Meta": { "value": value.to_string() },
            "TaskGroups": [{ "Name": "none", "Count": 0, "Tasks": [
                { "Name": "none", "Driver": "raw_exec", "Config": { "command": "/bin/true" } }
            ] }],
        } });
        let url = self.nomad(server, "/v1/jobs");
        let called = self.call();
        let end = self.send(self.http.put(url).body(body.to_string())).await;
        self.record_write(&Object::Job(job), called, &end, RegisterAct::Write(value))
    }

    async fn lock(&mut self, server: usize, place: usize) -> bool {
        let Some(session) = self.session(server).await else { return false };
        let key = self.shared.object(place);
        let (by, takes) = (self.number, self.draw(2) == 0);
        let act = |done| {
            if takes { LockAct::Acquire { by, done } } else { LockAct::Release { by, done } }
        };
        let parameter = if takes { "acquire" } else { "release" };
        let called = self.call();
        let end = self.put_key(server, &key, &format!("?{parameter}={session}"), "x").await;
        let answered = self.shared.now();
        let (answered, act) = match end {
            End::Answered(done) => (Some(answered), act(Some(done))),
            End::Unknown => (None, act(None)),
            End::Failed => return false,
        };
        let mut seen = self.shared.seen();
        seen.acknowledged += usize::from(answered.is_some());
        seen.locks.entry(key).or_default().push(Operation { called, answered, act });
        true
    }

    /// This client's session, which lasts until somebody ends it.
    async fn session(&mut self, server: usize) -> Option<String> {
        if self.session.is_none() {
            let url = self.consul(server, "/v1/session/create");
            let body = serde_json::json!({ "Node": SESSIONS_ON, "Checks": [], "LockDelay": "0s" });
            let response = self.http.put(url).body(body.to_string()).send().await.ok()?;
            let answer: Value = serde_json::from_str(&response.text().await.ok()?).ok()?;
            self.session = answer["ID"].as_str().map(str::to_owned);
        }
        self.session.clone()
    }

    async fn put_key(&self, server: usize, key: &str, query: &str, value: &str) -> End<bool> {
        let url = self.consul(server, &format!("/v1/kv/{key}{query}"));
        self.send(self.http.put(url).body(value.to_owned())).await
    }

    /// Sends a write. What was answered is true unless it says that a condition failed.
    async fn send(&self, request: reqwest::RequestBuilder) -> End<bool> {
        let response = match request.send().await {
            Ok(response) => response,
            Err(error) if error.is_connect() => return End::Failed,
            Err(_) => return End::Unknown,
        };
        let status = response.status().as_u16();
        match (status, response.text().await) {
            (200, Ok(text)) => End::Answered(text.trim() != "false"),
            (429, _) => End::Failed,
            (_, Ok(text)) if text.contains("No cluster leader") => End::Failed,
            (_, Ok(text)) if text.contains("No servers can be reached") => End::Failed,
            (400..500, Ok(text)) => {
                self.shared.seen().faults.push(format!("a write was refused: {status} {text}"));
                End::Failed
            }
            _ => End::Unknown,
        }
    }

    async fn get(&self, url: &str, header: &str) -> Option<(u16, Option<u64>, String)> {
        let response = self.http.get(url).send().await.ok()?;
        let status = response.status().as_u16();
        let index =
            response.headers().get(header).and_then(|text| text.to_str().ok()?.parse().ok());
        Some((status, index, response.text().await.ok()?))
    }

    fn record_write(
        &self,
        object: &Object,
        called: u64,
        end: &End<bool>,
        act: RegisterAct,
    ) -> bool {
        match end {
            End::Answered(_) => self.record(object, called, Some(()), act),
            End::Unknown => self.record(object, called, None, act),
            End::Failed => return false,
        }
        true
    }

    fn record(&self, object: &Object, called: u64, answer: Option<()>, act: RegisterAct) {
        let answered = answer.map(|()| self.shared.now());
        let mut seen = self.shared.seen();
        seen.acknowledged += usize::from(answered.is_some());
        let history = seen.registers.entry(object.clone()).or_default();
        history.push(Operation { called, answered, act });
    }

    /// Notes that something is asked now.
    fn call(&self) -> u64 {
        self.shared.seen().operations += 1;
        self.shared.now()
    }

    fn fresh(&self) -> Written {
        self.shared.drawn.fetch_add(1, Ordering::Relaxed)
    }

    fn consul(&self, server: usize, path: &str) -> String {
        format!("http://{}:8500{path}", self.shared.addresses[server])
    }

    fn nomad(&self, server: usize, path: &str) -> String {
        format!("http://{}:4646{path}", self.shared.addresses[server])
    }
}

/// The number that was written. Zero, which nobody writes, stands for anything else.
fn value_of(object: &Object, found: &Value) -> Written {
    match object {
        Object::Job(_) => found["Meta"]["value"].as_str().and_then(|text| text.parse().ok()),
        Object::Key(_) => {
            found["Value"].as_str().and_then(decode).and_then(|text| text.parse().ok())
        }
    }
    .unwrap_or(0)
}

/// Decodes base64 of plain text.
fn decode(text: &str) -> Option<String> {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut bits, mut count, mut bytes) = (0_u32, 0, Vec::new());
    for letter in text.trim_end_matches('=').bytes() {
        let six = LETTERS.iter().position(|known| *known == letter)?;
        bits = bits << 6 | u32::try_from(six).ok()?;
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from(bits >> count & 0xff).ok()?);
        }
    }
    String::from_utf8(bytes).ok()
}
