//! Commands that show jobs.

use serde_json::Value;

use super::deployment;
use super::evaluation::{failures, reasons};
use super::find;
use crate::client::escape;
use crate::command::{Context, Failure, Running};
use crate::output::{
    ago, at, flag, list as items, moment, number, pairs, row, short, structured, table, text,
};

pub(super) fn status(context: Context) -> Running {
    Box::pin(async move {
        match context.flags.arguments.as_slice() {
            [] => overview(&context).await,
            [id] => {
                let job = find::job(&context.client, id).await?;
                show(&context, &job).await
            }
            _ => Err(Failure::Usage(
                "This command takes either no arguments or one: <job>".to_owned(),
            )),
        }
    })
}

/// Lists all jobs.
pub(super) async fn overview(context: &Context) -> Result<u8, Failure> {
    let jobs = context.client.get("/v1/jobs").await?.body;
    if structured(&context.flags, &jobs)? {
        return Ok(0);
    }
    let jobs = jobs.as_array().map_or(&[][..], Vec::as_slice);
    if jobs.is_empty() {
        println!("No running jobs");
        return Ok(0);
    }
    let several = context.flags.value("namespace") == Some("*");
    let mut header = row(["ID", "Type", "Priority", "Status", "Submit Date"]);
    if several {
        header.insert(1, "Namespace".to_owned());
    }
    let mut rows = vec![header];
    for job in jobs {
        let mut cells = vec![
            text(job, "ID"),
            kind(job),
            text(job, "Priority"),
            status_words(job),
            moment(number(job, "SubmitTime")),
        ];
        if several {
            cells.insert(1, text(job, "Namespace"));
        }
        rows.push(cells);
    }
    println!("{}", table(&rows));
    Ok(0)
}

fn kind(job: &Value) -> String {
    let periodic = if flag(job, "Periodic") { "/periodic" } else { "" };
    let parameterized = if flag(job, "ParameterizedJob") { "/parameterized" } else { "" };
    format!("{}{periodic}{parameterized}", text(job, "Type"))
}

fn status_words(job: &Value) -> String {
    let stopped = flag(job, "Stop") && text(job, "Status") == "dead";
    format!("{}{}", text(job, "Status"), if stopped { " (stopped)" } else { "" })
}

/// Shows one job with its summary, deployment and allocations.
pub(super) async fn show(context: &Context, job: &Value) -> Result<u8, Failure> {
    let id = escape(&text(job, "ID"));
    let verbose = context.flags.on("verbose");
    if context.flags.value("t").is_some() || context.flags.on("json") {
        let summary = context.client.get(&format!("/v1/job/{id}/summary")).await?.body;
        let allocs = context.client.get(&format!("/v1/job/{id}/allocations")).await?.body;
        let mut whole = job.clone();
        whole["Summary"] = summary;
        whole["Allocations"] = allocs;
        structured(&context.flags, &whole)?;
        return Ok(0);
    }
    println!("{}", head(job));
    if context.flags.on("short") {
        return Ok(0);
    }
    let summary = context.client.get(&format!("/v1/job/{id}/summary")).await?.body;
    println!("\nSummary\n{}", summary_table(&summary));
    let evals = context.client.get(&format!("/v1/job/{id}/evaluations")).await?.body;
    if verbose || context.flags.on("evals") {
        println!("\nEvaluations\n{}", evaluations(&evals, verbose));
    }
    if let Some(text) = placement_failure(&evals) {
        println!("\nPlacement Failure\n{text}");
    }
    let latest = context.client.get(&format!("/v1/job/{id}/deployment")).await?.body;
    if !text(&latest, "ID").is_empty() {
        let head = pairs(&[
            ("ID", short(&text(&latest, "ID"), verbose)),
            ("Status", text(&latest, "Status")),
            ("Description", text(&latest, "StatusDescription")),
        ]);
        println!("\nLatest Deployment\n{head}\n\nDeployed\n{}", deployment::groups(&latest));
    }
    let all = if context.flags.on("all-allocs") { "?all=true" } else { "" };
    let allocs = context.client.get(&format!("/v1/job/{id}/allocations{all}")).await?.body;
    println!("\nAllocations\n{}", allocations(&allocs, verbose));
    Ok(0)
}

fn head(job: &Value) -> String {
    let datacenters: Vec<String> = items(job, "Datacenters")
        .iter()
        .filter_map(|name| name.as_str().map(str::to_owned))
        .collect();
    pairs(&[
        ("ID", text(job, "ID")),
        ("Name", text(job, "Name")),
        ("Submit Date", moment(number(job, "SubmitTime"))),
        ("Type", text(job, "Type")),
        ("Priority", text(job, "Priority")),
        ("Datacenters", datacenters.join(",")),
        ("Namespace", text(job, "Namespace")),
        ("Node Pool", text(job, "NodePool")),
        ("Status", status_words(job)),
        ("Periodic", (!at(job, "Periodic").is_null()).to_string()),
        ("Parameterized", (!at(job, "ParameterizedJob").is_null()).to_string()),
    ])
}

fn summary_table(summary: &Value) -> String {
    const STATES: [&str; 7] =
        ["Queued", "Starting", "Running", "Failed", "Complete", "Lost", "Unknown"];
    let mut rows = vec![std::iter::once("Task Group").chain(STATES).map(str::to_owned).collect()];
    for (group, counts) in at(summary, "Summary").as_object().into_iter().flatten() {
        let mut cells = vec![group.clone()];
        cells.extend(STATES.iter().map(|state| text(counts, state)));
        rows.push(cells);
    }
    table(&rows)
}

