//! One agent as a real process: its configuration, its life, and what is done to it.
//!
//! # Invariants
//!
//! - When an [`Agent`] goes, its process, its tasks and its mounts go.
//! - Every configuration is written by [`configuration`].

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::lab::{Port, run};

/// How long an agent may take to end after it was asked to.
const END_TIME: Duration = Duration::from_secs(15);

/// What an agent is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// A server, one of three.
    Server,
    /// A client that runs `raw_exec`.
    Client,
}

/// How an agent's process is started, besides its configuration.
#[derive(Clone, Debug, Default)]
pub(crate) struct Start {
    /// Variables of its environment.
    pub(crate) environment: Vec<(String, String)>,
    /// The most descriptors that it may have.
    pub(crate) descriptors: Option<u32>,
}

/// An agent, running or not.
#[derive(Debug)]
pub(crate) struct Agent {
    /// Its name.
    pub(crate) name: String,
    /// Where it is in the network.
    pub(crate) port: Port,
    /// Its directory: configuration, log and data.
    pub(crate) dir: PathBuf,
    /// The program.
    pub(crate) program: PathBuf,
    /// How it is started.
    pub(crate) start: Start,
    child: Option<Child>,
    mounted: bool,
}

impl Agent {
    pub(crate) fn new(
        dir: &Path,
        name: &str,
        role: Role,
        port: Port,
        servers: &[Port],
    ) -> anyhow::Result<Self> {
        let dir = dir.join(name);
        std::fs::create_dir_all(dir.join("data"))?;
        let text = configuration(name, &dir.join("data"), role, &port, servers);
        std::fs::write(dir.join("agent.hcl"), text)?;
        let program = program();
        let start = Start::default();
        let (child, mounted) = (None, false);
        Ok(Self { name: name.to_owned(), port, dir, program, start, child, mounted })
    }

    /// Starts its process, unless it runs.
    pub(crate) fn start(&mut self) -> anyhow::Result<()> {
        if self.is_running() {
            return Ok(());
        }
        let log = File::options().append(true).create(true).open(self.dir.join("log"))?;
        let mut command = self.port.command();
        if let Some(most) = self.start.descriptors {
            command.arg("prlimit").arg(format!("--nofile={most}:{most}"));
        }
        command
            .arg(&self.program)
            .args(["agent", "-config"])
            .arg(self.dir.join("agent.hcl"))
            .env("COS_TEST_DISK_FAULTS", self.dir.join("disk"))
            .envs(self.start.environment.iter().cloned())
            .current_dir(&self.dir)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        self.child = Some(command.spawn().context("cannot start an agent")?);
        Ok(())
    }

