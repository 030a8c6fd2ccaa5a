//! Answers to the questions of a script: what the state holds, in one line.

use cos_model::{AllocId, EvalId, Job, TaskPhase};
use cos_state::{State, Topic};

use super::{alloc_id, deployment_id, join, node_id, number};
use crate::samples;

pub(super) fn answer(state: &State, question: &[&str]) -> String {
    let name = question.get(1).copied().unwrap_or_default();
    let found =
        match question[0] {
            "job" => state.job(&samples::job_key(name)).map(|job| show_job(job)),
            "versions" => Some(join(state.job_versions(&samples::job_key(name)).map(|job| {
                format!("{}{}", job.version, if job.stable { " (stable)" } else { "" })
            }))),
            "summary" => Some(summary(state, name)),
            "node" => state.node(node_id(name)).map(|node| {
                let eligible = if node.eligible { "eligible" } else { "ineligible" };
                let drain = if node.drain.is_some() { " draining" } else { "" };
                format!("{} {eligible}{drain} @{}", node.status.name(), node.modify_index)
            }),
            "events" => state.node(node_id(name)).map(|node| {
                join(node.events.iter().map(|e| format!("{}: {}", e.subsystem, e.message)))
            }),
            "eval" => state.eval(EvalId::from_bits(number(name))).map(|eval| {
                let words = [eval.status.name(), &eval.status_description];
                let index = eval.job_modify_index;
                format!("{} (job at {index}) @{}", words.join(" ").trim_end(), eval.modify_index)
            }),
            "alloc" => show_alloc(state, name),
            "links" => state.alloc(alloc_id(name)).map(|alloc| {
                let id = |id: Option<AllocId>| id.map_or(0, AllocId::bits);
                let followup = alloc.followup_eval.map_or(0, EvalId::bits);
                let (previous, next) = (id(alloc.previous), id(alloc.next));
                format!("previous {previous} next {next} followup {followup}")
            }),
            "deployment" => show_deployment(state, name),
            "services" => Some(join(state.catalog().services_on(name).map(|service| {
                let tags = service.tags.join(",");
                format!("{} [{tags}] {}:{}", service.name, service.address, service.port)
            }))),
            "checks" => Some(join(
                state.catalog().checks_on(name).map(|c| format!("{} {:?}", c.name, c.status)),
            )),
            "keys" => Some(join(state.kv_list(name).map(|entry| {
                let value = String::from_utf8_lossy(&entry.value);
                format!("{}={value} @{}/{}", entry.key, entry.create_index, entry.modify_index)
            }))),
            "locks" => Some(join(state.kv_list(name).map(|entry| {
                let holder =
                    entry.session.map_or_else(|| "free".to_owned(), |id| format!("s{}", id.bits()));
                format!("{} {holder} #{} @{}", entry.key, entry.lock_index, entry.modify_index)
            }))),
            "sessions" => Some(join(state.sessions().map(|session| {
                format!("s{} @{}/{}", session.id.bits(), session.create_index, session.modify_index)
            }))),
            "delays" => Some(join(
                state
                    .lock_delays()
                    .map(|delay| format!("{} s since {}", delay.lasts.as_secs(), delay.since)),
            )),
            "index" => Some(state.topic_index(&topic(name)).to_string()),
            other => panic!("no question `{other}`"),
        };
    found.unwrap_or_else(|| "none".to_owned())
}

fn show_job(job: &Job) -> String {
    let stop = if job.stop { " stopped" } else { "" };
    let stable = if job.stable { " stable" } else { "" };
    let (status, version) = (job.status.name(), job.version);
    format!("{status} version {version}{stop}{stable} @{}", job.modify_index)
}

fn show_alloc(state: &State, name: &str) -> Option<String> {
    let alloc = state.alloc(alloc_id(name))?;
    let mut words = vec![alloc.desired.name().to_owned(), alloc.client_status.name().into()];
    words.extend(
        alloc.health.map(|health| {
            if health.healthy { "healthy".to_owned() } else { "unhealthy".to_owned() }
        }),
    );
    words.extend(alloc.canary.then(|| "canary".to_owned()));
    words.extend(alloc.transition.migrate.then(|| "migrate".to_owned()));
    words.extend(alloc.transition.force_reschedule.then(|| "force".to_owned()));
    let running = alloc.task_states.values().any(|task| task.phase == TaskPhase::Running);
    words.extend(running.then(|| "(task runs)".to_owned()));
    words.push(format!("of version {} by e{}", alloc.job.version, alloc.eval_id.bits()));
    let indexes = (alloc.create_index, alloc.modify_index, alloc.alloc_modify_index);
    words.push(format!("@{}/{}/{}", indexes.0, indexes.1, indexes.2));
    Some(words.join(" "))
}

fn show_deployment(state: &State, name: &str) -> Option<String> {
    let deployment = state.deployment(deployment_id(name))?;
    let group = deployment.groups.get(samples::GROUP)?;
    let due = group.require_progress_by.unix_nanos() / 1_000_000_000;
    Some(format!(
        "{}{} placed {} healthy {} unhealthy {} canaries {} due {due} @{}",
        deployment.status.name(),
        if group.promoted { "" } else { " unpromoted" },
        group.placed,
        group.healthy,
        group.unhealthy,
        group.placed_canaries.len(),
        deployment.modify_index,
    ))
}

fn summary(state: &State, name: &str) -> String {
    join(state.job_summary(&samples::job_key(name)).iter().map(|(group, counts)| {
        let all = [
            ("queued", counts.queued),
            ("starting", counts.starting),
            ("running", counts.running),
            ("complete", counts.complete),
            ("failed", counts.failed),
            ("lost", counts.lost),
            ("unknown", counts.unknown),
        ];
        let counts = all.iter().filter(|(_, count)| *count > 0);
        let counts: Vec<String> = counts.map(|(name, n)| format!("{n} {name}")).collect();
        let counts = if counts.is_empty() { "none".to_owned() } else { counts.join(", ") };
        format!("{group}: {counts}")
    }))
}

fn topic(name: &str) -> Topic {
    match name.split_once(':').unwrap_or((name, "")) {
        ("nodes", _) => Topic::Nodes,
        ("jobs", _) => Topic::Jobs,
        ("evals", _) => Topic::Evals,
        ("allocs", _) => Topic::Allocs,
        ("deployments", _) => Topic::Deployments,
        ("catalog", _) => Topic::Catalog,
        ("service", name) => Topic::Service(name.into()),
        ("kv", prefix) => Topic::Kv(prefix.into()),
        ("sessions", _) => Topic::Sessions,
        ("config", _) => Topic::SchedulerConfig,
        (other, _) => panic!("no topic `{other}`"),
    }
}
