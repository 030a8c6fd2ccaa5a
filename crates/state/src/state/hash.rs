//! The rolling hash: what each entry did, folded into one number that servers compare.
//!
//! It is made of what came out (the answer and the changed objects), not of the bytes that went
//! in: the log already proves that those are equal, and a difference in applying is what is sought.
//!
//! # Invariants
//!
//! - Only facts that decide something are folded, by their shown names, so that servers of two
//!   versions agree while one has a field more than the other.

use cos_model::catalog::CatalogChange;
use cos_model::{Allocation, Deployment, Evaluation, Job, Node, Resources, Timestamp};

use super::State;
use super::apply::Applied;
use crate::command::Reply;
use crate::digest::Digest;
use crate::event::Event;

/// Returns the hash after an entry that was proposed at `at` and did `applied`.
pub(super) fn roll(state: &State, at: Timestamp, applied: &Applied) -> u64 {
    let mut digest = Digest::new(state.hash);
    digest.word(state.index);
    time(&mut digest, at);
    match &applied.reply {
        Ok(reply) => fold_reply(&mut digest, reply),
        Err(refused) => text(&mut digest, &refused.to_string()),
    }
    for event in &applied.events {
        fold_event(&mut digest, state, event);
    }
    digest.finish()
}

fn fold_reply(digest: &mut Digest, reply: &Reply) {
    match reply {
        Reply::Done => digest.word(1),
        Reply::Job { job_modify_index, version } => {
            digest.word(2);
            digest.word(*job_modify_index);
            digest.word(*version);
        }
        Reply::Plan(outcome) => {
            digest.word(3);
            for (node, reason) in &outcome.refused {
                digest.id(node.bits());
                text(digest, reason);
            }
        }
        Reply::Kv(done) => {
            digest.word(4);
            digest.word(u64::from(*done));
        }
        Reply::Restored { index, hash } => {
            digest.word(6);
            digest.word(*index);
            digest.word(*hash);
        }
        Reply::Catalog(refused) => {
            digest.word(5);
            for (position, reason) in refused {
                digest.word(u64::from(*position));
                text(digest, reason);
            }
        }
    }
}

fn fold_event(digest: &mut Digest, state: &State, event: &Event) {
    match event {
        Event::NodeChanged(id) => {
            digest.id(id.bits());
            state.nodes.get(id).into_iter().for_each(|node| fold_node(digest, node));
        }
        Event::NodeRemoved(id) => digest.id(id.bits()),
        Event::JobChanged(key) => {
            text(digest, &key.namespace);
            text(digest, &key.id);
            state.jobs.get(key).into_iter().for_each(|job| fold_job(digest, job));
        }
        Event::JobRemoved(key) => {
            text(digest, &key.namespace);
            text(digest, &key.id);
        }
        Event::EvalChanged(eval) => fold_eval(digest, eval),
        Event::EvalRemoved(id) => digest.id(id.bits()),
        Event::AllocPlanned(alloc) | Event::AllocReported(alloc) => fold_alloc(digest, alloc),
        Event::AllocRemoved { id, .. } => digest.id(id.bits()),
        Event::DeploymentChanged(deployment) => fold_deployment(digest, deployment),
        Event::DeploymentRemoved(id) => digest.id(id.bits()),
        Event::CatalogChanged(change) => {
            digest.word(state.catalog.index());
            fold_catalog(digest, change);
        }
        Event::KvChanged(key) => {
            text(digest, key);
            if let Some(entry) = state.kv.get(key) {
                digest.bytes(&entry.value);
                digest.word(entry.modify_index);
                if let Some(session) = entry.session {
                    digest.id(session.bits());
                }
            }
        }
        Event::TrustChanged => digest.word(state.trust.modify_index),
        Event::SessionRenewed(session) => {
            digest.id(session.id.bits());
            text(digest, &session.node);
            digest.word(session.renew_index);
        }
        Event::SessionEnded(id) => digest.id(id.bits()),
        Event::LockDelayed(delay) => digest.word(delay.since),
        Event::SchedulerConfigChanged => digest.word(state.scheduler_config.modify_index),
        Event::AutopilotConfigChanged => digest.word(state.autopilot_config.modify_index),
        Event::Restored => digest.word(state.floor),
    }
}

