//! Who belongs to the consensus group, and who of them votes: the leader takes in servers that
//! gossip finds, lets them vote once they are stable, and lets go of those that are gone.
//!
//! Pure: what gossip, consensus and the configuration say in, changes out.
//!
//! # Invariants
//!
//! - A dead voter is let go only while the voters that answer are a majority with it and without
//!   it, and while at least [`VOTERS_KEPT`] (or `min_quorum`, if that is more) stay.
//! - Of a zone one server votes, if zones are on; the others follow and stand by.
//! - A server votes only after it was healthy for the stabilization time. The founders did not
//!   have to be.
//!
//! # Deliberately absent
//!
//! - Trust. Who may join at all is decided where connections are made.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use cos_model::ServerId;
use cos_state::{AutopilotConfig, MemberStatus};

use crate::gossip::Peer;

/// A group does not shrink below this because of deaths: two voters bear no loss, and a server
/// that is merely down for a while comes back faster than it is taken in again.
pub(crate) const VOTERS_KEPT: usize = 3;

/// The gossip tag with a server's zone.
pub(crate) const ZONE_TAG: &str = "zone";

/// The gossip tag of a server that never votes.
pub(crate) const NON_VOTER_TAG: &str = "nonvoter";

/// A change of the group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// Takes a server in without a vote, or notes a member's new address.
    Add(ServerId, String),
    /// Lets a follower vote.
    Promote(ServerId),
    /// Takes a voter's vote.
    Demote(ServerId),
    /// Lets a server go.
    Remove(ServerId),
}

/// What consensus knows of one member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) address: String,
    pub(crate) votes: bool,
    /// How long ago the leader heard of it; none if never in this term.
    pub(crate) last_contact: Option<Duration>,
    /// How many entries it lags behind the leader.
    pub(crate) lag: u64,
}

/// How a member does, and since when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Health {
    pub(crate) is_healthy: bool,
    /// By the leader's monotonic clock.
    pub(crate) since: Duration,
}

/// How the members do, as the leader has seen them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Healths {
    known: BTreeMap<ServerId, Health>,
}

impl Healths {
    /// Looks at every member, and forgets who is none any more.
    pub(crate) fn look(&mut self, view: &View<'_>, now: Duration) {
        self.known.retain(|id, _| view.members.contains_key(id));
        for (id, standing) in &view.members {
            let is_healthy = *id == view.own || is_healthy(view, *id, standing);
            let known = self.known.entry(*id).or_insert(Health { is_healthy, since: now });
            if known.is_healthy != is_healthy {
                *known = Health { is_healthy, since: now };
            }
        }
    }

    /// How a member does.
    pub(crate) fn of(&self, id: ServerId) -> Option<Health> {
        self.known.get(&id).copied()
    }

    fn has_been(
        &self,
        id: ServerId,
        is_healthy: bool,
        for_at_least: Duration,
        now: Duration,
    ) -> bool {
        self.of(id).is_some_and(|health| {
            health.is_healthy == is_healthy && now.saturating_sub(health.since) >= for_at_least
        })
    }

    fn is_well(&self, id: ServerId) -> bool {
        self.of(id).is_some_and(|health| health.is_healthy)
    }
}

fn is_healthy(view: &View<'_>, id: ServerId, standing: &Standing) -> bool {
    let answers = view.peers.get(&id).is_some_and(|peer| peer.is_alive());
    let contact = standing.last_contact;
    answers
        && contact.is_some_and(|since| since <= view.config.last_contact_threshold)
        && standing.lag <= view.config.max_trailing_logs
}

/// Everything that is looked at.
#[derive(Clone, Debug)]
pub(crate) struct View<'a> {
    pub(crate) config: &'a AutopilotConfig,
    /// This server, which leads.
    pub(crate) own: ServerId,
    /// What gossip knows of the servers of this region.
    pub(crate) peers: BTreeMap<ServerId, &'a Peer>,
    pub(crate) members: BTreeMap<ServerId, Standing>,
}

impl<'a> View<'a> {
    pub(crate) fn new(
        config: &'a AutopilotConfig,
        own: ServerId,
        region: &str,
        peers: &'a [Peer],
        members: BTreeMap<ServerId, Standing>,
    ) -> Self {
        let peers = peers
            .iter()
            .filter(|peer| peer.tag("region") == region)
            .filter_map(|peer| Some((peer.id()?, peer)))
            .collect();
        Self { config, own, peers, members }
    }

    fn voters(&self) -> impl Iterator<Item = ServerId> {
        self.members.iter().filter(|(_, member)| member.votes).map(|(id, _)| *id)
    }

    fn zone(&self, id: ServerId) -> Option<&str> {
        let zone = self.peers.get(&id).map_or("", |peer| peer.tag(ZONE_TAG));
        (self.config.enable_redundancy_zones && !zone.is_empty()).then_some(zone)
    }

    fn never_votes(&self, id: ServerId) -> bool {
        self.peers.get(&id).is_some_and(|peer| !peer.tag(NON_VOTER_TAG).is_empty())
    }

