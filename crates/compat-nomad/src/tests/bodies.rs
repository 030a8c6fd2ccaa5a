//! Whatever a client sends, the answer is an answer: never a panic, and never the server's fault.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::support::{ALLOC, Agent, NODE};

/// Every route that reads a body.
fn routes() -> Vec<String> {
    let mut routes: Vec<String> = [
        "/v1/jobs",
        "/v1/jobs/parse",
        "/v1/validate/job",
        "/v1/job/web",
        "/v1/job/web/plan",
        "/v1/job/web/evaluate",
        "/v1/job/web/revert",
        "/v1/job/web/stable",
        "/v1/job/web/scale",
        "/v1/operator/scheduler/configuration",
        "/v1/operator/autopilot/configuration",
        "/v1/operator/snapshot",
        "/v1/search",
    ]
    .map(str::to_owned)
    .to_vec();
    routes.extend(["drain", "eligibility"].map(|what| format!("/v1/node/{NODE}/{what}")));
    routes.extend(
        ["pause", "promote", "allocation-health"]
            .map(|what| format!("/v1/deployment/{what}/00000000-0000-0000-0000-0000000000d0")),
    );
    routes
        .extend(["restart", "signal"].map(|what| format!("/v1/client/allocation/{ALLOC}/{what}")));
    routes
}

/// JSON with the keys that handlers look for, and values of any kind.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(|number| json!(number)),
        ".{0,8}".prop_map(Value::from),
        Just(json!("web")),
    ];
    let key = prop_oneof![
        prop::sample::select(vec![
            "Job",
            "ID",
            "JobID",
            "JobHCL",
            "Name",
            "TaskGroups",
            "Tasks",
            "Count",
            "Target",
            "Group",
            "JobVersion",
            "EvalOptions",
            "DrainSpec",
            "Deadline",
            "Eligibility",
            "Groups",
            "All",
            "HealthyAllocationIDs",
            "Prefix",
            "Context",
            "Task",
            "Signal",
            "Driver",
            "Config",
            "Resources",
            "Networks",
            "EnforceIndex",
            "JobModifyIndex",
            "Update",
        ])
        .prop_map(str::to_owned),
        ".{0,4}",
    ];
    leaf.prop_recursive(4, 40, 5, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(key.clone(), inner, 0..6)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn check(bodies: Vec<Vec<u8>>) -> Result<(), TestCaseError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let agent = Agent::with_job();
        for body in bodies {
            for route in routes() {
                let answer = agent.ask("POST", &route, body.clone()).await;
                let refused = answer.status.is_client_error() || answer.status == 501;
                prop_assert!(
                    refused || answer.status.is_success(),
                    "{route} answered {} {}",
                    answer.status,
                    answer.text
                );
            }
        }
        Ok(())
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_json_gets_an_answer(body in any_json()) {
        check(vec![body.to_string().into_bytes()])?;
    }

    #[test]
    fn any_bytes_get_an_answer(body in prop::collection::vec(any::<u8>(), 0..200)) {
        check(vec![body])?;
    }
}

#[test]
fn bodies_that_are_no_requests_are_refused() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let agent = Agent::with_job();
        let deep = "[".repeat(100_000).into_bytes();
        for body in [b"5".to_vec(), b"[]".to_vec(), b"{".to_vec(), b"\xff".to_vec(), deep] {
            for route in routes() {
                let answer = agent.ask("PUT", &route, body.clone()).await;
                assert_eq!(answer.status, 400, "{route}: {}", answer.text);
            }
        }
    });
}
