//! Writes: registering, scaling, stopping, draining, deploying.

use std::collections::BTreeMap;
use std::time::Duration;

use cos_model::{
    AllocId, Deployment, DeploymentGroup, DeploymentId, DeploymentStatus, DesiredTransition, Job,
    NodeStatus, Timestamp,
};
use cos_state::{Command, ControlPlane};
use serde_json::{Value, json};

use super::support::{ALLOC, Agent, NODE, START, job, job_json, key, place, register};

#[tokio::test]
async fn a_job_is_registered_with_an_evaluation() {
    let agent = Agent::new();
    let body = json!({"Job": job_json("web", 2)});
    let found = agent.check(
        ("PUT", "/v1/jobs", body.clone()),
        200,
        &json!({"EvalCreateIndex": 1, "JobModifyIndex": 1, "Warnings": "", "Index": 1}),
    );
    let eval = found["EvalID"].as_str().unwrap();
    agent.get(
        &format!("/v1/evaluation/{eval}"),
        200,
        &json!({"ID": eval, "Status": "pending", "TriggeredBy": "job-register", "JobID": "web"}),
    );
    agent.check(("POST", "/v1/job/web", body.clone()), 200, &json!({"JobModifyIndex": 1}));
    agent.check(("POST", "/v1/job/x", body), 400, &json!("Job ID does not match name"));
}

#[tokio::test]
async fn wrong_registrations_are_refused_with_the_reason() {
    let agent = Agent::with_job();
    let jobs = |body| ("PUT", "/v1/jobs", body);
    agent.check(jobs(Value::Null), 400, &json!("Request body is empty"));
    agent.check(jobs(json!({})), 400, &json!("Job must be specified"));
    agent.check(jobs(json!({"Job": {}})), 400, &json!("…"));
    agent.check(jobs(json!({"Job": 5})), 400, &json!("…"));
    let mut elsewhere = job_json("web", 1);
    elsewhere["Namespace"] = json!("prod");
    let nowhere = json!("job \"web\" is in nonexistent namespace \"prod\"");
    agent.check(jobs(json!({"Job": elsewhere})), 400, &nowhere);
    let enforced = |index: u64| json!({"Job": job_json("web", 3), "EnforceIndex": true, "JobModifyIndex": index});
    agent.check(jobs(enforced(0)), 500, &json!("Enforcing job modify index 0: job already exists"));
    agent.check(
        jobs(enforced(9)),
        500,
        &json!("Enforcing job modify index 9: job exists with conflicting job modify index: 2"),
    );
    agent.check(jobs(enforced(2)), 200, &json!({"JobModifyIndex": 5}));
}

#[tokio::test]
async fn counts_given_by_scaling_can_be_kept() {
    let agent = Agent::with_job();
    let body = json!({"Job": job_json("web", 9), "PreserveCounts": true});
    agent.check(("PUT", "/v1/jobs", body), 200, &json!({}));
    assert_eq!(agent.control.state().job(&key("web")).unwrap().groups[0].count, 2);
}

#[tokio::test]
async fn a_job_is_scaled_within_its_bounds() {
    let agent = Agent::with_job();
    let scale = |body| ("PUT", "/v1/job/web/scale", body);
    let to = |group: &str, count: Value| json!({"Target": {"Group": group}, "Count": count});
    agent.check(scale(to("app", json!(7))), 200, &json!({"JobModifyIndex": 3}));
    assert_eq!(agent.control.state().job(&key("web")).unwrap().groups[0].count, 7);
    agent.check(scale(to("app", json!(-1))), 400, &json!("scaling action count can't be negative"));
    agent.check(scale(to("none", json!(1))), 400, &json!("task group \"none\"…"));
    agent.check(scale(to("", json!(1))), 400, &json!("missing task group name…"));
    agent.check(scale(to("app", Value::Null)), 501, &json!("cos does not record…"));
    let body = to("app", json!(1));
    agent.check(("PUT", "/v1/job/none/scale", body), 404, &json!("job not found"));
}

