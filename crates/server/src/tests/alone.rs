//! One server alone.

use cos_model::catalog::CatalogChange;
use cos_model::kv::KvOp;
use cos_model::link::{Answer, Query};
use cos_model::{DeploymentStatus, Disconnect, EvalStatus, Evaluation, NodeId, NodeStatus};

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_placed_run_and_rolled_out() {
    let running = Running::start("alone", |_| {}).await;
    let server = &running.server;
    let mut agent = Agent::connect(server, testing::node(1)).await;
    agent.until("a welcome", |agent| agent.servers == 1).await;
    run_job(server, &service("web", 2)).await;
    agent.until("two allocations", |agent| agent.wanted().len() == 2).await;
    for alloc in agent.wanted() {
        agent.report(&alloc, ClientStatus::Running, Some(true)).await;
    }
    let status = shows(server, "a successful rollout", Topic::Deployments, |state| {
        let deployment = state.latest_deployment(&testing::key("web"))?;
        (!deployment.is_active()).then(|| deployment.status_description.clone())
    });
    assert_eq!(status.await, "Deployment completed successfully");
    assert!(server.state().job(&testing::key("web")).unwrap().stable);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_version_replaces_one_instance_after_the_other() {
    let running = Running::start("alone", |_| {}).await;
    let server = &running.server;
    let mut agent = Agent::connect(server, testing::node(1)).await;
    run_job(server, &service("web", 3)).await;
    agent.until("three allocations", |agent| agent.wanted().len() == 3).await;
    for alloc in agent.wanted() {
        agent.report(&alloc, ClientStatus::Running, Some(true)).await;
    }
    shows(server, "a successful rollout", Topic::Deployments, |state| {
        let deployment = state.latest_deployment(&testing::key("web"))?;
        (deployment.status == DeploymentStatus::Successful).then_some(())
    })
    .await;
    let mut changed = service("web", 3);
    changed.groups[0].ephemeral_disk_mib = 20;
    assert_eq!(run_job(server, &changed).await, 1);
    for done in 1..=3 {
        let is_new = |alloc: &Arc<Allocation>| alloc.job.version == 1;
        agent
            .until("one more of the new version", |agent| {
                agent.wanted().iter().filter(|alloc| is_new(alloc)).count() == done
            })
            .await;
        for old in agent.allocs.clone().values().filter(|a| a.is_desired_terminal()) {
            agent.report(old, ClientStatus::Complete, None).await;
        }
        for new in agent.wanted().iter().filter(|alloc| is_new(alloc)) {
            agent.report(new, ClientStatus::Running, Some(true)).await;
        }
    }
    shows(server, "the second rollout", Topic::Deployments, |state| {
        let deployment = state.latest_deployment(&testing::key("web"))?;
        (deployment.job_version == 1 && deployment.status == DeploymentStatus::Successful)
            .then_some(())
    })
    .await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_work_of_a_lost_node_runs_elsewhere() {
    let running = Running::start("alone", |config| {
        config.timing.heartbeats.closed = Duration::from_millis(100);
    })
    .await;
    let server = &running.server;
    let mut first = Agent::connect(server, testing::node(1)).await;
    run_job(server, &testing::job("web", JobKind::Service, 1)).await;
    first.until("an allocation", |agent| agent.wanted().len() == 1).await;
    let alloc = first.wanted().remove(0);
    first.report(&alloc, ClientStatus::Running, None).await;
    let mut second = Agent::connect(server, testing::node(2)).await;
    second.until("a welcome", |agent| agent.servers == 1).await;
    drop(first);
    second.until("the replacement", |agent| agent.wanted().len() == 1).await;
    let state = server.state();
    assert_eq!(state.node(NodeId::from_bits(1)).unwrap().status, NodeStatus::Down);
    assert_eq!(state.alloc(alloc.id).unwrap().client_status, ClientStatus::Lost);
    // It comes back and learns that its work was given away.
    let mut back = Agent::connect(server, testing::node(1)).await;
    back.until("its allocation", |agent| agent.allocs.contains_key(&alloc.id)).await;
    assert!(back.wanted().is_empty());
    assert_eq!(server.state().node(NodeId::from_bits(1)).unwrap().status, NodeStatus::Ready);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_whose_evaluation_panics_fails_alone() {
    let running = Running::start("alone", |_| {}).await;
    let server = &running.server;
    let mut agent = Agent::connect(server, testing::node(1)).await;
    agent.until("a welcome", |agent| agent.servers == 1).await;
    let term = server.leadership().term;
    let is_poison = |eval: &Evaluation| eval.job == testing::key(testing::POISON);
    run_job(server, &testing::job(testing::POISON, JobKind::Service, 1)).await;
    let failed = shows(server, "a failed evaluation", Topic::Evals, |state| {
        state.evals().find(|e| is_poison(e) && e.status == EvalStatus::Failed).cloned()
    })
    .await;
    assert_eq!(failed.status_description, "scheduler panicked: a planted panic");
    // It is tried again, but not now, and others are served meanwhile by the same leader.
    let state = server.state();
    let next = state.eval(failed.next.unwrap()).unwrap();
    assert_eq!((next.status, next.trigger), (EvalStatus::Pending, Trigger::FailedFollowUp));
    assert!(next.wait_until > server.now());
    run_job(server, &testing::job("web", JobKind::Service, 1)).await;
    agent.until("an allocation", |agent| agent.wanted().len() == 1).await;
    assert!(server.leadership().is_leader);
    assert_eq!(server.leadership().term, term);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_waited_for_goes_on_where_it_was() {
    let running = Running::start("alone", |config| {
        config.timing.heartbeats.closed = Duration::from_millis(100);
    })
    .await;
    let server = &running.server;
    let mut job = testing::job("web", JobKind::Service, 1);
    job.groups[0].disconnect = Some(Disconnect {
        lost_after: Some(Duration::from_hours(1)),
        reconcile: "keep_original".to_owned(),
        ..Disconnect::default()
    });
    let mut first = Agent::connect(server, testing::node(1)).await;
    run_job(server, &job).await;
    first.until("an allocation", |agent| agent.wanted().len() == 1).await;
    let alloc = first.wanted().remove(0);
    first.report(&alloc, ClientStatus::Running, None).await;
    let mut second = Agent::connect(server, testing::node(2)).await;
    second.until("a welcome", |agent| agent.servers == 1).await;
    drop(first);
    second.until("the replacement", |agent| agent.wanted().len() == 1).await;
    let replacement = second.wanted().remove(0);
    second.report(&replacement, ClientStatus::Running, None).await;
    let status = |server: &Server| server.state().node(NodeId::from_bits(1)).unwrap().status;
    assert_eq!(status(server), NodeStatus::Disconnected);
    let known = Arc::clone(server.state().alloc(alloc.id).unwrap());
    assert_eq!(known.client_status, ClientStatus::Unknown);
    assert!(!known.is_terminal() && known.followup_eval.is_some());
    // It comes back, is told that nobody knows how its allocation is, and says so.
    let mut back = Agent::connect(server, testing::node(1)).await;
    back.until("its allocation", |agent| agent.wanted().len() == 1).await;
    assert_eq!(back.wanted()[0].client_status, ClientStatus::Unknown);
    back.report(&alloc, ClientStatus::Running, None).await;
    second.until("the end of the replacement", |agent| agent.wanted().is_empty()).await;
    assert_eq!(status(server), NodeStatus::Ready);
    let state = server.state();
    let known = state.alloc(alloc.id).unwrap();
    assert!(!known.is_terminal() && known.was_unknown() && known.followup_eval.is_none());
    assert!(state.evals().any(|eval| eval.trigger == Trigger::Reconnect));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_does_not_come_back_in_time_is_down() {
    let running = Running::start("alone", |config| {
        config.timing.heartbeats.closed = Duration::from_millis(100);
    })
    .await;
    let server = &running.server;
    let mut job = testing::job("web", JobKind::Service, 1);
    job.groups[0].disconnect = Some(Disconnect {
        lost_after: Some(Duration::from_millis(700)),
        replace: false,
        ..Disconnect::default()
    });
    let mut first = Agent::connect(server, testing::node(1)).await;
    run_job(server, &job).await;
    first.until("an allocation", |agent| agent.wanted().len() == 1).await;
    let alloc = first.wanted().remove(0);
    first.report(&alloc, ClientStatus::Running, None).await;
    let mut second = Agent::connect(server, testing::node(2)).await;
    second.until("a welcome", |agent| agent.servers == 1).await;
    drop(first);
    second.until("the replacement", |agent| agent.wanted().len() == 1).await;
    assert_eq!(server.state().alloc(alloc.id).unwrap().client_status, ClientStatus::Lost);
    shows(server, "a node that is down", Topic::Nodes, |state| {
        (state.node(NodeId::from_bits(1))?.status == NodeStatus::Down).then_some(())
    })
    .await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_waits_for_room() {
    let running = Running::start("alone", |_| {}).await;
    let server = &running.server;
    let mut large = testing::job("large", JobKind::Batch, 1);
    large.groups[0].ephemeral_disk_mib = 30_000;
    let mut also_large = large.clone();
    also_large.key = testing::key("also-large");
    let mut agent = Agent::connect(server, testing::node(1)).await;
    run_job(server, &large).await;
    agent.until("an allocation", |agent| agent.wanted().len() == 1).await;
    run_job(server, &also_large).await;
    shows(server, "a blocked evaluation", Topic::Evals, |state| {
        state.evals().any(|eval| eval.status == EvalStatus::Blocked).then_some(())
    })
    .await;
    let first = agent.wanted().remove(0);
    agent.report(&first, ClientStatus::Complete, None).await;
    agent
        .until("the other", |agent| {
            agent.wanted().iter().any(|alloc| *alloc.job_key() == also_large.key)
        })
        .await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_with_another_secret_is_refused() {
    let running = Running::start("alone", |_| {}).await;
    let mut agent = Agent::connect(&running.server, testing::node(1)).await;
    agent.until("a welcome", |agent| agent.servers == 1).await;
    let thief = Node { secret: NodeId::from_bits(13), ..agent.node.clone() };
    let mut thief = Agent::connect(&running.server, thief).await;
    thief.until("a refusal", |agent| agent.refusal.is_some()).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_of_the_catalog_reach_every_agent() {
    let running = Running::start("alone", |_| {}).await;
    let mut first = Agent::connect(&running.server, testing::node(1)).await;
    let mut second = Agent::connect(&running.server, testing::node(2)).await;
    first
        .until("the server's own entry", |agent| agent.catalog.instances("nomad").len() == 3)
        .await;
    second.until("both nodes", |a| a.catalog.instances("nomad-client").len() == 2).await;
    let own = first.catalog.instance("alone", "consul").unwrap().service;
    let web = |node: &str| {
        CatalogChange::PutService(cos_model::catalog::ServiceInstance {
            node: node.into(),
            id: "web-1".into(),
            name: "web".into(),
            ..(*own).clone()
        })
    };
    let changes = vec![web("nowhere"), web("node1")];
    first.say(&ToServer::Catalog { sequence: 7, changes }).await;
    first.until("the acknowledgement", |agent| agent.acknowledged == 7).await;
    assert_eq!(first.refused.keys().collect::<Vec<_>>(), [&0]);
    second.until("the service", |agent| agent.catalog.instances("web").len() == 1).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_for_keys_waits_for_a_change() {
    let running = Running::start("alone", |_| {}).await;
    let server = &running.server;
    let mut agent = Agent::connect(server, testing::node(1)).await;
    agent.until("a welcome", |agent| agent.servers == 1).await;
    let client = Client::new();
    let address = server.config().advertise.rpc.to_string();
    let ask = |after: u64, secret: NodeId| {
        let query = Query::Kv {
            key: "config/".to_owned(),
            recurse: true,
            after,
            wait: PATIENCE,
            node: (agent.node.id, secret),
        };
        client.call(&address, wire::AGENT_QUERY, wire::encode(&query), PATIENCE)
    };
    let first: Answer = wire::decode(&ask(0, agent.node.secret).await.unwrap()).unwrap();
    assert_eq!(first, Answer::Kv { index: 1, entries: Vec::new() });
    let set = async {
        let ops = vec![KvOp::Set { key: "config/a".to_owned(), value: b"1".to_vec(), flags: 0 }];
        server.propose(Command::Kv { ops }).await.unwrap()
    };
    let (second, _) = tokio::join!(ask(1, agent.node.secret), set);
    match wire::decode::<Answer>(&second.unwrap()).unwrap() {
        Answer::Kv { entries, .. } => assert_eq!(entries[0].key, "config/a"),
        Answer::Error(words) => panic!("{words}"),
    }
    let wrong: Answer = wire::decode(&ask(0, NodeId::from_bits(5)).await.unwrap()).unwrap();
    assert!(matches!(wrong, Answer::Error(_)));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_survives_a_restart() {
    let running = Running::start("alone", |_| {}).await;
    run_job(&running.server, &service("web", 2)).await;
    let id = running.server.id();
    let dir = running.stop().await;
    let running = Running::start_in(dir, "alone", |_| {}).await;
    assert_eq!(running.server.id(), id);
    in_time("a leader", running.server.barrier()).await.unwrap();
    assert!(running.server.state().job(&testing::key("web")).is_some());
    running.stop().await;
}
