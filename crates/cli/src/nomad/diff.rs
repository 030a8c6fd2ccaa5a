//! What a plan would change, as text with plus and minus signs.

use serde_json::Value;

use crate::output::{list, text};

/// Renders a job's differences.
pub(super) fn render(diff: &Value, verbose: bool) -> String {
    let mut out = format!("{}Job: \"{}\"", mark(diff), text(diff, "ID"));
    if text(diff, "Type") != "Added" || verbose {
        out = joined(&out, &fields(diff, 1));
    }
    for group in list(diff, "TaskGroups") {
        out = format!("{out}\n{}", group_text(group, verbose));
    }
    out
}

/// Two parts with a line break between, unless the second is empty.
fn joined(first: &str, second: &str) -> String {
    format!("{first}\n{second}").trim_end().to_owned()
}

fn group_text(group: &Value, verbose: bool) -> String {
    let updates: Vec<String> = group
        .get("Updates")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .filter(|(_, count)| count.as_u64() != Some(0))
        .map(|(what, count)| format!("{count} {what}"))
        .collect();
    let updates =
        if updates.is_empty() { String::new() } else { format!(" ({})", updates.join(", ")) };
    let mut out = format!("{}Task Group: \"{}\"{updates}", mark(group), text(group, "Name"));
    let all = text(group, "Type") != "Added" || verbose;
    if all {
        out = joined(&out, &fields(group, 1));
    }
    for task in list(group, "Tasks") {
        let notes: Vec<String> = list(task, "Annotations")
            .iter()
            .filter_map(|note| note.as_str().map(str::to_owned))
            .collect();
        let notes =
            if notes.is_empty() { String::new() } else { format!(" ({})", notes.join(", ")) };
        out = format!("{out}\n  {}Task: \"{}\"{notes}", mark(task), text(task, "Name"));
        if all {
            out = joined(&out, &fields(task, 2));
        }
    }
    out
}

/// Fields and objects of one level, those that changed.
fn fields(diff: &Value, depth: usize) -> String {
    let indent = "  ".repeat(depth);
    let mut out = String::new();
    let changed = |one: &&Value| text(one, "Type") != "None" && !text(one, "Type").is_empty();
    let width = list(diff, "Fields").iter().map(|one| text(one, "Name").len()).max().unwrap_or(0);
    for field in list(diff, "Fields").iter().filter(changed) {
        let name = format!("{}:", text(field, "Name"));
        let (old, new) = (text(field, "Old"), text(field, "New"));
        let value = match text(field, "Type").as_str() {
            "Added" => format!("\"{new}\""),
            "Deleted" => format!("\"{old}\""),
            _ => format!("\"{old}\" => \"{new}\""),
        };
        let notes: Vec<&str> =
            list(field, "Annotations").iter().filter_map(Value::as_str).collect();
        let notes =
            if notes.is_empty() { String::new() } else { format!(" ({})", notes.join(", ")) };
        let width = width + 1;
        out = format!("{out}{indent}{}{name:<width$} {value}{notes}\n", mark(field));
    }
    for object in list(diff, "Objects").iter().filter(changed) {
        out = format!(
            "{out}{indent}{}{} {{\n{}{indent}    }}\n",
            mark(object),
            text(object, "Name"),
            fields(object, depth + 2)
        );
    }
    out
}

fn mark(diff: &Value) -> &'static str {
    match text(diff, "Type").as_str() {
        "Added" => "+ ",
        "Deleted" => "- ",
        "Edited" => "+/- ",
        _ => "",
    }
}
