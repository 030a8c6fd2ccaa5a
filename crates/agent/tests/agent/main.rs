//! The whole agent between a server and a driver that the test plays: allocations come down the
//! real stream, tasks are started in a driver without processes, and reports go up.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod driver;
mod server;
mod support;

use std::sync::Arc;
use std::time::Duration;

use cos_model::catalog::{CatalogChange, Health};
use cos_model::{Allocation, ClientStatus, DesiredStatus, JobKind, Restart, RestartMode, Service};
use server::Server;
use support::{Machine, alloc, group_of, job_of, task};

fn status(server: &Server, number: u128) -> Option<ClientStatus> {
    server.report(number).map(|update| update.client_status)
}

#[tokio::test]
async fn an_allocation_runs_is_found_and_stops() {
    let server = Server::start().await;
    let machine = Machine::new(&server);
    let agent = machine.start(&server).await;
    let mut web = task("web");
    web.services =
        vec![Service { name: "web".to_owned(), port: "8080".to_owned(), ..Service::default() }];
    let wanted = alloc(1, agent.node_id(), job_of(JobKind::Service, group_of(vec![web])));
    server.desire(true, vec![Arc::clone(&wanted)]).await;
    server.until(|server| status(server, 1) == Some(ClientStatus::Running)).await;
    server.until(|server| server.catalog().services().count() == 1).await;
    assert_eq!(machine.driver.running(), ["web"]);

    let mut stopped = Allocation::clone(&wanted);
    stopped.desired = DesiredStatus::Stop;
    stopped.alloc_modify_index = 9;
    server.desire(false, vec![Arc::new(stopped)]).await;
    server.until(|server| status(server, 1) == Some(ClientStatus::Complete)).await;
    // It left discovery before it was told to stop.
    assert_eq!(machine.driver.services_when_stopped(), Some(0));
    assert!(machine.driver.running().is_empty());
    let events: Vec<String> = server.report(1).unwrap().task_states["web"]
        .events
        .iter()
        .map(|event| event.kind.clone())
        .collect();
    assert_eq!(events, ["Received", "Task Setup", "Started", "Killing", "Terminated", "Killed"]);

    server.desire(true, Vec::new()).await;
    agent.allocs_changed().wait_for(|()| agent.allocs().is_empty()).await.unwrap();
    assert!(!machine.alloc_dir(1).exists());
    machine.stop().await;
}

#[tokio::test]
async fn a_failing_task_is_restarted_and_then_given_up() {
    let server = Server::start().await;
    let machine = Machine::new(&server);
    let agent = machine.start(&server).await;
    let mut web = task("web");
    web.restart = Restart {
        attempts: 1,
        interval: Duration::from_mins(10),
        delay: Duration::from_millis(1),
        mode: RestartMode::Fail,
        render_templates: false,
    };
    machine.driver.exit_at_once("web", 1);
    let wanted = alloc(2, agent.node_id(), job_of(JobKind::Service, group_of(vec![web])));
    server.desire(true, vec![wanted]).await;
    server.until(|server| status(server, 2) == Some(ClientStatus::Failed)).await;
    let state = server.report(2).unwrap().task_states["web"].clone();
    assert!(state.failed);
    assert_eq!(state.restarts, 1);
    assert_eq!(state.events.last().unwrap().kind, "Not Restarting");
    assert_eq!(machine.driver.starts("web"), 2);
    machine.stop().await;
}

#[tokio::test]
async fn a_restarted_agent_finds_its_tasks_again() {
    let server = Server::start().await;
    let machine = Machine::new(&server);
    let agent = machine.start(&server).await;
    let node = agent.node_id();
    let tasks = vec![task("stays"), task("ends")];
    let wanted = alloc(3, node, job_of(JobKind::Batch, group_of(tasks)));
    server.desire(true, vec![wanted]).await;
    server.until(|server| status(server, 3) == Some(ClientStatus::Running)).await;
    server.until(|_| machine.driver.running().len() == 2).await;
    machine.stop().await;
    drop(agent);
    assert_eq!(machine.driver.running(), ["ends", "stays"]);
    // One task ends while no agent looks.
    machine.driver.end("ends", 0);

    let agent = machine.start(&server).await;
    assert_eq!(agent.node_id(), node);
    server
        .until(|server| {
            server.report(3).is_some_and(|update| {
                update.task_states["ends"].phase == cos_model::TaskPhase::Dead
            })
        })
        .await;
    assert_eq!(machine.driver.running(), ["stays"]);
    assert_eq!(machine.driver.starts("stays"), 1);
    assert_eq!(status(&server, 3), Some(ClientStatus::Running));
    machine.stop().await;
}

