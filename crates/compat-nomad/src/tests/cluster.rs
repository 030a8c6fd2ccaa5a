//! Routes about the cluster and the agent itself.

use serde_json::{Value, json};

use super::support::{Agent, key};
use cos_state::ControlPlane;

#[tokio::test]
async fn the_cluster_says_who_leads() {
    let agent = Agent::new();
    agent.get("/v1/status/leader", 200, &json!("127.0.0.1:4647"));
    agent.get("/v1/status/leader?region=other", 500, &json!("No path to region"));
    agent.get("/v1/status/peers", 200, &json!(["127.0.0.1:4647"]));
    agent.get("/v1/regions", 200, &json!(["global"]));
    agent.get(
        "/v1/operator/raft/configuration",
        200,
        &json!({"Servers": [{"Node": "s1.global", "Leader": true, "Voter": true}]}),
    );
}

#[tokio::test]
async fn the_agent_describes_itself() {
    let agent = Agent::new();
    agent.get(
        "/v1/agent/self",
        200,
        &json!({
            "config": {"Region": "global", "Datacenter": "dc1",
                "Version": {"Version": cos_model::version::NOMAD},
                "Server": {"Enabled": true, "BootstrapExpect": 1}},
            "member": {"Name": "s1.global", "Status": "alive"},
            "stats": {"nomad": {"leader": "true", "server": "true"}},
        }),
    );
    let members = json!({"ServerName": "s1", "Members": [{"Name": "s1.global", "Port": 4648}]});
    agent.get("/v1/agent/members", 200, &members);
    agent.get("/v1/agent/servers", 200, &json!(["127.0.0.1:4647"]));
    agent.get("/v1/agent/health", 500, &json!({"client": {"ok": false, "message": "no route"}}));
    let well = agent.get("/v1/agent/health?type=server", 200, &json!({"server": {"ok": true}}));
    assert!(well.get("client").is_none());
    let join = ("PUT", "/v1/agent/join?address=a&address=b", Value::Null);
    agent.check(join, 200, &json!({"num_joined": 2, "error": ""}));
    agent.check(("PUT", "/v1/agent/join", Value::Null), 400, &json!("missing address to join"));
    agent.get("/v1/agent/monitor?plain=true", 200, &json!("one\ntwo\n"));
    agent.get("/v1/agent/monitor", 200, &json!("{\"Data\":\"b25lCg==\"}{\"Data\":\"dHdvCg==\"}"));
    agent.get("/v1/agent/monitor?log_level=loud", 400, &json!("Unknown log level: loud"));
    agent.get("/v1/agent/monitor?plain=true&server_id=leader", 200, &json!("one\ntwo\n"));
    let nobody = "/v1/agent/monitor?server_id=nobody";
    agent.get(nobody, 400, &json!("unknown Nomad server nobody"));
    let both = "/v1/agent/monitor?server_id=leader&node_id=x";
    agent.get(both, 400, &json!("Cannot target node and server simultaneously"));
}

#[tokio::test]
async fn the_scheduler_is_configured() {
    let agent = Agent::new();
    let uri = "/v1/operator/scheduler/configuration";
    agent.get(uri, 200, &json!({"SchedulerConfig": {"SchedulerAlgorithm": "binpack"}}));
    let spread = json!({"SchedulerAlgorithm": "spread"});
    agent.check(("PUT", uri, spread.clone()), 200, &json!({"Updated": true}));
    agent.get(uri, 200, &json!({"SchedulerConfig": {"SchedulerAlgorithm": "spread"}}));
    let stale = format!("{uri}?cas=77");
    agent.check(("PUT", &stale, spread), 200, &json!({"Updated": false}));
    let preempt = json!({"PreemptionConfig": {"SystemSchedulerEnabled": true}});
    agent.check(("PUT", uri, preempt), 501, &json!("cos does not support preemption yet…"));
    let rejecting = json!({"RejectJobRegistration": true});
    agent.check(("PUT", uri, rejecting), 200, &json!({"Updated": true}));
    let body = json!({"Job": super::support::job_json("web", 1)});
    agent.check(("PUT", "/v1/jobs", body), 403, &json!("job registration, dispatch…"));
}

