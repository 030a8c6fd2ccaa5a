//! One agent that is everything: a job's way from its file to its end, and what survives what.

use std::net::SocketAddr;

use nix::unistd::Uid;
use tokio::net::UdpSocket;

use crate::harness::{Agent, PATIENCE, Place, Site, get, get_json, put, until};
use crate::jobs::{id, ping, process, sleeper};

/// The role of a client, for an agent with `-dev`, which is a server by itself.
fn client(place: &Place) -> String {
    place.client(&[])
}

/// The roles of a server alone that is a client too.
fn both(place: &Place) -> String {
    let server = "server {\n  enabled = true\n  bootstrap_expect = 1\n}\n";
    format!("{server}{}", place.client(&[place.address]))
}

#[tokio::test]
async fn a_job_is_run_named_routed_read_and_stopped() {
    let site = Site::new();
    let mut agent = site.agent("dev", client).dev();
    agent.start_alone().await;

    let said = agent.run_job(&site.file("ping.hcl", &ping(&agent, 2))).await;
    assert!(said.contains("successful"), "{said}");
    let status = agent.cos(&["job", "status", "ping-service"]).await.well();
    assert!(status.contains("Deployment completed successfully"), "{status}");
    let allocs = agent.until_running("ping-service", 2).await;

    let passing = agent.consul("/v1/health/service/ping-service?passing=1");
    let ports = until("two passing instances", PATIENCE, async || {
        let entries = get_json(&passing).await?;
        let port = |entry: &serde_json::Value| entry["Service"]["Port"].as_u64();
        let ports: Vec<u64> = entries.as_array()?.iter().filter_map(port).collect();
        assert!(
            entries
                .as_array()?
                .iter()
                .all(|entry| { entry["Service"]["Address"] == agent.place.address.to_string() }),
            "{entries}"
        );
        (ports.len() == 2).then_some(ports)
    })
    .await;
    assert_eq!(named_ports(&agent, "ping-service", &ports).await, 2);

    let page = until("route", PATIENCE, async || get(&agent.ingress("/ping")).await).await;
    assert!(page.contains("(PONG)"), "{page}");
    assert_eq!(page.matches("[dc1,v1]").count(), 11, "{page}");
    assert_eq!(get(&agent.ingress("/other")).await, None);

    let said = agent.cos(&["job", "stop", "-purge", "ping-service"]).await;
    said.well();
    until("no route", PATIENCE, async || {
        get(&agent.ingress("/ping")).await.is_none().then_some(())
    })
    .await;
    until("no instance in the catalog", PATIENCE, async || {
        get_json(&passing).await?.as_array()?.is_empty().then_some(())
    })
    .await;
    let allocs: Vec<String> = allocs.iter().map(id).collect();
    until("end of the tasks", PATIENCE, async || {
        (site.leftovers(&allocs).len() == 1).then_some(())
    })
    .await;
    assert!(agent.end().await.success());
    assert_eq!(site.leftovers(&allocs), Vec::<String>::new());
}

