//! Servers of this very program, started for one measurement and gone after it.
//!
//! # Invariants
//!
//! - Dropping a [`Cluster`] kills its processes and removes their directory.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use tokio::time::Instant;

use crate::{BenchError, wire};

/// How long servers may take to have a leader.
const READY_TIMEOUT: Duration = Duration::from_mins(1);
/// The pause between two looks at a server that is not ready yet.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// How long one look may take.
const LOOK_TIMEOUT: Duration = Duration::from_secs(2);
/// How much of a server's log an error shows.
const LOG_BYTES_SHOWN: usize = 2000;

/// One server.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) http: SocketAddr,
    pub(crate) consul: SocketAddr,
    pub(crate) rpc: SocketAddr,
    config: PathBuf,
    log: PathBuf,
    child: Option<Child>,
}

/// Servers that form a group.
#[derive(Debug)]
pub(crate) struct Cluster {
    directory: PathBuf,
    executable: PathBuf,
    pub(crate) servers: Vec<Server>,
}

impl Cluster {
    /// Starts servers below `directory` and waits for a leader.
    pub(crate) async fn start(count: usize, directory: &Path) -> Result<Self, BenchError> {
        let name = format!("cos-bench-{}", std::process::id());
        let directory = directory.join(name);
        fs::create_dir_all(&directory)
            .map_err(BenchError::io(format!("cannot make {}", directory.display())))?;
        let executable =
            std::env::current_exe().map_err(BenchError::io("cannot find this program's file"))?;
        let mut cluster = Self { directory, executable, servers: Vec::new() };
        let ports: Vec<[u16; 5]> = (0..count).map(|_| free_ports()).collect::<Result<_, _>>()?;
        let gossip: Vec<String> =
            ports.iter().map(|ports| format!("127.0.0.1:{}", ports[2])).collect();
        for (number, ports) in ports.iter().enumerate() {
            cluster.prepare(number, ports, &gossip)?;
            cluster.spawn(number)?;
        }
        cluster.leader().await?;
        Ok(cluster)
    }

    fn prepare(
        &mut self,
        number: usize,
        ports: &[u16; 5],
        gossip: &[String],
    ) -> Result<(), BenchError> {
        let [http, rpc, serf, consul, dns] = *ports;
        let config = json!({
            "name": format!("bench-{number}"),
            "data_dir": self.directory.join(number.to_string()),
            "bind_addr": "127.0.0.1",
            "log_level": "info",
            "ports": {
                "http": http, "rpc": rpc, "serf": serf, "consul_http": consul, "dns": dns,
                "ingress": -1, "ingress_ui": -1,
            },
            "server": {
                "enabled": true,
                "bootstrap_expect": gossip.len(),
                "server_join": { "retry_join": gossip },
            },
            // One client plays thousands of users here.
            "limits": {
                "http_max_conns_per_client": 0,
                "http_max_blocking_per_client": 0,
                "rpc_max_conns_per_client": 0,
            },
        });
        let path = self.directory.join(format!("{number}.json"));
        fs::write(&path, config.to_string())
            .map_err(BenchError::io(format!("cannot write {}", path.display())))?;
        let at = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        self.servers.push(Server {
            http: at(http),
            consul: at(consul),
            rpc: at(rpc),
            config: path,
            log: self.directory.join(format!("{number}.log")),
            child: None,
        });
        Ok(())
    }

    /// Starts a server, which is not running.
    pub(crate) fn spawn(&mut self, number: usize) -> Result<(), BenchError> {
        let server = &mut self.servers[number];
        let log = File::options()
            .create(true)
            .append(true)
            .open(&server.log)
            .map_err(BenchError::io("cannot open a log"))?;
        let second = log.try_clone().map_err(BenchError::io("cannot open a log"))?;
        let child = Command::new(&self.executable)
            .args(["agent", "-config"])
            .arg(&server.config)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(second)
            .spawn()
            .map_err(BenchError::io("cannot start a server"))?;
        server.child = Some(child);
        Ok(())
    }

    /// Sends a server a signal.
    pub(crate) fn signal(&self, number: usize, signal: Signal) -> Result<(), BenchError> {
        let pid = self.pid(number)?;
        kill(pid, signal)
            .map_err(|error| BenchError::Failed(format!("cannot signal {pid}: {error}")))
    }

    /// Waits for the end of a server that was told to end.
    pub(crate) async fn ended(&mut self, number: usize) -> Result<(), BenchError> {
        let Some(mut child) = self.servers[number].child.take() else { return Ok(()) };
        let waited = tokio::task::spawn_blocking(move || child.wait()).await;
        match waited {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(BenchError::io("cannot wait for a server")(error)),
            Err(error) => Err(BenchError::Failed(error.to_string())),
        }
    }

