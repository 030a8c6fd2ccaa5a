//! `alloc …`: one instance, what happened to it, and what users do to it.

use serde_json::{Value, json};

use super::deployment::follow;
use super::find::{self, ALLOCATION};
use crate::command::{Context, Failure, Running};
use crate::output::{
    at, flag, list, moment, moment_text, number, pairs, row, short, structured, table, text,
};

pub(super) fn status(context: Context) -> Running {
    Box::pin(async move {
        let id = context.one_argument("<alloc>")?;
        let alloc = find::by_prefix(&context.client, ALLOCATION, id).await?;
        if structured(&context.flags, &alloc)? {
            return Ok(0);
        }
        let events = !context.flags.on("short");
        println!("{}", describe(&alloc, context.flags.on("verbose"), events));
        Ok(0)
    })
}

/// An allocation as text.
pub(super) fn describe(alloc: &Value, verbose: bool, events: bool) -> String {
    let mut out = head(alloc, verbose);
    let ports = list(alloc, "AllocatedResources.Shared.Ports");
    if !ports.is_empty() {
        let mut rows = vec![row(["Label", "Dynamic", "Address"])];
        for port in ports {
            let mut address = format!("{}:{}", text(port, "HostIP"), text(port, "Value"));
            if number(port, "To") > 0 {
                address = format!("{address} -> {}", text(port, "To"));
            }
            rows.push(vec![text(port, "Label"), "yes".to_owned(), address]);
        }
        out = format!("{out}\n\nAllocation Addresses:\n{}", table(&rows));
    }
    let states = at(alloc, "TaskStates").as_object();
    for (task, state) in states.into_iter().flatten() {
        out = format!("{out}\n\n{}", task_text(alloc, task, state, events));
    }
    if verbose {
        out = format!("{out}\n\nPlacement Metrics\n{}", placement(at(alloc, "Metrics")));
    }
    out
}

fn head(alloc: &Value, verbose: bool) -> String {
    let mut head = vec![
        ("ID", text(alloc, "ID")),
        ("Eval ID", short(&text(alloc, "EvalID"), verbose)),
        ("Name", text(alloc, "Name")),
        ("Node ID", short(&text(alloc, "NodeID"), verbose)),
        ("Node Name", text(alloc, "NodeName")),
        ("Job ID", text(alloc, "JobID")),
        ("Job Version", text(alloc, "Job.Version")),
        ("Client Status", text(alloc, "ClientStatus")),
        ("Client Description", text(alloc, "ClientDescription")),
        ("Desired Status", text(alloc, "DesiredStatus")),
        ("Desired Description", text(alloc, "DesiredDescription")),
        ("Created", moment(number(alloc, "CreateTime"))),
        ("Modified", moment(number(alloc, "ModifyTime"))),
    ];
    let deployment = text(alloc, "DeploymentID");
    if !deployment.is_empty() {
        head.push(("Deployment ID", short(&deployment, verbose)));
        let health = match at(alloc, "DeploymentStatus.Healthy").as_bool() {
            Some(true) => "healthy",
            Some(false) => "unhealthy",
            None => "unset",
        };
        head.push(("Deployment Health", health.to_owned()));
        if flag(alloc, "DeploymentStatus.Canary") {
            head.push(("Canary", "true".to_owned()));
        }
    }
    if let Some(attempts) = attempts(alloc) {
        head.push(("Reschedule Attempts", attempts));
    }
    for (title, field) in
        [("Replacement Alloc ID", "NextAllocation"), ("Previous Alloc ID", "PreviousAllocation")]
    {
        let id = text(alloc, field);
        if !id.is_empty() {
            head.push((title, short(&id, verbose)));
        }
    }
    let followup = text(alloc, "FollowupEvalID");
    if !followup.is_empty() {
        head.push(("Follow Up Eval", short(&followup, verbose)));
    }
    pairs(&head)
}

/// `used/allowed` replacements, where a policy limits them.
fn attempts(alloc: &Value) -> Option<String> {
    let group = text(alloc, "TaskGroup");
    let policy = list(alloc, "Job.TaskGroups")
        .iter()
        .find(|one| text(one, "Name") == group)
        .map(|one| at(one, "ReschedulePolicy"))?;
    let allowed = number(policy, "Attempts");
    if flag(policy, "Unlimited") || allowed == 0 {
        return None;
    }
    let interval = number(policy, "Interval");
    let events = list(alloc, "RescheduleTracker.Events");
    let newest = events.iter().map(|event| number(event, "RescheduleTime")).max().unwrap_or(0);
    let used =
        events.iter().filter(|event| newest - number(event, "RescheduleTime") <= interval).count();
    Some(format!("{used}/{allowed}"))
}

