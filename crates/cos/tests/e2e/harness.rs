//! What all end-to-end tests share: a place, agents in it, and ways to wait.
//!
//! # Invariants
//!
//! - **Nothing survives a test.** When a [`Site`] goes, also while a test fails, every process that
//!   was started from it is killed and its control groups are removed.
//! - **No test waits for time to pass.** All of them wait for a state, with a deadline.
//!
//! Deliberately absent: knowledge of any job or protocol beyond "this is JSON".

mod agent;
mod processes;

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use serde_json::Value;

pub(crate) use self::agent::Agent;
pub(crate) use self::processes::Process;

/// How long anything may take that nothing is promised about. Far above what is normal.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// The pause between two looks at something that cannot be waited for otherwise.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Agents of this test process so far; each gets its own address and its own range of ports.
static AGENTS: AtomicU16 = AtomicU16::new(0);

/// One client for all: making one reads the certificates of the machine. Connections are not kept,
/// because every test has a runtime of its own.
static CLIENT: LazyLock<reqwest::Client> = LazyLock::new(|| {
    reqwest::Client::builder()
        .pool_max_idle_per_host(0)
        .timeout(Duration::from_secs(10))
        .build()
        .expect("a client can be made")
});

/// A directory with the agents of one test.
#[derive(Debug)]
pub(crate) struct Site {
    dir: tempfile::TempDir,
}

impl Site {
    /// Makes an empty one.
    pub(crate) fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("cos-e2e-").tempdir().expect("a directory");
        Self { dir }
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Writes a file and returns where.
    pub(crate) fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::write(&path, content).expect("the directory can be written");
        path
    }

    /// Makes an agent that does not run yet. `roles` are the blocks that make it something.
    pub(crate) fn agent(&self, name: &str, roles: impl FnOnce(&Place) -> String) -> Agent {
        let place = Place::take();
        let text = roles(&place);
        Agent::new(self, name, place, &text)
    }

    /// What is still there of this place: processes, mounts, and the control groups of `allocs`.
    pub(crate) fn leftovers(&self, allocs: &[String]) -> Vec<String> {
        let mut found: Vec<String> =
            processes::of(self.path()).iter().map(|process| format!("{process:?}")).collect();
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let here = self.path().display().to_string();
        found.extend(mounts.lines().filter(|line| line.contains(&here)).map(str::to_owned));
        found.extend(
            processes::groups(allocs).iter().map(|path| format!("group {}", path.display())),
        );
        found
    }

    /// The allocations that agents of this place have directories of.
    fn allocs(&self) -> Vec<String> {
        let agents = std::fs::read_dir(self.path()).into_iter().flatten().flatten();
        agents
            .filter_map(|agent| std::fs::read_dir(agent.path().join("data/alloc")).ok())
            .flat_map(Iterator::flatten)
            .map(|alloc| alloc.file_name().to_string_lossy().into_owned())
            .collect()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        processes::end_all(self.path());
        for group in processes::groups(&self.allocs()) {
            // Only an empty one can be removed, and one that is not empty was told by its process.
            std::fs::remove_dir(group).ok();
        }
    }
}

/// An agent's address, and what it has of resources that all agents of a machine share.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// Its own loopback address.
    pub(crate) address: Ipv4Addr,
    /// The first of its [`Self::PORTS`] dynamic ports.
    pub(crate) first_port: u16,
}

impl Place {
    /// Below the range from which the kernel takes ports, and below the default of agents.
    const PORTS_FROM: u16 = 10_000;
    const PORTS: u16 = 50;
    const RANGES: u16 = 190;

    /// Ports that differ from those of a cluster that somebody uses, because the container bridge
    /// has one address for all agents of a machine.
    pub(crate) const HTTP: u16 = 14_646;
    pub(crate) const RPC: u16 = 14_647;
    pub(crate) const SERF: u16 = 14_648;
    pub(crate) const DNS: u16 = 18_600;
    pub(crate) const INGRESS_UI: u16 = 19_998;

    fn take() -> Self {
        let number = AGENTS.fetch_add(1, Ordering::Relaxed);
        assert!(number < 250, "a test process has 250 addresses");
        let process = std::process::id();
        let byte = |bits: u32| u8::try_from(bits & 0xff).expect("it is masked");
        let own = u8::try_from(number + 1).expect("it is below 250");
        let address = Ipv4Addr::new(127, 64 | byte(process >> 8) >> 2, byte(process), own);
        let range = (u16::from(byte(process)) * 7 + number) % Self::RANGES;
        Self { address, first_port: Self::PORTS_FROM + range * Self::PORTS }
    }

    /// The port of the Consul dialect, another one for every test process.
    pub(crate) fn consul() -> u16 {
        15_000 + u16::try_from(std::process::id() % 1000).expect("it is below 1000")
    }

    /// The port of the ingress, another one for every test process.
    pub(crate) fn ingress() -> u16 {
        Self::consul() + 1000
    }

    /// The blocks of a client that runs `raw_exec`, with servers at these addresses.
    pub(crate) fn client(&self, servers: &[Ipv4Addr]) -> String {
        let servers: Vec<String> =
            servers.iter().map(|address| format!("\"{address}:{}\"", Self::RPC)).collect();
        format!(
            "client {{\n  enabled = true\n  servers = [{}]\n  min_dynamic_port = {}\n  \
             max_dynamic_port = {}\n}}\nplugin \"raw_exec\" {{\n  config {{\n    enabled = true\n  \
             }}\n}}\n",
            servers.join(", "),
            self.first_port,
            self.first_port + Self::PORTS - 1
        )
    }
}

/// Looks again and again until there is something.
pub(crate) async fn until<T, F: Future<Output = Option<T>>>(
    what: &str,
    patience: Duration,
    mut look: impl FnMut() -> F,
) -> T {
    let found = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    };
    let found = tokio::time::timeout(patience, found).await;
    found.unwrap_or_else(|_elapsed| panic!("no {what} within {patience:?}"))
}

/// Asks for a page; `None` unless it is answered with success.
pub(crate) async fn get(url: &str) -> Option<String> {
    let response = CLIENT.get(url).send().await.ok()?;
    if response.status().is_success() { response.text().await.ok() } else { None }
}

/// Asks for JSON; `None` unless it is answered with success.
pub(crate) async fn get_json(url: &str) -> Option<Value> {
    get(url).await.and_then(|text| serde_json::from_str(&text).ok())
}

/// Puts something; says whether that succeeded.
pub(crate) async fn put(url: &str, body: &str) -> bool {
    let sent = CLIENT.put(url).body(body.to_owned()).send().await;
    sent.is_ok_and(|response| response.status().is_success())
}

/// The directory with the sample services.
pub(crate) fn samples() -> PathBuf {
    let beside = Path::new(env!("CARGO_BIN_EXE_cos")).parent().expect("it is in a directory");
    let dir = std::env::var_os("COS_SAMPLES").map_or_else(|| beside.to_owned(), PathBuf::from);
    assert!(
        dir.join("ping-service").exists(),
        "there is no ping-service in {}: build it with `cargo build -p cos-samples`, or set \
         COS_SAMPLES to the directory of the sample services",
        dir.display()
    );
    dir
}
