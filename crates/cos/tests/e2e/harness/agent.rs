//! One agent of a test: its configuration, its process, and what can be asked of it.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::unistd::Pid;
use serde_json::Value;

use super::{PATIENCE, Place, Site, get_json, processes, until};

/// How long an agent may take to end after it was asked to.
const END_TIME: Duration = Duration::from_secs(10);

/// How much of the log of an agent is shown if its test fails.
const LOG_LINES_MAX: usize = 60;

/// An agent, running or not.
#[derive(Debug)]
pub(crate) struct Agent {
    name: String,
    /// Where it listens.
    pub(crate) place: Place,
    dir: PathBuf,
    flags: Vec<&'static str>,
    open_files: Option<u64>,
    /// How much of the log was there when it was last forgotten.
    log_from: usize,
    child: Option<Child>,
}

/// What a command said.
#[derive(Debug)]
pub(crate) struct Said {
    /// Its exit code.
    pub(crate) code: Option<i32>,
    /// Standard output.
    pub(crate) out: String,
    /// Standard error.
    pub(crate) err: String,
}

impl Said {
    /// Insists on success and returns what was printed.
    #[track_caller]
    pub(crate) fn well(self) -> String {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.out
    }
}

impl Agent {
    pub(super) fn new(site: &Site, name: &str, place: Place, roles: &str) -> Self {
        let dir = site.path().join(name);
        std::fs::create_dir(&dir).expect("names of agents differ");
        let text = format!(
            "name = \"{name}\"\nbind_addr = \"{}\"\ndata_dir = \"{}/data\"\nports {{\n  http = {}\n  \
             rpc = {}\n  serf = {}\n  consul_http = {}\n  dns = {}\n  ingress = {}\n  ingress_ui = \
             {}\n}}\n{roles}",
            place.address,
            dir.display(),
            Place::HTTP,
            Place::RPC,
            Place::SERF,
            Place::consul(),
            Place::DNS,
            Place::ingress(),
            Place::INGRESS_UI,
        );
        std::fs::write(dir.join("agent.hcl"), text).expect("the directory can be written");
        Self {
            name: name.to_owned(),
            place,
            dir,
            flags: Vec::new(),
            open_files: None,
            log_from: 0,
            child: None,
        }
    }

    /// Makes it a development agent.
    pub(crate) fn dev(mut self) -> Self {
        self.flags.push("-dev");
        self
    }

    /// Lets its process open no more files than this.
    pub(crate) fn limit_open_files(&mut self, most: u64) {
        self.open_files = Some(most);
    }

    /// Adds blocks to its configuration.
    pub(crate) fn configure(&self, blocks: &str) {
        let path = self.dir.join("agent.hcl");
        let text = std::fs::read_to_string(&path).expect("it was written");
        std::fs::write(path, text + blocks).expect("the directory can be written");
    }

    /// Starts its process.
    pub(crate) fn start(&mut self) {
        assert!(self.child.is_none(), "{} runs", self.name);
        let log = File::options().append(true).create(true).open(self.dir.join("log"));
        let log = log.expect("the log can be written");
        let program = env!("CARGO_BIN_EXE_cos");
        let mut command = match self.open_files {
            None => Command::new(program),
            Some(most) => {
                let mut shell = Command::new("/bin/sh");
                shell.args(["-c", &format!("ulimit -n {most}; exec {program} \"$@\""), "sh"]);
                shell
            }
        };
        let child = command
            .arg("agent")
            .args(&self.flags)
            .arg("-config")
            .arg(self.dir.join("agent.hcl"))
            .current_dir(&self.dir)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a descriptor is free"))
            .stderr(log)
            .spawn();
        self.child = Some(child.expect("the program can be started"));
    }

    /// Starts its process and waits until its cluster has a leader and, as a client, its node is
    /// ready.
    pub(crate) async fn start_alone(&mut self) {
        self.start();
        until("a ready node", PATIENCE, async || {
            let nodes = get_json(&self.http("/v1/nodes")).await?;
            (nodes.get(0)?.get("Status")? == "ready").then_some(())
        })
        .await;
    }

    /// Kills it without warning.
    pub(crate) fn kill(&mut self) {
        let mut child = self.child.take().expect("it runs");
        child.kill().expect("it can be killed");
        child.wait().expect("it ends");
    }

    /// Kills everything that it ran, shims first or not, as when its machine is switched off.
    pub(crate) fn kill_tasks(&self) {
        assert!(self.child.is_none(), "{} would see it", self.name);
        processes::end_all(&self.dir);
    }

