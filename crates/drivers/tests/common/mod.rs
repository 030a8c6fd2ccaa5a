//! What the tests of all drivers share: a task's directories, and the program with the shim.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cos_drivers::{
    Driver, Drivers, Environment, ExecOutput, ExecSession, ExitResult, Limits, PluginConfigs,
    TaskConfig, TaskDirs, TaskHandle,
};
use cos_model::{AllocId, Logs, Value};
use cos_platform::{Tasks, entropy};

/// How long anything in these tests may take before it counts as stuck.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A task's directories, removed at the end.
#[derive(Debug)]
pub(crate) struct Ground {
    /// Removes everything at the end.
    _dir: tempfile::TempDir,
    /// The task; tests change what they are about.
    pub(crate) task: TaskConfig,
}

impl Ground {
    /// Makes the directories as the agent does.
    pub(crate) fn new(config: &[(&str, Value)]) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let alloc = dir.path().join("an-allocation-with-a-rather-long-name-0123456789");
        let alloc = alloc.join("and-another-long-component-so-that-no-socket-path-fits-into-it");
        let dirs = TaskDirs {
            task: alloc.join("web"),
            local: alloc.join("web/local"),
            secrets: alloc.join("web/secrets"),
            alloc: alloc.join("alloc"),
            logs: alloc.join("alloc/logs"),
            state: alloc.join(".shim/web"),
        };
        for path in [&dirs.local, &dirs.secrets, &dirs.logs] {
            fs::create_dir_all(path).expect("mkdir");
        }
        for path in [&dirs.task, &dirs.local, &dirs.secrets, &dirs.alloc] {
            fs::set_permissions(path, fs::Permissions::from_mode(0o777)).expect("chmod");
        }
        let task = TaskConfig {
            alloc_id: AllocId::from_bits(entropy::draw()),
            task: "web".to_owned(),
            config: options(config),
            env: BTreeMap::from([("GREETING".to_owned(), "hello".to_owned())]),
            dirs,
            limits: Limits { cpu_mhz: 100, memory_mib: 64, memory_max_mib: 0 },
            ports: Vec::new(),
            user: String::new(),
            logs: Logs::default(),
            mounts: Vec::new(),
            network_mode: String::new(),
            dns: None,
            labels: BTreeMap::new(),
        };
        Self { _dir: dir, task }
    }

    /// Returns all that the task wrote to a stream.
    pub(crate) fn output(&self, stream: &str) -> String {
        let prefix = format!("{}.{stream}", self.task.task);
        let files = cos_drivers::logs::files(&self.task.dirs.logs, &prefix).expect("list logs");
        files.iter().map(|(_, path)| fs::read_to_string(path).expect("read log")).collect()
    }

    /// Waits until the task wrote a line to standard output. Writing is what is waited for, so the
    /// file is looked at again and again.
    pub(crate) async fn until_output(&self, wanted: &str) {
        let found = async {
            while !self.output("stdout").contains(wanted) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let waited = tokio::time::timeout(PATIENCE, found).await;
        assert!(waited.is_ok(), "no `{wanted}` in `{}`", self.output("stdout"));
    }
}

/// Makes a configuration block.
pub(crate) fn options(values: &[(&str, Value)]) -> BTreeMap<String, Value> {
    values.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect()
}

/// Makes a text.
pub(crate) fn text(text: &str) -> Value {
    Value::String(text.to_owned())
}

/// Makes a list of texts.
pub(crate) fn list(items: &[&str]) -> Value {
    Value::List(items.iter().map(|item| text(item)).collect())
}

/// The program with the shim, which is built as an example beside the tests.
pub(crate) fn shim_program() -> PathBuf {
    let test = std::env::current_exe().expect("tests have a path");
    let target = test.parent().and_then(Path::parent).expect("tests are in target/…/deps");
    let program = target.join("examples/shim");
    assert!(program.exists(), "{} is built by `cargo test`", program.display());
    program
}

/// Makes a driver as a newly started agent would.
pub(crate) fn driver(name: &str, plugin: &[(&str, Value)]) -> Arc<dyn Driver> {
    let configs = PluginConfigs {
        plugins: BTreeMap::from([(name.to_owned(), options(plugin))]),
        options: BTreeMap::new(),
    };
    let environment = Environment {
        executable: shim_program(),
        open_files: None,
        chroot_env: BTreeMap::new(),
        tasks: Tasks::new(),
    };
    let drivers = Drivers::new(&configs, &environment).expect("the plugin options are right");
    Arc::clone(drivers.get(name).expect("the driver exists"))
}

/// Waits for the end of a task and cleans up.
pub(crate) async fn finish(driver: &Arc<dyn Driver>, handle: &TaskHandle) -> ExitResult {
    let waited = tokio::time::timeout(PATIENCE, driver.wait(handle)).await;
    let result = waited.expect("the task ends in time").expect("the exit is known");
    driver.destroy(handle).await.expect("nothing is left");
    result
}

/// Runs a task from its start to its end.
pub(crate) async fn run(driver: &Arc<dyn Driver>, ground: &Ground) -> ExitResult {
    let handle = driver.start(&ground.task).await.expect("the task starts");
    finish(driver, &handle).await
}

/// Collects the output and the exit of a session.
pub(crate) async fn collect(mut session: ExecSession) -> (String, String, Option<ExecOutput>) {
    let (mut stdout, mut stderr, mut last) = (String::new(), String::new(), None);
    while let Some(message) =
        tokio::time::timeout(PATIENCE, session.output.next()).await.expect("an answer in time")
    {
        match message {
            ExecOutput::Stdout(bytes) => stdout.push_str(&String::from_utf8_lossy(&bytes)),
            ExecOutput::Stderr(bytes) => stderr.push_str(&String::from_utf8_lossy(&bytes)),
            end => last = Some(end),
        }
    }
    (stdout, stderr, last)
}