    /// Whether its process is there.
    pub(crate) fn is_running(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| child.try_wait().is_ok_and(|end| end.is_none()))
    }

    /// The number of its process.
    pub(crate) fn pid(&self) -> Option<i32> {
        self.child.as_ref().and_then(|child| i32::try_from(child.id()).ok())
    }

    /// Sends its process a signal.
    pub(crate) fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let pid = self.pid().context("it does not run")?;
        kill(Pid::from_raw(pid), signal).with_context(|| format!("{signal} to {}", self.name))
    }

    /// Kills it without warning.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself.
            child.kill().ok();
            child.wait().ok();
        }
    }

    /// Asks it to end and waits until it has.
    pub(crate) async fn end(&mut self) -> anyhow::Result<()> {
        self.signal(Signal::SIGTERM)?;
        self.ended(END_TIME).await
    }

    /// Waits until its process has ended.
    pub(crate) async fn ended(&mut self, patience: Duration) -> anyhow::Result<()> {
        let deadline = tokio::time::Instant::now() + patience;
        while self.is_running() {
            if tokio::time::Instant::now() > deadline {
                bail!("{} did not end within {patience:?}", self.name);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        self.child = None;
        Ok(())
    }

    /// Has its device behave by these rules from now on.
    pub(crate) fn set_disk(&self, rules: &str) -> anyhow::Result<()> {
        // In one step, as it is read at any moment.
        let new = self.dir.join("disk.new");
        std::fs::write(&new, rules)?;
        Ok(std::fs::rename(new, self.dir.join("disk"))?)
    }

    /// Where its data are.
    pub(crate) fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// Puts its data on a small file system of its own, which it has to be stopped for.
    pub(crate) fn mount(&mut self, options: &str) -> anyhow::Result<()> {
        std::fs::create_dir_all(self.data())?;
        let options = ["-t", "tmpfs", "-o", options, "tmpfs"];
        run(Command::new("mount").args(options).arg(self.data()))?;
        self.mounted = true;
        Ok(())
    }

    /// Takes that file system away again, with everything on it.
    pub(crate) fn unmount(&mut self) {
        if std::mem::take(&mut self.mounted) {
            run(Command::new("umount").arg("-l").arg(self.data())).ok();
        }
    }

    /// Forgets everything that it ever stored.
    pub(crate) fn wipe(&self) -> anyhow::Result<()> {
        std::fs::remove_dir_all(self.data())?;
        Ok(std::fs::create_dir_all(self.data())?)
    }

    /// What it logged after this many bytes.
    pub(crate) fn log_since(&self, from: usize) -> String {
        let log = std::fs::read(self.dir.join("log")).unwrap_or_default();
        String::from_utf8_lossy(log.get(from..).unwrap_or_default()).into_owned()
    }

    /// How many bytes it logged.
    pub(crate) fn log_length(&self) -> usize {
        std::fs::metadata(self.dir.join("log"))
            .map_or(0, |file| usize::try_from(file.len()).unwrap_or(0))
    }

    /// The address of a page of its HTTP API.
    pub(crate) fn http(&self, path: &str) -> String {
        format!("http://{}:4646{path}", self.port.address)
    }

    /// The address of a page of its Consul dialect.
    pub(crate) fn consul(&self, path: &str) -> String {
        format!("http://{}:8500{path}", self.port.address)
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.kill();
        crate::processes::end_all(&self.dir);
        let allocs = std::fs::read_dir(self.data().join("alloc")).into_iter().flatten().flatten();
        let allocs: Vec<String> =
            allocs.map(|alloc| alloc.file_name().to_string_lossy().into_owned()).collect();
        for group in crate::processes::groups(&allocs) {
            std::fs::remove_dir(group).ok();
        }
        self.unmount();
    }
}

/// The program under test: the one that was built with this suite, unless another one is named.
pub(crate) fn program() -> PathBuf {
    std::env::var_os("COS_BIN").map_or_else(|| env!("CARGO_BIN_EXE_cos").into(), PathBuf::from)
}

fn configuration(name: &str, data: &Path, role: Role, port: &Port, servers: &[Port]) -> String {
    let list = |number: u16| {
        let quoted: Vec<String> =
            servers.iter().map(|server| format!("\"{}:{number}\"", server.address)).collect();
        quoted.join(", ")
    };
    let (address, data) = (&port.address, data.display());
    let common = format!(
        "name = \"{name}\"\ndata_dir = \"{data}\"\nbind_addr = \"{address}\"\ncluster {{\n  insecure = true\n}}\n"
    );
    let role = match role {
        Role::Server => format!(
            "server {{\n  enabled = true\n  bootstrap_expect = 3\n  closed_heartbeat_grace = \
             \"10s\"\n  heartbeat_grace = \"10s\"\n  server_join {{\n    retry_join = [{}]\n    \
             retry_interval = \"1s\"\n  }}\n}}\n",
            list(4648)
        ),
        Role::Client => format!(
            "client {{\n  enabled = true\n  servers = [{}]\n}}\nplugin \"raw_exec\" {{\n  config \
             {{\n    enabled = true\n  }}\n}}\n",
            list(4647)
        ),
    };
    common + &role
}
