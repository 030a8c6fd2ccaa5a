//! The consensus group as it is looked after: the leader does what `autopilot` decides, and every
//! server passes on what operators ask for.
//!
//! # Invariants
//!
//! - One change of the group at a time; after each the next is decided anew, or is still right.
//! - What is seen of the servers' health is the leader's, and starts over with each term.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use cos_model::ServerId;
use cos_raft::{Contact, MembershipError, Metrics};
use cos_state::{Command, GroupChange, GroupError, GroupHealth, MemberStatus, ServerHealth};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::autopilot::{self, Change, Healths, Standing, View, ZONE_TAG};
use crate::gossip::Peer;
use crate::shared::Shared;
use crate::wire::{self, GroupAnswer, GroupAsk};

/// How often the servers' health is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The longest time that one change of the group may take.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(10);

/// The wait before a leader that was not found is looked for again.
const LEADER_WAIT: Duration = Duration::from_millis(50);

/// Looks after the group whenever this server leads, until it stops.
pub(crate) async fn run(shared: Arc<Shared>) {
    let stop = shared.tasks.stopping();
    let mut metrics = shared.raft.metrics();
    loop {
        // Either arm may be dropped: what was begun is decided anew by whoever leads next.
        let leads = tokio::select! {
            leads = to_lead(&mut metrics) => leads,
            () = stop.cancelled() => return,
        };
        if !leads {
            // Consensus has ended; others see to what follows.
            return stop.cancelled().await;
        }
        // Either arm may be dropped, as above.
        tokio::select! {
            () = look_after(&shared) => {}
            () = stop.cancelled() => return,
        }
    }
}

/// Waits until this server leads; false if it never will any more.
async fn to_lead(metrics: &mut watch::Receiver<Metrics>) -> bool {
    metrics.wait_for(|now| now.is_leader).await.is_ok()
}

/// Looks after the group as long as this server leads in the same term.
async fn look_after(shared: &Shared) {
    let metrics = shared.raft.metrics();
    let term = metrics.borrow().term;
    let leads = || {
        let now = metrics.borrow();
        now.is_leader && now.term == term
    };
    let mut peers = shared.gossip.watch();
    let mut healths = Healths::default();
    while leads() {
        peers.mark_unchanged();
        configure(shared).await;
        for change in look(shared, &mut healths) {
            if !leads() {
                return;
            }
            change_group(shared, change).await;
        }
        // Either ends the wait: a server came or went, or it is time.
        drop(tokio::time::timeout(LOOK_EVERY, peers.changed()).await);
    }
}

/// Stores what this server was told to begin with, if nobody has set anything.
async fn configure(shared: &Shared) {
    if shared.published.state().autopilot_config().create_index > 0 {
        return;
    }
    let command = Command::SetAutopilotConfig(shared.config.autopilot.clone());
    if let Err(error) = shared.propose_as_leader(command).await {
        tracing::debug!(%error, "autopilot not configured");
    }
}

fn look(shared: &Shared, healths: &mut Healths) -> Vec<Change> {
    let (state, peers) = (shared.published.state(), shared.gossip.peers());
    let members = standings(&shared.raft.metrics().borrow(), &shared.raft.contact());
    let region = &shared.config.region;
    let view = View::new(state.autopilot_config(), shared.id, region, &peers, members);
    let now = shared.clock.monotonic();
    healths.look(&view, now);
    let changes = autopilot::decide(&view, healths, now);
    shared.healths.send_replace(healths.clone());
    changes
}

fn standings(metrics: &Metrics, contact: &Contact) -> BTreeMap<ServerId, Standing> {
    let voters = metrics.voters.iter().map(|(id, address)| (*id, address.clone(), true));
    let learners = metrics.learners.iter().map(|(id, address)| (*id, address.clone(), false));
    let standing = |(id, address, votes): (ServerId, String, bool)| {
        let last_contact = contact.servers.get(&id).copied().flatten();
        let matched = metrics.matched.get(&id).copied().unwrap_or(0);
        let lag = metrics.last_log_index.saturating_sub(matched);
        (id, Standing { address, votes, last_contact, lag })
    };
    voters.chain(learners).map(standing).collect()
}

async fn change_group(shared: &Shared, change: Change) {
    let raft = &shared.raft;
    let changed = async {
        match change.clone() {
            Change::Add(id, address) => raft.add_learner(id, address).await,
            Change::Promote(id) => raft.promote(id).await,
            Change::Demote(id) => raft.demote(id).await,
            Change::Remove(id) => raft.remove_server(id).await,
        }
    };
    match tokio::time::timeout(CHANGE_TIMEOUT, changed).await {
        Ok(Ok(())) => tracing::info!(?change, "consensus group changed"),
        Ok(Err(error)) => tracing::warn!(?change, %error, "consensus group not changed"),
        Err(_elapsed) => tracing::warn!(?change, "consensus group not changed in time"),
    }
}

/// Answers what another server, or this one, asks of the group.
pub(crate) async fn answer(shared: &Shared, ask: GroupAsk) -> GroupAnswer {
    match ask {
        GroupAsk::Change(GroupChange::Forget { name, prune }) => {
            forget_here(shared, &name, prune).await;
            GroupAnswer::Done(None)
        }
        _ if !shared.raft.metrics().borrow().is_leader => GroupAnswer::NotLeader,
        GroupAsk::Health => GroupAnswer::Health(health(shared)),
        GroupAsk::Change(GroupChange::Remove(id)) => remove(shared, id).await,
        GroupAsk::Change(GroupChange::Transfer(target)) => {
            match shared.raft.transfer_leadership(target).await {
                Ok(leader) => GroupAnswer::Done(Some(leader)),
                Err(cos_raft::TransferError::NotLeader) => GroupAnswer::NotLeader,
                Err(error) => GroupAnswer::Refused(error.to_string()),
            }
        }
    }
}

