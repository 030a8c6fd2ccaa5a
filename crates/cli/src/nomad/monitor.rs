//! Following an evaluation and the deployment that it begins, until both are done.
//!
//! Scripts read these lines, so their words are Nomad's. Nothing is repeated: a line appears when
//! something changed.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::Value;

use super::deployment;
use super::evaluation;
use crate::client::Client;
use crate::command::Failure;
use crate::output::{at, list, moment, number, short, text};

/// Not everything could be placed.
const CODE_BLOCKED: u8 = 2;

/// How long one request waits for a change.
const WAIT: &str = "10s";

/// Follows an evaluation to its end, and then its deployment.
pub(super) async fn evaluation(client: &Client, id: &str, verbose: bool) -> Result<u8, Failure> {
    say("==>", &format!("Monitoring evaluation \"{}\"", short(id, verbose)));
    let mut seen = Seen::default();
    let mut index = 0;
    let done = loop {
        let path = format!("/v1/evaluation/{id}?index={index}&wait={WAIT}");
        let answer = client.get(&path).await?;
        index = answer.index;
        let eval = answer.body;
        seen.evaluation(&eval);
        seen.allocations(client, id, verbose).await?;
        if ["complete", "failed", "canceled"].contains(&text(&eval, "Status").as_str()) {
            break eval;
        }
    };
    let status = text(&done, "Status");
    say("==>", &format!("Evaluation \"{}\" finished with status \"{status}\"", short(id, verbose)));
    let code = tell_failures(&done, verbose);
    let next = text(&done, "NextEval");
    if status == "failed" {
        return Err(Failure::new(text(&done, "StatusDescription")));
    }
    if !next.is_empty() && text(&done, "Wait").is_empty() {
        return Box::pin(evaluation(client, &next, verbose)).await;
    }
    let deployment = match text(&done, "DeploymentID") {
        id if id.is_empty() => seen.deployment,
        id => id,
    };
    if deployment.is_empty() {
        return Ok(code);
    }
    let outcome = self::deployment(client, &deployment, verbose).await?;
    Ok(outcome.max(code))
}

/// What was already told.
#[derive(Default)]
struct Seen {
    status: String,
    /// Allocations with their client status.
    allocs: BTreeMap<String, String>,
    deployment: String,
}

impl Seen {
    fn evaluation(&mut self, eval: &Value) {
        let status = text(eval, "Status");
        if self.status.is_empty() {
            let by = match text(eval, "JobID") {
                job if job.is_empty() => format!("node \"{}\"", text(eval, "NodeID")),
                job => format!("job \"{job}\""),
            };
            say("   ", &format!("Evaluation triggered by {by}"));
            "pending".clone_into(&mut self.status);
        }
        if status != self.status && !status.is_empty() {
            say("   ", &format!("Evaluation status changed: \"{}\" -> \"{status}\"", self.status));
            self.status = status;
        }
    }

    async fn allocations(
        &mut self,
        client: &Client,
        eval: &str,
        verbose: bool,
    ) -> Result<(), Failure> {
        let allocs = client.get(&format!("/v1/evaluation/{eval}/allocations")).await?.body;
        for alloc in allocs.as_array().into_iter().flatten() {
            let (id, status) = (text(alloc, "ID"), text(alloc, "ClientStatus"));
            let shown = short(&id, verbose);
            let group = text(alloc, "TaskGroup");
            let known = self.allocs.insert(id, status.clone());
            let placed_here = text(alloc, "EvalID") == *eval;
            match known {
                None if text(alloc, "DesiredStatus") == "run" && placed_here => say(
                    "   ",
                    &format!(
                        "Allocation \"{shown}\" created: node \"{}\", group \"{group}\"",
                        short(&text(alloc, "NodeID"), verbose)
                    ),
                ),
                Some(before) if before != status => say(
                    "   ",
                    &format!(
                        "Allocation \"{shown}\" status changed: \"{before}\" -> \"{status}\" ({})",
                        text(alloc, "ClientDescription")
                    ),
                ),
                _ => {}
            }
            if self.deployment.is_empty() {
                self.deployment = text(alloc, "DeploymentID");
            }
            if self.deployment.is_empty() && text(alloc, "DesiredStatus") == "run" {
                let whole = client.get(&format!("/v1/allocation/{}", text(alloc, "ID"))).await?;
                self.deployment = text(&whole.body, "DeploymentID");
            }
        }
        Ok(())
    }
}

/// Tells what could not be placed. Returns the exit code that follows from it.
fn tell_failures(eval: &Value, verbose: bool) -> u8 {
    let failed = at(eval, "FailedTGAllocs").as_object().filter(|failed| !failed.is_empty());
    let Some(failed) = failed else { return 0 };
    for (group, metric) in failed {
        let missed = number(metric, "CoalescedFailures") + 1;
        say(
            "   ",
            &format!(
                "Task Group \"{group}\" (failed to place {missed} allocation{}):",
                if missed == 1 { "" } else { "s" }
            ),
        );
        println!("{}", evaluation::reasons(metric, "      "));
    }
    let blocked = text(eval, "BlockedEval");
    if !blocked.is_empty() {
        say(
            "   ",
            &format!(
                "Evaluation \"{}\" waiting for additional capacity to place remainder",
                short(&blocked, verbose)
            ),
        );
    }
    CODE_BLOCKED
}

/// Follows a deployment to its end, or to the point where it needs a user.
pub(super) async fn deployment(client: &Client, id: &str, verbose: bool) -> Result<u8, Failure> {
    say("==>", &format!("Monitoring deployment \"{}\"", short(id, verbose)));
    let mut told = String::new();
    let mut index = 0;
    loop {
        let path = format!("/v1/deployment/{id}?index={index}&wait={WAIT}");
        let answer = client.get(&path).await?;
        index = answer.index;
        let now = deployment::describe(&answer.body, verbose);
        if now != told {
            println!("\n{}\n{}", indent(&stamp()), indent(&now));
            told = now;
        }
        match text(&answer.body, "Status").as_str() {
            "successful" => {
                say("==>", &format!("Deployment \"{}\" successful", short(id, verbose)));
                return Ok(0);
            }
            status @ ("failed" | "cancelled") => {
                say("==>", &format!("Deployment \"{}\" {status}", short(id, verbose)));
                return Ok(1);
            }
            _ if needs_user(&answer.body) => {
                say("==>", "Deployment waits for promotion: deployment promote");
                return Ok(0);
            }
            _ => {}
        }
    }
}

/// Whether every canary is healthy and nobody but a user goes on.
fn needs_user(deployment: &Value) -> bool {
    let groups = at(deployment, "TaskGroups").as_object();
    let mut waiting = false;
    for (_, group) in groups.into_iter().flatten() {
        let canaries = number(group, "DesiredCanaries");
        let promoted = at(group, "Promoted").as_bool().unwrap_or(false);
        if canaries == 0 || promoted {
            continue;
        }
        let automatic = at(group, "AutoPromote").as_bool().unwrap_or(false);
        let healthy = number(group, "HealthyAllocs") >= canaries
            && i64::try_from(list(group, "PlacedCanaries").len()).is_ok_and(|n| n >= canaries);
        if automatic || !healthy {
            return false;
        }
        waiting = true;
    }
    waiting
}

fn indent(text: &str) -> String {
    text.lines().map(|line| format!("    {line}\n")).collect::<String>().trim_end().to_owned()
}

fn stamp() -> String {
    moment(i64::try_from(Timestamp::now().as_nanosecond()).unwrap_or(0))
}

fn say(mark: &str, text: &str) {
    println!("{mark} {}: {text}", stamp());
}
