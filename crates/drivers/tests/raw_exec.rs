//! The `raw_exec` driver and the shim below it, from outside.

mod common;
#[path = "common/process.rs"]
mod process;

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use common::{Ground, collect, driver, finish, list, run, text};
use cos_drivers::driver::Reference;
use cos_drivers::{
    Driver, ExecInput, ExecOutput, ExecRequest, ExitResult, StartError, TaskError, TaskHandle,
};
use cos_model::{Logs, Value};
use process::{is_alive, script};

const LONG: Duration = Duration::from_secs(20);

fn raw_exec() -> Arc<dyn Driver> {
    driver("raw_exec", &[("enabled", Value::Bool(true))])
}

fn shim_pid(handle: &TaskHandle) -> i32 {
    match &handle.reference {
        Reference::Shim(reference) => reference.shim.pid,
        Reference::Container(_) => panic!("raw_exec has no containers"),
    }
}

/// Runs a script and compares how it ended and what it wrote.
async fn check(code: &str, want: ExitResult, stdout: &str, stderr: &str) {
    let ground = Ground::new(&script(code));
    let result = run(&raw_exec(), &ground).await;
    assert!(result.ended_at.is_some(), "{code}");
    assert_eq!(ExitResult { ended_at: None, ..result }, want, "{code}");
    assert_eq!(ground.output("stdout"), stdout, "{code}");
    assert_eq!(ground.output("stderr"), stderr, "{code}");
    assert!(!ground.task.dirs.state.exists(), "the state directory is gone");
}

#[tokio::test]
async fn a_script_runs_and_its_exit_and_output_are_recorded() {
    let ok = ExitResult::default();
    check("echo out; echo err >&2", ok.clone(), "out\n", "err\n").await;
    check("exit 7", ExitResult { exit_code: 7, ..ok.clone() }, "", "").await;
    let killed = ExitResult { exit_code: 137, signal: 9, ..ok.clone() };
    check("kill -9 $$", killed, "", "").await;
    check("echo $GREETING", ok, "hello\n", "").await;
}

#[tokio::test]
async fn a_file_of_the_task_is_made_executable_and_found() {
    for (name, command) in [("local/hi", "hi"), ("hi", "hi"), ("local/bin/hi", "local/bin/hi")] {
        let ground = Ground::new(&[("command", text(command)), ("args", list(&["x"]))]);
        let path = ground.task.dirs.task.join(name);
        fs::create_dir_all(path.parent().expect("a file is in a directory")).expect("mkdir");
        fs::write(&path, "#!/bin/bash\necho \"hi $1 in $PWD\"\n").expect("write");
        assert!(run(&raw_exec(), &ground).await.is_success(), "{name}");
        let want = format!("hi x in {}\n", ground.task.dirs.task.display());
        assert_eq!(ground.output("stdout"), want);
    }
}

#[tokio::test]
async fn a_program_that_cannot_be_run_is_named() {
    let ground = Ground::new(&[("command", text("no-such-program"))]);
    let error = raw_exec().start(&ground.task).await.expect_err("there is no such program");
    let want = "executable `no-such-program` not found in the task directory or PATH";
    assert_eq!(error.to_string(), want);
}

#[tokio::test]
async fn without_the_operators_consent_nothing_runs() {
    let driver = driver("raw_exec", &[]);
    let state = driver.fingerprint().await;
    assert!(!state.detected && !state.healthy);
    let ground = Ground::new(&script("true"));
    let error = driver.start(&ground.task).await.expect_err("it is disabled");
    assert!(matches!(error, StartError::Refused(_)));
    assert!(!error.is_recoverable());
}

#[tokio::test]
async fn another_agent_finds_the_same_process() {
    let ground = Ground::new(&script(
        "trap 'echo bye; exit 3' TERM; echo ready; while :; do sleep 0.01; done",
    ));
    let first = raw_exec();
    let handle = first.start(&ground.task).await.expect("the task starts");
    drop(first);
    let stored = serde_json::to_string(&handle).expect("handles can be stored");
    let handle: TaskHandle = serde_json::from_str(&stored).expect("handles can be read");
    let second = raw_exec();
    second.recover(&handle).await.expect("the task is found");
    assert!(is_alive(handle.pid));
    ground.until_output("ready").await;
    second.stop(&handle, "SIGTERM", LONG).await.expect("the task stops");
    assert!(!is_alive(handle.pid));
    assert_eq!(finish(&second, &handle).await.exit_code, 3);
    assert_eq!(ground.output("stdout"), "ready\nbye\n");
}

