//! Routes that only the machine with the allocation answers.

use serde_json::{Value, json};

use super::support::{ALLOC, Agent, place};
use cos_model::{AllocId, NodeId};

#[tokio::test]
async fn files_are_read_in_every_way() {
    let agent = Agent::new();
    let fs = |what: &str| format!("/v1/client/fs/{what}");
    agent.get(&fs(&format!("ls/{ALLOC}")), 200, &json!([{"Name": "in /", "IsDir": false}]));
    agent.get(&fs(&format!("stat/{ALLOC}?path=/a")), 200, &json!({"Name": "/a", "ModTime": null}));
    agent.get(&fs(&format!("stat/{ALLOC}")), 400, &json!("must provide a file path"));
    agent.get(&fs(&format!("cat/{ALLOC}?path=/a")), 200, &json!("from 0 at most None"));
    agent.get(
        &fs(&format!("readat/{ALLOC}?path=/a&offset=3&limit=9")),
        200,
        &json!("from 3 at most Some(9)"),
    );
    agent.get(&fs(&format!("readat/{ALLOC}?path=/a")), 400, &json!("must provide an offset"));
    let answer = agent.ask("GET", &fs(&format!("cat/{ALLOC}?path=/a")), Vec::new()).await;
    assert_eq!(answer.headers["content-type"], "text/plain; charset=utf-8");
    assert_eq!(answer.headers["access-control-allow-origin"], "*");
}

#[tokio::test]
async fn logs_are_plain_or_in_frames() {
    let agent = Agent::new();
    let logs = |query: &str| format!("/v1/client/fs/logs/{ALLOC}?{query}");
    agent.get(&logs("task=web&type=stdout&plain=true"), 200, &json!("hello world"));
    let frames = concat!(
        r#"{"Offset":6,"Data":"aGVsbG8g","File":"alloc/logs/web.stdout.0"}"#,
        r#"{"Offset":11,"Data":"d29ybGQ=","File":"alloc/logs/web.stdout.0"}"#,
    );
    agent.get(&logs("task=web&type=stderr&origin=end&offset=5"), 200, &json!(frames));
    agent.get(&logs("type=stdout"), 400, &json!("must provide task name"));
    agent.get(&logs("task=web&type=x"), 400, &json!("must provide log type (stdout/stderr)"));
    agent.get(&logs("task=web&origin=x"), 400, &json!("origin must be start or end"));
    agent.get(&logs("task=none"), 404, &json!("unknown task name \"none\""));
}

#[tokio::test]
async fn allocations_are_restarted_signalled_and_measured() {
    let agent = Agent::new();
    let uri = |what: &str| format!("/v1/client/allocation/{ALLOC}/{what}");
    agent.check(("PUT", &uri("restart"), Value::Null), 200, &json!({}));
    agent.check(("POST", &uri("restart"), json!({"TaskName": "web"})), 200, &json!({}));
    let both = json!({"TaskName": "web", "AllTasks": true});
    agent.check(("PUT", &uri("restart"), both), 400, &json!("cannot restart all tasks…"));
    agent.check(("PUT", &uri("signal"), json!({"Signal": "SIGHUP"})), 200, &json!({}));
    agent.get(&uri("stats"), 200, &json!({"Tasks": {"web": {"Pids": null}}}));
    agent.get(&uri("gc"), 200, &json!(""));
    agent.get(&uri("exec?command=[]"), 400, &json!("…"));
    agent.get("/v1/client/stats", 200, &json!({"Uptime": 9, "DiskStats": []}));
    agent.get("/v1/client/gc", 200, &json!(""));
}

#[tokio::test]
async fn what_is_nowhere_is_refused() {
    let agent = Agent::with_job();
    let other = AllocId::from_bits(0xBB);
    let unknown = json!(format!("Unknown allocation \"{other}\""));
    agent.get(&format!("/v1/client/fs/ls/{other}"), 404, &unknown);
    agent.get("/v1/client/fs/ls/short", 404, &json!("Unknown allocation \"short\""));
    // The state says it is here; the machine knows better.
    place(&agent, "web", other);
    agent.get(&format!("/v1/client/fs/ls/{other}"), 404, &unknown);
    let node = NodeId::from_bits(5);
    let unknown = json!(format!("Unknown node \"{node}\""));
    agent.get(&format!("/v1/client/stats?node_id={node}"), 404, &unknown);
}