#[tokio::test]
async fn the_group_is_looked_after_as_it_is_told() {
    let agent = Agent::new();
    let uri = "/v1/operator/autopilot/configuration";
    agent.get(uri, 200, &json!({"CleanupDeadServers": true, "LastContactThreshold": "200ms"}));
    let config = json!({"MinQuorum": 3, "ServerStabilizationTime": "1m30s"});
    agent.check(("PUT", uri, config.clone()), 200, &json!(true));
    let expected = json!({"CleanupDeadServers": false, "MinQuorum": 3,
        "ServerStabilizationTime": "1m30s", "MaxTrailingLogs": 0});
    agent.get(uri, 200, &expected);
    agent.check(("PUT", &format!("{uri}?cas=77"), config), 200, &json!(false));
    agent.check(("PUT", uri, json!({"MinQuorum": "x"})), 400, &json!("Failed to parse body…"));
    agent.check(("DELETE", uri, Value::Null), 405, &json!("Invalid method"));
    agent.get("/v1/operator/autopilot/health", 500, &json!("No cluster leader"));
}

#[tokio::test]
async fn the_group_is_changed_by_id_or_address() {
    let agent = Agent::new();
    let one = "00000000-0000-0000-0000-000000000001";
    let uri = "/v1/operator/raft/peer";
    agent.check(("DELETE", &format!("{uri}?id={one}"), Value::Null), 200, &json!(""));
    let by_address = format!("{uri}?address=127.0.0.1:4647");
    agent.check(("DELETE", &by_address, Value::Null), 200, &json!(""));
    agent.check(("DELETE", uri, Value::Null), 400, &json!("Must specify either…"));
    let both = format!("{uri}?address=127.0.0.1:4647&id={one}");
    agent.check(("DELETE", &both, Value::Null), 400, &json!("Must specify only one…"));
    agent.check(("DELETE", &format!("{uri}?id=x"), Value::Null), 400, &json!("`x` is no id…"));
    let nobody = format!("{uri}?address=10.0.0.9:1");
    agent.check(("DELETE", &nobody, Value::Null), 404, &json!("no server of the group…"));
    let transfer = format!("/v1/operator/raft/transfer-leadership?id={one}");
    agent.check(("PUT", &transfer, Value::Null), 200, &json!({"Noop": true, "To": {"ID": one}}));
    let leave = "/v1/agent/force-leave";
    agent.check(("PUT", &format!("{leave}?node=s1"), Value::Null), 200, &json!(""));
    agent.check(("PUT", &format!("{leave}?node=s9"), Value::Null), 404, &json!("…"));
    agent.check(("PUT", leave, Value::Null), 400, &json!("missing node…"));
}

#[tokio::test]
async fn a_saved_state_is_restored_and_a_damaged_one_is_not() {
    let old = Agent::with_job();
    let saved = cos_http::snapshot::save(old.control.as_ref(), false).await.unwrap();
    let answer = old.ask("GET", "/v1/operator/snapshot", Vec::new()).await;
    assert_eq!(answer.status, 200);

    let new = Agent::new();
    let uri = "/v1/operator/snapshot";
    for end in (0..saved.file.len()).step_by(512) {
        let answer = new.ask("PUT", uri, saved.file[..end].to_vec()).await;
        assert_eq!(answer.status, 400, "cut at {end}: {}", answer.text);
        assert!(answer.text.contains("snapshot file"), "{}", answer.text);
    }
    assert!(new.control.state().job(&key("web")).is_none());
    let answer = new.ask("PUT", uri, saved.file.to_vec()).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert!(new.control.state().job(&key("web")).is_some());
    let answer = new.ask("GET", "/v1/operator/snapshot/hash", Vec::new()).await;
    assert!(answer.text.contains(&saved.meta.state_hash), "{}", answer.text);
}

#[tokio::test]
async fn garbage_is_collected_on_demand() {
    let agent = Agent::with_job();
    agent.check(("DELETE", "/v1/job/web", Value::Null), 200, &json!({}));
    agent.check(("POST", "/v1/system/gc", Value::Null), 405, &json!("Invalid method"));
    agent.check(("PUT", "/v1/system/gc", Value::Null), 200, &json!(""));
    assert!(agent.control.state().job(&key("web")).is_some(), "its evaluation is still open");
    let mut eval = cos_model::Evaluation::clone(agent.control.state().evals().next().unwrap());
    eval.status = cos_model::EvalStatus::Complete;
    agent.control.apply(cos_state::Command::PutEvals { evals: vec![eval] });
    agent.check(("PUT", "/v1/system/gc", Value::Null), 200, &json!(""));
    assert!(agent.control.state().job(&key("web")).is_none());
    agent.check(("PUT", "/v1/system/reconcile/summaries", Value::Null), 200, &json!(""));
}

