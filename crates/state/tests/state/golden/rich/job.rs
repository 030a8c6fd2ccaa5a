//! The job of the golden entries.

use std::collections::BTreeMap;
use std::time::Duration;

use cos_model::job::{Scaling, VolumeRequest};
use cos_model::network::Dns;
use cos_model::service::{CheckKind, CheckRestart};
use cos_model::task::{Hook, VolumeMount};
use cos_model::{
    Affinity, Artifact, ChangeMode, Check, Constraint, DelayFunction, Disconnect, Job, Lifecycle,
    Migrate, Network, Operator, Periodic, Port, Reschedule, Service, Spread, SpreadTarget, Task,
    Template, Timestamp, Update, Value,
};
use cos_state::Command;

use super::{pair, text};
use crate::samples;

/// A job that fills every block.
pub(super) fn job() -> Job {
    let mut job = samples::job("web");
    job.constraints = vec![constraint()];
    job.affinities = vec![affinity()];
    job.spreads = vec![spread()];
    job.update = Some(Update { canary: 1, ..Update::default() });
    job.meta = pair("owner", "me");
    job.extras = BTreeMap::from([(text("Multiregion"), value())]);
    let group = &mut job.groups[0];
    group.constraints = vec![constraint()];
    group.affinities = vec![affinity()];
    group.spreads = vec![spread()];
    group.networks = vec![network()];
    group.services = vec![service()];
    group.reschedule = Some(Reschedule {
        attempts: 1,
        interval: Duration::from_mins(1),
        delay: Duration::from_secs(5),
        delay_function: DelayFunction::Fibonacci,
        max_delay: Duration::from_secs(50),
        unlimited: false,
    });
    group.migrate = Some(Migrate::default());
    group.disconnect = Some(Disconnect {
        lost_after: Some(Duration::from_secs(6)),
        stop_on_client_after: Some(Duration::from_secs(7)),
        replace: true,
        reconcile: text("keep_original"),
    });
    group.volumes = BTreeMap::from([(
        text("certs"),
        VolumeRequest { kind: text("host"), source: text("certs"), ..VolumeRequest::default() },
    )]);
    group.meta = pair("tier", "front");
    let (enabled, policy) = (true, BTreeMap::from([(text("Check"), value())]));
    group.scaling = Some(Scaling { min: 1, max: 9, enabled, policy });
    group.extras = BTreeMap::from([(text("Consul"), Value::Null)]);
    group.tasks = vec![task()];
    job
}

fn task() -> Task {
    Task {
        driver: text("docker"),
        user: text("nobody"),
        config: BTreeMap::from([(text("image"), Value::String(text("ping:1")))]),
        env: pair("PORT", "${NOMAD_PORT_http}"),
        meta: pair("a", "b"),
        constraints: vec![constraint()],
        affinities: vec![affinity()],
        services: vec![service()],
        memory_max_mib: 200,
        cores: 1,
        networks: vec![network()],
        kill_signal: text("SIGINT"),
        leader: true,
        lifecycle: Some(Lifecycle { hook: Hook::Prestart, sidecar: true }),
        artifacts: vec![Artifact {
            source: text("https://example.org/a.tgz"),
            destination: text("local/"),
            mode: text("any"),
            options: pair("checksum", "sha256:00"),
            headers: pair("X-A", "b"),
            insecure: true,
            chown: true,
        }],
        templates: vec![template()],
        volume_mounts: vec![VolumeMount {
            volume: text("certs"),
            destination: text("/certs"),
            read_only: true,
            propagation_mode: text("private"),
        }],
        dispatch_payload_file: text("input"),
        extras: BTreeMap::from([(text("Vault"), value())]),
        ..samples::task()
    }
}

