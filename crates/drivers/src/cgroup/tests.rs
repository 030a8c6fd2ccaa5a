//! Control groups on a fake tree: which files are written, and what is read from them.

use super::*;

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|_| "-".into())
}

/// Makes a group below a fake tree and compares the files that were written.
fn check(mounts: &str, limits: Limits, files_before: &[&str], want: &[(&str, &str)]) {
    let root = tempfile::tempdir().expect("a temporary directory");
    let mounts = mounts.replace("ROOT", &root.path().to_string_lossy());
    let cgroups = Cgroups::from_mounts(&mounts).expect("there are control groups");
    for file in files_before {
        let path = root.path().join(file);
        fs::create_dir_all(path.parent().expect("files are in directories")).expect("mkdir");
        fs::write(path, "").expect("write");
    }
    let group = cgroups.create("a/b.web", &limits, Some(9)).expect("the tree is writable");
    for (file, value) in want {
        assert_eq!(read(&root.path().join(file)), *value, "{file}");
    }
    assert_eq!(group.pids(), Vec::<i32>::new());
}

const LIMITS: Limits = Limits { cpu_mhz: 500, memory_mib: 128, memory_max_mib: 256 };

#[test]
fn version_two_gets_one_directory_with_all_limits() {
    check(
        "cgroup2 ROOT cgroup2 rw,nosuid 0 0",
        LIMITS,
        &[],
        &[
            ("cos.slice/a_b.web.scope/memory.max", "268435456"),
            ("cos.slice/a_b.web.scope/memory.low", "134217728"),
            ("cos.slice/a_b.web.scope/cpu.weight", "19"),
            ("cos.slice/a_b.web.scope/pids.max", "9"),
            ("cos.slice/cgroup.subtree_control", "+pids"),
            ("cgroup.subtree_control", "+pids"),
        ],
    );
}

#[test]
fn version_one_gets_a_directory_per_controller() {
    check(
        "cgroup ROOT/memory cgroup rw,memory 0 0\ncgroup ROOT/cpu cgroup rw,cpu,cpuacct 0 0\n\
         cgroup ROOT/pids cgroup rw,pids 0 0\ncgroup2 ROOT/unified cgroup2 rw 0 0",
        Limits { memory_max_mib: 0, ..LIMITS },
        &[],
        &[
            ("memory/cos/a_b.web/memory.limit_in_bytes", "134217728"),
            ("memory/cos/a_b.web/memory.soft_limit_in_bytes", "-"),
            ("cpu/cos/a_b.web/cpu.shares", "500"),
            ("pids/cos/a_b.web/pids.max", "9"),
            ("unified/cos/a_b.web/memory.max", "-"),
        ],
    );
}

#[test]
fn a_process_enters_by_its_thread_or_by_its_birth() {
    let root = tempfile::tempdir().expect("a temporary directory");
    let mounts = "cgroup ROOT/memory cgroup rw,memory 0 0\ncgroup2 ROOT/unified cgroup2 rw 0 0"
        .replace("ROOT", &root.path().to_string_lossy());
    let cgroups = Cgroups::from_mounts(&mounts).expect("there are control groups");
    let group = cgroups.create("t", &LIMITS, None).expect("the tree is writable");
    let unified = root.path().join("unified/cos/t/cgroup.procs");
    group.join(true).expect("the tree is writable");
    assert_eq!(read(&root.path().join("memory/cos/t/tasks")), "0");
    assert_eq!(read(&unified), "-");
    group.join(false).expect("the tree is writable");
    assert_eq!(read(&unified), "0");
}

#[test]
fn a_machine_without_usable_control_groups_is_recognised() {
    for mounts in ["", "tmpfs /sys/fs/cgroup tmpfs rw 0 0", "cgroup /x cgroup rw,pids 0 0"] {
        assert_eq!(Cgroups::from_mounts(mounts), None, "{mounts}");
    }
}

#[test]
fn use_and_kills_are_read_from_version_two() {
    let root = tempfile::tempdir().expect("a temporary directory");
    let mounts = format!("cgroup2 {} cgroup2 rw 0 0", root.path().display());
    let cgroups = Cgroups::from_mounts(&mounts).expect("there are control groups");
    let group = cgroups.create("t", &LIMITS, None).expect("the tree is writable");
    let dir = root.path().join("cos.slice/t.scope");
    for (file, text) in [
        ("memory.events", "low 0\nhigh 0\nmax 3\noom 1\noom_kill 2\n"),
        ("memory.stat", "anon 4096\nfile 9\nfile_mapped 100\n"),
        ("memory.current", "8192\n"),
        ("memory.peak", "9000\n"),
        ("cpu.stat", "usage_usec 1500\nuser_usec 1\n"),
        ("pids.current", "3\n"),
    ] {
        fs::write(dir.join(file), text).expect("write");
    }
    assert_eq!(group.oom_kills(), 2);
    let want = TaskStats {
        cpu_time: Duration::from_micros(1500),
        memory_rss: 4196,
        memory_usage: 8192,
        memory_max_usage: 9000,
        pids: 3,
    };
    assert_eq!(group.stats(), want);
}
