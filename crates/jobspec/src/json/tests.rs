//! Tests of the JSON form.

use serde_json::json;

use super::*;

#[test]
fn defaults_are_filled_in() {
    let parsed = job_from_json(&json!({
        "job": { "id": "web", "TaskGroups": [{ "name": "g", "tasks": [{ "Name": "t", "Driver": "exec" }] }] }
    }))
    .expect("the job is valid");
    let json = job_to_json(&parsed.job);
    assert_eq!(json["Datacenters"], json!(["*"]));
    assert_eq!(json["Type"], "service");
    assert_eq!(json["TaskGroups"][0]["Count"], 1);
    assert_eq!(job_from_json(&json).expect("it reads back").job, parsed.job);
}