    fn has_left(&self, id: ServerId) -> bool {
        self.peers.get(&id).is_some_and(|peer| peer.status == MemberStatus::Left)
    }
}

/// Decides how the group has to change; the changes are made in this order.
pub(crate) fn decide(view: &View<'_>, healths: &Healths, now: Duration) -> Vec<Change> {
    let mut changes = arrivals(view);
    let departures = departures(view);
    let promoted = promotions(view, healths, now);
    changes.extend(promoted.iter().map(|id| Change::Promote(*id)));
    changes.extend(demotions(view, healths, &promoted).into_iter().map(Change::Demote));
    changes.extend(departures.iter().map(|id| Change::Remove(*id)));
    let dead = dead(view, healths, now, &promoted, &departures);
    changes.extend(dead.into_iter().map(Change::Remove));
    changes
}

/// Servers that answer and are no members, or members elsewhere.
fn arrivals(view: &View<'_>) -> Vec<Change> {
    let is_known_there = |id: &ServerId, address: &str| {
        view.members.get(id).is_some_and(|member| member.address == address)
    };
    view.peers
        .iter()
        .filter(|(_, peer)| peer.is_alive())
        .filter(|(id, peer)| !is_known_there(id, peer.tag("rpc_addr")))
        .map(|(id, peer)| Change::Add(*id, peer.tag("rpc_addr").to_owned()))
        .collect()
}

/// Members that left, or whose place another server took.
fn departures(view: &View<'_>) -> BTreeSet<ServerId> {
    let by_address: BTreeMap<&str, ServerId> = view
        .peers
        .iter()
        .filter(|(_, peer)| peer.is_alive())
        .map(|(id, peer)| (peer.tag("rpc_addr"), *id))
        .collect();
    let is_replaced = |id: &ServerId, member: &Standing| {
        by_address.get(member.address.as_str()).is_some_and(|other| other != id)
    };
    view.members
        .iter()
        .filter(|(id, member)| **id != view.own && (view.has_left(**id) || is_replaced(id, member)))
        .map(|(id, _)| *id)
        .collect()
}

/// Followers that may vote now. With zones on, at most one of each zone that has no voter that is
/// well.
fn promotions(view: &View<'_>, healths: &Healths, now: Duration) -> Vec<ServerId> {
    let mut served: BTreeSet<&str> =
        view.voters().filter(|id| healths.is_well(*id)).filter_map(|id| view.zone(id)).collect();
    let stable = view.config.server_stabilization_time;
    let mut promoted = Vec::new();
    for (id, _) in view.members.iter().filter(|(_, member)| !member.votes) {
        let answers = view.peers.get(id).is_some_and(|peer| peer.is_alive());
        if !answers || view.never_votes(*id) || !healths.has_been(*id, true, stable, now) {
            continue;
        }
        match view.zone(*id) {
            Some(zone) if !served.insert(zone) => {}
            _ => promoted.push(*id),
        }
    }
    promoted
}

/// Voters that shall not vote: those that never do, and of each zone all but one.
fn demotions(view: &View<'_>, healths: &Healths, promoted: &[ServerId]) -> Vec<ServerId> {
    let mut kept: BTreeSet<&str> = promoted.iter().filter_map(|id| view.zone(*id)).collect();
    kept.extend(view.zone(view.own));
    // Who is well stays before who is not.
    let mut voters: Vec<ServerId> = view.voters().filter(|id| *id != view.own).collect();
    voters.sort_by_key(|id| !healths.is_well(*id));
    let mut demoted = Vec::new();
    for id in voters {
        let is_surplus = view.zone(id).is_some_and(|zone| !kept.insert(zone));
        if is_surplus || view.never_votes(id) {
            demoted.push(id);
        }
    }
    demoted
}

/// Members that gossip gave up long enough ago, as far as the group can do without them.
fn dead(
    view: &View<'_>,
    healths: &Healths,
    now: Duration,
    promoted: &[ServerId],
    departures: &BTreeSet<ServerId>,
) -> Vec<ServerId> {
    if !view.config.cleanup_dead_servers {
        return Vec::new();
    }
    let stable = view.config.server_stabilization_time;
    let is_dead = |id: &ServerId| {
        let failed = view.peers.get(id).is_none_or(|peer| peer.status == MemberStatus::Failed);
        *id != view.own && failed && healths.has_been(*id, false, stable, now)
    };
    let min_quorum = usize::try_from(view.config.min_quorum).unwrap_or(usize::MAX);
    let kept = VOTERS_KEPT.max(min_quorum);
    let mut voters: BTreeSet<ServerId> = view.voters().chain(promoted.iter().copied()).collect();
    voters.retain(|id| !departures.contains(id));
    let mut gone = Vec::new();
    for id in view.members.keys().filter(|id| !departures.contains(id) && is_dead(id)) {
        if !voters.contains(id) {
            gone.push(*id);
            continue;
        }
        let answering = voters.iter().filter(|id| !is_dead(id)).count();
        if answering * 2 > voters.len() && voters.len() > kept {
            voters.remove(id);
            gone.push(*id);
        }
    }
    gone
}

#[cfg(test)]
mod tests;
