//! What changed between two versions of a job, in Nomad's shape, found on their JSON forms.
//!
//! Texts compare as they are shown. Groups and tasks are paired by name, other blocks of a list by
//! name or label where they have one; blocks without one are equal, added or deleted.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::{Map, Value};

mod annotations;
mod fields;

pub(super) use annotations::annotate;
use fields::{fields_and_objects, text_of};

/// Whether something came, went or changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) enum DiffType {
    None,
    Added,
    Deleted,
    Edited,
}

/// What changed in a job.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct JobDiff {
    #[serde(rename = "Type")]
    kind: DiffType,
    #[serde(rename = "ID")]
    id: String,
    fields: Vec<FieldDiff>,
    objects: Vec<ObjectDiff>,
    task_groups: Vec<GroupDiff>,
}

/// What changed in a group.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct GroupDiff {
    #[serde(rename = "Type")]
    kind: DiffType,
    name: String,
    fields: Vec<FieldDiff>,
    objects: Vec<ObjectDiff>,
    tasks: Vec<TaskDiff>,
    updates: Option<BTreeMap<&'static str, u64>>,
}

/// What changed in a task.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct TaskDiff {
    #[serde(rename = "Type")]
    kind: DiffType,
    name: String,
    fields: Vec<FieldDiff>,
    objects: Vec<ObjectDiff>,
    annotations: Option<Vec<&'static str>>,
}

/// What changed in a block.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct ObjectDiff {
    #[serde(rename = "Type")]
    kind: DiffType,
    name: String,
    fields: Vec<FieldDiff>,
    objects: Vec<Self>,
}

/// A field that changed.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct FieldDiff {
    #[serde(rename = "Type")]
    kind: DiffType,
    name: String,
    old: String,
    new: String,
    annotations: Option<Vec<&'static str>>,
}

/// What the cluster sets, or what says which job it is.
const JOB_SKIPPED: [&str; 13] = [
    "ID",
    "Status",
    "StatusDescription",
    "Version",
    "Stable",
    "CreateIndex",
    "ModifyIndex",
    "JobModifyIndex",
    "SubmitTime",
    "NomadTokenID",
    "VersionTag",
    "TaskGroups",
    "Update",
];

/// Finds what changed. Without an old job everything was added.
pub(super) fn jobs(old: Option<&Value>, new: &Value) -> JobDiff {
    let nothing = Map::new();
    let new = new.as_object().unwrap_or(&nothing);
    let old_map = old.and_then(Value::as_object);
    let (fields, objects) = fields_and_objects(old_map.unwrap_or(&nothing), new, &JOB_SKIPPED);
    let before = by_name(old_map.and_then(|job| job.get("TaskGroups")));
    let after = by_name(new.get("TaskGroups"));
    let task_groups: Vec<GroupDiff> =
        pairs(&before, &after).map(|(name, old, new)| group(name, old, new)).collect();
    let changed = !fields.is_empty()
        || !objects.is_empty()
        || task_groups.iter().any(|group| group.kind != DiffType::None);
    JobDiff {
        kind: kind_of(old_map.is_some(), true, changed),
        id: text_of(new.get("ID")),
        fields,
        objects,
        task_groups,
    }
}

fn group(
    name: &str,
    old: Option<&Map<String, Value>>,
    new: Option<&Map<String, Value>>,
) -> GroupDiff {
    let nothing = Map::new();
    let (before, after) = (old.unwrap_or(&nothing), new.unwrap_or(&nothing));
    let (fields, objects) = fields_and_objects(before, after, &["Tasks"]);
    let tasks: Vec<TaskDiff> = pairs(&by_name(before.get("Tasks")), &by_name(after.get("Tasks")))
        .map(|(name, old, new)| task(name, old, new))
        .collect();
    let changed = !fields.is_empty()
        || !objects.is_empty()
        || tasks.iter().any(|task| task.kind != DiffType::None);
    GroupDiff {
        kind: kind_of(old.is_some(), new.is_some(), changed),
        name: name.to_owned(),
        fields,
        objects,
        tasks,
        updates: None,
    }
}

