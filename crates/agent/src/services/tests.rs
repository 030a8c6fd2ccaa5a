//! What allocations register, in rows.

use std::collections::BTreeSet;
use std::time::Duration;

use cos_model::{AllocatedPort, JobKind};

use super::*;
use crate::testing;

fn service(name: &str, port: &str) -> Service {
    Service { name: name.to_owned(), port: port.to_owned(), ..Service::default() }
}

fn check(kind: CheckKind) -> Check {
    Check {
        name: String::new(),
        kind,
        port: String::new(),
        address_mode: String::new(),
        interval: Duration::from_secs(10),
        timeout: Duration::from_secs(2),
        initial_status: String::new(),
        restart: None,
        on_update: String::new(),
        success_before_passing: 0,
        failures_before_critical: 0,
        extras: BTreeMap::new(),
    }
}

fn http(path: &str) -> CheckKind {
    CheckKind::Http {
        protocol: String::new(),
        method: String::new(),
        path: path.to_owned(),
        header: BTreeMap::new(),
        body: String::new(),
        tls_skip_verify: false,
    }
}

fn alloc(group: Vec<Service>, task: Vec<Service>) -> Allocation {
    let mut web = testing::task("web");
    web.services = task;
    let mut tasks = testing::group(vec![web]);
    tasks.services = group;
    let mut alloc = testing::alloc_of(1, testing::job(JobKind::Service, tasks));
    let port = |label: &str, host_ip: &str, host_port: u16| AllocatedPort {
        label: label.to_owned(),
        task: None,
        host_port,
        to: 8080,
        host_ip: host_ip.to_owned(),
    };
    alloc.ports = vec![port("http", "10.0.0.7", 21_000), port("any", "0.0.0.0", 21_001)];
    alloc
}

fn registrations(alloc: &Allocation) -> Vec<Registration> {
    let environments =
        BTreeMap::from([("web".to_owned(), Environment::of_node(&testing::node(), "global"))]);
    let site = Site { alloc, node: "node", address: "10.0.0.1", environments: &environments };
    let tasks = BTreeSet::from(["web".to_owned()]);
    site.registrations(&Advertised { group: true, tasks })
}

#[test]
fn instances_have_their_names_and_places() {
    let alloc = alloc(
        vec![service("ping-service", "http"), service("fixed", "9000")],
        vec![service("", "any"), service("${TASKGROUP}-${TASK}-service", "http")],
    );
    let found: Vec<String> = registrations(&alloc)
        .iter()
        .map(|r| {
            let s = &r.service;
            format!("{} {} {}:{}", s.id, s.name, s.address, s.port)
        })
        .collect();
    let id = "_nomad-task-00000000-0000-0000-0000-000000000001";
    assert_eq!(
        found,
        [
            format!("{id}-group-group-ping-service-http ping-service 10.0.0.7:21000"),
            format!("{id}-group-group-fixed-9000 fixed 10.0.0.1:9000"),
            format!("{id}-web-job-group-web-any job-group-web 10.0.0.1:21001"),
            format!("{id}-web-group-web-service-http group-web-service 10.0.0.7:21000"),
        ]
    );
    assert!(belongs_to(&found[0], alloc.id));
}

#[test]
fn checks_ask_where_the_service_is() {
    let mut with_checks = service("web", "http");
    let script = CheckKind::Script {
        command: "/bin/true".to_owned(),
        args: vec!["${node.datacenter}".to_owned()],
        task: String::new(),
    };
    let grpc = CheckKind::Grpc { service: String::new(), tls: false };
    with_checks.checks =
        vec![check(http("/health")), check(CheckKind::Tcp), check(script), check(grpc)];
    with_checks.checks[1].port = "any".to_owned();
    with_checks.checks[1].initial_status = "passing".to_owned();
    let alloc = alloc(Vec::new(), vec![with_checks]);
    let found = registrations(&alloc);
    let probes: Vec<Option<Probe>> = found[0]
        .checks
        .iter()
        .map(|check| check.check.definition.clone().map(|definition| definition.probe))
        .collect();
    let expected_http = Probe::Http {
        url: "http://10.0.0.7:21000/health".to_owned(),
        method: String::new(),
        header: BTreeMap::new(),
        body: String::new(),
        tls_skip_verify: false,
    };
    let expected_script = Probe::Script {
        args: vec!["/bin/true".to_owned(), "dc1".to_owned()],
        target: format!("{}/web", alloc.id),
    };
    assert_eq!(
        probes,
        [
            Some(expected_http),
            Some(Probe::Tcp("10.0.0.1:21001".to_owned())),
            Some(expected_script),
            None,
        ]
    );
    let checks = &found[0].checks;
    assert_eq!(checks[1].check.status, Health::Passing);
    assert_eq!(checks[3].check.output, "gRPC checks are not supported");
    assert_eq!(checks[0].check.name, "service: \"web\" check");
}

#[test]
fn canaries_carry_their_own_tags() {
    let mut tagged = service("web", "http");
    tagged.tags = vec!["urlprefix-/".to_owned()];
    tagged.canary_tags = vec!["canary".to_owned()];
    let mut alloc = alloc(Vec::new(), vec![tagged]);
    assert_eq!(registrations(&alloc)[0].service.tags, ["urlprefix-/"]);
    alloc.canary = true;
    assert_eq!(registrations(&alloc)[0].service.tags, ["canary"]);
    assert_eq!(registrations(&alloc)[0].service.meta["external-source"], "nomad");
}

#[test]
fn only_what_differs_is_sent() {
    let mut web = service("web", "http");
    web.checks = vec![check(http("/a"))];
    let old = registrations(&alloc(Vec::new(), vec![web.clone()]));
    assert_eq!(difference(&old, &old), []);
    assert_eq!(difference(&[], &old).len(), 2);
    web.tags.push("new".to_owned());
    let tagged = registrations(&alloc(Vec::new(), vec![web.clone()]));
    assert!(matches!(difference(&old, &tagged)[..], [CatalogChange::PutService(_)]));
    web.checks.clear();
    let unchecked = registrations(&alloc(Vec::new(), vec![web]));
    assert!(matches!(difference(&tagged, &unchecked)[..], [CatalogChange::RemoveCheck { .. }]));
    assert!(matches!(difference(&tagged, &[])[..], [CatalogChange::RemoveService { .. }]));
}
