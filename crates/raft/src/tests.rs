//! Whole groups in one process, over a transport and disks in memory. A server is killed as a
//! machine is that loses power: only what was synced is there when it comes back.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use cos_model::ServerId;
use openraft::impls::BasicNode;

use self::cluster::{Cluster, PATIENCE, within};
use crate::types::{Membership, SnapshotMeta, StoredMembership};
use crate::wire::{self, Piece, PieceReply};
use crate::{
    BarrierError, HandleError, MembershipError, PROPOSAL_BYTES_MAX, ProposeError, Raft,
    TransferError, codec, log,
};

mod cluster;
mod elections;
mod formats;

#[tokio::test]
async fn a_server_alone_leads_at_once_and_answers_each_proposal() {
    let mut cluster = Cluster::alone().await;
    let first = cluster.propose(0, "a").await;
    let second = cluster.propose(0, "b").await;
    assert!(second > first);
    assert_eq!(cluster.server(0).barrier().await, Ok(second));
    assert_eq!(cluster.state(0), ["a", "b"]);
    cluster.kill(0).await;
    cluster.restart(0).await;
    assert_eq!(cluster.leader().await, 0);
    cluster.propose(0, "c").await;
    assert_eq!(cluster.state(0), ["a", "b", "c"]);
    cluster.stop().await;
}

#[tokio::test]
async fn replies_belong_to_their_proposals() {
    let cluster = Cluster::alone().await;
    let raft = cluster.server(0);
    let proposals = (0..200_u32).map(|number| {
        let raft = raft.clone();
        async move {
            let payload = Bytes::from(number.to_string());
            let (index, reply) = raft.propose(payload).await.unwrap();
            assert_eq!(reply, format!("{number}@{index}"));
            index
        }
    });
    let mut indexes = within(futures_util::future::join_all(proposals)).await;
    indexes.sort_unstable();
    indexes.dedup();
    assert_eq!(indexes.len(), 200);
    let oversized = Bytes::from(vec![0; PROPOSAL_BYTES_MAX + 1]);
    let refused = Err(ProposeError::TooLarge(PROPOSAL_BYTES_MAX + 1));
    assert_eq!(raft.propose(oversized).await, refused);
    cluster.stop().await;
}

#[tokio::test]
async fn three_servers_replicate_and_survive_the_loss_of_their_leader() {
    let mut cluster = Cluster::of(3).await;
    let leader = cluster.leader().await;
    let index = cluster.propose(leader, "a").await;
    cluster.applied_everywhere(index).await;
    let follower = (leader + 1) % 3;
    let refused = cluster.server(follower).propose(Bytes::from_static(b"x")).await;
    let address = cluster.address(leader);
    assert_eq!(refused, Err(ProposeError::NotLeader { leader: Some(address) }));

    cluster.kill(leader).await;
    let second = cluster.leader().await;
    assert_ne!(second, leader);
    cluster.propose(second, "b").await;
    cluster.restart(leader).await;
    let index = cluster.propose(second, "c").await;
    cluster.applied_everywhere(index).await;
    for server in 0..3 {
        assert_eq!(cluster.state(server), ["a", "b", "c"], "server {server}");
    }
    cluster.stop().await;
}

#[tokio::test]
async fn what_was_acknowledged_survives_the_loss_of_all_servers_at_once() {
    let mut cluster = Cluster::of(3).await;
    let leader = cluster.leader().await;
    for number in 0..20 {
        cluster.propose(leader, &number.to_string()).await;
    }
    for server in 0..3 {
        cluster.kill(server).await;
    }
    for server in 0..3 {
        cluster.restart(server).await;
    }
    let leader = cluster.leader().await;
    let index = cluster.propose(leader, "after").await;
    cluster.applied_everywhere(index).await;
    let mut expected: Vec<String> = (0..20).map(|number| number.to_string()).collect();
    expected.push("after".to_owned());
    assert_eq!(cluster.state((leader + 1) % 3), expected);
    cluster.stop().await;
}

#[tokio::test]
async fn a_server_that_lags_behind_the_log_gets_a_snapshot() {
    let mut cluster = Cluster::of(3).await;
    let leader = cluster.leader().await;
    let lagging = (leader + 1) % 3;
    let lacks = cluster.propose(leader, "before").await + 1;
    cluster.kill(lagging).await;
    let mut index = 0;
    for number in 0..u64::from(cluster::SNAPSHOT_ENTRIES) * 8 {
        index = cluster.propose(leader, &number.to_string()).await;
    }
    // What it lacks is gone from the log, so that only a snapshot can help.
    cluster.purged(leader, lacks).await;
    cluster.restart(lagging).await;
    within(cluster.server(lagging).wait_applied(index, PATIENCE)).await.unwrap();
    assert_eq!(cluster.state(lagging), cluster.state(leader));
    assert!(cluster.restored(lagging) >= lacks, "a snapshot was sent");

    // And it starts again from that snapshot.
    cluster.kill(lagging).await;
    cluster.restart(lagging).await;
    let index = cluster.propose(leader, "after").await;
    within(cluster.server(lagging).wait_applied(index, PATIENCE)).await.unwrap();
    assert_eq!(cluster.state(lagging), cluster.state(leader));
    cluster.stop().await;
}

