//! Tests of the rules: parts of job files, and what is said about them.

use crate::{Options, parse_job};

/// Puts lines into a job of one group and task, and compares the problems, `E` or `W` first.
#[track_caller]
fn check(kind: &str, in_job: &str, in_group: &str, in_task: &str, expected: &[&str]) {
    let text = format!(
        "job \"j\" {{\ntype = \"{kind}\"\n{in_job}\ngroup \"g\" {{\n{in_group}\ntask \"t\" {{\ndriver = \"exec\"\n{in_task}\n}}\n}}\n}}\n"
    );
    let parsed = parse_job(&text, "f", &Options::default()).unwrap_or_else(|p| panic!("{p}"));
    let found: Vec<String> = parsed
        .problems()
        .iter()
        .map(|p| format!("{}: {}", if p.is_error() { "E" } else { "W" }, p.summary))
        .collect();
    assert_eq!(found, expected, "{text}");
}

#[track_caller]
fn check_group(lines: &str, expected: &[&str]) {
    check("service", "", lines, "", expected);
}

#[track_caller]
fn check_task(lines: &str, expected: &[&str]) {
    check("service", "", "", lines, expected);
}

#[test]
fn a_plain_job_is_good() {
    check_task("", &[]);
}

#[test]
fn jobs_have_limits() {
    check(
        "service",
        "id = \"a b\"",
        "",
        "",
        &["E: the job's id holds spaces or control characters"],
    );
    check("service", "datacenters = [\"\"]", "", "", &["E: a datacenter has an empty name"]);
    check_group("count = 50001", &["E: the job asks for 50001 instances, more than 50000"]);
    check(
        "system",
        "",
        "count = 2",
        "",
        &["E: a system job runs once on each node: count is 0 or 1"],
    );
    check(
        "service",
        "group \"g\" {\ntask \"x\" {\ndriver = \"exec\"\n}\n}",
        "",
        "",
        &["E: the group `g` is there twice"],
    );
}

#[test]
fn kinds_of_jobs_exclude_blocks() {
    check(
        "service",
        "periodic {\ncron = \"@daily\"\n}",
        "",
        "",
        &["E: a service job cannot be periodic", "E: `periodic` jobs are not supported yet"],
    );
    check(
        "batch",
        "",
        "update {\nmax_parallel = 1\n}",
        "",
        &["E: a batch job cannot have an update block"],
    );
    check(
        "batch",
        "",
        "migrate {\nmax_parallel = 1\n}",
        "",
        &["E: a batch job cannot have a migrate block"],
    );
    check(
        "system",
        "",
        "reschedule {\nattempts = 1\n}",
        "",
        &["E: a system job cannot have a reschedule block"],
    );
    check(
        "system",
        "",
        "scaling {\nmax = 1\n}",
        "",
        &["E: a system job cannot have a scaling block"],
    );
    check(
        "system",
        "spread {\nattribute = \"a\"\n}",
        "",
        "",
        &["E: a system job cannot have a spread"],
    );
}

#[test]
fn rules_for_nodes_are_complete() {
    check_task("constraint {\nvalue = \"x\"\n}", &["E: the rule names no attribute"]);
    check_task("constraint {\nattribute = \"x\"\n}", &["E: the rule has nothing to compare with"]);
    check_task(
        "constraint {\nattribute = \"x\"\nregexp = \"(\"\n}",
        &["E: `(` is not a regular expression: unclosed group"],
    );
    check_task(
        "constraint {\ndistinct_property = \"x\"\nvalue = \"0\"\n}",
        &["E: `0` is not a number of instances"],
    );
    check_task(
        "affinity {\nattribute = \"x\"\nvalue = \"y\"\nweight = 0\n}",
        &["E: an affinity's weight cannot be 0"],
    );
}

#[test]
fn policies_make_sense() {
    check_group("update {\nauto_promote = true\n}", &["E: auto_promote needs canaries"]);
    check_group(
        "update {\nmin_healthy_time = \"10m\"\n}",
        &["E: min_healthy_time must be less than healthy_deadline"],
    );
    check_group(
        "update {\nhealthy_deadline = \"10m\"\n}",
        &["E: healthy_deadline must be less than progress_deadline"],
    );
    check_group("update {\ncanary = 3\n}", &["W: 3 canaries for a count of 1"]);
    check_group("reschedule {\ndelay = \"1s\"\n}", &["E: the reschedule delay is shorter than 5s"]);
    check_group(
        "reschedule {\ndelay = \"2h\"\n}",
        &["E: the reschedule max_delay is shorter than the delay"],
    );
    check_task(
        "restart {\nattempts = 10\ninterval = \"1m\"\n}",
        &["E: 10 restarts with a delay of 15s do not fit into the interval of 60s"],
    );
    check_task(
        "restart {\nattempts = 0\nmode = \"delay\"\n}",
        &["E: the restart mode `delay` with 0 attempts would never restart"],
    );
    check_group(
        "scaling {\nmin = 2\nmax = 3\n}\ncount = 1",
        &["E: the count 1 is not from 2 to 3"],
    );
}

