//! The `exec` driver from outside. Without root these tests say so and pass.

mod common;
#[path = "common/process.rs"]
mod process;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use common::{Ground, collect, driver, finish, list, run, text};
use cos_drivers::{Driver, ExecInput, ExecOutput, ExecRequest, Limits, Mount};
use cos_model::Value;
use cos_model::network::Dns;
use process::{is_alive, script};

const LONG: Duration = Duration::from_secs(20);

#[expect(clippy::print_stdout, reason = "a test that is skipped must say so")]
/// Makes the driver, or says why these tests cannot run here.
async fn exec(plugin: &[(&str, Value)]) -> Option<Arc<dyn Driver>> {
    let driver = driver("exec", plugin);
    let state = driver.fingerprint().await;
    if !state.healthy {
        println!("skipped: driver exec is not usable here: {}", state.description);
        return None;
    }
    Some(driver)
}

/// Runs a script with further options and compares what it wrote.
async fn check(code: &str, further: &[(&'static str, Value)], want: &str) {
    let Some(driver) = exec(&[]).await else { return };
    let mut config = script(code);
    config.extend_from_slice(further);
    let ground = Ground::new(&config);
    let result = run(&driver, &ground).await;
    let (out, err) = (ground.output("stdout"), ground.output("stderr"));
    assert_eq!(out, want, "{code}: {err}");
    assert!(result.is_success(), "{code}: {result:?} {err}");
}

fn mount_table() -> String {
    let text = fs::read_to_string("/proc/self/mounts").expect("/proc is mounted");
    let lines = text.lines().filter(|line| line.contains("an-allocation-with"));
    lines.collect::<Vec<_>>().join("\n")
}

/// All directories of control groups whose name has this in it.
fn groups(name: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![PathBuf::from("/sys/fs/cgroup")];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                if entry.file_name().to_string_lossy().contains(name) {
                    found.push(entry.path());
                }
                open.push(entry.path());
            }
        }
    }
    found
}

#[tokio::test]
async fn a_task_is_alone_powerless_and_nobody() {
    check("echo $$; id -un; set -- /proc/[0-9]*; echo $#", &[], "1\nnobody\n1\n").await;
    check(
        "grep -E 'CapEff|CapPrm|NoNewPrivs' /proc/self/status | tr -d '\\t'",
        &[],
        "CapPrm:0000000000000000\nCapEff:0000000000000000\nNoNewPrivs:1\n",
    )
    .await;
    check(
        "grep CapBnd /proc/self/status | cut -f2",
        &[],
        "00000000a80425fb\n".replace("a80425fb", "a80405fb").as_str(),
    )
    .await;
}

#[tokio::test]
async fn the_root_is_the_tasks_own_and_the_system_cannot_be_changed() {
    check("touch /usr/x 2>/dev/null || touch /etc/x 2>/dev/null || echo refused", &[], "refused\n")
        .await;
    check(
        "touch /local/a /alloc/b /tmp/c && echo ok > /dev/null && echo written",
        &[],
        "written\n",
    )
    .await;
    check("ls -d /home /root /work 2>/dev/null | wc -l", &[], "0\n").await;
    check(
        "cat /proc/sys/kernel/ostype; echo 1 > /proc/sys/vm/drop_caches || echo refused",
        &[],
        "Linux\nrefused\n",
    )
    .await;
}

#[tokio::test]
async fn even_root_inside_cannot_change_the_system() {
    let Some(driver) = exec(&[]).await else { return };
    let code = "id -u; touch /etc/x || mount -t tmpfs t /mnt || mknod /local/n b 8 0 && cat /local/n || echo refused";
    let mut ground = Ground::new(&script(code));
    ground.task.user = "root".to_owned();
    assert!(run(&driver, &ground).await.is_success());
    assert_eq!(ground.output("stdout"), "0\nrefused\n");
}

#[tokio::test]
async fn localhost_has_an_address() {
    check(
        "grep -qw localhost /etc/hosts && getent hosts localhost >/dev/null && echo found",
        &[],
        "found\n",
    )
    .await;
}