#[tokio::test]
async fn a_template_waits_for_its_key_and_a_change_restarts_the_task() {
    let server = Server::start().await;
    let machine = Machine::new(&server);
    let agent = machine.start(&server).await;
    let mut web = task("web");
    web.templates = vec![cos_model::Template {
        data: "name={{ key \"app/name\" }} ${KEPT}".to_owned(),
        destination: "local/app.conf".to_owned(),
        ..cos_model::Template::default()
    }];
    let wanted = alloc(4, agent.node_id(), job_of(JobKind::Service, group_of(vec![web])));
    server.desire(true, vec![wanted]).await;
    server.until(|server| server.queries() > 0).await;
    assert_eq!(machine.driver.starts("web"), 0);
    server.put_key("app/name", "one");
    server.until(|server| status(server, 4) == Some(ClientStatus::Running)).await;
    let file = machine.alloc_dir(4).join("web/local/app.conf");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "name=one ${KEPT}");
    server.put_key("app/name", "two");
    server.until(|_| machine.driver.starts("web") == 2).await;
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "name=two ${KEPT}");
    machine.stop().await;
}

#[tokio::test]
async fn checks_decide_about_the_health_of_a_deployment() {
    let server = Server::start().await;
    let machine = Machine::new(&server);
    let agent = machine.start(&server).await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let mut group = group_of(vec![task("web")]);
    group.services = vec![Service {
        name: "web".to_owned(),
        port,
        checks: vec![support::tcp_check()],
        ..Service::default()
    }];
    group.update = Some(cos_model::Update {
        min_healthy_time: Duration::ZERO,
        ..cos_model::Update::default()
    });
    let mut wanted = Allocation::clone(&alloc(5, agent.node_id(), job_of(JobKind::Service, group)));
    let deployment = cos_model::DeploymentId::from_bits(77);
    wanted.deployment_id = Some(deployment);
    server.desire(true, vec![Arc::new(wanted)]).await;
    server
        .until(|server| {
            server.report(5).is_some_and(|update| update.health == Some((deployment, true)))
        })
        .await;
    let statuses: Vec<Health> = server.catalog().checks().map(|check| check.status).collect();
    assert_eq!(statuses, [Health::Passing]);
    machine.stop().await;
}

#[tokio::test]
async fn what_a_dead_agent_left_in_the_catalog_is_removed() {
    let server = Server::start().await;
    server.put_stale_service("_nomad-task-gone");
    let machine = Machine::new(&server);
    drop(machine.start(&server).await);
    server
        .until(|server| {
            server.changes().iter().any(|change| {
                matches!(change, CatalogChange::RemoveService { id, .. } if **id == *"_nomad-task-gone")
            })
        })
        .await;
    machine.stop().await;
}

#[tokio::test]
async fn a_users_restart_and_signal_reach_the_task() {
    let server = Server::start().await;
    let machine = Machine::new(&server);
    let agent = machine.start(&server).await;
    let wanted = alloc(6, agent.node_id(), job_of(JobKind::Service, group_of(vec![task("web")])));
    let id = wanted.id;
    server.desire(true, vec![wanted]).await;
    server.until(|server| status(server, 6) == Some(ClientStatus::Running)).await;
    let refused = agent.signal(id, Some("web"), "SIGNOPE").await.unwrap_err();
    assert_eq!(refused.to_string(), "invalid signal: SIGNOPE");
    agent.signal(id, Some("web"), "SIGHUP").await.unwrap();
    agent.restart(id, None).await.unwrap();
    server.until(|_| machine.driver.starts("web") == 2).await;
    assert_eq!(machine.driver.signals(), ["web SIGHUP"]);
    assert!(agent.restart(id, Some("nobody")).await.is_err());
    agent.stop_tasks().await;
    assert!(machine.driver.running().is_empty());
    machine.stop().await;
}