fn task_text(alloc: &Value, task: &str, state: &Value, events: bool) -> String {
    let failed = if flag(state, "Failed") { " (failed)" } else { "" };
    let mut out = format!("Task \"{task}\" is \"{}\"{failed}", text(state, "State"));
    let resources = &at(alloc, "AllocatedResources.Tasks")[task];
    let mut addresses = Vec::new();
    for network in list(resources, "Networks") {
        for port in list(network, "DynamicPorts").iter().chain(list(network, "ReservedPorts")) {
            let place = format!("{}:{}", text(network, "IP"), text(port, "Value"));
            addresses.push(format!("{}: {place}", text(port, "Label")));
        }
    }
    let row_of = vec![
        format!("{} MHz", text(resources, "Cpu.CpuShares")),
        format!("{} MiB", text(resources, "Memory.MemoryMB")),
        format!("{} MiB", text(alloc, "AllocatedResources.Shared.DiskMB")),
        addresses.join(", "),
    ];
    let header = row(["CPU", "Memory", "Disk", "Addresses"]);
    out = format!("{out}\nTask Resources:\n{}", table(&[header, row_of]));
    let moments = pairs(&[
        ("Started At", moment_text(&text(state, "StartedAt"))),
        ("Finished At", moment_text(&text(state, "FinishedAt"))),
        ("Total Restarts", text(state, "Restarts")),
        ("Last Restart", moment_text(&text(state, "LastRestart"))),
    ]);
    out = format!("{out}\n\nTask Events:\n{}", moments.replace("<none>", "N/A"));
    if events {
        let mut rows = vec![row(["Time", "Type", "Description"])];
        for event in list(state, "Events").iter().rev() {
            rows.push(vec![
                moment(number(event, "Time")),
                text(event, "Type"),
                text(event, "DisplayMessage"),
            ]);
        }
        out = format!("{out}\n\nRecent Events:\n{}", table(&rows));
    }
    out
}

fn placement(metric: &Value) -> String {
    let mut rows =
        vec![row(["Node", "binpack", "job-anti-affinity", "node-affinity", "final score"])];
    for score in list(metric, "ScoreMetaData") {
        let part = |name: &str| {
            let value = at(score, "Scores").get(name).unwrap_or(&Value::Null);
            if value.is_null() { "0".to_owned() } else { value.to_string() }
        };
        rows.push(vec![
            text(score, "NodeID"),
            part("binpack"),
            part("job-anti-affinity"),
            part("node-affinity"),
            text(score, "NormScore"),
        ]);
    }
    table(&rows)
}

pub(super) fn stop(context: Context) -> Running {
    Box::pin(async move {
        let id =
            find::full_id(&context.client, ALLOCATION, context.one_argument("<alloc>")?).await?;
        let delay = context.flags.on("no-shutdown-delay");
        let path = format!("/v1/allocation/{id}/stop?no_shutdown_delay={delay}");
        let answer = context.client.put(&path, &Value::Null).await?.body;
        follow(&context, &answer).await
    })
}

pub(super) fn restart(context: Context) -> Running {
    Box::pin(async move {
        let (alloc, task) = alloc_and_task(&context).await?;
        let all = context.flags.on("all-tasks");
        let mut request = json!({ "AllTasks": all });
        if let Some(task) = &task {
            request["TaskName"] = json!(find::task(&alloc, Some(task))?);
        }
        let path = format!("/v1/client/allocation/{}/restart", text(&alloc, "ID"));
        context.client.put(&path, &request).await?;
        Ok(0)
    })
}

pub(super) fn signal(context: Context) -> Running {
    Box::pin(async move {
        let (alloc, task) = alloc_and_task(&context).await?;
        let signal = context.flags.value("s").unwrap_or("SIGKILL");
        let mut request = json!({ "Signal": signal });
        if let Some(task) = &task {
            request["Task"] = json!(find::task(&alloc, Some(task))?);
        }
        let path = format!("/v1/client/allocation/{}/signal", text(&alloc, "ID"));
        context.client.put(&path, &request).await?;
        Ok(0)
    })
}

/// The allocation that is meant, and the task if one is named.
async fn alloc_and_task(context: &Context) -> Result<(Value, Option<String>), Failure> {
    let (id, task) = match context.flags.arguments.as_slice() {
        [id] => (id, context.flags.value("task").map(str::to_owned)),
        [id, task] => (id, Some(task.clone())),
        _ => {
            return Err(Failure::Usage(
                "This command takes one or two arguments: <alloc> [<task>]".to_owned(),
            ));
        }
    };
    Ok((find::by_prefix(&context.client, ALLOCATION, id).await?, task))
}