#[tokio::test]
async fn name_servers_of_the_group_are_used() {
    let Some(driver) = exec(&[]).await else { return };
    if !Path::new("/etc/resolv.conf").exists() {
        println!("skipped: the machine has no /etc/resolv.conf");
        return;
    }
    let mut ground = Ground::new(&script("cat /etc/resolv.conf"));
    ground.task.dns = Some(Dns {
        servers: vec!["10.9.8.7".into()],
        searches: vec!["a.example".into(), "b.example".into()],
        options: Vec::new(),
    });
    assert!(run(&driver, &ground).await.is_success());
    let want = "nameserver 10.9.8.7\nsearch a.example b.example\n";
    assert_eq!(ground.output("stdout"), want);
}

#[tokio::test]
async fn a_fetched_file_is_found_by_its_name_alone() {
    let Some(driver) = exec(&[]).await else { return };
    for name in ["local/fabio-1.5.15", "fabio-1.5.15"] {
        let ground = Ground::new(&[("command", text("fabio-1.5.15")), ("args", list(&["a b"]))]);
        let path = ground.task.dirs.task.join(name);
        fs::write(&path, "#!/bin/sh\necho \"$0 $1 $PWD\"\n").expect("write");
        assert!(run(&driver, &ground).await.is_success(), "{}", ground.output("stderr"));
        assert_eq!(ground.output("stdout"), format!("/{name} a b /\n"));
    }
}

#[tokio::test]
async fn mounts_and_groups_go_with_the_task() {
    let Some(driver) = exec(&[]).await else { return };
    let ground = Ground::new(&script("echo ready; exec sleep 1000"));
    let name = format!("{}.web", ground.task.alloc_id);
    let handle = driver.start(&ground.task).await.expect("the task starts");
    ground.until_output("ready").await;
    assert_eq!(mount_table(), "", "the host does not see the task's mounts");
    assert!(!groups(&name).is_empty());
    driver.stop(&handle, "", LONG).await.expect("the task stops");
    finish(&driver, &handle).await;
    assert_eq!(groups(&name), Vec::<PathBuf>::new());
    assert!(!is_alive(handle.pid));
}

#[tokio::test]
async fn a_signal_that_the_kernel_would_drop_ends_the_task_at_once() {
    let Some(driver) = exec(&[]).await else { return };
    let ground = Ground::new(&[("command", text("sleep")), ("args", list(&["1000"]))]);
    let handle = driver.start(&ground.task).await.expect("the task starts");
    // Far longer than the test may take.
    driver.stop(&handle, "SIGINT", Duration::from_hours(1)).await.expect("the task stops");
    assert_eq!(finish(&driver, &handle).await.signal, 9);
}

#[tokio::test]
async fn a_handler_gets_its_signal_and_its_time() {
    let Some(driver) = exec(&[]).await else { return };
    let ground = Ground::new(&script(
        "trap 'echo bye; exit 4' INT; echo ready; while :; do sleep 0.01; done",
    ));
    let handle = driver.start(&ground.task).await.expect("the task starts");
    ground.until_output("ready").await;
    driver.stop(&handle, "", LONG).await.expect("the task stops");
    assert_eq!(finish(&driver, &handle).await.exit_code, 4);
}

#[tokio::test]
async fn memory_beyond_the_limit_ends_the_task_and_is_told() {
    let Some(driver) = exec(&[]).await else { return };
    let mut ground = Ground::new(&script("head -c 200000000 /dev/zero | tail | wc -c; exit 1"));
    ground.task.limits = Limits { cpu_mhz: 100, memory_mib: 20, memory_max_mib: 0 };
    let name = format!("{}.web", ground.task.alloc_id);
    let handle = driver.start(&ground.task).await.expect("the task starts");
    let limits: Vec<String> = groups(&name)
        .iter()
        .flat_map(|dir| [dir.join("memory.limit_in_bytes"), dir.join("memory.max")])
        .filter_map(|path| fs::read_to_string(path).ok())
        .collect();
    assert_eq!(limits, ["20971520\n"]);
    let result = finish(&driver, &handle).await;
    assert!(result.oom_killed, "{result:?} {}", ground.output("stderr"));
}