#[test]
fn ports_are_declared_once() {
    check_group(
        "network {\nport \"a\" {\nstatic = 80\n}\nport \"b\" {\nstatic = 80\n}\n}",
        &["E: the host port 80 belongs to `a`"],
    );
    check_group("network {\nport \"a\" {}\nport \"a\" {}\n}", &["E: the port `a` is there twice"]);
    check_group("network {}\nnetwork {}", &["E: a group has one network at most"]);
    check_group("network {\nmode = \"x\"\n}", &["E: `x` is not a network mode"]);
    check_group(
        "network {\nport \"a-b\" {}\n}",
        &["W: the label `a-b` is changed in names of variables"],
    );
    check_task(
        "service {\nport = \"http\"\n}",
        &["E: the port `http` is not declared in a network block"],
    );
    check_task("service {\nport = \"8080\"\n}", &[]);
    check_task("service {\nport = \"http\"\naddress_mode = \"driver\"\n}", &[]);
}

#[test]
fn checks_are_complete() {
    check_task(
        "service {\nport = \"1\"\ncheck {\ntype = \"http\"\n}\n}",
        &[
            "E: the check's interval is missing or shorter than 1s",
            "E: the check's timeout is missing or shorter than 1s",
            "E: the http check has no path",
        ],
    );
    let times = "interval = \"2s\"\ntimeout = \"1s\"";
    check_task(
        &format!("service {{\ncheck {{\ntype = \"tcp\"\n{times}\n}}\n}}"),
        &["E: neither the check nor its service has a port"],
    );
    check_task(
        &format!(
            "service {{\nprovider = \"nomad\"\ncheck {{\ntype = \"script\"\ncommand = \"x\"\n{times}\n}}\n}}"
        ),
        &["E: the provider `nomad` has only http and tcp checks"],
    );
    check_group(
        &format!("service {{\ncheck {{\ntype = \"script\"\ncommand = \"x\"\n{times}\n}}\n}}"),
        &["E: a script check of a group needs the name of its task"],
    );
    check_task(
        "service {\nname = \"a b\"\n}",
        &["E: `a b` is not a name of letters, digits and dashes"],
    );
    check_task(
        "service {\nname = \"a_b\"\n}",
        &["W: the name `a_b` cannot be asked for by every DNS client"],
    );
    check_task("service {\nname = \"${TASK}-${NOMAD_DC}\"\n}", &[]);
}

#[test]
fn tasks_have_room_and_files_inside() {
    check_task("resources {\ncpu = 0\n}", &["E: the task asks for less than 1 MHz"]);
    check_task("resources {\ncores = 1\n}", &[]);
    check_task("resources {\nmemory_max = 20\n}", &["E: memory_max is less than memory"]);
    check_task(
        "logs {\nmax_files = 30\n}",
        &["E: the logs may take 300 MiB, and the ephemeral disk has 300 MiB"],
    );
    check_task(
        "template {\ndestination = \"local/x\"\n}",
        &["E: a template has either `data` or `source`"],
    );
    check_task(
        "template {\ndata = \"x\"\ndestination = \"../../etc\"\n}",
        &["E: `../../etc` leads out of the task's directory"],
    );
    check_task(
        "template {\ndata = \"x\"\ndestination = \"x\"\nenv = true\nchange_mode = \"signal\"\n}",
        &["E: a template of environment can only restart the task or do nothing"],
    );
    check_task(
        "template {\ndata = \"x\"\ndestination = \"x\"\nperms = \"999\"\n}",
        &["E: `999` is not an octal file mode"],
    );
    check_task(
        "volume_mount {\nvolume = \"v\"\ndestination = \"/v\"\n}",
        &["E: the group has no volume `v`"],
    );
    check_task(
        "lifecycle {\nhook = \"prestart\"\n}",
        &["E: every task has a lifecycle block; one must be the main task"],
    );
}

#[test]
fn docker_ports_must_be_declared() {
    let lines = "config {\nports = [\"lb\"]\n}";
    check_task(lines, &[]);
    let text = format!(
        "job \"j\" {{\ngroup \"g\" {{\ntask \"t\" {{\ndriver = \"docker\"\n{lines}\n}}\n}}\n}}\n"
    );
    let parsed = parse_job(&text, "f", &Options::default()).unwrap_or_else(|p| panic!("{p}"));
    assert_eq!(parsed.problems()[0].summary, "`ports` names `lb`, which no network block declares");
}
