//! Who belongs to the consensus group: the leader takes in servers that gossip finds and lets go of
//! those that left.
//!
//! Pure: what gossip and consensus say in, changes out.
//!
//! # Deliberately absent
//!
//! - Removing servers that merely stopped answering. They may come back with their data; only one
//!   that left, or whose place another took, is let go.

use std::collections::BTreeMap;

use cos_model::ServerId;
use cos_state::MemberStatus;

use crate::gossip::Peer;

/// A change of the group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// Takes a server in, or notes its new address.
    Add(ServerId, String),
    /// Lets a server go.
    Remove(ServerId),
}

/// Decides how the group has to change. `members` are all voters and learners with their addresses.
pub(crate) fn decide(
    peers: &[Peer],
    region: &str,
    own: ServerId,
    members: &BTreeMap<ServerId, String>,
) -> Vec<Change> {
    let known: BTreeMap<ServerId, &Peer> = peers
        .iter()
        .filter(|peer| peer.tag("region") == region)
        .filter_map(|peer| Some((peer.id()?, peer)))
        .collect();
    let mut changes: Vec<Change> = known
        .iter()
        .filter(|(_, peer)| peer.is_alive())
        .filter(|(id, peer)| members.get(id).map(String::as_str) != Some(peer.tag("rpc_addr")))
        .map(|(id, peer)| Change::Add(*id, peer.tag("rpc_addr").to_owned()))
        .collect();
    let alive_addresses: BTreeMap<&str, ServerId> = known
        .iter()
        .filter(|(_, peer)| peer.is_alive())
        .map(|(id, peer)| (peer.tag("rpc_addr"), *id))
        .collect();
    let is_gone = |id: &ServerId, address: &str| {
        let left = known.get(id).is_some_and(|peer| peer.status == MemberStatus::Left);
        let replaced = alive_addresses.get(address).is_some_and(|other| other != id);
        left || replaced
    };
    changes.extend(
        members
            .iter()
            .filter(|(id, address)| **id != own && is_gone(id, address))
            .map(|(id, _)| Change::Remove(*id)),
    );
    changes
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::sync::Arc;

    use super::*;

    /// Peers are `id@address:status`, members `id@address`.
    #[track_caller]
    fn check(peers: &str, members: &str, expected: &str) {
        let peers: Vec<Peer> = peers.split_whitespace().map(peer).collect();
        let members: BTreeMap<ServerId, String> = members
            .split_whitespace()
            .map(|word| {
                let (id, address) = word.split_once('@').unwrap();
                (server(id), address.to_owned())
            })
            .collect();
        let changes = decide(&peers, "global", server("1"), &members);
        let shown: Vec<String> = changes
            .iter()
            .map(|change| match change {
                Change::Add(id, address) => format!("add{}@{address}", id.bits()),
                Change::Remove(id) => format!("remove{}", id.bits()),
            })
            .collect();
        assert_eq!(shown.join(" "), expected);
    }

    fn server(id: &str) -> ServerId {
        ServerId::from_bits(id.parse().unwrap())
    }

    fn peer(text: &str) -> Peer {
        let (id, rest) = text.split_once('@').unwrap();
        let (address, status) = rest.split_once(':').unwrap();
        let tags = [
            ("id", server(id).to_string()),
            ("region", "global".to_owned()),
            ("rpc_addr", address.to_owned()),
        ];
        Peer {
            address: SocketAddr::from(([127, 0, 0, 1], 1)),
            tags: Arc::new(tags.into_iter().map(|(k, v)| (k.to_owned(), v)).collect()),
            status: match status {
                "left" => MemberStatus::Left,
                "failed" => MemberStatus::Failed,
                _ => MemberStatus::Alive,
            },
        }
    }

    #[test]
    fn a_new_server_is_taken_in() {
        check("1@a:alive 2@b:alive", "1@a", "add2@b");
        check("1@a:alive 2@b:failed", "1@a", "");
        check("1@a:alive 2@b:alive", "1@a 2@b", "");
    }

    #[test]
    fn a_server_that_moved_is_noted_at_its_new_address() {
        check("1@a:alive 2@c:alive", "1@a 2@b", "add2@c");
    }

    #[test]
    fn only_who_left_or_was_replaced_is_let_go() {
        check("1@a:alive 2@b:failed", "1@a 2@b", "");
        check("1@a:alive 2@b:left", "1@a 2@b", "remove2");
        check("1@a:alive 3@b:alive", "1@a 2@b", "add3@b remove2");
    }
}