#[tokio::test]
async fn a_capability_that_was_asked_for_is_given_to_nobody_too() {
    let bind = [("cap_add", list(&["net_bind_service"]))];
    check("grep CapEff /proc/self/status | cut -f2", &bind, "0000000000000400\n").await;
}

#[tokio::test]
async fn options_that_are_not_allowed_or_unknown_are_named() {
    let Some(driver) = exec(&[]).await else { return };
    for (key, value, want) in [
        (
            "cap_add",
            list(&["sys_admin"]),
            "driver exec: option `cap_add`: capabilities not allowed on this node: SYS_ADMIN",
        ),
        ("image", text("redis"), "driver exec: unknown option `image`"),
        (
            "work_dir",
            text("a"),
            "driver exec: option `work_dir`: must be an absolute path inside the task",
        ),
    ] {
        let mut config = script("true");
        config.push((key, value));
        let error = driver.validate(&common::options(&config)).expect_err("it is refused");
        assert_eq!(error.to_string(), want);
    }
}

#[tokio::test]
async fn volumes_are_shown_where_they_belong() {
    let Some(driver) = exec(&[]).await else { return };
    let mut ground =
        Ground::new(&script("cat /data/deep/file; touch /data/deep/x || echo refused"));
    let volume = ground.task.dirs.alloc.join("volume");
    fs::create_dir(&volume).expect("mkdir");
    fs::write(volume.join("file"), "content\n").expect("write");
    ground.task.mounts =
        vec![Mount { source: volume, destination: "/data/deep".into(), read_only: true }];
    assert!(run(&driver, &ground).await.is_success());
    assert_eq!(ground.output("stdout"), "content\nrefused\n");
}

#[tokio::test]
async fn a_link_left_by_the_task_leads_nowhere() {
    let Some(driver) = exec(&[]).await else { return };
    let ground = Ground::new(&script("true"));
    let outside = ground.task.dirs.alloc.join("outside");
    fs::create_dir(&outside).expect("mkdir");
    std::os::unix::fs::symlink(&outside, ground.task.dirs.task.join("tmp")).expect("symlink");
    let error = driver.start(&ground.task).await.expect_err("the link is refused");
    assert!(error.to_string().contains("`tmp` is a link"), "{error}");
}

#[tokio::test]
async fn a_command_runs_beside_the_task_with_its_view_and_rights() {
    for pivot in [true, false] {
        let Some(driver) = exec(&[("no_pivot_root", Value::Bool(!pivot))]).await else { return };
        let ground = Ground::new(&script("echo ready > /local/flag; exec sleep 1000"));
        let handle = driver.start(&ground.task).await.expect("the task starts");
        while !ground.task.dirs.local.join("flag").exists() {
            tokio::task::yield_now().await;
        }
        let code = "cat /local/flag; id -un; cat /proc/1/comm; echo $GREETING; \
                    grep CapEff /proc/self/status | cut -f2; ls -d /home 2>/dev/null; exit 6";
        let command = ["/bin/sh", "-c", code].iter().map(|word| (*word).to_owned()).collect();
        let request = ExecRequest { command, tty: false };
        let session = driver.exec(&handle, &request).await.expect("the command runs");
        let want = "ready\nnobody\nsleep\nhello\n0000000000000000\n";
        let want = (want.into(), String::new(), Some(ExecOutput::Exit(6)));
        assert_eq!(collect(session).await, want);
        driver.destroy(&handle).await.expect("nothing is left");
    }
}

#[tokio::test]
async fn a_shell_beside_the_task_gets_a_terminal() {
    let Some(driver) = exec(&[]).await else { return };
    let ground = Ground::new(&script("exec sleep 1000"));
    let handle = driver.start(&ground.task).await.expect("the task starts");
    let request = ExecRequest { command: vec!["/bin/sh".into()], tty: true };
    let session = driver.exec(&handle, &request).await.expect("the command runs");
    let typed = Bytes::from_static(b"test -t 0 && echo term''inal; exit 9\n");
    assert!(session.input.send(ExecInput::Stdin(typed)).await);
    let (stdout, _, end) = collect(session).await;
    assert!(stdout.contains("terminal\r\n"), "{stdout}");
    assert_eq!(end, Some(ExecOutput::Exit(9)));
    driver.destroy(&handle).await.expect("nothing is left");
}
