//! Scenarios as text: a script of commands, and the transcript of what was planned.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use cos_model::node::{DrainSpec, DrainState};
use cos_model::{
    AllocHealth, AllocId, ClientStatus, DeploymentStatus, EvalStatus, NodeId, NodeStatus, Plan,
};

use super::world::World;

/// Runs a script in an empty cluster and compares the transcript, line by line.
///
/// `plan` plans and applies, `run` lets agents act, `healthy` finds running instances healthy,
/// `settle` repeats these until nothing changes; `where`, `live` and `why` show things.
#[track_caller]
pub(super) fn check(script: &str, expected: &[&str]) {
    let mut world = World::default();
    let mut transcript: Vec<String> = Vec::new();
    for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (command, rest) = line.split_once(' ').unwrap_or((line, ""));
        transcript.extend(obey(&mut world, command, rest));
    }
    assert_eq!(transcript, expected, "script:\n{script}");
}

fn obey(world: &mut World, command: &str, rest: &str) -> Option<String> {
    match command {
        "job" => world.register(&super::job(rest)),
        "stop" => Arc::make_mut(world.job.as_mut().unwrap()).stop = true,
        "purge" => world.job = None,
        "plan" => {
            let plan = world.plan();
            return Some(render(world, &plan));
        }
        "run" => world.run_agents(),
        "healthy" => world.become_healthy(),
        "settle" => return Some(settle(world)),
        "wait" => world.wait(Duration::from_secs(rest.parse().unwrap())),
        "fail" => {
            let now = world.now;
            let alloc = world.live(rest.parse().unwrap());
            alloc.client_status = ClientStatus::Failed;
            alloc.modify_time = now;
        }
        "complete" => world.live(rest.parse().unwrap()).client_status = ClientStatus::Complete,
        "unhealthy" => {
            let at = world.now;
            world.live(rest.parse().unwrap()).health = Some(AllocHealth { healthy: false, at });
        }
        "migrate" => world.live(rest.parse().unwrap()).transition.migrate = true,
        "deployment" => obey_deployment(world, rest),
        "where" => return Some(by_node(world)),
        "live" => return Some(live(world)),
        _ => obey_node(world, command, rest),
    }
    None
}

fn obey_node(world: &mut World, command: &str, rest: &str) {
    let (name, facts) = rest.split_once(' ').unwrap_or((rest, ""));
    let id = NodeId::from_bits(name.trim_start_matches('n').parse().unwrap());
    let address = format!("10.0.0.{}", id.bits());
    if command == "node" {
        let mut node = super::node(&format!("{facts} name={name} id={}", id.bits()));
        node.address = address;
        world.nodes.insert(id, Arc::new(node));
        return;
    }
    if command == "remove" {
        world.nodes.remove(&id);
        return;
    }
    let node = Arc::make_mut(world.nodes.get_mut(&id).unwrap());
    match command {
        "down" => node.status = NodeStatus::Down,
        "away" => node.status = NodeStatus::Disconnected,
        "up" => node.status = NodeStatus::Ready,
        "ineligible" => node.eligible = false,
        "drain" => {
            let spec = DrainSpec { deadline: None, ignore_system_jobs: false };
            let started_at = world.now;
            let force_at = cos_model::Timestamp::NEVER;
            node.drain = Some(DrainState { spec, started_at, force_at });
            for alloc in world.allocs.values_mut().filter(|alloc| alloc.node_id == id) {
                Arc::make_mut(alloc).transition.migrate = true;
            }
        }
        _ => panic!("unknown command {command}"),
    }
}

fn obey_deployment(world: &mut World, verb: &str) {
    let deployment = world.deployment.as_mut().unwrap();
    match verb {
        "promote" => deployment.groups.values_mut().for_each(|group| group.promoted = true),
        "pause" => deployment.status = DeploymentStatus::Paused,
        "fail" => deployment.status = DeploymentStatus::Failed,
        "succeed" => deployment.status = DeploymentStatus::Successful,
        _ => panic!("unknown verb {verb}"),
    }
}