#[tokio::test]
async fn ids_are_found_by_their_beginning() {
    let agent = Agent::with_job();
    let search = |body| ("POST", "/v1/search", body);
    agent.check(
        search(json!({"Prefix": "we", "Context": "jobs"})),
        200,
        &json!({"Matches": {"jobs": ["web"]}, "Truncations": {"jobs": false}}),
    );
    let found = agent.check(search(json!({"Prefix": "0000", "Context": "all"})), 200, &json!({}));
    assert_eq!(found["Matches"]["nodes"].as_array().unwrap().len(), 1);
    agent.check(search(json!({"Context": "cats"})), 400, &json!("\"cats\" is not a search…"));
}

#[tokio::test]
async fn metrics_have_the_names_that_dashboards_ask_for() {
    let agent = Agent::with_job();
    let text = agent.ask("GET", "/v1/metrics?format=prometheus", Vec::new()).await.text;
    for name in [
        "nomad_client_allocated_memory",
        "nomad_client_host_memory_available",
        "nomad_uptime",
        "nomad_client_consul_check_registrations",
        "nomad_client_allocations_running",
        "nomad_client_allocations_blocked",
        "nomad_runtime_total_gc_pause_ns",
        "nomad_runtime_alloc_bytes",
    ] {
        assert!(text.contains(&format!("\n{name}")), "{name} is missing in\n{text}");
    }
    let found = agent.get("/v1/metrics", 200, &json!({"Points": []}));
    let gauges = found["Gauges"].as_array().unwrap();
    assert!(gauges.iter().any(|gauge| gauge["Name"] == "nomad.uptime" && gauge["Value"] == 7.0));
    agent.get("/v1/metrics?format=xml", 400, &json!("…"));
}

#[tokio::test]
async fn namespaces_are_one() {
    let agent = Agent::new();
    agent.get("/v1/namespaces", 200, &json!([{"Name": "default"}]));
    agent.get("/v1/namespaces?prefix=x", 200, &json!([]));
    agent.get("/v1/namespace/default", 200, &json!({"Name": "default"}));
    let write = ("PUT", "/v1/namespace", json!({"Name": "x"}));
    agent.check(write, 501, &json!("cos does not support namespaces…"));
}

#[tokio::test]
async fn what_is_missing_is_refused_by_name() {
    let agent = Agent::new();
    agent.get("/v1/vars", 501, &json!("cos does not support variables yet"));
    agent.get("/v1/event/stream", 501, &json!("cos does not support the event stream yet"));
    agent.get("/v1/node/pools", 501, &json!("cos does not support node pools yet"));
    agent.get("/v1/quotas", 501, &json!("Nomad Enterprise only endpoint"));
    agent.get("/v1/acl/policies", 400, &json!("ACL support disabled"));
    agent.get("/v1/operator/license", 204, &json!(""));
    agent.check(("PUT", "/v1/job/web/dispatch", json!({})), 501, &json!("cos does not support…"));
    agent.check(("DELETE", "/v1/jobs", Value::Null), 405, &json!("Invalid method"));
    agent.check(("PATCH", "/v1/job/web", Value::Null), 405, &json!("Invalid method"));
}

#[tokio::test]
async fn the_page_of_jobs_is_there_with_and_without_jobs() {
    let empty = Agent::new().ask("GET", "/ui/jobs", Vec::new()).await;
    assert!(empty.status == 200 && empty.text.contains("No jobs."));
    assert!(empty.headers["content-type"].to_str().unwrap().starts_with("text/html"));
    let page = Agent::with_job().ask("GET", "/ui/jobs", Vec::new()).await;
    assert!(page.text.contains("<td>web</td>") && page.text.contains("app × 2"), "{}", page.text);
    let root = Agent::new().ask("GET", "/", Vec::new()).await;
    assert_eq!(
        (root.status.as_u16(), &root.headers["location"]),
        (307, &"/ui/jobs".parse().unwrap())
    );
    let status = json!({"version": cos_model::version::COS, "server": {"is_leader": true}});
    Agent::with_job().get("/v1/cos/status", 200, &status);
}
