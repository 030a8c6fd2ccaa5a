//! Three servers that find each other.

use std::sync::atomic::{AtomicBool, Ordering};

use cos_model::catalog::Health;
use cos_model::kv::KvOp;
use cos_state::MemberStatus;

use super::*;
use crate::gossip::Peer;

pub(super) struct Cluster {
    pub(super) servers: Vec<Running>,
}

impl Cluster {
    /// Starts three servers that expect each other and waits until all vote.
    pub(super) async fn start() -> Self {
        let mut servers: Vec<Running> = Vec::new();
        for name in ["one", "two", "three"] {
            let join: Vec<String> = servers
                .first()
                .map(|first| first.server.config().advertise.serf.to_string())
                .into_iter()
                .collect();
            servers.push(
                Running::start(name, |config| {
                    config.bootstrap_expect = 3;
                    config.retry_join = join;
                    // A busy machine answers late.
                    config.autopilot.last_contact_threshold = PATIENCE;
                    config.autopilot.server_stabilization_time = Duration::from_millis(500);
                })
                .await,
            );
        }
        let cluster = Self { servers };
        for running in &cluster.servers {
            in_time("a leader", running.server.barrier()).await.unwrap();
        }
        let voters = cluster.leader().server.peers().iter().filter(|(_, _, votes)| *votes).count();
        assert_eq!(voters, 3);
        cluster
    }

    pub(super) fn leader(&self) -> &Running {
        self.servers.iter().find(|running| running.server.leadership().is_leader).unwrap()
    }

    pub(super) fn followers(&self) -> impl Iterator<Item = &Running> {
        self.servers.iter().filter(|running| !running.server.leadership().is_leader)
    }

    pub(super) async fn stop(self) {
        for running in self.servers {
            running.stop().await;
        }
    }
}

/// How many instances of the servers' service are passing.
fn passing(state: &State) -> usize {
    let instances = state.catalog().instances("nomad");
    instances.iter().filter(|instance| instance.health() == Health::Passing).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn followers_take_commands_and_agents() {
    let cluster = Cluster::start().await;
    let follower = &cluster.followers().next().unwrap().server;
    assert_eq!(follower.members().len(), 3);
    let mut agent = Agent::connect(follower, testing::node(1)).await;
    agent.until("a welcome", |agent| agent.servers == 3).await;
    run_job(follower, &service("web", 1)).await;
    assert!(follower.state().job(&testing::key("web")).is_some());
    agent.until("an allocation", |agent| agent.wanted().len() == 1).await;
    let alloc = agent.wanted().remove(0);
    agent.report(&alloc, ClientStatus::Running, Some(true)).await;
    assert_eq!(follower.state().alloc(alloc.id).unwrap().client_status, ClientStatus::Running);
    shows(follower, "three servers in the catalog", Topic::Catalog, |state| {
        (passing(state) == 9).then_some(())
    })
    .await;
    // The same log leads to the same state.
    let mut hashes = Vec::new();
    for running in &cluster.servers {
        in_time("a barrier", running.server.barrier()).await.unwrap();
        let state = running.server.state();
        hashes.push((state.index(), state.hash()));
    }
    let newest = hashes.iter().max().unwrap();
    assert!(hashes.iter().filter(|(index, _)| index == &newest.0).all(|hash| hash == newest));
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_leader_takes_over_when_one_is_lost() {
    let mut cluster = Cluster::start().await;
    let survivor = cluster.followers().next().unwrap().server.clone();
    let mut agent = Agent::connect(&survivor, testing::node(1)).await;
    agent.until("a welcome", |agent| agent.servers == 3).await;
    let at = cluster.servers.iter().position(|r| r.server.leadership().is_leader).unwrap();
    let lost = cluster.servers.remove(at);
    let lost_id = lost.server.id();
    lost.stop().await;
    run_job(&survivor, &service("web", 1)).await;
    agent.until("an allocation", |agent| agent.wanted().len() == 1).await;
    in_time("gossip to say that it failed", async {
        let is_lost =
            |peer: &Peer| peer.status == MemberStatus::Failed && peer.id() == Some(lost_id);
        let mut peers = survivor.gossip_for_tests().watch();
        drop(peers.wait_for(|peers| peers.iter().any(is_lost)).await);
    })
    .await;
    shows(&survivor, "the lost server to be critical", Topic::Catalog, |state| {
        (passing(state) == 6).then_some(())
    })
    .await;
    assert_eq!(survivor.peers().len(), 3, "one that failed stays a member");
    cluster.stop().await;
}

/// Each write expects what the one before left, so that one that was done twice, or was lost,
/// would fail the next.
#[tokio::test(flavor = "multi_thread")]
async fn writes_go_on_over_a_change_of_leaders_and_are_done_once() {
    let mut cluster = Cluster::start().await;
    let survivor = cluster.followers().next().unwrap().server.clone();
    let at = cluster.servers.iter().position(|r| r.server.leadership().is_leader).unwrap();
    let leader = cluster.servers.remove(at);
    let is_gone = AtomicBool::new(false);
    let stop = async {
        leader.stop().await;
        is_gone.store(true, Ordering::Relaxed);
    };
    let write = async {
        let (mut expected, mut further) = (0_u64, 20);
        while further > 0 {
            further -= u32::from(is_gone.load(Ordering::Relaxed));
            let (key, value) = ("count".to_owned(), expected.to_string().into_bytes());
            let op = KvOp::SetIfUnchanged { key, value, flags: 0, expected };
            let write = survivor.propose(Command::Kv { ops: vec![op] });
            let done = in_time("a write", write).await.unwrap();
            assert_eq!(done.reply, Reply::Kv(true));
            expected = done.index;
            assert_eq!(survivor.state().kv_get("count").unwrap().modify_index, expected);
        }
    };
    tokio::join!(stop, write);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_leaves_is_let_go_and_another_is_taken_in() {
    let mut cluster = Cluster::start().await;
    let at = cluster.servers.iter().position(|r| !r.server.leadership().is_leader).unwrap();
    let leaving = cluster.servers.remove(at);
    let leader = cluster.leader().server.clone();
    in_time("the good-bye", leaving.server.leave()).await;
    leaving.tasks.stop();
    in_time("two peers", async {
        let mut metrics = leader.metrics_for_tests();
        drop(metrics.wait_for(|metrics| metrics.voters.len() == 2).await);
    })
    .await;
    let serf = leader.config().advertise.serf.to_string();
    let late = Running::start("late", |config| {
        config.bootstrap_expect = 3;
        config.retry_join = vec![serf];
    })
    .await;
    in_time("a leader", late.server.barrier()).await.unwrap();
    in_time("three peers", async {
        let mut metrics = leader.metrics_for_tests();
        drop(metrics.wait_for(|metrics| metrics.voters.len() == 3).await);
    })
    .await;
    late.stop().await;
    cluster.stop().await;
}
