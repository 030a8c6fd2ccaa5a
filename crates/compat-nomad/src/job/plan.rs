//! `PUT /v1/job/:id/plan`: what registering a job would do.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use axum::response::Response;
use cos_http::{ApiError, Body, Reply, params};
use cos_model::{AllocId, Allocation, ClientStatus, Job, Plan, Trigger};
use cos_state::State;
use cos_state::evaluations::eval_for_job;
use serde::Serialize;
use serde_json::{Value, json};

use super::{Asked, diff};
use crate::context::Nomad;
use crate::jobs::job_of;
use crate::spec::job_json;
use crate::wire::eval;
use crate::wire::metric::by_group;

/// What a plan does to one group, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct DesiredUpdates {
    pub(super) ignore: u64,
    pub(super) place: u64,
    pub(super) migrate: u64,
    pub(super) stop: u64,
    pub(super) in_place_update: u64,
    pub(super) destructive_update: u64,
    pub(super) canary: u64,
    pub(super) preemptions: u64,
    pub(super) disconnect: u64,
    pub(super) reconnect: u64,
    pub(super) reschedule_now: u64,
    pub(super) reschedule_later: u64,
}

pub(super) async fn plan(nomad: &Nomad, asked: &Asked) -> Result<Response, ApiError> {
    let body = Body::parse(&asked.body)?;
    let read = job_of(&body, &asked.params)?;
    if *read.job.key.id != *asked.key.id {
        return Err(ApiError::bad_request("Job ID does not match"));
    }
    read.check()?;
    let with_diff = body.flag("Diff")?;
    let state = nomad.current().await?;
    let old = state.job(&read.job.key);
    let job = as_registered(old, read.job);
    let control = nomad.api.control()?;
    let eval = eval_for_job(&job, Trigger::JobRegister, control.new_id(), control.now());
    let planned = (!job.is_template()).then(|| nomad.planner.dry_run(&state, job.clone()));
    let updates = planned.as_ref().map(|plan| count(&state, &job, plan)).unwrap_or_default();
    let shown_diff = with_diff.then(|| {
        let old = old.map(|old| job_json(old));
        let mut found = diff::jobs(old.as_ref(), &job_json(&job));
        diff::annotate(&mut found, &updates);
        found
    });
    let created: Vec<Value> = planned
        .iter()
        .flat_map(|plan| &plan.new_evals)
        .map(|made| eval::detail(made, Vec::new()))
        .chain(std::iter::once(eval::detail(&eval, Vec::new())))
        .collect();
    let failed = planned.as_ref().and_then(|plan| by_group(&plan.eval.failed_groups));
    let pretty = params::is_pretty(&asked.params);
    Ok(Reply::written(state.index().max(1)).pretty(pretty).json(&json!({
        "Annotations": {"DesiredTGUpdates": updates, "PreemptedAllocs": null},
        "FailedTGAllocs": failed,
        "JobModifyIndex": old.map_or(0, |old| old.job_modify_index),
        "CreatedEvals": created,
        "Diff": shown_diff,
        "NextPeriodicLaunch": null,
        "Warnings": read.warnings,
        "Index": state.index(),
    })))
}

/// The job as the state machine would record it.
fn as_registered(old: Option<&Arc<Job>>, job: Job) -> Job {
    let Some(old) = old else { return job };
    let changed = !old.same_request(&job) || old.stop;
    Job {
        version: old.version + u64::from(changed),
        create_index: old.create_index,
        modify_index: old.modify_index,
        job_modify_index: old.job_modify_index + u64::from(changed),
        status: old.status,
        stable: old.stable && !changed,
        ..job
    }
}

fn count(state: &State, job: &Job, plan: &Plan) -> BTreeMap<String, DesiredUpdates> {
    let mut updates: BTreeMap<String, DesiredUpdates> =
        job.groups.iter().map(|group| (group.name.clone(), DesiredUpdates::default())).collect();
    let replaced: BTreeSet<AllocId> =
        plan.placements.iter().filter_map(|placed| placed.previous).collect();
    let stopped: BTreeSet<AllocId> = plan.stops.iter().map(|stop| stop.id).collect();
    let mut touched: BTreeSet<AllocId> = stopped.clone();
    for placed in &plan.placements {
        touched.insert(placed.id);
        let counts = updates.entry(placed.group.to_string()).or_default();
        count_placement(state, placed, &stopped, counts);
    }
    for stop in &plan.stops {
        let Some(alloc) = state.alloc(stop.id) else { continue };
        let counts = updates.entry(alloc.group.to_string()).or_default();
        if stop.client_status == Some(ClientStatus::Unknown) {
            counts.disconnect += 1;
        } else if !replaced.contains(&alloc.id) {
            // One that is replaced was counted with its replacement.
            counts.stop += 1;
        }
    }
    // What finds no room is wanted all the same.
    for (group, missed) in &plan.eval.failed_groups {
        let counts = updates.entry(group.clone()).or_default();
        counts.place += 1 + u64::from(missed.coalesced_failures);
    }
    for id in plan.followups.keys() {
        if let Some(alloc) = state.alloc(*id) {
            updates.entry(alloc.group.to_string()).or_default().reschedule_later += 1;
        }
    }
    for alloc in state.allocs_of_job(&job.key) {
        if !alloc.is_terminal() && !touched.contains(&alloc.id) {
            updates.entry(alloc.group.to_string()).or_default().ignore += 1;
        }
    }
    updates
}

fn count_placement(
    state: &State,
    placed: &Allocation,
    stopped: &BTreeSet<AllocId>,
    counts: &mut DesiredUpdates,
) {
    if placed.canary {
        counts.canary += 1;
        return;
    }
    if state.alloc(placed.id).is_some() {
        counts.in_place_update += 1;
        return;
    }
    let Some(previous) = placed.previous.and_then(|id| state.alloc(id)) else {
        counts.place += 1;
        return;
    };
    if previous.transition.migrate {
        counts.migrate += 1;
    } else if stopped.contains(&previous.id) && !previous.is_client_terminal() {
        counts.destructive_update += 1;
    } else {
        counts.place += 1;
        counts.reschedule_now += 1;
    }
}
