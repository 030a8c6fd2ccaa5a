//! The `docker` driver against a real engine. Without one these tests say so and pass.
//!
//! The image is made here of the host's own shell and tools, so nothing is pulled.

mod common;
#[path = "common/registry.rs"]
mod registry;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bollard::models::{ContainerInspectResponse, CreateImageInfo};
use bollard::query_parameters::CreateImageOptions;
use bytes::Bytes;
use common::{Ground, collect, driver, finish, list, options, run, text};
use cos_drivers::driver::Reference;
use cos_drivers::{
    Driver, ExecInput, ExecOutput, ExecRequest, Limits, Mount, StartError, TaskError, TaskHandle,
};
use cos_model::{AllocId, AllocatedPort, Value};
use futures_util::StreamExt;
use tokio::sync::OnceCell;

use registry::Registry;

const LONG: Duration = Duration::from_secs(20);

/// The tag is none of `latest`, so the engine's own copy must be used.
const IMAGE: &str = "cos-driver-test:1";

/// What is in the image.
const PROGRAMS: [&str; 7] = ["sh", "cat", "sleep", "id", "head", "tail", "stty"];

static IMAGE_MADE: OnceCell<()> = OnceCell::const_new();

/// Makes the driver, and the image once, or says why these tests cannot run here.
#[expect(clippy::print_stdout, reason = "a test that is skipped must say so")]
async fn docker(plugin: &[(&str, Value)]) -> Option<Arc<dyn Driver>> {
    let driver = driver("docker", plugin);
    let state = driver.fingerprint().await;
    if !state.healthy {
        println!("skipped: no Docker engine: {}", state.description);
        return None;
    }
    IMAGE_MADE.get_or_init(make_image).await;
    Some(driver)
}

fn engine() -> bollard::Docker {
    bollard::Docker::connect_with_unix_defaults().expect("the engine's socket is there")
}

/// An earlier run's image is as good and is left for the next.
async fn make_image() {
    let engine = engine().negotiate_version().await.expect("the engine answers");
    if engine.inspect_image(IMAGE).await.is_ok() {
        return;
    }
    let options = CreateImageOptions {
        from_src: Some("-".to_owned()),
        repo: Some("cos-driver-test".to_owned()),
        tag: Some("1".to_owned()),
        ..CreateImageOptions::default()
    };
    let body = bollard::body_full(Bytes::from(root_file_system()));
    let steps: Vec<Result<CreateImageInfo, _>> =
        engine.create_image(Some(options), Some(body), None).collect().await;
    steps.into_iter().collect::<Result<Vec<_>, _>>().expect("the image is made");
}

/// Packs the programs with the libraries that they need.
fn root_file_system() -> Vec<u8> {
    let mut files = BTreeMap::new();
    for program in PROGRAMS {
        let found = ["/bin", "/usr/bin"].iter().map(|dir| Path::new(dir).join(program));
        let path = found.into_iter().find(|path| path.exists()).expect("the program is installed");
        let libraries = Command::new("ldd").arg(&path).output().expect("ldd runs");
        let libraries = String::from_utf8_lossy(&libraries.stdout).into_owned();
        for word in libraries.split_ascii_whitespace().filter(|word| word.starts_with('/')) {
            files.insert(PathBuf::from(word), fs::read(word).expect("read"));
        }
        files.insert(Path::new("/bin").join(program), fs::read(&path).expect("read"));
    }
    files.insert(
        PathBuf::from("/etc/passwd"),
        b"root:x:0:0::/:/bin/sh\nweb:x:77:77::/:/bin/sh\n".to_vec(),
    );
    files.insert(PathBuf::from("/tmp/.keep"), Vec::new());
    let mut builder = tar::Builder::new(Vec::new());
    for (path, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o755);
        let path = path.strip_prefix("/").expect("paths are absolute");
        builder.append_data(&mut header, path, content.as_slice()).expect("packs");
    }
    builder.into_inner().expect("packs")
}