#[tokio::test]
async fn an_exit_that_nobody_saw_is_found_later() {
    let ground = Ground::new(&script("exit 42"));
    let handle = raw_exec().start(&ground.task).await.expect("the task starts");
    while is_alive(shim_pid(&handle)) {
        tokio::task::yield_now().await;
    }
    let later = raw_exec();
    later.recover(&handle).await.expect("the exit is known");
    assert_eq!(later.signal(&handle, "HUP").await, Err(TaskError::NotRunning));
    later.stop(&handle, "", LONG).await.expect("stopping what ended is no error");
    assert_eq!(finish(&later, &handle).await.exit_code, 42);
}

#[tokio::test]
async fn if_the_shim_is_killed_the_task_goes_and_the_exit_is_unknown() {
    let ground = Ground::new(&script("exec sleep 1000"));
    let driver = raw_exec();
    let handle = driver.start(&ground.task).await.expect("the task starts");
    let kill = std::process::Command::new("kill")
        .args(["-9", &shim_pid(&handle).to_string()])
        .status()
        .expect("kill runs");
    assert!(kill.success());
    let result = driver.wait(&handle).await.expect("an answer");
    assert_eq!(result.exit_code, -1);
    assert!(result.error.is_some_and(|error| error.starts_with("exit unknown")));
    assert!(matches!(driver.recover(&handle).await, Err(TaskError::NotFound(_))));
    driver.destroy(&handle).await.expect("nothing is left");
    assert!(!is_alive(handle.pid));
}

#[tokio::test]
async fn signals_reach_the_main_process() {
    let ground = Ground::new(&script(
        "trap 'echo hup' HUP; trap 'exit 0' USR1; echo ready; while :; do sleep 0.01; done",
    ));
    let driver = raw_exec();
    let handle = driver.start(&ground.task).await.expect("the task starts");
    ground.until_output("ready").await;
    driver.signal(&handle, "SIGHUP").await.expect("the signal is sent");
    ground.until_output("hup").await;
    let unknown = driver.signal(&handle, "SIGNOPE").await;
    assert_eq!(unknown, Err(TaskError::UnknownSignal("SIGNOPE".into())));
    driver.signal(&handle, "10").await.expect("the signal is sent");
    assert!(finish(&driver, &handle).await.is_success());
}

#[tokio::test]
async fn a_task_that_ignores_the_signal_is_killed_with_all_it_started() {
    let ground = Ground::new(&script(
        "trap '' INT TERM; setsid sleep 1000 & sleep 1000 & echo $!; wait; wait",
    ));
    let driver = raw_exec();
    let handle = driver.start(&ground.task).await.expect("the task starts");
    ground.until_output("\n").await;
    let child: i32 = ground.output("stdout").trim().parse().expect("a process number");
    assert!(is_alive(child));
    driver.stop(&handle, "", Duration::from_millis(100)).await.expect("the task stops");
    assert!(!is_alive(child));
    let result = finish(&driver, &handle).await;
    assert_eq!((result.exit_code, result.signal), (137, 9));
}

#[tokio::test]
async fn what_a_task_leaves_behind_ends_with_it() {
    let ground = Ground::new(&script("(setsid sleep 1000 & echo $!) ; exit 0"));
    let driver = raw_exec();
    let handle = driver.start(&ground.task).await.expect("the task starts");
    assert!(finish(&driver, &handle).await.is_success());
    let child: i32 = ground.output("stdout").trim().parse().expect("a process number");
    assert!(!is_alive(child));
}

#[tokio::test]
async fn a_start_in_the_place_of_a_forgotten_task_ends_that_first() {
    let mut ground = Ground::new(&script("exec sleep 1000"));
    let driver = raw_exec();
    let forgotten = driver.start(&ground.task).await.expect("the task starts");
    ground.task.config = common::options(&script("exit 0"));
    assert!(run(&driver, &ground).await.is_success());
    assert!(!is_alive(forgotten.pid));
}

#[tokio::test]
async fn logs_are_rotated() {
    let mut ground = Ground::new(&script("for i in 1 2 3; do head -c 700000 /dev/zero; done"));
    ground.task.logs = Logs { max_files: 2, max_file_size_mib: 1, disabled: false };
    assert!(run(&raw_exec(), &ground).await.is_success());
    let files = cos_drivers::logs::files(&ground.task.dirs.logs, "web.stdout").expect("list");
    let sizes: Vec<(u64, u64)> = files
        .iter()
        .map(|(index, path)| (*index, fs::metadata(path).expect("stat").len()))
        .collect();
    assert_eq!(sizes.iter().map(|(index, _)| *index).collect::<Vec<_>>(), [1, 2]);
    assert!(sizes.iter().all(|(_, size)| *size <= 1024 * 1024), "{sizes:?}");
}

#[tokio::test]
async fn output_can_be_switched_off() {
    let mut ground = Ground::new(&script("echo out"));
    ground.task.logs.disabled = true;
    assert!(run(&raw_exec(), &ground).await.is_success());
    assert_eq!(ground.output("stdout"), "");
}

