//! Things by the beginning of their id.

use serde_json::Value;

use crate::client::{Client, escape};
use crate::command::Failure;
use crate::output::{list, text};

/// What can be found so: the API's path and the word for messages.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kind {
    pub(super) path: &'static str,
    pub(super) one: &'static str,
}

pub(super) const ALLOCATION: Kind = Kind { path: "allocation", one: "allocation" };
pub(super) const DEPLOYMENT: Kind = Kind { path: "deployment", one: "deployment" };
pub(super) const EVALUATION: Kind = Kind { path: "evaluation", one: "evaluation" };
pub(super) const NODE: Kind = Kind { path: "node", one: "node" };

/// Finds the one thing whose id begins so and reads it whole.
pub(super) async fn by_prefix(client: &Client, kind: Kind, id: &str) -> Result<Value, Failure> {
    let id = full_id(client, kind, id).await?;
    Ok(client.get(&format!("/v1/{}/{id}", kind.path)).await?.body)
}

/// Finds the one id that begins so.
pub(super) async fn full_id(client: &Client, kind: Kind, id: &str) -> Result<String, Failure> {
    if id.chars().count() < 2 {
        return Err(Failure::Usage("Identifier must contain at least two characters.".to_owned()));
    }
    let prefix = escape(id.trim_end_matches('-'));
    let found = client.get(&format!("/v1/{}s?prefix={prefix}", kind.path)).await?.body;
    match found.as_array().map_or(&[][..], Vec::as_slice) {
        [] => Err(Failure::new(format!("No {}(s) with prefix or id \"{id}\" found", kind.one))),
        [only] => Ok(text(only, "ID")),
        many => {
            let ids: Vec<String> = many.iter().map(|one| text(one, "ID")).collect();
            if ids.iter().any(|other| other == id) {
                return Ok(id.to_owned());
            }
            Err(Failure::new(format!(
                "Prefix \"{id}\" matches several {}s:\n{}",
                kind.one,
                ids.join("\n")
            )))
        }
    }
}

/// Finds a job by its id, or by the beginning of it if there is only one.
pub(super) async fn job(client: &Client, id: &str) -> Result<Value, Failure> {
    let id = job_id(client, id).await?;
    Ok(client.get(&format!("/v1/job/{}", escape(&id))).await?.body)
}

/// Finds the one job id that begins so.
pub(super) async fn job_id(client: &Client, id: &str) -> Result<String, Failure> {
    let found = client.get(&format!("/v1/jobs?prefix={}", escape(id))).await?.body;
    let ids: Vec<String> =
        found.as_array().map_or(&[][..], Vec::as_slice).iter().map(|job| text(job, "ID")).collect();
    match ids.as_slice() {
        [] => Err(Failure::new(format!("No job(s) with prefix or ID \"{id}\" found"))),
        [only] => Ok(only.clone()),
        many if many.iter().any(|other| other == id) => Ok(id.to_owned()),
        many => Err(Failure::new(format!(
            "Prefix \"{id}\" matched multiple jobs\n\n{}",
            many.join("\n")
        ))),
    }
}

/// The node of the agent that is asked.
pub(super) async fn own_node(client: &Client) -> Result<String, Failure> {
    let answer = client.get("/v1/agent/self").await?.body;
    let id = text(&answer, "stats.client.node_id");
    if id.is_empty() {
        return Err(Failure::new("The asked agent runs no tasks, so it has no node"));
    }
    Ok(id)
}

/// The newest allocation of a job, running ones first.
pub(super) async fn alloc_of_job(client: &Client, job: &str) -> Result<String, Failure> {
    let id = job_id(client, job).await?;
    let answer = client.get(&format!("/v1/job/{}/allocations", escape(&id))).await?.body;
    let best = answer.as_array().map_or(&[][..], Vec::as_slice).iter().max_by_key(|alloc| {
        (text(alloc, "ClientStatus") == "running", crate::output::number(alloc, "CreateIndex"))
    });
    best.map(|alloc| text(alloc, "ID"))
        .ok_or_else(|| Failure::new(format!("No allocations of job \"{id}\" found")))
}

/// The task that is meant: the one named, or the only one.
pub(super) fn task(alloc: &Value, named: Option<&str>) -> Result<String, Failure> {
    let group = text(alloc, "TaskGroup");
    let groups = list(alloc, "Job.TaskGroups");
    let tasks: Vec<String> = groups
        .iter()
        .filter(|one| text(one, "Name") == group)
        .flat_map(|one| list(one, "Tasks"))
        .map(|task| text(task, "Name"))
        .collect();
    match (named, tasks.as_slice()) {
        (Some(name), tasks) if tasks.iter().any(|task| task == name) => Ok(name.to_owned()),
        (Some(name), tasks) => Err(Failure::new(format!(
            "Allocation has no task \"{name}\"; it has {}",
            tasks.join(", ")
        ))),
        (None, [only]) => Ok(only.clone()),
        (None, tasks) => Err(Failure::new(format!(
            "Allocation \"{}\" is running the following tasks: {}\nPlease specify the task.",
            text(alloc, "ID"),
            tasks.join(", ")
        ))),
    }
}