#[tokio::test]
async fn a_lost_snapshot_stops_the_start_with_advice() {
    let mut cluster = Cluster::alone().await;
    for number in 0..u64::from(cluster::SNAPSHOT_ENTRIES) * 8 {
        cluster.propose(0, &number.to_string()).await;
    }
    cluster.purged(0, 1).await;
    cluster.kill(0).await;
    cluster.lose_snapshots(0);
    let error = cluster.try_restart(0).await.unwrap_err().to_string();
    assert!(error.contains("no whole snapshot reaches that far"), "{error}");
    assert!(error.contains("to recover"), "{error}");
    cluster.stop().await;
}

#[tokio::test]
async fn leadership_is_handed_over() {
    let cluster = Cluster::of(3).await;
    let leader = cluster.leader().await;
    let target = (leader + 2) % 3;
    let index = cluster.propose(leader, "a").await;
    cluster.applied_everywhere(index).await;
    let raft = cluster.server(leader);
    let taken = within(raft.transfer_leadership(Some(cluster.address(target).0))).await;
    assert_eq!(taken, Ok(cluster.address(target).0));
    assert_eq!(raft.transfer_leadership(None).await, Err(TransferError::NotLeader));
    cluster.propose(target, "b").await;
    let raft = cluster.server(target);
    let stranger = ServerId::from_bits(99);
    assert_eq!(raft.transfer_leadership(Some(stranger)).await, Err(TransferError::NoTarget));
    within(raft.transfer_leadership(None)).await.unwrap();
    cluster.stop().await;
}

#[tokio::test]
async fn a_leader_without_majority_passes_no_barrier() {
    let cluster = Cluster::of(3).await;
    let leader = cluster.leader().await;
    let index = cluster.propose(leader, "a").await;
    assert!(cluster.server(leader).barrier().await.unwrap() >= index);
    let follower = cluster.server((leader + 1) % 3);
    let refused = follower.barrier().await;
    assert_eq!(refused, Err(BarrierError::NotLeader { leader: Some(cluster.address(leader)) }));
    let contact = cluster.server(leader).contact();
    assert!(contact.quorum.is_some());
    assert_eq!(contact.servers.len(), 3);

    cluster.isolate(leader);
    let refused = within(cluster.server(leader).barrier()).await;
    assert!(matches!(refused, Err(BarrierError::NoQuorum | BarrierError::NotLeader { .. })));
    let second = cluster.leader_other_than(leader).await;
    cluster.propose(second, "b").await;
    cluster.reconnect(leader);
    let index = cluster.propose(second, "c").await;
    cluster.applied_everywhere(index).await;
    assert_eq!(cluster.state(leader), ["a", "b", "c"]);
    cluster.stop().await;
}

#[tokio::test]
async fn servers_join_and_leave() {
    let mut cluster = Cluster::of(3).await;
    let leader = cluster.leader().await;
    cluster.propose(leader, "a").await;
    let fourth = cluster.join().await;
    let (id, address) = cluster.address(fourth);
    let raft = cluster.server(leader).clone();
    within(raft.add_learner(id, address.clone())).await.unwrap();
    assert_eq!(raft.metrics().borrow().voters.len(), 3);
    within(raft.add_learner(id, address)).await.unwrap();
    within(raft.promote(id)).await.unwrap();
    assert_eq!(raft.metrics().borrow().voters.len(), 4);
    within(raft.promote(id)).await.unwrap();
    let index = cluster.propose(leader, "b").await;
    cluster.applied_everywhere(index).await;
    assert_eq!(cluster.state(fourth), ["a", "b"]);

    let follower = cluster.server((leader + 1) % 3);
    let refused = follower.remove_server(id).await;
    assert!(matches!(refused, Err(MembershipError::NotLeader { leader: Some(_) })), "{refused:?}");
    within(raft.demote(id)).await.unwrap();
    assert_eq!(raft.metrics().borrow().voters.len(), 3);
    assert!(raft.metrics().borrow().learners.contains_key(&id));
    within(raft.remove_server(id)).await.unwrap();
    within(raft.remove_server(id)).await.unwrap();
    assert!(!raft.metrics().borrow().learners.contains_key(&id));
    assert_eq!(raft.metrics().borrow().voters.len(), 3);
    cluster.stop().await;
}

