//! Measures the scheduler alone: one evaluation that places a job of 1,000 instances on 1,000 and
//! on 5,000 nodes, with and without a dynamic port, spread over racks, and on busy nodes.
//!
//! ```text
//! cargo run --release -p cos-scheduler --example placement_speed
//! ```
//!
//! It prints microseconds of wall time per placement, the best of several runs: the best is the
//! one that was disturbed least.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cos_model::{
    Allocation, ClientStatus, DriverState, Evaluation, Job, JobKind, Network, Node, NodeId, Port,
    Resources, Spread, Task, TaskGroup, Timestamp, samples,
};
use cos_scheduler::{Problem, plan};

/// Instances per job.
const COUNT: u32 = 1_000;
/// Racks that the spread case names.
const RACKS: u128 = 50;
/// How often each case is run.
const RUNS: u32 = 5;

fn main() {
    for nodes in [1_000, 5_000] {
        report(nodes, "plain", &job(false, false), 0);
        report(nodes, "dynamic port", &job(true, false), 0);
        report(nodes, "spread over 50 racks", &job(false, true), 0);
        report(nodes, "busy, dynamic port", &job(true, false), 8);
    }
}

#[expect(clippy::print_stdout, reason = "printing is what this program is for")]
fn report(nodes: u128, name: &str, job: &Arc<Job>, residents: u128) {
    let problem = problem(nodes, job, residents);
    let best = (0..RUNS).map(|_| measure(&problem)).min().unwrap_or_default();
    let each = best.as_secs_f64() * 1e6 / f64::from(COUNT);
    println!("{nodes:>5} nodes, {name:<22} {each:>7.2} us per placement");
}

#[expect(clippy::disallowed_methods, reason = "measuring wall time is what this program is for")]
fn measure(problem: &Problem) -> Duration {
    let mut id = 1_u128 << 100;
    let start = Instant::now();
    let plan = plan(problem, &mut || {
        id += 1;
        id
    });
    let took = start.elapsed();
    assert_eq!(plan.placements.len(), COUNT as usize, "every instance fits");
    took
}

fn problem(nodes: u128, job: &Arc<Job>, residents: u128) -> Problem {
    let other = self::job(true, false);
    let resident = |node: u128, number: u128| {
        let mut alloc = alloc(&other, node, number);
        alloc.ports = vec![cos_model::AllocatedPort {
            label: "http".to_owned(),
            task: None,
            host_port: u16::try_from(20_000 + number).unwrap_or(u16::MAX),
            to: 0,
            host_ip: address(node),
        }];
        Arc::new(alloc)
    };
    let node_allocs = (1..=nodes).map(|id| {
        let here = (0..residents).map(|number| resident(id, number)).collect();
        (NodeId::from_bits(id), here)
    });
    Problem {
        eval: Arc::new(evaluation(job)),
        job: Some(Arc::clone(job)),
        nodes: (1..=nodes).map(|id| Arc::new(node(id))).collect(),
        job_allocs: Vec::new(),
        node_allocs: node_allocs.collect(),
        deployment: None,
        spread: false,
        now: Timestamp(1),
        based_on: 1,
    }
}

fn address(id: u128) -> String {
    format!("10.{}.{}.{}", id >> 16, (id >> 8) & 255, id & 255)
}

fn node(id: u128) -> Node {
    let attributes = [
        ("kernel.name", "linux"),
        ("kernel.version", "6.1.0"),
        ("cpu.arch", "amd64"),
        ("os.name", "debian"),
        ("driver.docker.version", "20.10.5"),
    ];
    let own = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
    let docker = DriverState { detected: true, healthy: true, ..DriverState::default() };
    Node {
        name: format!("node-{id}"),
        datacenter: format!("dc{}", id % 3),
        address: address(id),
        capacity: Resources { cpu_mhz: 14_000, memory_mib: 32_000, disk_mib: 100_000 },
        reserved_ports: vec![22],
        attributes: attributes.into_iter().map(own).collect(),
        meta: BTreeMap::from([("rack".to_owned(), format!("r{}", id % RACKS))]),
        drivers: BTreeMap::from([("docker".to_owned(), docker)]),
        ..samples::node(id)
    }
}

fn job(port: bool, spread: bool) -> Arc<Job> {
    let http = Port { label: "http".to_owned(), ..Port::default() };
    let network = Network { ports: vec![http], ..Network::default() };
    let racks = Spread { attribute: "${meta.rack}".to_owned(), weight: 100, targets: Vec::new() };
    let linux = cos_model::Constraint {
        attribute: "${attr.kernel.name}".to_owned(),
        operator: cos_model::Operator::Equal,
        value: "linux".to_owned(),
    };
    let group = TaskGroup {
        count: COUNT,
        spreads: spread.then_some(racks).into_iter().collect(),
        networks: port.then_some(network).into_iter().collect(),
        ephemeral_disk_mib: 300,
        ..samples::group("web", vec![task()])
    };
    Arc::new(Job {
        datacenters: vec!["dc*".to_owned()],
        constraints: vec![linux],
        create_index: 1,
        modify_index: 1,
        job_modify_index: 1,
        ..samples::job("web", JobKind::Service, vec![group])
    })
}

fn task() -> Task {
    Task {
        driver: "docker".to_owned(),
        resources: Resources { cpu_mhz: 100, memory_mib: 128, disk_mib: 0 },
        ..samples::task("main")
    }
}

fn alloc(job: &Arc<Job>, node: u128, number: u128) -> Allocation {
    Allocation {
        client_status: ClientStatus::Running,
        create_time: Timestamp(1),
        modify_time: Timestamp(1),
        create_index: 1,
        modify_index: 1,
        alloc_modify_index: 1,
        ..samples::alloc((node << 32) | number, node, job)
    }
}

fn evaluation(job: &Job) -> Evaluation {
    Evaluation {
        job_modify_index: job.job_modify_index,
        create_time: Timestamp(1),
        modify_time: Timestamp(1),
        create_index: 1,
        modify_index: 1,
        ..samples::eval(7, job.key.clone())
    }
}
