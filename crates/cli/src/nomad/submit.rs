//! `job run`, `job plan` and `job validate`: from a file to the cluster, or only nearly.

use cos_jobspec::json::job_to_json;
use serde_json::{Value, json};

use super::diff;
use super::monitor;
use super::source;
use crate::client::escape;
use crate::command::{Context, Failure, Running};
use crate::output::{at, number, text};

/// `job plan` says by its code whether anything would be created or destroyed.
const CODE_CHANGES: u8 = 1;
/// `job plan` and `job validate` could not do their work.
const CODE_ERROR: u8 = 255;

pub(super) fn run(context: Context) -> Running {
    Box::pin(async move {
        let (parsed, text_of_file) = source::read(&context)?;
        if context.flags.on("output") {
            let whole = json!({ "Job": job_to_json(&parsed.job) });
            println!("{}", serde_json::to_string_pretty(&whole).unwrap_or_default());
            return Ok(0);
        }
        let (errors, warnings) = source::problems(&parsed);
        if !errors.is_empty() {
            return Err(Failure::new(format!("Job validation errors:\n{}", errors.join("\n"))));
        }
        let job = job_to_json(&parsed.job);
        let mut request = json!({
            "Job": job,
            "PreserveCounts": context.flags.on("preserve-counts"),
            "Submission": { "Source": text_of_file, "Format": parsed.format.name() },
        });
        if let Some(index) = context.flags.value("check-index") {
            let index: u64 = index.parse().ok().ok_or_else(|| {
                Failure::Usage(format!("Error parsing check-index value \"{index}\""))
            })?;
            request["EnforceIndex"] = json!(true);
            request["JobModifyIndex"] = json!(index);
        }
        let namespace = &parsed.job.key.namespace;
        let path = format!("/v1/jobs?namespace={}", escape(namespace));
        let answer = context.client.put(&path, &request).await.map_err(explain_index)?;
        tell_warnings(&warnings, &text(&answer.body, "Warnings"));
        let eval = text(&answer.body, "EvalID");
        if eval.is_empty() {
            println!("Job registration successful");
            return Ok(0);
        }
        if context.flags.on("detach") {
            println!("Job registration successful\nEvaluation ID: {eval}");
            return Ok(0);
        }
        monitor::evaluation(&context.client, &eval, context.flags.on("verbose")).await
    })
}

/// A lost race gets a sentence that says so.
fn explain_index(failure: Failure) -> Failure {
    match failure {
        Failure::Failed { message, code } if message.contains("Enforcing job modify index") => {
            Failure::Failed {
                message: format!("{message}\nJob not updated: somebody changed it first"),
                code,
            }
        }
        other => other,
    }
}

fn tell_warnings(own: &[String], servers: &str) {
    // The server finds the same again; what it says is complete, ours has the place in the file.
    let text = if own.is_empty() { servers.to_owned() } else { own.join("\n") };
    if !text.trim().is_empty() {
        eprintln!("Job Warnings:\n{}\n", text.trim());
    }
}

pub(super) fn validate(context: Context) -> Running {
    Box::pin(async move {
        let (parsed, _) = source::read(&context)?;
        let (errors, warnings) = source::problems(&parsed);
        if !errors.is_empty() {
            return Err(Failure::new(format!("Job validation errors:\n{}", errors.join("\n"))));
        }
        if warnings.is_empty() {
            println!("Job validation successful");
        } else {
            println!("Job Warnings:\n{}\n\nJob validation successful", warnings.join("\n"));
        }
        Ok(0)
    })
}

pub(super) fn plan(context: Context) -> Running {
    Box::pin(async move { plan_job(&context).await.map_err(with_error_code) })
}

fn with_error_code(failure: Failure) -> Failure {
    match failure {
        Failure::Usage(message) | Failure::Failed { message, .. } => {
            Failure::Failed { message, code: CODE_ERROR }
        }
    }
}

async fn plan_job(context: &Context) -> Result<u8, Failure> {
    let (parsed, _) = source::read(context)?;
    let (errors, warnings) = source::problems(&parsed);
    if !errors.is_empty() {
        return Err(Failure::new(format!("Job validation errors:\n{}", errors.join("\n"))));
    }
    let key = &parsed.job.key;
    let wants_diff = context.flags.value("diff").is_none_or(|value| value != "false");
    let request = json!({ "Job": job_to_json(&parsed.job), "Diff": wants_diff });
    let path = format!("/v1/job/{}/plan?namespace={}", escape(&key.id), escape(&key.namespace));
    let answer = context.client.put(&path, &request).await?.body;
    if wants_diff && !at(&answer, "Diff").is_null() {
        println!("{}\n", diff::render(at(&answer, "Diff"), context.flags.on("verbose")));
    }
    println!("Scheduler dry-run:\n{}", dry_run(&answer));
    tell_warnings(&warnings, &text(&answer, "Warnings"));
    let file = context.one_argument("<path>")?;
    let index = number(&answer, "JobModifyIndex");
    let program = context.program.name();
    println!(
        "\nJob Modify Index: {index}\nTo submit the job with version verification run:\n\n\
         {program} job run -check-index {index} {file}\n\n\
         When running the job with the check-index flag, the job will only be run if the\n\
         job modify index given matches the server-side version. If the index has\n\
         changed, another user has modified the job and the plan's results are\n\
         potentially invalid."
    );
    Ok(exit_code(&answer))
}

fn dry_run(answer: &Value) -> String {
    let failed = at(answer, "FailedTGAllocs").as_object().filter(|failed| !failed.is_empty());
    let Some(failed) = failed else { return "- All tasks successfully allocated.".to_owned() };
    let mut text = "- WARNING: Failed to place all allocations.".to_owned();
    for (group, metric) in failed {
        let missed = number(metric, "CoalescedFailures") + 1;
        text = format!(
            "{text}\n  Task Group \"{group}\" (failed to place {missed} {}):\n{}",
            if missed == 1 { "allocation" } else { "allocations" },
            super::evaluation::reasons(metric, "    ")
        );
    }
    text
}

fn exit_code(answer: &Value) -> u8 {
    let updates = at(answer, "Annotations.DesiredTGUpdates").as_object();
    let changes = updates.into_iter().flatten().any(|(_, update)| {
        ["Place", "Stop", "Migrate", "DestructiveUpdate", "Canary"]
            .iter()
            .any(|name| number(update, name) > 0)
    });
    if changes { CODE_CHANGES } else { 0 }
}
