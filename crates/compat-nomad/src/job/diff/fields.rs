//! Fields and blocks of two JSON objects, compared.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::{DiffType, FieldDiff, ObjectDiff, kind_of};

/// Free maps whose entries are shown as fields of what holds them, `Meta[key]`.
const FLAT_MAPS: [&str; 2] = ["Meta", "Env"];

/// Blocks whose whole depth is shown as fields of one object.
const DEEP_MAPS: [&str; 1] = ["Config"];

/// Blocks of a list by the name of one of them.
const SINGULAR: [(&str, &str); 14] = [
    ("Constraints", "Constraint"),
    ("Affinities", "Affinity"),
    ("Spreads", "Spread"),
    ("SpreadTarget", "SpreadTarget"),
    ("Services", "Service"),
    ("Checks", "Check"),
    ("Networks", "Network"),
    ("DynamicPorts", "Dynamic Port"),
    ("ReservedPorts", "Static Port"),
    ("Templates", "Template"),
    ("Artifacts", "Artifact"),
    ("VolumeMounts", "VolumeMount"),
    ("Devices", "Device"),
    ("Secrets", "Secret"),
];

type Found = (Vec<FieldDiff>, Vec<ObjectDiff>);

/// Compares all fields but the skipped. Only what differs is returned.
pub(super) fn fields_and_objects(
    old: &Map<String, Value>,
    new: &Map<String, Value>,
    skipped: &[&str],
) -> Found {
    let mut found: Found = (Vec::new(), Vec::new());
    let keys: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    for key in keys.into_iter().filter(|key| !skipped.contains(&key.as_str())) {
        compare(key, old.get(key), new.get(key), &mut found);
    }
    found
}

fn compare(key: &str, old: Option<&Value>, new: Option<&Value>, found: &mut Found) {
    if old == new {
        return;
    }
    let shape = new.filter(|value| !value.is_null()).or(old);
    match shape {
        Some(Value::Object(_)) if FLAT_MAPS.contains(&key) => {
            found.0.extend(flat(&leaves(key, old), &leaves(key, new)));
        }
        Some(Value::Object(_)) if DEEP_MAPS.contains(&key) => {
            let fields = flat(&leaves("", old), &leaves("", new));
            found.1.extend(object(key, old.is_some(), new.is_some(), (fields, Vec::new())));
        }
        Some(Value::Object(_)) => {
            let (before, after) = (as_object(old), as_object(new));
            let nothing = Map::new();
            let inner =
                fields_and_objects(before.unwrap_or(&nothing), after.unwrap_or(&nothing), &[]);
            found.1.extend(object(key, before.is_some(), after.is_some(), inner));
        }
        Some(Value::Array(items)) if items.iter().any(Value::is_object) => {
            found.1.extend(blocks(key, as_array(old), as_array(new)));
        }
        Some(Value::Array(_)) => found.1.extend(texts(key, as_array(old), as_array(new))),
        _ => found.0.extend(field(key, &text_of(old), &text_of(new))),
    }
}

fn object(name: &str, before: bool, after: bool, (fields, objects): Found) -> Option<ObjectDiff> {
    let changed = !fields.is_empty() || !objects.is_empty();
    let kind = kind_of(before, after, changed);
    changed.then(|| ObjectDiff { kind, name: name.to_owned(), fields, objects })
}

fn field(name: &str, old: &str, new: &str) -> Option<FieldDiff> {
    let kind = match (old.is_empty(), new.is_empty()) {
        _ if old == new => return None,
        (true, _) => DiffType::Added,
        (_, true) => DiffType::Deleted,
        (false, false) => DiffType::Edited,
    };
    Some(FieldDiff {
        kind,
        name: name.to_owned(),
        old: old.to_owned(),
        new: new.to_owned(),
        annotations: None,
    })
}

/// A list of texts is a set: what left and what came.
fn texts(key: &str, old: &[Value], new: &[Value]) -> Option<ObjectDiff> {
    let set = |items: &[Value]| -> BTreeSet<String> {
        items.iter().map(|item| text_of(Some(item))).collect()
    };
    let (before, after) = (set(old), set(new));
    let gone = before.difference(&after).filter_map(|text| field(key, text, ""));
    let come = after.difference(&before).filter_map(|text| field(key, "", text));
    let fields: Vec<FieldDiff> = gone.chain(come).collect();
    object(key, !old.is_empty(), !new.is_empty(), (fields, Vec::new()))
}

/// A list of blocks: paired by name where they have one, else each is there or not.
fn blocks(key: &str, old: &[Value], new: &[Value]) -> Vec<ObjectDiff> {
    let shown = SINGULAR.iter().find(|(list, _)| *list == key).map_or(key, |(_, one)| *one);
    let nothing = Map::new();
    let (mut before, after) = (keyed(old), keyed(new));
    let mut found = Vec::new();
    for (identity, new) in after {
        let old = before.remove(&identity);
        let inner = fields_and_objects(old.unwrap_or(&nothing), new, &[]);
        found.extend(object(shown, old.is_some(), true, inner));
    }
    for old in before.values() {
        found.extend(object(shown, true, false, fields_and_objects(old, &nothing, &[])));
    }
    found
}

fn keyed(items: &[Value]) -> BTreeMap<String, &Map<String, Value>> {
    let mut keyed = BTreeMap::new();
    for item in items.iter().filter_map(Value::as_object) {
        let named = ["Name", "Label", "DestPath", "GetterSource"]
            .iter()
            .filter_map(|field| item.get(*field).and_then(Value::as_str))
            .find(|name| !name.is_empty());
        let identity = named.map_or_else(|| Value::Object(item.clone()).to_string(), str::to_owned);
        // Two of the same name are told apart by their place.
        let twins = (0..).map(|number| format!("{identity}#{number}"));
        if let Some(free) = twins.into_iter().find(|twin| !keyed.contains_key(twin)) {
            keyed.insert(free, item);
        }
    }
    keyed
}

fn flat(old: &BTreeMap<String, String>, new: &BTreeMap<String, String>) -> Vec<FieldDiff> {
    let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let text =
        |map: &BTreeMap<String, String>, name: &String| map.get(name).cloned().unwrap_or_default();
    names.into_iter().filter_map(|name| field(name, &text(old, name), &text(new, name))).collect()
}

/// Every scalar below a value with its path, `args[0]`, `Meta[key]`.
fn leaves(name: &str, value: Option<&Value>) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    // A stack instead of recursion: a configuration may be nested as deep as its sender likes.
    let mut open: Vec<(String, &Value)> =
        value.into_iter().map(|value| (name.to_owned(), value)).collect();
    while let Some((path, value)) = open.pop() {
        let below = |part: &str| {
            if path.is_empty() { part.to_owned() } else { format!("{path}[{part}]") }
        };
        match value {
            Value::Object(map) => open.extend(map.iter().map(|(key, v)| (below(key), v))),
            Value::Array(items) => {
                open.extend(items.iter().enumerate().map(|(at, v)| (below(&at.to_string()), v)));
            }
            scalar => {
                found.insert(path, text_of(Some(scalar)));
            }
        }
    }
    found
}

fn as_object(value: Option<&Value>) -> Option<&Map<String, Value>> {
    value.and_then(Value::as_object)
}

fn as_array(value: Option<&Value>) -> &[Value] {
    value.and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// A scalar as it is shown; nothing and null are empty.
pub(super) fn text_of(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}