/// A task that runs a script in the image, with further options.
fn ground(code: &str, further: &[(&str, Value)]) -> Ground {
    let mut config =
        vec![("image", text(IMAGE)), ("command", text("/bin/sh")), ("args", list(&["-c", code]))];
    config.extend_from_slice(further);
    Ground::new(&config)
}

async fn check(code: &str, further: &[(&str, Value)], want: &str) {
    let Some(driver) = docker(&[]).await else { return };
    let ground = ground(code, further);
    let result = run(&driver, &ground).await;
    let (out, err) = (ground.output("stdout"), ground.output("stderr"));
    assert_eq!(out, want, "{code}: {err}");
    assert!(result.is_success(), "{code}: {result:?} {err}");
}

async fn inspect(handle: &TaskHandle) -> ContainerInspectResponse {
    let Reference::Container(reference) = &handle.reference else { panic!("it is a container") };
    let engine = engine().negotiate_version().await.expect("the engine answers");
    engine.inspect_container(&reference.container, None).await.expect("the container is there")
}

#[tokio::test]
async fn a_container_runs_and_its_exit_and_output_are_recorded() {
    let Some(driver) = docker(&[]).await else { return };
    let ground = ground("echo out; echo err >&2; exit 7", &[]);
    assert_eq!(run(&driver, &ground).await.exit_code, 7);
    assert_eq!(
        (ground.output("stdout"), ground.output("stderr")),
        ("out\n".into(), "err\n".into())
    );
}

#[tokio::test]
async fn a_container_sees_its_environment_and_directories() {
    check(
        "echo $GREETING; echo x > /local/a && echo y > /alloc/b && echo z > /secrets/c && echo ok",
        &[],
        "hello\nok\n",
    )
    .await;
    check("pwd", &[("work_dir", text("/tmp"))], "/tmp\n").await;
    check("id -u", &[], "0\n").await;
    check("cat /etc/hostname", &[("hostname", text("box"))], "box\n").await;
}

#[tokio::test]
async fn volumes_of_the_allocation_are_mounted_and_others_need_consent() {
    let Some(driver) = docker(&[]).await else { return };
    let relative = [("volumes", list(&["local/conf:/etc/conf:ro"]))];
    let mut ground =
        ground("cat /etc/conf/f /data/g; echo x > /etc/conf/f || echo refused", &relative);
    fs::create_dir(ground.task.dirs.local.join("conf")).expect("mkdir");
    fs::write(ground.task.dirs.local.join("conf/f"), "content\n").expect("write");
    let volume = ground.task.dirs.alloc.join("volume");
    fs::create_dir(&volume).expect("mkdir");
    fs::write(volume.join("g"), "shared\n").expect("write");
    ground.task.mounts =
        vec![Mount { source: volume, destination: "/data".into(), read_only: true }];
    assert!(run(&driver, &ground).await.is_success());
    assert_eq!(ground.output("stdout"), "content\nshared\nrefused\n");
    for source in ["/etc", "../../.."] {
        ground.task.config.insert("volumes".to_owned(), list(&[&format!("{source}:/x")]));
        let error = driver.start(&ground.task).await.expect_err("the operator did not allow it");
        assert!(
            matches!(&error, StartError::Refused(why) if why.contains("volumes are not enabled")),
            "{error}"
        );
    }
    let Some(driver) =
        docker(&[("volumes", Value::Map(options(&[("enabled", Value::Bool(true))])))]).await
    else {
        return;
    };
    ground.task.config.insert("volumes".to_owned(), list(&["/etc:/x"]));
    ground.task.config.insert("args".to_owned(), list(&["-c", "head -c 0 /x/hostname"]));
    assert!(run(&driver, &ground).await.is_success());
}