async fn remove(shared: &Shared, id: ServerId) -> GroupAnswer {
    if id == shared.id {
        // The next leader lets this one go.
        return match shared.raft.transfer_leadership(None).await {
            Ok(_) => GroupAnswer::NotLeader,
            Err(error) => GroupAnswer::Refused(error.to_string()),
        };
    }
    if !shared.members().contains_key(&id) {
        return GroupAnswer::NotFound(format!("{id} is no server of the consensus group"));
    }
    match shared.raft.remove_server(id).await {
        Ok(()) => GroupAnswer::Done(None),
        Err(MembershipError::NotLeader { .. }) => GroupAnswer::NotLeader,
        Err(error) => GroupAnswer::Refused(error.to_string()),
    }
}

/// Asks whoever can answer, and looks for a leader until the deadline of proposals.
pub(crate) async fn ask(shared: &Shared, ask: GroupAsk) -> Result<GroupAnswer, GroupError> {
    let deadline = Instant::now() + shared.config.timing.propose_deadline;
    loop {
        let answered = match shared.other_leader() {
            Some((_, leader)) => {
                let left = deadline.saturating_duration_since(Instant::now());
                let called = shared.client.call(&leader, wire::GROUP, wire::encode(&ask), left);
                let reply = called.await.ok();
                reply.and_then(|reply| wire::decode(&reply).ok())
            }
            None => Some(answer(shared, ask.clone()).await),
        };
        match answered {
            Some(GroupAnswer::NotLeader) | None if Instant::now() >= deadline => {
                return Err(GroupError::NoLeader);
            }
            Some(GroupAnswer::NotLeader) | None => tokio::time::sleep(LEADER_WAIT).await,
            Some(GroupAnswer::NotFound(what)) => return Err(GroupError::NotFound(what)),
            Some(GroupAnswer::Refused(why)) => return Err(GroupError::Refused(why)),
            Some(answer) => return Ok(answer),
        }
    }
}

/// Tells every server that answers that one which does not is gone for good.
pub(crate) async fn forget(shared: &Shared, name: &str, prune: bool) -> Result<(), GroupError> {
    let peers = shared.gossip.peers();
    let Some(peer) = peers.iter().find(|peer| is_called(peer, name)) else {
        return Err(GroupError::NotFound(format!("there is no server `{name}`")));
    };
    if peer.is_alive() {
        let text = format!(
            "server `{name}` answers; stop it, or take it out of the group with `operator raft \
             remove-peer`"
        );
        return Err(GroupError::Refused(text));
    }
    forget_here(shared, name, prune).await;
    let change = GroupChange::Forget { name: name.to_owned(), prune };
    let body = wire::encode(&GroupAsk::Change(change));
    for other in peers.iter().filter(|peer| peer.is_alive() && peer.id() != Some(shared.id)) {
        let address = other.tag("rpc_addr");
        let told = shared.client.call(address, wire::GROUP, body.clone(), wire::QUICK_CALL).await;
        if let Err(error) = told {
            tracing::warn!(address, %error, "a server was not told that another is gone");
        }
    }
    Ok(())
}

async fn forget_here(shared: &Shared, name: &str, prune: bool) {
    let peers = shared.gossip.peers();
    // Gossip here may not have noticed yet; what is noted has no effect on one that answers.
    for peer in peers.iter().filter(|peer| is_called(peer, name)) {
        shared.gossip.forget(peer.address, prune).await;
    }
}

/// Servers are called by their name, or by name and region as `server members` shows them.
fn is_called(peer: &Peer, name: &str) -> bool {
    let own = peer.tag("name");
    own == name
        || name.strip_prefix(own).and_then(|rest| rest.strip_prefix('.'))
            == Some(peer.tag("region"))
}

/// How the group does, as the leader sees it.
fn health(shared: &Shared) -> GroupHealth {
    let metrics = shared.raft.metrics().borrow().clone();
    let healths = shared.healths.borrow().clone();
    let peers = shared.gossip.peers();
    let (now, date) = (shared.clock.monotonic(), shared.now());
    let by_id: BTreeMap<ServerId, &Peer> =
        peers.iter().filter_map(|peer| Some((peer.id()?, peer))).collect();
    let servers: Vec<ServerHealth> = standings(&metrics, &shared.raft.contact())
        .into_iter()
        .map(|(id, standing)| {
            let peer = by_id.get(&id);
            let tag = |name: &str| peer.map_or_else(String::new, |peer| peer.tag(name).to_owned());
            let health = healths.of(id);
            let is_own = id == shared.id;
            ServerHealth {
                id,
                name: tag("name"),
                address: standing.address,
                status: peer.map_or(MemberStatus::Failed, |peer| peer.status),
                version: tag("build"),
                zone: tag(ZONE_TAG),
                is_leader: is_own,
                last_contact: if is_own { Some(Duration::ZERO) } else { standing.last_contact },
                last_term: metrics.term,
                last_index: metrics.last_log_index.saturating_sub(standing.lag),
                is_healthy: health.is_some_and(|health| health.is_healthy),
                votes: standing.votes,
                stable_since: health.map_or(date, |health| date - now.saturating_sub(health.since)),
            }
        })
        .collect();
    GroupHealth::of(servers)
}