#[tokio::test]
async fn founding_twice_changes_nothing() {
    let cluster = Cluster::alone().await;
    let raft = cluster.server(0);
    assert!(raft.is_initialized().await);
    let (id, address) = cluster.address(0);
    let strangers = [(id, address), (ServerId::from_bits(9), "x".to_owned())];
    raft.initialize(strangers.into()).await.unwrap();
    assert_eq!(raft.metrics().borrow().voters.len(), 1);
    let refused = raft.remove_server(cluster.address(0).0).await;
    assert!(matches!(refused, Err(MembershipError::Refused(_))), "{refused:?}");
    cluster.stop().await;
}

#[tokio::test]
async fn a_broken_disk_ends_this_server() {
    let cluster = Cluster::alone().await;
    let raft = cluster.server(0);
    cluster.propose(0, "a").await;
    cluster.break_disk(0);
    let outcome = within(raft.propose(Bytes::from_static(b"b"))).await;
    assert!(matches!(outcome, Err(ProposeError::Stopped(_))), "{outcome:?}");
    let reason = within(raft.failed()).await;
    assert!(reason.contains("the device is broken"), "{reason}");
    cluster.stop().await;
}

#[tokio::test]
async fn unknown_and_malformed_messages_are_refused() {
    let cluster = Cluster::alone().await;
    let raft = cluster.server(0);
    let check = async |method: &str, body: &'static [u8], expected: &str| {
        let error = raft.handle(method, Bytes::from_static(body)).await.unwrap_err();
        assert_eq!(error.to_string(), expected);
    };
    check("raft.nonsense", b"", "no raft message is called `raft.nonsense`").await;
    check("raft.append", b"", "a raft.append message ends too early").await;
    check(
        "raft.vote",
        b"\x09",
        "a raft.vote message has version 9, which this program does not know",
    )
    .await;
    assert!(matches!(
        raft.handle("raft.snapshot", Bytes::from_static(b"\x01\x02")).await,
        Err(HandleError::Malformed { .. })
    ));
    cluster.stop().await;
}

#[tokio::test]
async fn waiting_for_an_entry_ends_when_the_time_is_up() {
    let cluster = Cluster::alone().await;
    let far = cluster.server(0).wait_applied(1_000_000, Duration::from_millis(10)).await;
    assert_eq!(far, Err(crate::WaitError::Timeout));
    cluster.stop().await;
}

/// What servers await they await in tasks.
#[test]
fn futures_can_be_sent_between_threads() {
    fn check<T: Send>(_: impl FnOnce(&'static Raft) -> T) {}
    check(|raft| raft.propose(Bytes::new()));
    check(Raft::barrier);
    check(Raft::is_initialized);
    check(Raft::shutdown);
    check(Raft::failed);
    check(|raft| raft.initialize(BTreeMap::new()));
    check(|raft| raft.add_learner(ServerId::from_bits(1), String::new()));
    check(|raft| raft.promote(ServerId::from_bits(1)));
    check(|raft| raft.demote(ServerId::from_bits(1)));
    check(|raft| raft.remove_server(ServerId::from_bits(1)));
    check(|raft| raft.transfer_leadership(None));
    check(|raft| raft.wait_applied(1, PATIENCE));
    check(|raft| raft.handle("", Bytes::new()));
}

#[tokio::test]
async fn a_snapshot_arrives_in_pieces() {
    let mut cluster = Cluster::of(0).await;
    let server = cluster.join().await;
    let raft = cluster.server(server);
    let leader = ServerId::from_bits(77);
    let vote = codec::vote(log::Vote { term: 5, candidate: leader, granted: true });
    let last = codec::log_id(log::Mark { term: 4, index: 100 });
    let group = BTreeMap::from([(leader, BasicNode::new("elsewhere"))]);
    let last_membership = StoredMembership::new(Some(last), Membership::from(group));
    let meta = SnapshotMeta { last_log_id: Some(last), last_membership };
    let content = Bytes::from_static(b"first\nsecond");
    let send = async |start: usize, end: usize| {
        let piece = Piece {
            vote,
            meta: meta.clone(),
            total: content.len() as u64,
            offset: start as u64,
            content: content.slice(start..end),
        };
        let body = wire::encode(|writer| wire::write_piece(writer, &piece));
        let reply = raft.handle("raft.snapshot", body).await?;
        Ok::<_, HandleError>(wire::decode(reply, wire::read_piece_reply).unwrap())
    };
    assert!(send(4, 8).await.is_err(), "the beginning is missing");
    assert_eq!(send(0, 4).await, Ok(PieceReply::More));
    assert!(send(8, 12).await.is_err(), "the middle is missing");
    assert_eq!(send(0, 6).await, Ok(PieceReply::More), "a new attempt begins");
    assert_eq!(send(6, 12).await, Ok(PieceReply::Done(vote)));
    within(raft.wait_applied(100, PATIENCE)).await.unwrap();
    assert_eq!(cluster.state(server), ["first", "second"]);
    assert_eq!(raft.metrics().borrow().voters.len(), 1);
    cluster.stop().await;
}