    /// Asks it to end, and waits until it has.
    pub(crate) async fn end(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("it runs");
        let pid = Pid::from_raw(i32::try_from(child.id()).expect("it is a process"));
        nix::sys::signal::kill(pid, Signal::SIGTERM).expect("it can be told");
        until("end of the agent", END_TIME, || {
            std::future::ready(child.try_wait().expect("it is our child"))
        })
        .await
    }

    /// Sends a signal to its process.
    pub(crate) fn signal(&self, signal: Signal) {
        let child = self.child.as_ref().expect("it runs");
        let pid = Pid::from_raw(i32::try_from(child.id()).expect("it is a process"));
        nix::sys::signal::kill(pid, signal).expect("it can be told");
    }

    /// How much memory its process has, in KiB.
    pub(crate) fn memory_kib(&self) -> u64 {
        let child = self.child.as_ref().expect("it runs");
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id()));
        let status = status.expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a size");
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    }

    /// Lines of its log that hold some words, since the log was last forgotten.
    pub(crate) fn log_lines(&self, words: &str) -> Vec<String> {
        let log = std::fs::read_to_string(self.dir.join("log")).unwrap_or_default();
        let news = log.get(self.log_from..).unwrap_or_default();
        news.lines().filter(|line| line.contains(words)).map(str::to_owned).collect()
    }

    /// Lets [`Self::log_lines`] begin here.
    pub(crate) fn forget_log(&mut self) {
        let log = std::fs::read_to_string(self.dir.join("log")).unwrap_or_default();
        self.log_from = log.len();
    }

    /// The address of a page of its HTTP API.
    pub(crate) fn http(&self, path: &str) -> String {
        format!("http://{}:{}{path}", self.place.address, Place::HTTP)
    }

    /// The address of a page of its Consul dialect.
    pub(crate) fn consul(&self, path: &str) -> String {
        format!("http://{}:{}{path}", self.place.address, Place::consul())
    }

    /// The address of a page behind its ingress.
    pub(crate) fn ingress(&self, path: &str) -> String {
        format!("http://{}:{}{path}", self.place.address, Place::ingress())
    }

    /// Asks its HTTP API.
    pub(crate) async fn json(&self, path: &str) -> Option<Value> {
        get_json(&self.http(path)).await
    }

    /// The allocations of a job that are meant to run and do.
    pub(crate) async fn running(&self, job: &str) -> Vec<Value> {
        let allocs = self.json(&format!("/v1/job/{job}/allocations")).await;
        let runs =
            |alloc: &Value| alloc["ClientStatus"] == "running" && alloc["DesiredStatus"] == "run";
        let Some(Value::Array(allocs)) = allocs else { return Vec::new() };
        allocs.into_iter().filter(runs).collect()
    }

    /// Waits until so many allocations of a job run.
    pub(crate) async fn until_running(&self, job: &str, count: usize) -> Vec<Value> {
        until(&format!("{count} running of {job}"), PATIENCE, async || {
            let running = self.running(job).await;
            (running.len() == count).then_some(running)
        })
        .await
    }

    /// Runs a command of `cos` against it.
    pub(crate) async fn cos(&self, arguments: &[&str]) -> Said {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_cos"));
        command
            .args(arguments)
            .current_dir(&self.dir)
            .env("NOMAD_ADDR", self.http(""))
            .stdin(Stdio::null())
            .kill_on_drop(true);
        let output = tokio::time::timeout(PATIENCE, command.output()).await;
        let output = output.unwrap_or_else(|_| panic!("`cos {}` hangs", arguments.join(" ")));
        let output = output.expect("the program can be started");
        Said {
            code: output.status.code(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Submits a job file and waits until it is deployed.
    pub(crate) async fn run_job(&self, file: &Path) -> String {
        self.cos(&["job", "run", &file.display().to_string()]).await.well()
    }

    /// Waits until its process has ended by itself.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("it runs");
        until("end of the agent", PATIENCE, || {
            std::future::ready(child.try_wait().expect("it is our child"))
        })
        .await
    }

    /// Everything that it logged so far.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }

    /// A place below its data directory.
    pub(crate) fn data(&self, name: &str) -> PathBuf {
        self.dir.join("data").join(name)
    }

    fn log_end(&self) -> String {
        let log = std::fs::read_to_string(self.dir.join("log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES_MAX)..].join("\n")
    }
}

impl Drop for Agent {
    #[expect(clippy::print_stderr, reason = "the log is what explains a failed test")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("== the end of the log of {}\n{}", self.name, self.log_end());
        }
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself.
            child.kill().ok();
            child.wait().ok();
        }
    }
}