fn evaluations(evals: &Value, verbose: bool) -> String {
    let mut rows = vec![row(["ID", "Priority", "Triggered By", "Status", "Placement Failures"])];
    for eval in evals.as_array().into_iter().flatten() {
        rows.push(vec![
            short(&text(eval, "ID"), verbose),
            text(eval, "Priority"),
            text(eval, "TriggeredBy"),
            text(eval, "Status"),
            failures(eval).to_owned(),
        ]);
    }
    table(&rows)
}

/// Why the newest evaluation that could not place everything could not.
fn placement_failure(evals: &Value) -> Option<String> {
    let blocked = evals.as_array()?.iter().any(|eval| text(eval, "Status") == "blocked");
    let newest = evals
        .as_array()?
        .iter()
        .filter(|eval| at(eval, "FailedTGAllocs").as_object().is_some_and(|map| !map.is_empty()))
        .max_by_key(|eval| number(eval, "CreateIndex"))?;
    if !blocked {
        return None;
    }
    let groups = at(newest, "FailedTGAllocs").as_object()?;
    let parts: Vec<String> = groups
        .iter()
        .map(|(group, metric)| format!("Task Group \"{group}\":\n{}", reasons(metric, "  ")))
        .collect();
    Some(parts.join("\n\n"))
}

/// A table of allocations, newest first.
pub(super) fn allocations(allocs: &Value, verbose: bool) -> String {
    let mut allocs: Vec<&Value> = allocs.as_array().into_iter().flatten().collect();
    if allocs.is_empty() {
        return "No allocations placed".to_owned();
    }
    allocs.sort_by_key(|alloc| std::cmp::Reverse(number(alloc, "CreateIndex")));
    let mut header =
        row(["ID", "Node ID", "Task Group", "Version", "Desired", "Status", "Created", "Modified"]);
    if verbose {
        header.insert(1, "Eval ID".to_owned());
        header.insert(3, "Node Name".to_owned());
    }
    let mut rows = vec![header];
    for alloc in allocs {
        let mut cells = vec![
            short(&text(alloc, "ID"), verbose),
            short(&text(alloc, "NodeID"), verbose),
            text(alloc, "TaskGroup"),
            text(alloc, "JobVersion"),
            text(alloc, "DesiredStatus"),
            text(alloc, "ClientStatus"),
            ago(number(alloc, "CreateTime")),
            ago(number(alloc, "ModifyTime")),
        ];
        if verbose {
            cells.insert(1, text(alloc, "EvalID"));
            cells.insert(3, text(alloc, "NodeName"));
        }
        rows.push(cells);
    }
    table(&rows)
}

pub(super) fn inspect(context: Context) -> Running {
    Box::pin(async move {
        let id = find::job_id(&context.client, context.one_argument("<job>")?).await?;
        let job = match context.flags.value("version") {
            None => context.client.get(&format!("/v1/job/{}", escape(&id))).await?.body,
            Some(version) => version_of(&context, &id, version).await?,
        };
        if context.flags.value("t").is_some() {
            structured(&context.flags, &job)?;
            return Ok(0);
        }
        let whole = serde_json::json!({ "Job": job });
        println!("{}", serde_json::to_string_pretty(&whole).unwrap_or_default());
        Ok(0)
    })
}

async fn version_of(context: &Context, id: &str, version: &str) -> Result<Value, Failure> {
    let path = format!("/v1/job/{}/versions", escape(id));
    let versions = context.client.get(&path).await?.body;
    items(&versions, "Versions")
        .iter()
        .find(|job| text(job, "Version") == version)
        .cloned()
        .ok_or_else(|| Failure::new(format!("Job \"{id}\" has no version {version}")))
}

pub(super) fn history(context: Context) -> Running {
    Box::pin(async move {
        let id = find::job_id(&context.client, context.one_argument("<job>")?).await?;
        let path = format!("/v1/job/{}/versions?diffs={}", escape(&id), context.flags.on("p"));
        let answer = context.client.get(&path).await?.body;
        let wanted = context.flags.value("version");
        let versions: Vec<&Value> = items(&answer, "Versions")
            .iter()
            .filter(|job| wanted.is_none_or(|wanted| text(job, "Version") == wanted))
            .collect();
        if structured(&context.flags, &versions.iter().map(|job| (*job).clone()).collect())? {
            return Ok(0);
        }
        let diffs = items(&answer, "Diffs");
        for (number_in_list, job) in versions.iter().enumerate() {
            let head = pairs(&[
                ("Version", text(job, "Version")),
                ("Stable", flag(job, "Stable").to_string()),
                ("Submit Date", moment(number(job, "SubmitTime"))),
            ]);
            println!("{head}");
            if let Some(diff) = diffs.get(number_in_list).filter(|_| context.flags.on("p")) {
                println!("Diff\n{}", super::diff::render(diff, true));
            }
            println!();
        }
        Ok(0)
    })
}

pub(super) fn deployments(context: Context) -> Running {
    Box::pin(async move {
        let id = find::job_id(&context.client, context.one_argument("<job>")?).await?;
        let path = format!("/v1/job/{}/deployments", escape(&id));
        let mut answer = context.client.get(&path).await?.body;
        if context.flags.on("latest")
            && let Some(all) = answer.as_array_mut()
        {
            all.sort_by_key(|one| std::cmp::Reverse(number(one, "CreateIndex")));
            all.truncate(1);
        }
        if structured(&context.flags, &answer)? {
            return Ok(0);
        }
        println!("{}", deployment::overview(&answer, context.flags.on("verbose")));
        Ok(0)
    })
}
