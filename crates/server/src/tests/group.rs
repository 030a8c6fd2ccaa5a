//! How the group of servers is looked after, and what operators ask of it.

use cos_model::ServerId;
use cos_state::{GroupChange, GroupError};

use super::three::Cluster;
use super::*;

async fn voters(server: &Server, what: &str, is_so: impl Fn(&[ServerId]) -> bool) {
    in_time(what, async {
        let mut metrics = server.metrics_for_tests();
        let wanted = metrics
            .wait_for(|metrics| is_so(&metrics.voters.keys().copied().collect::<Vec<ServerId>>()));
        drop(wanted.await);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn any_server_hands_the_leadership_over_and_tells_how_all_do() {
    let cluster = Cluster::start().await;
    let follower = cluster.followers().next().unwrap().server.clone();
    let change = GroupChange::Transfer(Some(follower.id()));
    let leader = in_time("a leader", follower.change_group(change)).await.unwrap();
    assert_eq!(leader, Some(follower.id()));
    in_time("the new leader", async {
        let mut metrics = follower.metrics_for_tests();
        drop(metrics.wait_for(|metrics| metrics.is_leader).await);
    })
    .await;
    in_time("good health", async {
        loop {
            let health = cluster.servers[0].server.group_health().await.unwrap();
            if health.is_healthy && health.servers.len() == 3 {
                assert_eq!(health.failure_tolerance, 1);
                assert!(health.servers.iter().all(|server| server.votes));
                let leaders = health.servers.iter().filter(|server| server.is_leader);
                assert_eq!(leaders.map(|server| server.id).collect::<Vec<_>>(), [follower.id()]);
                return;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
    let stranger = ServerId::from_bits(99);
    let refused = cluster.servers[1].server.change_group(GroupChange::Remove(stranger)).await;
    assert!(matches!(refused, Err(GroupError::NotFound(_))), "{refused:?}");
    let alive = GroupChange::Forget { name: "two".to_owned(), prune: false };
    let refused = cluster.servers[0].server.change_group(alive).await;
    assert!(matches!(refused, Err(GroupError::Refused(_))), "{refused:?}");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_server_goes_when_another_has_taken_its_place() {
    let mut cluster = Cluster::start().await;
    let at = cluster.servers.iter().position(|r| !r.server.leadership().is_leader).unwrap();
    let lost = cluster.servers.remove(at);
    let lost_id = lost.server.id();
    lost.stop().await;
    let leader = cluster.leader().server.clone();
    let serf = leader.config().advertise.serf.to_string();
    let late = Running::start("late", |config| {
        config.bootstrap_expect = 3;
        config.retry_join = vec![serf];
    })
    .await;
    let late_id = late.server.id();
    voters(&leader, "the new server to vote alone", |voters| {
        voters.len() == 3 && voters.contains(&late_id) && !voters.contains(&lost_id)
    })
    .await;
    cluster.servers.push(late);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_server_goes_when_an_operator_says_that_it_left() {
    let mut cluster = Cluster::start().await;
    let at = cluster.servers.iter().position(|r| !r.server.leadership().is_leader).unwrap();
    let lost = cluster.servers.remove(at);
    let (lost_id, name) = (lost.server.id(), lost.server.config().name.clone());
    lost.stop().await;
    let asked = cluster.followers().next().unwrap().server.clone();
    in_time("gossip to give it up", async {
        let mut peers = asked.gossip_for_tests().watch();
        let is_lost = |peer: &crate::gossip::Peer| !peer.is_alive() && peer.id() == Some(lost_id);
        drop(peers.wait_for(|peers| peers.iter().any(is_lost)).await);
    })
    .await;
    let change = GroupChange::Forget { name: format!("{name}.global"), prune: false };
    asked.change_group(change).await.unwrap();
    voters(&asked, "the others to go on alone", |voters| {
        voters.len() == 2 && !voters.contains(&lost_id)
    })
    .await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_left_goes_on_alone_when_an_operator_says_so() {
    let mut cluster = Cluster::start().await;
    let survivor = cluster.servers.remove(0);
    run_job(&survivor.server, &service("web", 1)).await;
    let (id, name) = (survivor.server.id(), survivor.server.config().name.clone());
    let address = survivor.server.config().advertise.rpc;
    cluster.stop().await;
    let dir = survivor.stop().await;
    let file = dir.path().join("raft/peers.json");
    std::fs::write(&file, "[]").unwrap();
    let text = format!(r#"[{{"id": "{id}", "address": "{address}", "non_voter": false}}]"#);
    let mut config = Config::alone(dir.path().to_owned(), &name, IpAddr::V4(Ipv4Addr::LOCALHOST));
    config.bootstrap_expect = 3;
    let clock = Arc::new(SystemClock::new());
    let refused = Box::pin(Server::start(config, clock, Tasks::new())).await.unwrap_err();
    assert!(refused.to_string().contains("consensus"), "{refused}");
    std::fs::write(&file, text).unwrap();
    let alone = Running::start_in(dir, &name, |config| config.bootstrap_expect = 3).await;
    in_time("a leader", alone.server.barrier()).await.unwrap();
    assert_eq!(alone.server.id(), id);
    assert!(alone.server.state().job(&testing::key("web")).is_some());
    assert_eq!(alone.server.peers().len(), 1);
    assert!(!file.exists(), "it is used once");
    run_job(&alone.server, &service("api", 1)).await;
    alone.stop().await;
}