#[tokio::test]
async fn what_was_asked_for_reaches_the_engine() {
    let Some(driver) = docker(&[("extra_labels", list(&["job_*"]))]).await else { return };
    let further = [
        ("ports", list(&["http"])),
        ("port_map", Value::List(vec![Value::Map(options(&[("db", Value::Int(5432))]))])),
        ("ulimit", Value::List(vec![Value::Map(options(&[("nofile", text("1024:2048"))]))])),
        ("dns_servers", list(&["10.9.8.7"])),
        ("labels", Value::Map(options(&[("tier", text("web"))]))),
        ("cap_drop", list(&["mknod"])),
        ("extra_hosts", list(&["db:10.0.0.9"])),
    ];
    let mut ground = ground("exec sleep 1000", &further);
    let port = |label: &str, host_port, to| AllocatedPort {
        label: label.to_owned(),
        task: None,
        host_port,
        to,
        host_ip: "127.0.0.1".to_owned(),
    };
    let free = free_ports();
    ground.task.ports =
        vec![port("http", free[0], 8080), port("db", free[1], 0), port("admin", 1, 1)];
    ground.task.limits = Limits { cpu_mhz: 250, memory_mib: 33, memory_max_mib: 44 };
    ground.task.labels =
        BTreeMap::from([("job_name".into(), "ping".into()), ("node_id".into(), "n".into())]);
    let handle = driver.start(&ground.task).await.expect("the task starts");
    assert_eq!(driver.port_map(&ground.task.config), BTreeMap::from([("db".into(), 5432)]));
    let found = inspect(&handle).await;
    assert_eq!(found.name, Some(format!("/web-{}", ground.task.alloc_id)));
    let host = found.host_config.expect("there is one");
    assert_eq!(host.memory, Some(44 * 1024 * 1024));
    assert_eq!(host.memory_reservation, Some(33 * 1024 * 1024));
    assert_eq!(host.cpu_shares, Some(250));
    assert_eq!(host.dns, Some(vec!["10.9.8.7".to_owned()]));
    let bound: BTreeMap<_, _> = host.port_bindings.expect("ports are bound").into_iter().collect();
    let keys: Vec<&str> = bound.keys().map(String::as_str).collect();
    assert_eq!(keys, ["5432/tcp", "5432/udp", "8080/tcp", "8080/udp"]);
    let http = bound["8080/tcp"].as_ref().and_then(|list| list.first()).expect("it is bound");
    assert_eq!(http.host_ip.as_deref(), Some("127.0.0.1"));
    assert_eq!(http.host_port, Some(free[0].to_string()));
    let labels = found.config.and_then(|config| config.labels).expect("there are labels");
    assert_eq!(labels["tier"], "web");
    assert_eq!(labels["com.hashicorp.nomad.alloc_id"], ground.task.alloc_id.to_string());
    assert_eq!(labels["com.hashicorp.nomad.job_name"], "ping");
    assert!(!labels.contains_key("com.hashicorp.nomad.node_id"));
    driver.destroy(&handle).await.expect("nothing is left");
    assert!(matches!(driver.recover(&handle).await, Err(TaskError::NotFound(_))));
}

/// Two ports that nobody uses at the moment.
fn free_ports() -> [u16; 2] {
    let bind = || std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let (one, two) = (bind(), bind());
    [one, two].map(|listener| listener.local_addr().expect("it is bound").port())
}

#[tokio::test]
async fn another_agent_finds_the_container_and_no_line_twice() {
    let Some(first) = docker(&[]).await else { return };
    let code = "echo one; while ! test -e /local/go; do sleep 0.05; done; echo two; exit 3";
    let ground = ground(code, &[]);
    let handle = first.start(&ground.task).await.expect("the task starts");
    ground.until_output("one").await;
    let stored = serde_json::to_string(&handle).expect("handles can be stored");
    let handle: TaskHandle = serde_json::from_str(&stored).expect("handles can be read");
    drop(first);
    let Some(second) = docker(&[]).await else { return };
    second.recover(&handle).await.expect("the container is found");
    fs::write(ground.task.dirs.local.join("go"), "").expect("write");
    assert_eq!(finish(&second, &handle).await.exit_code, 3);
    let output = ground.output("stdout");
    assert!(output == "one\ntwo\n" || output == "one\ntwo\ntwo\n", "{output}");
}

