//! Reads: lists, single objects, their headers and their absence.

use std::collections::BTreeMap;

use cos_model::link::AllocUpdate;
use cos_model::{AllocId, ClientStatus, EvalId, TaskEvent, TaskPhase, TaskState};
use cos_state::Command;
use serde_json::{Value, json};

use super::support::{ALLOC, Agent, NODE, START, job, place, register};

#[tokio::test]
async fn jobs_are_listed_with_their_summaries() {
    let agent = Agent::with_job();
    let stub = json!({
        "ID": "web", "Name": "web", "Namespace": "default", "Type": "service", "Priority": 50,
        "Periodic": false, "ParameterizedJob": false, "Stop": false, "Status": "pending",
        "Datacenters": ["dc1"],
        "JobSummary": {"JobID": "web", "Summary": {"app": {"Queued": 0, "Running": 0}}},
    });
    let found = agent.get("/v1/jobs", 200, &json!([stub]));
    assert!(found[0].get("Meta").is_none());
    agent.get("/v1/jobs?prefix=we&stale=true", 200, &json!([stub]));
    agent.get("/v1/jobs?prefix=x", 200, &json!([]));
    agent.get("/v1/jobs?namespace=other", 200, &json!([]));
    agent.get("/v1/jobs?namespace=*&meta=true", 200, &json!([{"Meta": {}}]));
    agent.get("/v1/jobs?filter=Name%20==%20%22web%22", 200, &json!([stub]));
    agent.get("/v1/jobs?filter=Name%20!=%20web", 200, &json!([]));
    agent.get("/v1/jobs?filter=Name", 400, &json!("failed to create result paginator…"));
    agent.get("/v1/jobs?index=x", 400, &json!("Invalid index"));
    agent.get("/v1/jobs?wait=5", 400, &json!("Invalid wait time"));
}

#[tokio::test]
async fn lists_come_in_pages() {
    let agent = Agent::new();
    for name in ["c", "a", "b"] {
        agent.control.apply(register(job(name, 1)));
    }
    let first = agent.ask("GET", "/v1/jobs?per_page=2", Vec::new()).await;
    assert_eq!(first.headers["x-nomad-nexttoken"], "default.c");
    agent.get("/v1/jobs?per_page=2", 200, &json!([{"ID": "a"}, {"ID": "b"}]));
    agent.get("/v1/jobs?per_page=2&next_token=default.c", 200, &json!([{"ID": "c"}]));
    agent.get("/v1/jobs?reverse=true&per_page=1", 200, &json!([{"ID": "c"}]));
}

#[tokio::test]
async fn reads_say_how_fresh_they_are() {
    let agent = Agent::with_job();
    let answer = agent.ask("GET", "/v1/job/web?pretty", Vec::new()).await;
    assert_eq!(answer.headers["x-nomad-index"], "2");
    assert_eq!(answer.headers["x-nomad-knownleader"], "true");
    assert_eq!(answer.headers["x-nomad-lastcontact"], "0");
    assert_eq!(answer.headers["content-type"], "application/json");
    assert!(answer.text.starts_with("{\n    \"") && answer.text.ends_with("}\n"));
}

#[tokio::test]
async fn a_job_is_read_whole_and_in_parts() {
    let agent = Agent::with_job();
    agent.get(
        "/v1/job/web",
        200,
        &json!({"ID": "web", "Version": 0, "TaskGroups": [{"Name": "app", "Count": 2}]}),
    );
    agent.get("/v1/job/none", 404, &json!("job not found"));
    agent.get("/v1/job/web/summary", 200, &json!({"JobID": "web", "Summary": {"app": {}}}));
    agent.get("/v1/job/none/summary", 404, &json!("job not found"));
    agent.get("/v1/job/web/deployment", 200, &Value::Null);
    agent.get("/v1/job/web/deployments?all=true", 200, &json!([]));
    agent.get("/v1/job/web/evaluations", 200, &json!([]));
    agent.get("/v1/job/web/submission?version=0", 404, &json!("job source not found"));
    agent.get(
        "/v1/job/web/scale",
        200,
        &json!({"JobID": "web", "JobStopped": false, "TaskGroups": {"app": {"Desired": 2}}}),
    );
    agent.get("/v1/job/web/versions", 200, &json!({"Versions": [{"Version": 0}], "Diffs": null}));
    agent.get("/v1/job/none/versions", 404, &json!("job versions not found"));
}

#[tokio::test]
async fn versions_come_newest_first_with_their_differences() {
    let agent = Agent::with_job();
    agent.control.apply(register(job("web", 5)));
    let change = json!({
        "Type": "Edited", "ID": "web",
        "TaskGroups": [{"Name": "app", "Fields": [{"Name": "Count", "Old": "2", "New": "5"}]}],
    });
    agent.get(
        "/v1/job/web/versions?diffs=true",
        200,
        &json!({"Versions": [{"Version": 1}, {"Version": 0}], "Diffs": [change]}),
    );
}

#[tokio::test]
async fn job_ids_may_hold_slashes() {
    let agent = Agent::new();
    agent.control.apply(register(job("cron/periodic-1", 1)));
    for path in ["/v1/job/cron%2Fperiodic-1", "/v1/job/cron/periodic-1"] {
        agent.get(path, 200, &json!({"ID": "cron/periodic-1"}));
        agent.get(&format!("{path}/summary"), 200, &json!({"JobID": "cron/periodic-1"}));
    }
}

