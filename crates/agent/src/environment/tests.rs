//! Rows of what a task finds, and of what is replaced.

use std::sync::Arc;

use cos_model::JobKind;
use proptest::prelude::*;

use super::*;
use crate::testing;

fn port(label: &str, task: Option<&str>, host_port: u16, to: u16) -> AllocatedPort {
    AllocatedPort {
        label: label.to_owned(),
        task: task.map(str::to_owned),
        host_port,
        to,
        host_ip: "10.0.0.7".to_owned(),
    }
}

/// An allocation of the tasks `web` and `concourse-serv` with ports of all kinds.
fn environment(change: impl Fn(&mut Task)) -> Environment {
    let mut web = testing::task("web");
    change(&mut web);
    let mut group = testing::group(vec![web.clone(), testing::task("concourse-serv")]);
    group.meta.insert("colour".to_owned(), "green".to_owned());
    let mut job = testing::job(JobKind::Service, group);
    job.meta.insert("colour".to_owned(), "red".to_owned());
    job.meta.insert("my-team".to_owned(), "core".to_owned());
    let mut alloc = testing::alloc_of(3, job);
    alloc.ports = vec![
        port("http", None, 21_000, 8080),
        port("admin", None, 21_001, 0),
        port("db", Some("web"), 21_002, 0),
        port("http", Some("concourse-serv"), 21_003, 0),
    ];
    let inherited = BTreeMap::from([
        ("PATH".to_owned(), "/bin".to_owned()),
        ("VAULT_TOKEN".to_owned(), "secret".to_owned()),
    ]);
    let directories = Directories {
        alloc: "/alloc".to_owned(),
        local: "/local".to_owned(),
        secrets: "/secrets".to_owned(),
    };
    let node = testing::node();
    Environment::of(&Origin {
        alloc: &Arc::new(alloc),
        task: &web,
        node: &node,
        region: "global",
        directories: &directories,
        inherited: &inherited,
    })
}

#[test]
fn a_task_finds_who_and_where_it_is() {
    let environment = environment(|_| {});
    let rows = [
        ("NOMAD_ALLOC_ID", "00000000-0000-0000-0000-000000000003"),
        ("NOMAD_SHORT_ALLOC_ID", "00000000"),
        ("NOMAD_ALLOC_NAME", "job.group[0]"),
        ("NOMAD_ALLOC_INDEX", "0"),
        ("NOMAD_TASK_NAME", "web"),
        ("NOMAD_GROUP_NAME", "group"),
        ("NOMAD_JOB_ID", "job"),
        ("NOMAD_JOB_NAME", "job"),
        ("NOMAD_DC", "dc1"),
        ("NOMAD_REGION", "global"),
        ("NOMAD_NAMESPACE", "default"),
        ("NOMAD_CPU_LIMIT", "100"),
        ("NOMAD_MEMORY_LIMIT", "64"),
        ("NOMAD_ALLOC_DIR", "/alloc"),
        ("NOMAD_TASK_DIR", "/local"),
        ("NOMAD_SECRETS_DIR", "/secrets"),
        ("NOMAD_META_colour", "green"),
        ("NOMAD_META_COLOUR", "green"),
        ("NOMAD_META_my_team", "core"),
        ("NOMAD_META_MY_TEAM", "core"),
        ("PATH", "/bin"),
    ];
    for (name, value) in rows {
        assert_eq!(environment.variable(name), Some(value), "{name}");
    }
    assert_eq!(environment.variable("VAULT_TOKEN"), None);
    assert_eq!(environment.variable("NOMAD_JOB_PARENT_ID"), None);
}

#[test]
fn ports_are_found_under_every_name() {
    let environment = environment(|_| {});
    let rows = [
        ("NOMAD_IP_http", "10.0.0.7"),
        ("NOMAD_PORT_http", "8080"),
        ("NOMAD_ALLOC_PORT_http", "8080"),
        ("NOMAD_HOST_PORT_http", "21000"),
        ("NOMAD_ADDR_http", "10.0.0.7:21000"),
        ("NOMAD_HOST_ADDR_http", "10.0.0.7:21000"),
        ("NOMAD_PORT_admin", "21001"),
        ("NOMAD_PORT_db", "21002"),
        ("NOMAD_ADDR_web_db", "10.0.0.7:21002"),
        ("NOMAD_IP_concourse-serv_http", "10.0.0.7"),
        ("NOMAD_IP_concourse_serv_http", "10.0.0.7"),
        ("NOMAD_PORT_concourse-serv_http", "21003"),
        ("NOMAD_ADDR_concourse_serv_http", "10.0.0.7:21003"),
    ];
    for (name, value) in rows {
        assert_eq!(environment.variable(name), Some(value), "{name}");
    }
}

#[test]
fn an_old_port_map_tells_the_port_inside() {
    let map = Value::Map(BTreeMap::from([("db".to_owned(), Value::String("5432".to_owned()))]));
    let environment = environment(|task| {
        task.config.insert("port_map".to_owned(), Value::List(vec![map.clone()]));
    });
    assert_eq!(environment.variable("NOMAD_PORT_db"), Some("5432"));
    assert_eq!(environment.variable("NOMAD_HOST_PORT_db"), Some("21002"));
    assert_eq!(environment.variable("NOMAD_ADDR_db"), Some("10.0.0.7:21002"));
}

#[test]
fn known_references_are_replaced_and_others_survive() {
    let environment = environment(|task| {
        task.env.insert("NAME".to_owned(), "${node.unique.name} in ${NOMAD_DC}".to_owned());
    })
    .with_service_names("job", "group", "web");
    let rows = [
        ("${NAME}", "node in dc1"),
        ("${attr.kernel.name}/${meta.rack}/${node.class}", "linux/r1/big"),
        ("${env[\"NOMAD_PORT_http\"]}", "8080"),
        ("${NOMAD_IP_concourse-serv_http}", "10.0.0.7"),
        ("${JOB}-${TASKGROUP}-${TASK}", "job-group-web"),
        ("${BASE}", "job-group-web"),
        ("${SUBPATH}/x ${GRAFANAADDR}", "${SUBPATH}/x ${GRAFANAADDR}"),
        ("${unknown ${NOMAD_DC}}", "${unknown dc1}"),
        ("$NOMAD_DC ${ ${", "$NOMAD_DC ${ ${"),
        ("${ NOMAD_DC }", "dc1"),
    ];
    for (given, expected) in rows {
        assert_eq!(environment.interpolate(given), expected, "{given}");
    }
}

#[test]
fn values_are_replaced_at_any_depth() {
    let environment = environment(|_| {});
    let text = |text: &str| Value::String(text.to_owned());
    let given = Value::Map(BTreeMap::from([(
        "${NOMAD_DC}".to_owned(),
        Value::List(vec![text("${NOMAD_TASK_NAME}"), Value::Int(1)]),
    )]));
    let expected = Value::Map(BTreeMap::from([(
        "dc1".to_owned(),
        Value::List(vec![text("web"), Value::Int(1)]),
    )]));
    assert_eq!(environment.interpolate_value(&given), expected);
}

proptest! {
    #[test]
    fn a_text_without_known_references_stays(text in "[a-z$ {}]{0,40}") {
        prop_assert_eq!(Environment::default().interpolate(&text), text);
    }
}
