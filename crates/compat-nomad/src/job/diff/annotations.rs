//! What the changes of a diff force the cluster to do.

use std::collections::BTreeMap;

use super::{DiffType, GroupDiff, JobDiff, TaskDiff};
use crate::job::plan::DesiredUpdates;

const CREATE: &str = "forces create";
const DESTROY: &str = "forces destroy";
const IN_PLACE: &str = "forces in-place update";
const REPLACE: &str = "forces create/destroy update";

/// Blocks of a task that change without a new instance.
const IN_PLACE_BLOCKS: [&str; 3] = ["LogConfig", "Service", "Constraint"];

/// Says for each group, count and task what its change leads to.
pub(in crate::job) fn annotate(diff: &mut JobDiff, updates: &BTreeMap<String, DesiredUpdates>) {
    for group in &mut diff.task_groups {
        if let Some(counts) = updates.get(&group.name) {
            group.updates = shown(counts);
        }
        annotate_count(group);
        let kind = group.kind;
        for task in &mut group.tasks {
            task.annotations = annotation(kind, task).map(|words| vec![words]);
        }
    }
}

fn shown(counts: &DesiredUpdates) -> Option<BTreeMap<&'static str, u64>> {
    let all = [
        ("ignore", counts.ignore),
        ("create", counts.place),
        ("destroy", counts.stop),
        ("migrate", counts.migrate),
        ("canary", counts.canary),
        ("in-place update", counts.in_place_update),
        ("create/destroy update", counts.destructive_update),
    ];
    let shown: BTreeMap<_, _> = all.into_iter().filter(|(_, count)| *count > 0).collect();
    (!shown.is_empty()).then_some(shown)
}

fn annotate_count(group: &mut GroupDiff) {
    let Some(count) = group.fields.iter_mut().find(|field| field.name == "Count") else { return };
    let number = |text: &str| text.parse::<u64>().unwrap_or(0);
    let grows = number(&count.new) > number(&count.old);
    count.annotations = Some(vec![if grows { CREATE } else { DESTROY }]);
}

fn annotation(group: DiffType, task: &TaskDiff) -> Option<&'static str> {
    match (group, task.kind) {
        (_, DiffType::None) => None,
        (DiffType::Added, DiffType::Added) => Some(CREATE),
        (DiffType::Deleted, DiffType::Deleted) => Some(DESTROY),
        _ if replaces(task) => Some(REPLACE),
        _ => Some(IN_PLACE),
    }
}

fn replaces(task: &TaskDiff) -> bool {
    task.fields.iter().any(|field| field.name != "KillTimeout")
        || task.objects.iter().any(|object| !IN_PLACE_BLOCKS.contains(&object.name.as_str()))
}
