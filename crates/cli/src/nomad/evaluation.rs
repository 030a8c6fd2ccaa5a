//! `eval list` and `eval status`, and the reasons why something could not be placed.

use serde_json::Value;

use super::find::{self, EVALUATION};
use super::monitor;
use crate::command::{Context, Running};
use crate::output::{at, moment, number, pairs, row, short, structured, table, text};

pub(super) fn list(context: Context) -> Running {
    Box::pin(async move {
        context.no_arguments()?;
        let evals = context.client.get("/v1/evaluations").await?.body;
        if structured(&context.flags, &evals)? {
            return Ok(0);
        }
        let verbose = context.flags.on("verbose");
        let mut rows = vec![row([
            "ID",
            "Priority",
            "Triggered By",
            "Job ID",
            "Namespace",
            "Node ID",
            "Status",
            "Placement Failures",
        ])];
        for eval in evals.as_array().into_iter().flatten() {
            rows.push(vec![
                short(&text(eval, "ID"), verbose),
                text(eval, "Priority"),
                text(eval, "TriggeredBy"),
                text(eval, "JobID"),
                text(eval, "Namespace"),
                short(&text(eval, "NodeID"), verbose),
                text(eval, "Status"),
                failures(eval).to_owned(),
            ]);
        }
        println!("{}", if rows.len() == 1 { "No evals found".to_owned() } else { table(&rows) });
        Ok(0)
    })
}

/// Whether something could not be placed, in one word.
pub(super) fn failures(eval: &Value) -> &'static str {
    let failed = at(eval, "FailedTGAllocs").as_object().is_some_and(|failed| !failed.is_empty());
    match text(eval, "Status").as_str() {
        "blocked" => "N/A - In Progress",
        _ if failed => "true",
        _ => "false",
    }
}

pub(super) fn status(context: Context) -> Running {
    Box::pin(async move {
        let id = context.one_argument("<evaluation>")?;
        let verbose = context.flags.on("verbose");
        if context.flags.on("monitor") {
            let id = find::full_id(&context.client, EVALUATION, id).await?;
            return monitor::evaluation(&context.client, &id, verbose).await;
        }
        let eval = find::by_prefix(&context.client, EVALUATION, id).await?;
        if structured(&context.flags, &eval)? {
            return Ok(0);
        }
        println!("{}", describe(&eval, verbose));
        Ok(0)
    })
}

/// An evaluation as text.
pub(super) fn describe(eval: &Value, verbose: bool) -> String {
    let mut head = vec![
        ("ID", short(&text(eval, "ID"), verbose)),
        ("Create Time", moment(number(eval, "CreateTime"))),
        ("Modify Time", moment(number(eval, "ModifyTime"))),
        ("Status", text(eval, "Status")),
        ("Status Description", text(eval, "StatusDescription")),
        ("Type", text(eval, "Type")),
        ("TriggeredBy", text(eval, "TriggeredBy")),
        ("Job ID", text(eval, "JobID")),
        ("Namespace", text(eval, "Namespace")),
        ("Priority", text(eval, "Priority")),
        ("Placement Failures", failures(eval).to_owned()),
    ];
    for (title, field) in [
        ("Previous Eval", "PreviousEval"),
        ("Next Eval", "NextEval"),
        ("Blocked Eval", "BlockedEval"),
    ] {
        let id = text(eval, field);
        if !id.is_empty() {
            head.push((title, short(&id, verbose)));
        }
    }
    let mut out = pairs(&head);
    if let Some(failed) = at(eval, "FailedTGAllocs").as_object().filter(|map| !map.is_empty()) {
        out = format!("{out}\n\nFailed Placements");
        for (group, metric) in failed {
            let missed = number(metric, "CoalescedFailures") + 1;
            out = format!(
                "{out}\nTask Group \"{group}\" (failed to place {missed} allocation{}):\n{}",
                if missed == 1 { "" } else { "s" },
                reasons(metric, "  ")
            );
        }
    }
    out
}

/// Why a group could not be placed, one reason a line.
pub(super) fn reasons(metric: &Value, indent: &str) -> String {
    let mut lines = Vec::new();
    let evaluated = number(metric, "NodesEvaluated");
    let available = at(metric, "NodesAvailable").as_object();
    if evaluated == 0 {
        lines.push("* No nodes were eligible for evaluation".to_owned());
    }
    for (datacenter, count) in available.into_iter().flatten() {
        if count.as_u64() == Some(0) {
            lines.push(format!("* No nodes are available in datacenter \"{datacenter}\""));
        }
    }
    for (field, shape) in [
        ("ClassFiltered", "* Class \"{}\": {} nodes excluded by filter"),
        ("ConstraintFiltered", "* Constraint \"{}\": {} nodes excluded by filter"),
        ("ClassExhausted", "* Class \"{}\" exhausted on {} nodes"),
        ("DimensionExhausted", "* Dimension \"{}\" exhausted on {} nodes"),
    ] {
        for (name, count) in at(metric, field).as_object().into_iter().flatten() {
            lines.push(shape.replacen("{}", name, 1).replacen("{}", &count.to_string(), 1));
        }
    }
    let exhausted = number(metric, "NodesExhausted");
    if exhausted > 0 {
        lines.push(format!("* Resources exhausted on {exhausted} nodes"));
    }
    for quota in list_of(metric, "QuotaExhausted") {
        lines.push(format!("* Quota limit hit \"{quota}\""));
    }
    lines.iter().map(|line| format!("{indent}{line}")).collect::<Vec<_>>().join("\n")
}

fn list_of(value: &Value, path: &str) -> Vec<String> {
    crate::output::list(value, path)
        .iter()
        .filter_map(|item| item.as_str().map(str::to_owned))
        .collect()
}