#[tokio::test]
async fn a_container_is_stopped_by_its_signal_and_killed_after_its_time() {
    let Some(driver) = docker(&[]).await else { return };
    let loops = "while :; do sleep 0.05; done";
    let polite = ground(&format!("trap 'echo bye; exit 4' TERM; echo ready; {loops}"), &[]);
    let handle = driver.start(&polite.task).await.expect("the task starts");
    polite.until_output("ready").await;
    driver.stop(&handle, "", LONG).await.expect("the container stops");
    assert_eq!(finish(&driver, &handle).await.exit_code, 4);
    let deaf = ground(&format!("trap '' TERM USR1; echo ready; {loops}"), &[]);
    let handle = driver.start(&deaf.task).await.expect("the task starts");
    deaf.until_output("ready").await;
    driver.signal(&handle, "USR1").await.expect("the signal is sent");
    driver.stop(&handle, "SIGTERM", Duration::from_millis(50)).await.expect("the container stops");
    assert_eq!(driver.signal(&handle, "USR1").await, Err(TaskError::NotRunning));
    assert_eq!(finish(&driver, &handle).await.exit_code, 137);
}

#[tokio::test]
async fn memory_beyond_the_limit_is_told() {
    let Some(driver) = docker(&[]).await else { return };
    let mut ground =
        ground("head -c 300000000 /dev/zero | tail -c 299999999 > /dev/null; exit 1", &[]);
    ground.task.limits.memory_mib = 16;
    assert!(run(&driver, &ground).await.oom_killed);
}

#[tokio::test]
async fn an_image_that_is_nowhere_is_a_failed_pull() {
    let Some(driver) = docker(&[]).await else { return };
    let ground = Ground::new(&[("image", text("127.0.0.1:1/no/such:1"))]);
    let error = driver.start(&ground.task).await.expect_err("there is no such image");
    assert!(matches!(&error, StartError::Pull { image, .. } if image == "127.0.0.1:1/no/such:1"));
    assert!(error.is_recoverable());
}