#[tokio::test]
async fn a_job_is_stopped_and_purged() {
    let agent = Agent::with_job();
    let delete = |uri| ("DELETE", uri, Value::Null);
    agent.check(delete("/v1/job/web"), 200, &json!({"EvalCreateIndex": 3}));
    agent.get("/v1/job/web", 200, &json!({"Stop": true}));
    agent.check(delete("/v1/job/web?purge=true&global=true"), 200, &json!({}));
    agent.get("/v1/job/web", 404, &json!("job not found"));
    agent.check(delete("/v1/job/web"), 404, &json!("job not found"));
    agent.check(delete("/v1/job/web?purge=maybe"), 400, &json!("Failed to parse…"));
}

#[tokio::test]
async fn a_job_goes_back_to_an_older_version() {
    let agent = Agent::with_job();
    agent.control.apply(register(job("web", 5)));
    let revert = |version: u64| ("PUT", "/v1/job/web/revert", version);
    let ask = |(method, uri, version), status, expected: Value| {
        agent.check(
            (method, uri, json!({"JobID": "web", "JobVersion": version})),
            status,
            &expected,
        )
    };
    ask(revert(1), 400, json!("can't revert to current version 1"));
    ask(revert(9), 404, json!("job \"web\" in namespace \"default\" at version 9 not found"));
    ask(revert(0), 200, json!({"JobModifyIndex": 4}));
    agent.get("/v1/job/web", 200, &json!({"Version": 2, "TaskGroups": [{"Count": 2}]}));
    let stable = json!({"JobID": "web", "JobVersion": 2, "Stable": true});
    agent.check(("PUT", "/v1/job/web/stable", stable), 200, &json!({"Index": 5}));
    agent.get("/v1/job/web", 200, &json!({"Stable": true}));
}

#[tokio::test]
async fn a_job_is_evaluated_again() {
    let agent = Agent::with_job();
    let evaluate = |body| ("PUT", "/v1/job/web/evaluate", body);
    agent.check(evaluate(Value::Null), 200, &json!({"EvalCreateIndex": 3}));
    agent.check(evaluate(json!({"EvalOptions": {"ForceReschedule": true}})), 200, &json!({}));
    agent.get("/v1/evaluations?status=pending&job=web&filter=x==y", 400, &json!("Filter…"));
    let both = json!([{"TriggeredBy": "job-eval"}, {"TriggeredBy": "job-eval"}]);
    agent.get("/v1/evaluations?status=pending&job=web", 200, &both);
    agent.get("/v1/evaluations?status=complete", 200, &json!([]));
    agent.get("/v1/evaluations/count", 200, &json!({"Count": 2}));
}

#[tokio::test]
async fn a_plan_shows_what_would_change() {
    let agent = Agent::with_job();
    let plan =
        |count| ("PUT", "/v1/job/web/plan", json!({"Job": job_json("web", count), "Diff": true}));
    agent.check(
        plan(5),
        200,
        &json!({
            "JobModifyIndex": 2,
            "Annotations": {"DesiredTGUpdates": {"app": {"Place": 0, "Ignore": 0}}},
            "Diff": {"Type": "Edited", "TaskGroups": [{"Fields": [
                {"Name": "Count", "Annotations": ["forces create"]}]}]},
            "FailedTGAllocs": null,
        }),
    );
    agent.check(plan(2), 200, &json!({"Diff": {"Type": "None"}}));
    let new = ("PUT", "/v1/job/new/plan", json!({"Job": job_json("new", 1), "Diff": true}));
    agent.check(new, 200, &json!({"JobModifyIndex": 0, "Diff": {"Type": "Added"}}));
    assert_eq!(agent.control.state().index(), 2, "a plan commits nothing");
}

#[tokio::test]
async fn job_files_are_parsed_and_jobs_validated() {
    let agent = Agent::new();
    let source = r#"job "web" { group "app" { task "t" { driver = "raw_exec"
        config { command = "/bin/true" } } } }"#;
    let parse =
        |source: &str| ("PUT", "/v1/jobs/parse", json!({"JobHCL": source, "Canonicalize": true}));
    let agent = &agent;
    let ask = |request| async move {
        let (method, uri, body): (&str, &str, Value) = request;
        agent.ask(method, uri, body.to_string().into_bytes()).await
    };
    let answer = ask(parse(source)).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let found: Value = serde_json::from_str(&answer.text).unwrap();
    assert_eq!((&found["ID"], &found["TaskGroups"][0]["Name"]), (&json!("web"), &json!("app")));
    let answer = ask(parse("job \"web\" {")).await;
    assert_eq!(answer.status, 400);
    assert!(answer.text.starts_with("Failed to parse job: input.hcl:1,"), "{}", answer.text);
    agent.check(parse(" "), 400, &json!("Job spec is empty"));
    let validate = |job| ("PUT", "/v1/validate/job", json!({"Job": job}));
    agent.check(
        validate(job_json("web", 1)),
        200,
        &json!({"DriverConfigValidated": true, "ValidationErrors": null, "Error": ""}),
    );
    agent.check(validate(json!({"ID": "x"})), 200, &json!({"DriverConfigValidated": false}));
}