/// Asks the agent's DNS for the instances of a service, and counts how many of `ports` it names.
async fn named_ports(agent: &Agent, service: &str, ports: &[u64]) -> usize {
    const SRV: u16 = 33;
    const INTERNET: u16 = 1;
    let mut question = vec![0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in [service, "service", "consul"] {
        question.push(u8::try_from(label.len()).expect("labels are short"));
        question.extend_from_slice(label.as_bytes());
    }
    question.push(0);
    question.extend_from_slice(&SRV.to_be_bytes());
    question.extend_from_slice(&INTERNET.to_be_bytes());

    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a port is free");
    let server = SocketAddr::from((agent.place.address, Place::DNS));
    socket.send_to(&question, server).await.expect("it can be sent");
    let mut answer = [0; 4096];
    let received = tokio::time::timeout(PATIENCE, socket.recv(&mut answer)).await;
    let length = received.expect("an answer in time").expect("an answer");
    let answer = &answer[..length];
    assert_eq!(&answer[..2], &question[..2], "it is the answer to this question");
    assert_eq!(answer[3] & 15, 0, "no error");
    let count = usize::from(u16::from_be_bytes([answer[6], answer[7]]));
    assert_eq!(count, ports.len(), "one record for each instance");
    let is_named = |port: &&u64| {
        let port = u16::try_from(**port).expect("a port").to_be_bytes();
        answer.windows(2).any(|pair| pair == port)
    };
    ports.iter().filter(is_named).count()
}

#[tokio::test]
async fn an_update_loses_no_request() {
    let site = Site::new();
    let mut agent = site.agent("dev", client).dev();
    agent.start_alone().await;
    let text = ping(&agent, 3);
    agent.run_job(&site.file("ping.hcl", &text)).await;
    // With this many hops behind it, an instance answers without asking another one.
    let page = agent.ingress("/ping?hop=10");
    until("route", PATIENCE, async || get(&page).await).await;

    let next = site.file("next.hcl", &text.replace("${NOMAD_DC}", "next"));
    let mut update = std::pin::pin!(agent.run_job(&next));
    let said = loop {
        tokio::select! {
            said = &mut update => break said,
            answer = get(&page) => assert!(answer.is_some(), "a request failed"),
        }
    };
    assert!(said.contains("successful"), "{said}");
    let answer = get(&page).await.expect("an answer");
    assert!(answer.contains("[next,v1](PONG)"), "{answer}");
}

#[tokio::test]
async fn a_task_is_entered_restarted_and_started_again_when_it_dies() {
    let site = Site::new();
    let mut agent = site.agent("dev", client).dev();
    agent.start_alone().await;
    agent.run_job(&site.file("sleeper.hcl", &sleeper("sleeper", 1, &["raw_exec"]))).await;
    let alloc = id(&agent.until_running("sleeper", 1).await[0]);
    let first = process(&agent, &alloc, "raw_exec", 1).await;

    let said = agent.cos(&["alloc", "exec", &alloc, "/bin/sh", "-c", "echo out; exit 3"]).await;
    assert_eq!((said.code, said.out.as_str()), (Some(3), "out\n"), "{said:?}");

    agent.cos(&["alloc", "restart", &alloc]).await.well();
    let second = process(&agent, &alloc, "raw_exec", 2).await;
    assert!(!first.is_alive(), "the first run was ended");

    second.kill();
    let third = process(&agent, &alloc, "raw_exec", 3).await;
    assert!(third.is_alive());
    let told = [
        "Received",
        "Task Setup",
        "Started",
        "Restart Signaled",
        "Terminated",
        "Restarting",
        "Started",
        "Terminated",
        "Restarting",
        "Started",
    ];
    until("story of the task", PATIENCE, async || {
        let known = agent.json(&format!("/v1/allocation/{alloc}")).await?;
        let events = known["TaskStates"]["raw_exec"]["Events"].as_array()?;
        let kinds: Vec<&str> = events.iter().filter_map(|event| event["Type"].as_str()).collect();
        assert!(told.starts_with(&kinds), "{kinds:?}");
        (kinds == told).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_killed_and_a_stopped_agent_leave_their_tasks_and_find_them_again() {
    let site = Site::new();
    let mut agent = site.agent("both", both);
    agent.start_alone().await;
    // Without root there are no namespaces; the other driver shows the same.
    let drivers: &[&str] =
        if Uid::effective().is_root() { &["raw_exec", "exec"] } else { &["raw_exec"] };
    agent.run_job(&site.file("sleeper.hcl", &sleeper("sleeper", 1, drivers))).await;
    assert!(put(&agent.consul("/v1/kv/kept"), "value").await);
    let alloc = id(&agent.until_running("sleeper", 1).await[0]);
    let task = process(&agent, &alloc, "raw_exec", 1).await;

    agent.kill();
    assert!(task.is_alive(), "a killed agent leaves its tasks");
    agent.start_alone().await;
    agent.until_running("sleeper", 1).await;
    assert!(agent.end().await.success());
    assert!(task.is_alive(), "a stopped agent leaves its tasks");
    agent.start_alone().await;
    assert_eq!(get(&agent.consul("/v1/kv/kept?raw")).await.as_deref(), Some("value"));
    assert_eq!(process(&agent, &alloc, "raw_exec", 1).await, task);

    // It is not only there, it is watched.
    task.kill();
    process(&agent, &alloc, "raw_exec", 2).await;
    agent.cos(&["job", "stop", "-purge", "sleeper"]).await.well();
    until("end of the tasks", PATIENCE, async || {
        (site.leftovers(std::slice::from_ref(&alloc)).len() == 1).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_development_agent_ends_with_its_tasks() {
    let site = Site::new();
    let mut agent = site.agent("dev", client).dev();
    agent.start_alone().await;
    let drivers: &[&str] =
        if Uid::effective().is_root() { &["raw_exec", "exec"] } else { &["raw_exec"] };
    agent.run_job(&site.file("sleeper.hcl", &sleeper("sleeper", 2, drivers))).await;
    let allocs: Vec<String> = agent.until_running("sleeper", 2).await.iter().map(id).collect();
    assert!(agent.end().await.success());
    assert_eq!(site.leftovers(&allocs), Vec::<String>::new());
}

#[tokio::test]
async fn a_wrong_job_file_is_refused_with_its_place_and_nothing_is_submitted() {
    let site = Site::new();
    let mut agent = site.agent("dev", client).dev();
    agent.start_alone().await;
    let text = sleeper("sleeper", 1, &["raw_exec"]).replace("\"100ms\"", "100mss");
    let line = 1 + text.lines().position(|line| line.contains("100mss")).expect("it is there");
    let file = site.file("wrong.hcl", &text).display().to_string();
    for command in [&["job", "run", &file][..], &["job", "validate", &file]] {
        let said = agent.cos(command).await;
        assert_eq!(said.code, Some(1), "{said:?}");
        assert!(said.err.contains(&format!("wrong.hcl:{line},")), "{said:?}");
    }
    let jobs = agent.json("/v1/jobs").await.expect("an answer");
    assert_eq!(jobs.as_array().map(Vec::len), Some(0), "{jobs}");
}

#[tokio::test]
async fn a_blocking_read_of_a_key_wakes_when_it_is_written() {
    let site = Site::new();
    let mut agent = site.agent("dev", client).dev();
    agent.start_alone().await;
    let url = agent.consul("/v1/kv/config/color");
    assert!(put(&url, "red").await);
    let entry = get_json(&url).await.expect("the key is there");
    let index = &entry[0]["ModifyIndex"];
    let waiting = format!("{url}?raw&index={index}&wait=9s");
    let (seen, written) = tokio::join!(get(&waiting), async {
        // The reader may come first or second: it has to see the change in both orders.
        tokio::task::yield_now().await;
        put(&url, "blue").await
    });
    assert!(written);
    assert_eq!(seen.as_deref(), Some("blue"));
}