#[tokio::test]
async fn an_image_is_pulled_with_credentials_used_and_removed_after_its_delay() {
    let gc = Value::Map(options(&[("image_delay", text("50ms"))]));
    let Some(driver) = docker(&[("gc", gc)]).await else { return };
    let registry = Registry::serve(&root_file_system(), "me", "secret").await;
    let image = format!("{}/test/image:1", registry.address);
    let mut ground = ground("echo pulled", &[("image", text(&image))]);
    let error = driver.start(&ground.task).await.expect_err("nobody logged in");
    assert!(matches!(error, StartError::Pull { .. }), "{error}");
    let auth = options(&[("username", text("me")), ("password", text("secret"))]);
    ground.task.config.insert("auth".to_owned(), Value::List(vec![Value::Map(auth)]));
    let first = driver.start(&ground.task).await.expect("the image is pulled");
    assert!(driver.wait(&first).await.is_ok());
    let pulls = registry.pulls.load(Ordering::Relaxed);
    ground.task.alloc_id = AllocId::from_bits(ground.task.alloc_id.bits() ^ 1);
    ground.task.dirs.state.push("second");
    assert!(run(&driver, &ground).await.is_success());
    assert_eq!(registry.pulls.load(Ordering::Relaxed), pulls, "a tagged image is pulled once");
    let engine = engine().negotiate_version().await.expect("the engine answers");
    driver.destroy(&first).await.expect("nothing is left");
    let gone = async {
        while engine.inspect_image(&image).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    assert!(tokio::time::timeout(LONG, gone).await.is_ok(), "the unused image is removed");
}

#[tokio::test]
async fn a_program_that_is_not_in_the_image_is_told_and_leaves_nothing() {
    let Some(driver) = docker(&[]).await else { return };
    let ground = Ground::new(&[("image", text(IMAGE)), ("command", text("/no/such"))]);
    let error = driver.start(&ground.task).await.expect_err("there is no such program");
    assert!(error.to_string().contains("/no/such"), "{error}");
    let name = format!("web-{}", ground.task.alloc_id);
    let engine = engine().negotiate_version().await.expect("the engine answers");
    assert!(engine.inspect_container(&name, None).await.is_err());
}

#[tokio::test]
async fn commands_run_beside_the_container_with_and_without_a_terminal() {
    let Some(driver) = docker(&[]).await else { return };
    let ground = ground("exec sleep 1000", &[]);
    let handle = driver.start(&ground.task).await.expect("the task starts");
    let command =
        |code: &str| ["/bin/sh", "-c", code].iter().map(|word| (*word).to_owned()).collect();
    let request =
        ExecRequest { command: command("cat; echo $GREETING; echo oops >&2; exit 5"), tty: false };
    let session = driver.exec(&handle, &request).await.expect("the command runs");
    assert!(session.input.send(ExecInput::Stdin(Bytes::from_static(b"typed\n"))).await);
    assert!(session.input.send(ExecInput::CloseStdin).await);
    let want = ("typed\nhello\n".into(), "oops\n".into(), Some(ExecOutput::Exit(5)));
    assert_eq!(collect(session).await, want);
    let request = ExecRequest { command: command("read line; stty size"), tty: true };
    let session = driver.exec(&handle, &request).await.expect("the command runs");
    assert!(session.input.send(ExecInput::Resize { width: 111, height: 33 }).await);
    assert!(session.input.send(ExecInput::Stdin(Bytes::from_static(b"\n"))).await);
    let (stdout, _, end) = collect(session).await;
    assert!(stdout.ends_with("33 111\r\n"), "{stdout:?}");
    assert_eq!(end, Some(ExecOutput::Exit(0)));
    let stats = driver.stats(&handle).await.expect("the task runs");
    assert!(stats.memory_usage > 0 && stats.pids > 0, "{stats:?}");
    driver.destroy(&handle).await.expect("nothing is left");
}

#[tokio::test]
async fn a_container_of_a_forgotten_start_is_replaced() {
    let Some(driver) = docker(&[]).await else { return };
    let mut ground = ground("exec sleep 1000", &[]);
    drop(driver.start(&ground.task).await.expect("the task starts"));
    ground.task.config.insert("args".to_owned(), list(&["-c", "exit 0"]));
    assert!(run(&driver, &ground).await.is_success());
}

#[tokio::test]
async fn without_an_engine_the_driver_is_not_detected() {
    let driver = driver("docker", &[("endpoint", text("unix:///no/such/docker.sock"))]);
    let state = driver.fingerprint().await;
    assert!(!state.detected && !state.healthy);
    assert_eq!(state.description, "Failed to connect to docker daemon");
}

#[test]
fn options_without_consent_or_unknown_are_named() {
    let refused =
        |plugin: &[(&str, Value)], key: &'static str, value: Value, want: Option<&str>| {
            let config = options(&[("image", text("redis:1")), (key, value)]);
            let error =
                driver("docker", plugin).validate(&config).err().map(|error| error.to_string());
            match (error, want) {
                (None, None) => {}
                (Some(error), Some(want)) => assert!(error.contains(want), "{error}"),
                (error, want) => panic!("{key}: {error:?} instead of {want:?}"),
            }
        };
    let yes = || Value::Bool(true);
    let consent = [("allow_privileged", yes())];
    refused(&[], "privileged", yes(), Some("docker privileged mode is disabled on this node"));
    refused(&consent, "privileged", yes(), None);
    refused(&[], "privileged", Value::Bool(false), None);
    refused(&[], "pid_mode", text("host"), Some("`pid_mode`: `host` needs"));
    refused(&consent, "pid_mode", text("host"), None);
    refused(&[], "cap_add", list(&["sys_admin"]), Some("not allowed on this node: SYS_ADMIN"));
    refused(&[("allow_caps", list(&["all"]))], "cap_add", list(&["sys_admin"]), None);
    refused(&[], "devices", list(&["/dev/x"]), Some("option `devices` is not supported"));
    refused(&[], "load", text("x.tar"), Some("option `load` is not supported"));
    refused(&[], "immage", text("x"), Some("unknown option `immage`"));
    refused(&[], "volumes", list(&["/only"]), Some("not of the form"));
    refused(&[], "ports", text("http"), Some("expected a list of strings, found string"));
    refused(
        &[],
        "logging",
        Value::Map(options(&[
            ("type", text("fluentd")),
            ("config", Value::List(vec![Value::Map(options(&[("tag", text("x"))]))])),
        ])),
        None,
    );
}
