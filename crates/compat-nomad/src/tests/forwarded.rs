//! Agents on real sockets: whoever is asked, the one who knows answers.

use std::time::Duration;

use cos_model::{AllocId, Node, NodeId};
use cos_platform::Tasks;
use cos_state::Command;
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use super::support::{ALLOC, Agent, job, node, place, register};

/// Long enough for any machine; nothing here waits for it to pass.
const PATIENCE: Duration = Duration::from_secs(20);

async fn end(tasks: &Tasks) {
    tasks.stop();
    tokio::time::timeout(PATIENCE, tasks.ended()).await.unwrap();
}

/// A server, a client whose node it knows, and their addresses.
async fn cluster(tasks: &Tasks) -> (Agent, Agent, String, String) {
    let server = Agent::server();
    let server_address = server.listen(tasks).await;
    let client = Agent::client(&server_address);
    let client_address = client.listen(tasks).await;
    let node = Node { http_address: client_address.clone(), ..node() };
    server.control.apply(Command::RegisterNode { node: Box::new(node), evals: Vec::new() });
    server.control.apply(register(job("web", 1)));
    (server, client, server_address, client_address)
}

#[tokio::test]
async fn a_client_passes_the_clusters_questions_to_a_server() {
    let tasks = Tasks::new();
    let (_server, client, _, _) = cluster(&tasks).await;
    let answer = client.ask("GET", "/v1/jobs?prefix=w", Vec::new()).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert!(answer.text.contains("\"ID\":\"web\"") && answer.headers.contains_key("x-nomad-index"));
    assert_eq!(client.ask("GET", "/ui/jobs", Vec::new()).await.status, 200);
    let own = client.ask("GET", "/v1/agent/self", Vec::new()).await;
    let own: Value = serde_json::from_str(&own.text).unwrap();
    assert_eq!(own["config"]["Server"]["Enabled"], json!(false));
    end(&tasks).await;
}

#[tokio::test]
async fn logs_are_found_through_any_agent() {
    let tasks = Tasks::new();
    let (server, client, _, _) = cluster(&tasks).await;
    place(&server, "web", ALLOC);
    let logs = format!("/v1/client/fs/logs/{ALLOC}?task=web&plain=true");
    for agent in [&server, &client] {
        let answer = agent.ask("GET", &logs, Vec::new()).await;
        assert_eq!((answer.status.as_u16(), answer.text.as_str()), (200, "hello world"));
    }
    for whose in [format!("node_id={}", node().id), "server_id=leader".to_owned()] {
        let monitor = format!("/v1/agent/monitor?plain=true&{whose}");
        for agent in [&server, &client] {
            let answer = agent.ask("GET", &monitor, Vec::new()).await;
            assert_eq!((answer.status.as_u16(), answer.text.as_str()), (200, "one\ntwo\n"));
        }
    }
    // The server believes that it is there; the machine does not have it and asks nobody else.
    let gone = AllocId::from_bits(0xCC);
    place(&server, "web", gone);
    let logs = format!("/v1/client/fs/logs/{gone}?task=web");
    for agent in [&server, &client] {
        let answer = agent.ask("GET", &logs, Vec::new()).await;
        assert_eq!(answer.status, 404, "{}", answer.text);
    }
    let nobody = AllocId::from_bits(0xDD);
    let answer = client.ask("GET", &format!("/v1/client/fs/ls/{nobody}"), Vec::new()).await;
    assert_eq!(
        (answer.status.as_u16(), answer.text),
        (404, format!("Unknown allocation \"{nobody}\""))
    );
    let unknown = NodeId::from_bits(9);
    let answer =
        client.ask("GET", &format!("/v1/client/stats?node_id={unknown}"), Vec::new()).await;
    assert_eq!(answer.status, 404);
    end(&tasks).await;
}

#[tokio::test]
async fn a_command_runs_through_a_server() {
    let tasks = Tasks::new();
    let (server, _client, address, _) = cluster(&tasks).await;
    place(&server, "web", ALLOC);
    let uri = |task: &str| {
        let command = "%5B%22sh%22%5D";
        format!("ws://{address}/v1/client/allocation/{ALLOC}/exec?task={task}&command={command}")
    };
    let (mut socket, _) = tokio_tungstenite::connect_async(uri("web")).await.unwrap();
    let hello = json!({"stdin": {"data": "aGk="}}).to_string();
    socket.send(Message::text(hello)).await.unwrap();
    socket.send(Message::text(json!({"stdin": {"close": true}}).to_string())).await.unwrap();
    let mut told = Vec::new();
    while let Some(Ok(message)) = tokio::time::timeout(PATIENCE, socket.next()).await.unwrap() {
        match message {
            Message::Text(text) => told.push(serde_json::from_str::<Value>(&text).unwrap()),
            Message::Close(frame) => assert_eq!(frame.unwrap().code, CloseCode::Normal),
            other => panic!("{other:?}"),
        }
    }
    let exited = json!({"exited": true, "result": {"exit_code": 3}});
    assert_eq!(told, [json!({"stdout": {"data": "aGk="}}), exited]);

    let (mut socket, _) = tokio_tungstenite::connect_async(uri("none")).await.unwrap();
    let refusal = tokio::time::timeout(PATIENCE, socket.next()).await.unwrap().unwrap().unwrap();
    let Message::Close(Some(frame)) = refusal else { panic!("{refusal:?}") };
    assert_eq!(
        (frame.code, frame.reason.as_str()),
        (CloseCode::Policy, "unknown task name \"none\"")
    );
    drop(socket);
    end(&tasks).await;
}