#[tokio::test]
async fn stopping_an_allocation_asks_for_its_migration() {
    let agent = Agent::with_job();
    place(&agent, "web", ALLOC);
    let stop = ("PUT", "/v1/allocation/short/stop", Value::Null);
    agent.check(stop, 404, &json!("allocation not found"));
    let uri = format!("/v1/allocation/{ALLOC}/stop?no_shutdown_delay=true");
    let found = agent.check(("PUT", &uri, Value::Null), 200, &json!({}));
    let eval = found["EvalID"].as_str().unwrap();
    agent.get(&format!("/v1/evaluation/{eval}"), 200, &json!({"TriggeredBy": "alloc-stop"}));
    let Command::SetTransitions { transitions, .. } = agent.control.last() else { panic!() };
    let hint = DesiredTransition { migrate: true, no_shutdown_delay: true, ..Default::default() };
    assert_eq!(transitions, BTreeMap::from([(ALLOC, hint)]));
}

#[tokio::test]
async fn nodes_are_drained_and_made_eligible() {
    let agent = Agent::with_job();
    let uri = |what: &str| format!("/v1/node/{NODE}/{what}");
    let put = |what: &str, body, status, expected: Value| {
        agent.check(("PUT", &uri(what), body), status, &expected)
    };
    put("eligibility", json!({"Eligibility": "ineligible"}), 200, json!({"EvalIDs": []}));
    agent.get("/v1/nodes", 200, &json!([{"SchedulingEligibility": "ineligible"}]));
    put("eligibility", json!({"Eligibility": "maybe"}), 400, json!("invalid scheduling…"));
    put("eligibility", json!({"Eligibility": "eligible"}), 200, json!({}));
    let minute: i64 = 60_000_000_000;
    put("drain", json!({"DrainSpec": {"Deadline": minute}}), 200, json!({"NodeModifyIndex": 5}));
    agent.get(
        &format!("/v1/node/{NODE}"),
        200,
        &json!({"Drain": true, "DrainStrategy": {"Deadline": minute, "IgnoreSystemJobs": false}}),
    );
    put("eligibility", json!({"Eligibility": "eligible"}), 400, json!("can not set…"));
    put("drain", json!({"DrainSpec": null, "MarkEligible": true}), 200, json!({}));
    agent.get("/v1/nodes", 200, &json!([{"Drain": false, "SchedulingEligibility": "eligible"}]));
    put("drain", json!({"DrainSpec": 5}), 400, json!("Failed to parse body: DrainSpec…"));
    put("drain", json!({"DrainSpec": {"Deadline": -1}}), 200, json!({}));
    agent.get(&format!("/v1/node/{NODE}"), 200, &json!({"DrainStrategy": {"Deadline": -1}}));
}

#[tokio::test]
async fn a_node_is_purged_only_when_it_is_down() {
    let agent = Agent::with_job();
    let uri = format!("/v1/node/{NODE}/purge");
    agent.check(("PUT", &uri, Value::Null), 400, &json!("only a node that is down…"));
    agent.control.apply(Command::SetNodeStatus {
        id: NODE,
        status: NodeStatus::Down,
        message: "gone".to_owned(),
        evals: Vec::new(),
    });
    agent.check(("PUT", &uri, Value::Null), 200, &json!({"EvalIDs": []}));
    agent.get("/v1/nodes", 200, &json!([]));
    agent.check(("PUT", &uri, Value::Null), 404, &json!("node not found"));
}

