//! Who leads when servers, or the wires between them, fail.

use std::time::Duration;

use bytes::Bytes;

use super::cluster::{Cluster, TIMINGS, within};
use crate::{ProposeError, Recovery, Timings};

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

#[tokio::test]
async fn what_is_left_of_a_group_goes_on_when_an_operator_says_so() {
    let mut cluster = Cluster::of(5).await;
    let leader = cluster.leader().await;
    let index = cluster.propose(leader, "a").await;
    cluster.applied_everywhere(index).await;
    // One lags behind what the other that is left has.
    let (behind, ahead) = ((leader + 1) % 5, (leader + 2) % 5);
    cluster.isolate(behind);
    let index = cluster.propose(leader, "b").await;
    cluster.server(ahead).wait_applied(index, super::cluster::PATIENCE).await.unwrap();
    for server in 0..5 {
        cluster.kill(server).await;
    }
    cluster.reconnect(behind);
    let left = Recovery {
        voters: [cluster.address(behind), cluster.address(ahead)].into(),
        ..Recovery::default()
    };
    for server in [behind, ahead] {
        cluster.try_recover(server, Some(left.clone())).await.unwrap();
    }
    let second = cluster.leader().await;
    let index = cluster.propose(second, "c").await;
    cluster.applied_everywhere(index).await;
    for server in [behind, ahead] {
        assert_eq!(cluster.state(server), ["a", "b", "c"], "server {server}");
        assert_eq!(cluster.server(server).metrics().borrow().voters, left.voters);
    }
    // It is no part of any further start.
    cluster.kill(behind).await;
    cluster.restart(behind).await;
    let third = cluster.leader().await;
    cluster.propose(third, "d").await;
    cluster.stop().await;
}

#[tokio::test]
async fn a_group_that_cannot_be_is_not_recovered() {
    let mut cluster = Cluster::of(1).await;
    let leader = cluster.leader().await;
    cluster.propose(leader, "a").await;
    cluster.kill(leader).await;
    let (id, address) = cluster.address(leader);
    let stranger = cos_model::ServerId::from_bits(77);
    for (voters, learners, expected) in [
        (vec![], vec![(id, address.clone())], "no server of the new group votes"),
        (vec![(stranger, "x".to_owned())], vec![], "is none of the new group"),
    ] {
        let wanted = Recovery {
            voters: voters.into_iter().collect(),
            learners: learners.into_iter().collect(),
        };
        let error = cluster.try_recover(leader, Some(wanted)).await.unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    let empty = cluster.join().await;
    cluster.kill(empty).await;
    let wanted = Recovery { voters: [cluster.address(empty)].into(), ..Recovery::default() };
    let error = cluster.try_recover(empty, Some(wanted)).await.unwrap_err().to_string();
    assert!(error.contains("holds nothing"), "{error}");
    cluster.restart(leader).await;
    cluster.leader().await;
    cluster.stop().await;
}