fn template() -> Template {
    Template {
        data: text("{{ key \"a\" }}"),
        destination: text("local/a"),
        change_mode: ChangeMode::Script {
            command: text("/bin/true"),
            args: vec![text("-x")],
            timeout: Duration::from_secs(5),
            fail_on_error: true,
        },
        perms: text("0644"),
        splay: Duration::from_secs(5),
        env: true,
        left_delimiter: text("{{"),
        right_delimiter: text("}}"),
        error_on_missing_key: true,
        uid: Some(1000),
        gid: Some(1000),
        once: true,
        extras: BTreeMap::from([(text("Wait"), value())]),
        ..Template::default()
    }
}

/// A value of every kind.
fn value() -> Value {
    let list = Value::List(vec![Value::Bool(true), Value::Int(-1), Value::Float(0.5)]);
    Value::Map(BTreeMap::from([(text("list"), list), (text("none"), Value::Null)]))
}

fn constraint() -> Constraint {
    let (attribute, value) = (text("${attr.kernel.name}"), text("linux"));
    Constraint { attribute, operator: Operator::Equal, value }
}

fn affinity() -> Affinity {
    let (attribute, value) = (text("${meta.rack}"), text("r1"));
    Affinity { attribute, operator: Operator::NotEqual, value, weight: -50 }
}

fn spread() -> Spread {
    let targets = vec![SpreadTarget { value: text("dc1"), percent: 60 }];
    Spread { attribute: text("${node.datacenter}"), weight: 50, targets }
}

fn network() -> Network {
    Network {
        mode: text("bridge"),
        ports: vec![Port {
            label: text("http"),
            host_port: 80,
            to: -1,
            host_network: text("public"),
            ignore_collision: true,
        }],
        mbits: Some(10),
        hostname: text("web"),
        dns: Some(Dns {
            servers: vec![text("10.0.0.1")],
            searches: vec![text("consul")],
            options: vec![text("ndots:1")],
        }),
        cni_args: pair("A", "b"),
    }
}

fn service() -> Service {
    let checks = [
        CheckKind::Http {
            protocol: text("http"),
            method: text("GET"),
            path: text("/health"),
            header: BTreeMap::from([(text("X-A"), vec![text("b")])]),
            body: text("body"),
            tls_skip_verify: true,
        },
        CheckKind::Tcp,
        CheckKind::Script { command: text("true"), args: vec![text("-x")], task: text("main") },
        CheckKind::Grpc { service: text("ping"), tls: true },
    ];
    Service {
        name: text("ping-service"),
        tags: vec![text("urlprefix-/ping")],
        canary_tags: vec![text("canary")],
        port: text("http"),
        address_mode: text("auto"),
        provider: text("consul"),
        meta: pair("a", "b"),
        canary_meta: pair("a", "c"),
        tagged_addresses: pair("lan", "10.0.0.1"),
        weight_passing: 1,
        weight_warning: 1,
        checks: checks.map(check).into(),
        extras: BTreeMap::from([(text("Connect"), value())]),
        ..Service::default()
    }
}

fn check(kind: CheckKind) -> Check {
    Check {
        name: text("alive"),
        kind,
        port: text("http"),
        address_mode: text("host"),
        interval: Duration::from_secs(10),
        timeout: Duration::from_secs(2),
        initial_status: text("passing"),
        restart: Some(CheckRestart {
            limit: 3,
            grace: Duration::from_secs(90),
            ignore_warnings: true,
        }),
        on_update: text("require_healthy"),
        success_before_passing: 1,
        failures_before_critical: 2,
        extras: BTreeMap::from([(text("Notes"), Value::String(text("words")))]),
    }
}

/// Kept apart from [`job`], which stays a job that runs.
#[test]
fn a_periodic_job_survives_storage() {
    let periodic = Periodic {
        enabled: true,
        specs: vec![text("@daily")],
        prohibit_overlap: true,
        time_zone: text("UTC"),
    };
    let job = Box::new(Job { periodic: Some(periodic), ..job() });
    let command = Command::RegisterJob { job, expected_index: None, eval: None };
    let request = cos_state::Request::new(Timestamp(1), command);
    let stored = cos_state::encode_request(&request);
    assert_eq!(cos_state::decode_request(&stored).unwrap(), request);
}