#[tokio::test]
async fn a_command_runs_beside_the_task_over_pipes() {
    let ground = Ground::new(&script("exec sleep 1000"));
    let driver = raw_exec();
    let handle = driver.start(&ground.task).await.expect("the task starts");
    let command = ["/bin/sh", "-c", "cat; echo $GREETING; echo oops >&2; exit 5"];
    let command = command.iter().map(|word| (*word).to_owned()).collect();
    let request = ExecRequest { command, tty: false };
    let session = driver.exec(&handle, &request).await.expect("the command runs");
    assert!(session.input.send(ExecInput::Stdin(Bytes::from_static(b"typed\n"))).await);
    assert!(session.input.send(ExecInput::CloseStdin).await);
    let want = ("typed\nhello\n".into(), "oops\n".into(), Some(ExecOutput::Exit(5)));
    assert_eq!(collect(session).await, want);
    driver.stop(&handle, "", LONG).await.expect("the task stops");
    assert_eq!(finish(&driver, &handle).await.signal, 2);
}

#[tokio::test]
async fn a_command_beside_the_task_gets_a_terminal_of_the_callers_size() {
    let ground = Ground::new(&script("exec sleep 1000"));
    let driver = raw_exec();
    let handle = driver.start(&ground.task).await.expect("the task starts");
    let command = ["/bin/sh", "-c", "read line; stty size; tty >/dev/null && echo terminal"];
    let command = command.iter().map(|word| (*word).to_owned()).collect();
    let request = ExecRequest { command, tty: true };
    let session = driver.exec(&handle, &request).await.expect("the command runs");
    assert!(session.input.send(ExecInput::Resize { width: 111, height: 33 }).await);
    assert!(session.input.send(ExecInput::Stdin(Bytes::from_static(b"\n"))).await);
    let (stdout, _, end) = collect(session).await;
    assert_eq!(stdout.trim(), "33 111\r\nterminal");
    assert_eq!(end, Some(ExecOutput::Exit(0)));
    driver.destroy(&handle).await.expect("nothing is left");
}

#[tokio::test]
async fn a_dropped_session_ends_its_command() {
    let ground = Ground::new(&script("exec sleep 1000"));
    let driver = raw_exec();
    let handle = driver.start(&ground.task).await.expect("the task starts");
    let command = ["/bin/sh", "-c", "echo $$; exec sleep 1000"];
    let command = command.iter().map(|word| (*word).to_owned()).collect();
    let mut session =
        driver.exec(&handle, &ExecRequest { command, tty: false }).await.expect("the command runs");
    let Some(ExecOutput::Stdout(line)) = session.output.next().await else {
        panic!("the command tells its number first");
    };
    let pid: i32 = String::from_utf8_lossy(&line).trim().parse().expect("a process number");
    drop(session);
    while is_alive(pid) {
        tokio::task::yield_now().await;
    }
    driver.destroy(&handle).await.expect("nothing is left");
}

#[tokio::test]
async fn what_a_task_uses_is_told_while_it_runs() {
    let ground = Ground::new(&script(
        "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; echo ready; exec sleep 1000",
    ));
    let driver = raw_exec();
    let handle = driver.start(&ground.task).await.expect("the task starts");
    ground.until_output("ready").await;
    let stats = driver.stats(&handle).await.expect("the task runs");
    assert!(
        stats.cpu_time > Duration::ZERO && stats.pids >= 1 && stats.memory_rss > 0,
        "{stats:?}"
    );
    driver.destroy(&handle).await.expect("nothing is left");
    assert_eq!(driver.stats(&handle).await, Err(TaskError::NotRunning));
}

/// The figure that ARCHITECTURE.md promises, with room for other machines.
#[tokio::test]
async fn the_shim_takes_little_memory_for_itself() {
    const PRIVATE_KIB_MAX: u64 = 2048;
    let ground = Ground::new(&script("echo ready; exec sleep 1000"));
    let driver = raw_exec();
    let handle = driver.start(&ground.task).await.expect("the task starts");
    ground.until_output("ready").await;
    let path = format!("/proc/{}/smaps_rollup", shim_pid(&handle));
    let text = fs::read_to_string(path).expect("the shim runs");
    let field = |name: &str| -> u64 {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|rest| rest.split_ascii_whitespace().next()?.parse().ok()).unwrap_or(0)
    };
    let (clean, dirty) = (field("Private_Clean:"), field("Private_Dirty:"));
    println!("shim: private clean {clean} KiB, private dirty {dirty} KiB");
    assert!(dirty + clean <= PRIVATE_KIB_MAX, "{clean} + {dirty} KiB");
    driver.destroy(&handle).await.expect("nothing is left");
}
