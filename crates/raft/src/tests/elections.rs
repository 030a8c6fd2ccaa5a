//! Who leads when servers, or the wires between them, fail.

use std::time::Duration;

use bytes::Bytes;

use super::cluster::{Cluster, TIMINGS, within};
use crate::{ProposeError, Timings};

/// Nobody is missed within the time of a test.
const PATIENT: Timings = Timings {
    heartbeat: Duration::from_millis(100),
    election_min: Duration::from_mins(5),
    election_max: Duration::from_mins(6),
};

#[tokio::test]
async fn who_is_told_that_the_leader_is_gone_need_not_wait_for_its_silence() {
    let mut cluster = Cluster::with(3, PATIENT).await;
    // Nobody stands by itself either.
    let raft = cluster.server(0).clone();
    raft.campaign_for_tests().await;
    let leader = cluster.leader().await;
    let index = cluster.propose(leader, "a").await;
    cluster.applied_everywhere(index).await;
    cluster.kill(leader).await;
    let gone = cluster.address(leader).0;
    let told = (0..3).filter(|server| *server != leader);
    let told = told.map(|server| cluster.server(server).suspect(gone));
    within(futures_util::future::join_all(told)).await;
    let second = cluster.leader_other_than(leader).await;
    cluster.propose(second, "b").await;
    assert_eq!(cluster.state(second), ["a", "b"]);
    cluster.stop().await;
}

#[tokio::test]
async fn a_wrong_hint_changes_nothing() {
    let cluster = Cluster::of(3).await;
    let leader = cluster.leader().await;
    let index = cluster.propose(leader, "a").await;
    cluster.applied_everywhere(index).await;
    let term = cluster.server(leader).metrics().borrow().term;
    let follower = (leader + 1) % 3;
    let (own, other) = (cluster.address(leader).0, cluster.address((leader + 2) % 3).0);
    within(cluster.server(follower).suspect(own)).await;
    within(cluster.server(follower).suspect(other)).await;
    within(cluster.server(leader).suspect(own)).await;
    cluster.propose(leader, "b").await;
    assert_eq!(cluster.server(leader).metrics().borrow().term, term);
    cluster.stop().await;
}

#[tokio::test]
async fn a_server_that_was_cut_off_disturbs_nobody_when_it_is_back() {
    let cluster = Cluster::of(3).await;
    let leader = cluster.leader().await;
    cluster.propose(leader, "a").await;
    let term = cluster.server(leader).metrics().borrow().term;
    let lonely = (leader + 1) % 3;
    cluster.isolate(lonely);
    // Long enough for it to stand several times, were it allowed to without a majority.
    let attempts = TIMINGS.election_max * 5;
    within(async {
        let started = tokio::time::Instant::now();
        while started.elapsed() < attempts {
            cluster.propose(leader, "b").await;
        }
    })
    .await;
    assert_eq!(cluster.server(lonely).metrics().borrow().term, term);
    cluster.reconnect(lonely);
    let index = cluster.propose(leader, "c").await;
    cluster.applied_everywhere(index).await;
    for server in 0..3 {
        assert_eq!(cluster.server(server).metrics().borrow().term, term, "server {server}");
    }
    cluster.stop().await;
}

#[tokio::test]
async fn a_leader_that_reaches_no_majority_steps_down() {
    let cluster = Cluster::of(3).await;
    let leader = cluster.leader().await;
    cluster.propose(leader, "a").await;
    cluster.isolate(leader);
    let raft = cluster.server(leader);
    let mut metrics = raft.metrics();
    let cut = tokio::time::Instant::now();
    within(metrics.wait_for(|now| !now.is_leader && now.leader.is_none())).await.unwrap();
    assert!(cut.elapsed() < TIMINGS.election_max * 3, "{:?}", cut.elapsed());
    let refused = within(raft.propose(Bytes::from_static(b"x"))).await;
    assert_eq!(refused, Err(ProposeError::NotLeader { leader: None }));
    let second = cluster.leader_other_than(leader).await;
    let index = cluster.propose(second, "b").await;
    cluster.reconnect(leader);
    cluster.applied_everywhere(index).await;
    assert_eq!(cluster.state(leader), ["a", "b"]);
    cluster.stop().await;
}