/// Lets everything go its way until nothing changes, and says how many plans it took.
fn settle(world: &mut World) -> String {
    for round in 0..100 {
        world.run_agents();
        world.become_healthy();
        let plan = world.plan();
        if plan.placements.is_empty() && plan.stops.is_empty() {
            return format!("settled after {round}");
        }
    }
    "never settled".to_owned()
}

fn by_node(world: &World) -> String {
    let mut counts: BTreeMap<&str, u32> = BTreeMap::new();
    for alloc in world.allocs.values().filter(|alloc| !alloc.is_terminal()) {
        *counts.entry(&world.nodes[&alloc.node_id].name).or_default() += 1;
    }
    counts.iter().map(|(name, count)| format!("{name}={count}")).collect::<Vec<_>>().join(" ")
}

fn live(world: &World) -> String {
    let mut lines: Vec<(u32, u64)> = world
        .allocs
        .values()
        .filter(|alloc| !alloc.is_terminal())
        .map(|alloc| (alloc.index, alloc.job.version))
        .collect();
    lines.sort_unstable();
    lines.iter().map(|(n, version)| format!("{n}:v{version}")).collect::<Vec<_>>().join(" ")
}

/// Renders a plan: what is created, stopped, updated, placed, put off and left undone.
fn render(world: &World, plan: &Plan) -> String {
    let mut parts: Vec<String> = Vec::new();
    if let Some(deployment) = &plan.deployment {
        let words = deployment.status_description.strip_prefix("Deployment is ").unwrap();
        parts.push(format!("deployment {words}"));
    }
    parts.extend(plan.deployment_updates.iter().map(|update| update.description.clone()));
    let mut stops: BTreeMap<(&str, String), Vec<AllocId>> = BTreeMap::new();
    for stop in &plan.stops {
        let (verb, lost) = match stop.client_status {
            None => ("stop", ""),
            Some(ClientStatus::Unknown) => ("unknown", ""),
            Some(_) => ("stop", " (lost)"),
        };
        let words = (verb, format!("{}{lost}", stop.description));
        stops.entry(words).or_default().push(stop.id);
    }
    for ((verb, words), ids) in stops {
        parts.push(format!("{verb} {}: {words}", numbers(world, &ids)));
    }
    let current = world.job.as_ref().map_or(0, |job| job.version);
    let mut placed: BTreeMap<String, Vec<AllocId>> = BTreeMap::new();
    for alloc in &plan.placements {
        let mut verb = if alloc.create_index > 0 { "in-place" } else { "place" }.to_owned();
        if alloc.canary {
            verb.push_str(" canary");
        }
        if alloc.job.version != current {
            write!(verb, " v{}", alloc.job.version).unwrap();
        }
        placed.entry(verb).or_default().push(alloc.id);
    }
    for (verb, ids) in placed {
        parts.push(format!("{verb} {}", numbers(world, &ids)));
    }
    for eval in plan.new_evals.iter().filter(|eval| !eval.wait_until.is_never()) {
        let wait = eval.wait_until.since(world.now).as_secs();
        parts.push(format!("{} in {wait}s", eval.trigger.name()));
    }
    parts.extend(undone(plan));
    if parts.is_empty() { "nothing".to_owned() } else { parts.join("; ") }
}

fn undone(plan: &Plan) -> Vec<String> {
    let is_blocked = plan.new_evals.iter().any(|eval| eval.status == EvalStatus::Blocked);
    plan.eval
        .failed_groups
        .iter()
        .map(|(group, metric)| {
            let queued = plan.eval.queued[group];
            let verb = if is_blocked { "blocked" } else { "failed" };
            let counts = [&metric.constraint_filtered, &metric.dimension_exhausted];
            let reasons: Vec<String> =
                counts.into_iter().flatten().map(|(words, n)| format!("{words} x{n}")).collect();
            format!("{verb} {queued}: {}", reasons.join(", "))
        })
        .collect()
}

fn numbers(world: &World, ids: &[AllocId]) -> String {
    let mut numbers: Vec<u32> = ids.iter().map(|id| world.allocs[id].index).collect();
    numbers.sort_unstable();
    numbers.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}