fn task(
    name: &str,
    old: Option<&Map<String, Value>>,
    new: Option<&Map<String, Value>>,
) -> TaskDiff {
    let nothing = Map::new();
    let (fields, objects) =
        fields_and_objects(old.unwrap_or(&nothing), new.unwrap_or(&nothing), &[]);
    let changed = !fields.is_empty() || !objects.is_empty();
    TaskDiff {
        kind: kind_of(old.is_some(), new.is_some(), changed),
        name: name.to_owned(),
        fields,
        objects,
        annotations: None,
    }
}

fn kind_of(before: bool, after: bool, changed: bool) -> DiffType {
    match (before, after) {
        (false, _) => DiffType::Added,
        (true, false) => DiffType::Deleted,
        (true, true) if changed => DiffType::Edited,
        (true, true) => DiffType::None,
    }
}

type Named<'a> = BTreeMap<&'a str, &'a Map<String, Value>>;

fn by_name(list: Option<&Value>) -> Named<'_> {
    let items = list.and_then(Value::as_array).into_iter().flatten();
    items
        .filter_map(Value::as_object)
        .filter_map(|item| Some((item.get("Name")?.as_str()?, item)))
        .collect()
}

type Pair<'a> = (&'a str, Option<&'a Map<String, Value>>, Option<&'a Map<String, Value>>);

fn pairs<'a>(old: &Named<'a>, new: &Named<'a>) -> impl Iterator<Item = Pair<'a>> {
    let names: BTreeSet<&'a str> = old.keys().chain(new.keys()).copied().collect();
    let paired: Vec<Pair<'a>> = names
        .into_iter()
        .map(|name| (name, old.get(name).copied(), new.get(name).copied()))
        .collect();
    paired.into_iter()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn job(count: u64, image: &str) -> Value {
        json!({
            "ID": "web", "Priority": 50, "Version": count, "Datacenters": ["dc1"],
            "TaskGroups": [{
                "Name": "app", "Count": count, "Meta": {"a": "b"},
                "Tasks": [{
                    "Name": "server", "Driver": "docker", "KillTimeout": 5,
                    "Config": {"image": image, "args": ["-x"]},
                    "Env": {"A": "1"}, "Resources": {"CPU": 100},
                    "Constraints": [{"LTarget": "${attr.x}", "Operand": "=", "RTarget": "y"}],
                }],
            }],
        })
    }

    #[test]
    fn equal_jobs_differ_in_nothing() {
        let found = jobs(Some(&job(1, "a")), &job(1, "a"));
        assert_eq!(found.kind, DiffType::None);
        assert!(found.fields.is_empty() && found.objects.is_empty());
        assert_eq!(found.task_groups[0].kind, DiffType::None);
    }

    #[test]
    fn a_new_job_is_added_whole() {
        let found = serde_json::to_value(jobs(None, &job(1, "a"))).unwrap();
        assert_eq!(found["Type"], "Added");
        assert_eq!(found["TaskGroups"][0]["Type"], "Added");
        assert_eq!(found["TaskGroups"][0]["Tasks"][0]["Type"], "Added");
    }

    #[test]
    fn changes_are_found_where_they_are() {
        let found = serde_json::to_value(jobs(Some(&job(1, "a")), &job(3, "b"))).unwrap();
        assert_eq!(found["Type"], "Edited");
        let group = &found["TaskGroups"][0];
        assert_eq!(
            group["Fields"],
            json!([{"Type": "Edited", "Name": "Count", "Old": "1", "New": "3",
                    "Annotations": null}])
        );
        let config = &group["Tasks"][0]["Objects"];
        assert_eq!(config.as_array().map(Vec::len), Some(1), "{config}");
        assert_eq!(config[0]["Name"], "Config");
        assert_eq!(config[0]["Fields"][0]["Name"], "image");
    }

    #[test]
    fn annotations_say_what_a_change_forces() {
        let mut found = jobs(Some(&job(1, "a")), &job(3, "b"));
        let updates = crate::job::plan::DesiredUpdates {
            destructive_update: 1,
            place: 2,
            ..Default::default()
        };
        annotate(&mut found, &BTreeMap::from([("app".to_owned(), updates)]));
        let found = serde_json::to_value(found).unwrap();
        let group = &found["TaskGroups"][0];
        assert_eq!(group["Updates"], json!({"create": 2, "create/destroy update": 1}));
        assert_eq!(group["Fields"][0]["Annotations"], json!(["forces create"]));
        assert_eq!(group["Tasks"][0]["Annotations"], json!(["forces create/destroy update"]));
    }
}