#[tokio::test]
async fn an_allocation_is_shown_in_lists_and_in_full() {
    let agent = Agent::with_job();
    place(&agent, "web", ALLOC);
    let mut state =
        TaskState { phase: TaskPhase::Running, started_at: START, ..Default::default() };
    state.push_event(TaskEvent {
        at: START,
        kind: "Terminated".to_owned(),
        message: "Exit Code: 3".to_owned(),
        details: BTreeMap::from([("exit_code".to_owned(), "3".to_owned())]),
    });
    agent.control.apply(Command::UpdateAllocs {
        updates: vec![AllocUpdate {
            id: ALLOC,
            client_status: ClientStatus::Running,
            client_description: "Tasks are running".to_owned(),
            task_states: BTreeMap::from([("web".to_owned(), state)]),
            health: None,
        }],
        evals: Vec::new(),
    });
    let id = ALLOC.to_string();
    let event = json!({"Type": "Terminated", "DisplayMessage": "Exit Code: 3", "ExitCode": 3});
    let stub = json!({
        "ID": id, "Name": "web.app[0]", "JobID": "web", "JobType": "service", "JobVersion": 0,
        "TaskGroup": "app", "DesiredStatus": "run", "ClientStatus": "running",
        "NodeID": NODE.to_string(), "NodeName": "n1", "FollowupEvalID": "",
        "TaskStates": {"web": {"State": "running", "StartedAt": "2023-11-14T22:13:20Z",
            "FinishedAt": null, "Events": [event]}},
    });
    agent.get("/v1/allocations", 200, &json!([stub]));
    agent.get("/v1/allocations?task_states=false", 200, &json!([{"TaskStates": null}]));
    agent.get(
        "/v1/allocations?resources=true",
        200,
        &json!([{"AllocatedResources": {"Tasks": {"web": {"Cpu": {"CpuShares": 100}}}}}]),
    );
    agent.get(&format!("/v1/allocations?prefix={}", &id[..8]), 200, &json!([stub]));
    for all in ["", "?all=true", "?all=deployments", "?all=versions"] {
        agent.get(&format!("/v1/job/web/allocations{all}"), 200, &json!([stub]));
    }
    let detail = json!({
        "ID": id, "Namespace": "default", "Job": {"ID": "web"}, "ClientStatus": "running",
        "AllocatedResources": {
            "Tasks": {"web": {"Cpu": {"CpuShares": 100}, "Memory": {"MemoryMB": 64}}},
            "Shared": {"DiskMB": 300, "Ports": [{"Label": "http", "Value": 21000}]},
        },
        "TaskResources": {"web": {"CPU": 100, "MemoryMB": 64}},
        "Resources": {"CPU": 100, "MemoryMB": 64, "DiskMB": 300},
    });
    let found = agent.get(&format!("/v1/allocation/{id}"), 200, &detail);
    assert!(found.get("PreviousAllocation").is_none(), "empty fields are left out");
    agent.get(&format!("/v1/node/{NODE}/allocations"), 200, &json!([{"ID": id}]));
    agent.get(
        &format!("/v1/evaluation/{}/allocations", EvalId::from_bits(ALLOC.bits())),
        200,
        &json!([stub]),
    );
}

#[tokio::test]
async fn what_is_not_there_is_not_found() {
    let agent = Agent::with_job();
    let other = AllocId::from_bits(5);
    for (uri, text) in [
        (format!("/v1/allocation/{other}"), "alloc not found"),
        ("/v1/allocation/short".to_owned(), "alloc not found"),
        (format!("/v1/evaluation/{other}"), "eval not found"),
        (format!("/v1/deployment/{other}"), "deployment not found"),
        (format!("/v1/node/{other}"), "node not found"),
        ("/v1/namespace/other".to_owned(), "Namespace not found"),
        ("/v1/nothing".to_owned(), ""),
    ] {
        agent.get(&uri, 404, &json!(text));
    }
}

#[tokio::test]
async fn nodes_are_shown_without_their_secret() {
    let agent = Agent::with_job();
    let stub = json!({
        "ID": NODE.to_string(), "Name": "n1", "Datacenter": "dc1", "Status": "ready",
        "SchedulingEligibility": "eligible", "Drain": false, "Version": "1.10.0",
        "Drivers": {"docker": {"Detected": true, "Healthy": true}},
    });
    agent.get("/v1/nodes", 200, &json!([stub]));
    agent.get("/v1/nodes?prefix=00000000", 200, &json!([stub]));
    agent.get("/v1/nodes?prefix=ff", 200, &json!([]));
    agent.get(
        "/v1/nodes?resources=true",
        200,
        &json!([{"NodeResources": {"Memory": {"MemoryMB": 500}}}]),
    );
    agent.get(
        &format!("/v1/node/{NODE}"),
        200,
        &json!({"ID": NODE.to_string(), "SecretID": "", "HTTPAddr": "127.0.0.1:1",
            "NodeResources": {"Cpu": {"CpuShares": 1100, "TotalCpuCores": 2}},
            "ReservedResources": {"Networks": {"ReservedHostPorts": "22"}},
            "Drivers": {"docker": {"Healthy": true}}}),
    );
}
