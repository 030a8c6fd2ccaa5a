//! `deployment …`: rollouts and what users do to them.

use serde_json::{Value, json};

use super::find::{self, DEPLOYMENT};
use super::monitor;
use crate::command::{Context, Failure, Running};
use crate::output::{
    at, flag, list as items, moment_text, number, pairs, row, short, structured, table, text,
};

pub(super) fn list(context: Context) -> Running {
    Box::pin(async move {
        context.no_arguments()?;
        let deployments = context.client.get("/v1/deployments").await?.body;
        if structured(&context.flags, &deployments)? {
            return Ok(0);
        }
        println!("{}", overview(&deployments, context.flags.on("verbose")));
        Ok(0)
    })
}

/// A table of deployments.
pub(super) fn overview(deployments: &Value, verbose: bool) -> String {
    let mut rows = vec![row(["ID", "Job ID", "Job Version", "Status", "Description"])];
    for deployment in deployments.as_array().into_iter().flatten() {
        rows.push(vec![
            short(&text(deployment, "ID"), verbose),
            text(deployment, "JobID"),
            text(deployment, "JobVersion"),
            text(deployment, "Status"),
            text(deployment, "StatusDescription"),
        ]);
    }
    if rows.len() == 1 { "No deployments found".to_owned() } else { table(&rows) }
}

pub(super) fn status(context: Context) -> Running {
    Box::pin(async move {
        let id = context.one_argument("<deployment>")?;
        let verbose = context.flags.on("verbose");
        let deployment = find::by_prefix(&context.client, DEPLOYMENT, id).await?;
        if structured(&context.flags, &deployment)? {
            return Ok(0);
        }
        if context.flags.on("monitor") {
            return monitor::deployment(&context.client, &text(&deployment, "ID"), verbose).await;
        }
        println!("{}", describe(&deployment, verbose));
        Ok(0)
    })
}

/// A deployment as text, its groups below.
pub(super) fn describe(deployment: &Value, verbose: bool) -> String {
    let head = pairs(&[
        ("ID", short(&text(deployment, "ID"), verbose)),
        ("Job ID", text(deployment, "JobID")),
        ("Job Version", text(deployment, "JobVersion")),
        ("Status", text(deployment, "Status")),
        ("Description", text(deployment, "StatusDescription")),
    ]);
    format!("{head}\n\nDeployed\n{}", groups(deployment))
}

/// The table of a deployment's groups; columns that say nothing are left out.
pub(super) fn groups(deployment: &Value) -> String {
    let empty = serde_json::Map::new();
    let groups = at(deployment, "TaskGroups").as_object().unwrap_or(&empty);
    let any_revert = groups.values().any(|group| flag(group, "AutoRevert"));
    let any_canary = groups.values().any(|group| number(group, "DesiredCanaries") > 0);
    let mut header = vec!["Task Group".to_owned()];
    let mut add = |wanted: bool, name: &str| {
        if wanted {
            header.push(name.to_owned());
        }
    };
    add(any_revert, "Auto Revert");
    add(any_canary, "Promoted");
    add(true, "Desired");
    add(any_canary, "Canaries");
    for name in ["Placed", "Healthy", "Unhealthy", "Progress Deadline"] {
        add(true, name);
    }
    let mut rows = vec![header];
    for (name, group) in groups {
        let mut cells = vec![name.clone()];
        if any_revert {
            cells.push(flag(group, "AutoRevert").to_string());
        }
        let canaries = number(group, "DesiredCanaries");
        if any_canary {
            let promoted = flag(group, "Promoted").to_string();
            cells.push(if canaries > 0 { promoted } else { "N/A".to_owned() });
        }
        cells.push(text(group, "DesiredTotal"));
        if any_canary {
            cells.push(canaries.to_string());
        }
        for field in ["PlacedAllocs", "HealthyAllocs", "UnhealthyAllocs"] {
            cells.push(text(group, field));
        }
        cells.push(moment_text(&text(group, "RequireProgressBy")));
        rows.push(cells);
    }
    table(&rows)
}

pub(super) fn fail(context: Context) -> Running {
    Box::pin(async move {
        let id = full_id(&context).await?;
        let path = format!("/v1/deployment/fail/{id}");
        let answer = context.client.put(&path, &json!({ "DeploymentID": id })).await?.body;
        println!("Deployment \"{id}\" failed");
        if let Some(version) = at(&answer, "RevertedJobVersion").as_u64() {
            println!("\n==> Reverting to version {version}");
        }
        follow(&context, &answer).await
    })
}

pub(super) fn promote(context: Context) -> Running {
    Box::pin(async move {
        let id = full_id(&context).await?;
        let code = promote_one(&context, &id).await?;
        Ok(code)
    })
}

/// Promotes a deployment, whole or the groups that flags name, and follows it.
pub(super) async fn promote_one(context: &Context, id: &str) -> Result<u8, Failure> {
    let groups: Vec<&str> = context.flags.all("group").collect();
    let request = if groups.is_empty() {
        json!({ "DeploymentID": id, "All": true })
    } else {
        json!({ "DeploymentID": id, "Groups": groups })
    };
    let path = format!("/v1/deployment/promote/{id}");
    let answer = context.client.put(&path, &request).await?.body;
    follow(context, &answer).await
}

pub(super) fn pause(context: Context) -> Running {
    Box::pin(async move {
        let id = full_id(&context).await?;
        set_paused(&context, &id, true).await?;
        println!("Deployment \"{id}\" paused");
        Ok(0)
    })
}

pub(super) fn resume(context: Context) -> Running {
    Box::pin(async move {
        let id = full_id(&context).await?;
        let answer = set_paused(&context, &id, false).await?;
        println!("Deployment \"{id}\" resumed");
        follow(&context, &answer).await
    })
}

async fn set_paused(context: &Context, id: &str, pause: bool) -> Result<Value, Failure> {
    let request = json!({ "DeploymentID": id, "Pause": pause });
    Ok(context.client.put(&format!("/v1/deployment/pause/{id}"), &request).await?.body)
}

async fn full_id(context: &Context) -> Result<String, Failure> {
    find::full_id(&context.client, DEPLOYMENT, context.one_argument("<deployment>")?).await
}

/// Follows the evaluation that an answer names, unless that is not wanted.
pub(super) async fn follow(context: &Context, answer: &Value) -> Result<u8, Failure> {
    let eval = text(answer, "EvalID");
    if eval.is_empty() {
        return Ok(0);
    }
    if context.flags.on("detach") {
        println!("Evaluation ID: {eval}");
        return Ok(0);
    }
    monitor::evaluation(&context.client, &eval, context.flags.on("verbose")).await
}

/// Whether a deployment still holds canaries that wait for a user.
pub(super) fn has_canaries(deployment: &Value) -> bool {
    let groups = at(deployment, "TaskGroups").as_object();
    groups.into_iter().flatten().any(|(_, group)| !items(group, "PlacedCanaries").is_empty())
}
