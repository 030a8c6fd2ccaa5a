//! Short forms of job files, written out before translation.
//!
//! A task directly in the job is a group of its own; `vault` and `secret` of a job or group belong
//! to each of its tasks.

use crate::hcl::{Body, Entry, Node, NodeKind};

/// Writes the short forms of a job out.
pub(super) fn rewrite_job(job: &Body) -> Body {
    let mut entries = Vec::new();
    let shared: Vec<&Entry> = job.entries.iter().filter(|entry| is_shared(entry)).collect();
    for entry in &job.entries {
        match entry.key.as_str() {
            "vault" | "secret" => {}
            "group" => entries.push(rewrite_group(entry, &shared)),
            "task" if !entry.labels.is_empty() => {
                entries.push(rewrite_group(&group_of(entry, job), &shared));
            }
            _ => entries.push(entry.clone()),
        }
    }
    Body { entries, ..job.clone() }
}

fn is_shared(entry: &Entry) -> bool {
    entry.key == "vault" || entry.key == "secret"
}

/// A group with the task's name, place and nothing but the task.
fn group_of(task: &Entry, job: &Body) -> Entry {
    let body = Body { entries: vec![task.clone()], span: task.node.span, ..job.clone() };
    Entry {
        key: "group".to_owned(),
        node: Node { kind: NodeKind::Body(body), span: task.node.span },
        ..task.clone()
    }
}

fn rewrite_group(group: &Entry, from_job: &[&Entry]) -> Entry {
    let NodeKind::Body(body) = &group.node.kind else { return group.clone() };
    let own: Vec<&Entry> = body.entries.iter().filter(|entry| is_shared(entry)).collect();
    if own.is_empty() && from_job.is_empty() {
        return group.clone();
    }
    let mut entries = Vec::new();
    for entry in body.entries.iter().filter(|entry| !is_shared(entry)) {
        let mut entry = entry.clone();
        if entry.key == "task"
            && let NodeKind::Body(task) = &mut entry.node.kind
        {
            for shared in [own.as_slice(), from_job] {
                add_shared(task, shared);
            }
        }
        entries.push(entry);
    }
    let body = Body { entries, ..body.clone() };
    Entry { node: Node { kind: NodeKind::Body(body), span: group.node.span }, ..group.clone() }
}

/// The nearest `vault` counts; secrets add up.
fn add_shared(task: &mut Body, shared: &[&Entry]) {
    let has_vault = task.get("vault").is_some();
    for entry in shared {
        if entry.key == "secret" || !has_vault {
            task.entries.push((*entry).clone());
        }
    }
}