fn fold_node(digest: &mut Digest, node: &Node) {
    text(digest, &node.name);
    text(digest, node.status.name());
    digest.word(u64::from(node.eligible));
    digest.word(u64::from(node.drain.is_some()));
    resources(digest, &node.capacity);
    digest.word(node.modify_index);
    digest.word(node.events.len() as u64);
}

fn fold_job(digest: &mut Digest, job: &Job) {
    digest.word(job.version);
    text(digest, job.status.name());
    digest.word(u64::from(job.stop));
    digest.word(u64::from(job.stable));
    digest.word(job.modify_index);
    digest.word(job.job_modify_index);
}

fn fold_eval(digest: &mut Digest, eval: &Evaluation) {
    digest.id(eval.id.bits());
    text(digest, &eval.job.id);
    text(digest, eval.status.name());
    text(digest, &eval.status_description);
    digest.word(eval.failed_groups.len() as u64);
    digest.word(eval.modify_index);
}

fn fold_alloc(digest: &mut Digest, alloc: &Allocation) {
    digest.id(alloc.id.bits());
    digest.id(alloc.node_id.bits());
    digest.id(alloc.eval_id.bits());
    digest.word(alloc.job.version);
    text(digest, alloc.desired.name());
    text(digest, alloc.client_status.name());
    resources(digest, &alloc.resources);
    for port in &alloc.ports {
        digest.word(u64::from(port.host_port));
    }
    for (name, task) in &alloc.task_states {
        text(digest, name);
        text(digest, task.phase.name());
        digest.word(task.restarts);
    }
    digest.word(alloc.health.map_or(2, |health| u64::from(health.healthy)));
    digest.word(alloc.modify_index);
}

fn fold_deployment(digest: &mut Digest, deployment: &Deployment) {
    digest.id(deployment.id.bits());
    text(digest, deployment.status.name());
    text(digest, &deployment.status_description);
    for (name, group) in &deployment.groups {
        text(digest, name);
        digest.word(u64::from(group.promoted));
        digest.word(u64::from(group.placed));
        digest.word(u64::from(group.healthy));
        digest.word(u64::from(group.unhealthy));
        time(digest, group.require_progress_by);
    }
    digest.word(deployment.modify_index);
}

fn fold_catalog(digest: &mut Digest, change: &CatalogChange) {
    match change {
        CatalogChange::PutNode(node) => text(digest, &node.name),
        CatalogChange::RemoveNode { node } => text(digest, node),
        CatalogChange::PutService(service) => {
            text(digest, &service.node);
            text(digest, &service.id);
            text(digest, &service.name);
        }
        CatalogChange::PutCheck(check) => {
            text(digest, &check.node);
            text(digest, &check.id);
            digest.word(check.status as u64);
        }
        CatalogChange::RemoveService { node, id } | CatalogChange::RemoveCheck { node, id } => {
            text(digest, node);
            text(digest, id);
        }
        CatalogChange::SetCheck { node, id, status, .. } => {
            text(digest, node);
            text(digest, id);
            digest.word(*status as u64);
        }
    }
}

fn resources(digest: &mut Digest, amounts: &Resources) {
    digest.word(amounts.cpu_mhz);
    digest.word(amounts.memory_mib);
    digest.word(amounts.disk_mib);
}

fn text(digest: &mut Digest, text: &str) {
    digest.bytes(text.as_bytes());
}

fn time(digest: &mut Digest, at: Timestamp) {
    digest.word(at.unix_nanos().cast_unsigned());
}