fn deployment(agent: &Agent) -> DeploymentId {
    let id = DeploymentId::from_bits(0xD0);
    let state = agent.control.state();
    let job = state.job(&key("web")).unwrap();
    let group = DeploymentGroup {
        auto_revert: true,
        desired_total: 2,
        desired_canaries: 1,
        ..DeploymentGroup::default()
    };
    let deployment = Deployment {
        id,
        job: job.key.clone(),
        job_version: job.version,
        job_modify_index: job.modify_index,
        job_spec_modify_index: job.job_modify_index,
        job_create_index: job.create_index,
        groups: BTreeMap::from([("app".to_owned(), group)]),
        status: DeploymentStatus::Running,
        status_description: "Deployment is running but requires manual promotion".to_owned(),
        create_time: START,
        modify_time: START,
        create_index: 0,
        modify_index: 0,
    };
    place_with(agent, job, deployment);
    id
}

fn place_with(agent: &Agent, job: &Job, deployment: Deployment) {
    let eval = cos_state::evaluations::eval_for_job(job, cos_model::Trigger::JobRegister, 7, START);
    agent.control.apply(Command::PutEvals { evals: vec![eval.clone()] });
    let plan = cos_model::Plan {
        eval_id: eval.id,
        based_on: agent.control.state().index(),
        all_at_once: false,
        placements: Vec::new(),
        stops: Vec::new(),
        followups: BTreeMap::new(),
        deployment: Some(deployment),
        deployment_updates: Vec::new(),
        new_evals: Vec::new(),
        eval,
        at: Timestamp(START.0 + i64::try_from(Duration::from_secs(1).as_nanos()).unwrap()),
    };
    agent.control.apply(Command::ApplyPlan { plan: Box::new(plan) });
}

#[tokio::test]
async fn deployments_are_paused_and_failed() {
    let agent = Agent::with_job();
    let id = deployment(&agent);
    let shown = json!({
        "ID": id.to_string(), "JobID": "web", "Status": "running",
        "StatusDescription": "Deployment is running but requires manual promotion",
        "TaskGroups": {"app": {"AutoRevert": true, "DesiredTotal": 2, "DesiredCanaries": 1}},
    });
    agent.get("/v1/deployments", 200, &json!([shown]));
    agent.get(&format!("/v1/deployment/{id}"), 200, &shown);
    agent.get("/v1/job/web/deployment", 200, &shown);
    agent.get(&format!("/v1/deployment/allocations/{id}"), 200, &json!([]));
    let put = |what: &str, body, status, expected: Value| {
        agent.check(("PUT", &format!("/v1/deployment/{what}/{id}"), body), status, &expected)
    };
    put("promote", json!({}), 400, json!("either all groups or some group must be promoted"));
    put("allocation-health", json!({}), 400, json!("must specify at least one…"));
    let wrong = json!({"HealthyAllocationIDs": ["x"]});
    put("allocation-health", wrong, 400, json!("HealthyAllocationIDs: \"x\" is not…"));
    put("pause", json!({"Pause": true}), 200, json!({"EvalID": ""}));
    agent.get(&format!("/v1/deployment/{id}"), 200, &json!({"Status": "paused"}));
    put("pause", json!({"Pause": false}), 200, json!({}));
    agent.get(&format!("/v1/deployment/{id}"), 200, &json!({"Status": "running"}));
    let scale = json!({"Target": {"Group": "app"}, "Count": 1});
    let blocked = json!("job scaling blocked due to active deployment");
    agent.check(("PUT", "/v1/job/web/scale", scale), 400, &blocked);
    put("fail", Value::Null, 200, json!({"RevertedJobVersion": null}));
    let words = "Deployment marked as failed - no stable job version to auto revert to";
    let failed = json!({"Status": "failed", "StatusDescription": words});
    agent.get(&format!("/v1/deployment/{id}"), 200, &failed);
    put("fail", Value::Null, 400, json!("can't fail terminal deployment"));
    put("pause", json!({"Pause": false}), 400, json!("can't resume terminal deployment"));
    put("promote", json!({}), 400, json!("can't promote terminal deployment"));
    let healthy = json!({"HealthyAllocationIDs": [AllocId::from_bits(1).to_string()]});
    let words = "can't set health of allocations for a terminal deployment";
    put("allocation-health", healthy, 400, json!(words));
    let none = AllocId::from_bits(1);
    let fail = format!("/v1/deployment/fail/{none}");
    agent.check(("PUT", &fail, Value::Null), 404, &json!("deployment not found"));
}