    /// The server that leads, by its position, as soon as one does.
    pub(crate) async fn leader(&mut self) -> Result<usize, BenchError> {
        let deadline = Instant::now() + READY_TIMEOUT;
        while Instant::now() < deadline {
            self.check_alive()?;
            for server in self.servers.iter().filter(|server| server.child.is_some()) {
                let leader = wire::get(server.http, "/v1/status/leader", LOOK_TIMEOUT).await;
                let leader = leader.ok().and_then(|leader| leader.as_str()?.parse().ok());
                let leads = |server: &Server| server.child.is_some() && Some(server.rpc) == leader;
                if let Some(number) = self.servers.iter().position(leads) {
                    return Ok(number);
                }
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Err(self.failure(0, "there is no leader"))
    }

    /// A server that ended by itself, as one does that cannot start, is not waited for.
    fn check_alive(&mut self) -> Result<(), BenchError> {
        let has_ended = |server: &mut Server| {
            server.child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(Some(_))))
        };
        match self.servers.iter_mut().position(has_ended) {
            Some(number) => Err(self.failure(number, "a server has ended by itself")),
            None => Ok(()),
        }
    }

    /// Waits until a server says that it knows a leader, sees all voters, and reads what the
    /// others see.
    pub(crate) async fn rejoined(&self, number: usize) -> Result<(), BenchError> {
        let http = self.servers[number].http;
        let deadline = Instant::now() + READY_TIMEOUT;
        while Instant::now() < deadline {
            let path = "/v1/operator/raft/configuration";
            if let Ok(group) = wire::get(http, path, LOOK_TIMEOUT).await {
                let servers = group["Servers"].as_array().map_or(&[][..], Vec::as_slice);
                let voters = servers.iter().filter(|server| server["Voter"] == true).count();
                let has_leader = servers.iter().any(|server| server["Leader"] == true);
                if voters == self.servers.len() && has_leader {
                    return Ok(());
                }
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Err(self.failure(number, "the server did not come back"))
    }

    /// User and system time of all servers that run.
    pub(crate) fn processor_time(&self) -> Result<Duration, BenchError> {
        let children = self.servers.iter().filter_map(|server| server.child.as_ref());
        children.map(|child| processor_time(child.id())).sum()
    }

    /// Resident memory of a server, in bytes.
    pub(crate) fn memory(&self, number: usize) -> Result<u64, BenchError> {
        let path = format!("/proc/{}/status", self.pid(number)?);
        let text = fs::read_to_string(&path).map_err(BenchError::io(path))?;
        let kib = text
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next()?.parse().ok());
        kib.map(|kib: u64| kib * 1024)
            .ok_or_else(|| BenchError::Failed("the kernel does not tell VmRSS".to_owned()))
    }

    /// An error with the end of a server's log.
    pub(crate) fn failure(&self, number: usize, what: &str) -> BenchError {
        let log = fs::read_to_string(&self.servers[number].log).unwrap_or_default();
        let tail = log.len().saturating_sub(LOG_BYTES_SHOWN);
        let tail = (tail..log.len()).find_map(|at| log.get(at..)).unwrap_or("");
        BenchError::Failed(format!("{what}; the log of server {number} ends with:\n{tail}"))
    }

    fn pid(&self, number: usize) -> Result<Pid, BenchError> {
        let child = self.servers[number].child.as_ref();
        child
            .and_then(|child| i32::try_from(child.id()).ok())
            .map(Pid::from_raw)
            .ok_or_else(|| BenchError::Failed(format!("server {number} does not run")))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for child in self.servers.iter_mut().filter_map(|server| server.child.as_mut()) {
            // One that has ended already is what is wanted.
            drop(child.kill());
            drop(child.wait());
        }
        drop(fs::remove_dir_all(&self.directory));
    }
}

/// User and system time of a process so far.
pub(crate) fn processor_time(pid: u32) -> Result<Duration, BenchError> {
    let path = format!("/proc/{pid}/stat");
    let text = fs::read_to_string(&path).map_err(BenchError::io(path))?;
    // The name, in parentheses, may contain anything; user and system time are the 12th and 13th
    // fields after it.
    let fields = text.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks: u64 = fields
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|field| field.parse::<u64>().ok())
        .sum();
    let per_second = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).ok().flatten();
    let per_second = per_second.and_then(|ticks| u64::try_from(ticks).ok()).unwrap_or(100);
    Ok(Duration::from_millis(ticks * 1000 / per_second))
}

/// Ports that are free now.
pub(crate) fn free_ports<const N: usize>() -> Result<[u16; N], BenchError> {
    let listeners: Vec<TcpListener> = (0..N)
        .map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))
        .collect::<Result<_, _>>()
        .map_err(BenchError::io("no free port"))?;
    let mut ports = [0; N];
    for (port, listener) in ports.iter_mut().zip(&listeners) {
        *port = listener.local_addr().map_err(BenchError::io("no free port"))?.port();
    }
    Ok(ports)
}
