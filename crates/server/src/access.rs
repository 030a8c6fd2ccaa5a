//! Which peer may call what: a role is checked on every call, by this table alone.
//!
//! Pure. What is not in the table is refused, so a method without a row cannot be called.

use cos_platform::rpc::{Peer, Who};
use cos_platform::tls::{Home, Member, Role};

use crate::wire;

/// Who may call a method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Callers {
    /// Servers only: consensus, and what servers forward to each other.
    Servers,
    /// Members, each for itself.
    Members,
    /// Everybody, also who has no certificate yet.
    Anybody,
}

/// What every method of consensus begins with.
pub(crate) const CONSENSUS: &str = "raft.";

/// The table.
pub(crate) const METHODS: [(&str, Callers); 13] = [
    (CONSENSUS, Callers::Servers),
    (wire::PROPOSE, Callers::Servers),
    (wire::BARRIER, Callers::Servers),
    (wire::HEARTBEATS, Callers::Servers),
    (wire::STATUS, Callers::Servers),
    (wire::CONFIRMATIONS, Callers::Servers),
    (wire::LEADER_WATCH, Callers::Servers),
    (wire::GROUP, Callers::Servers),
    (wire::KEYRING, Callers::Servers),
    (wire::AGENT_STREAM, Callers::Members),
    (wire::AGENT_QUERY, Callers::Members),
    (cos_identity::wire::RENEW, Callers::Members),
    (cos_identity::wire::JOIN, Callers::Anybody),
];

/// Who may call a method; `None` if there is no such method.
pub(crate) fn callers(method: &str) -> Option<Callers> {
    let is_it = |name: &str| name == method || name == CONSENSUS && method.starts_with(CONSENSUS);
    METHODS.iter().find(|(name, _)| is_it(name)).map(|(_, callers)| *callers)
}

/// Checks whether `peer` may call `method` of a server in `region`. A refusal says why and what
/// helps.
pub(crate) fn check(peer: &Peer, method: &str, region: &str) -> Result<(), String> {
    let Some(callers) = callers(method) else {
        return Err(format!("there is no method `{method}`"));
    };
    match (&peer.who, callers) {
        (Who::Trusted, _) | (_, Callers::Anybody) => Ok(()),
        (Who::Stranger | Who::Introduced, _) => Err(format!(
            "`{method}` needs the certificate of a member of the cluster, and none was shown: \
             create a token with `cos token create -role server|client` on a server, and start the \
             agent with -join-token"
        )),
        (Who::Member(member), _) if !is_at_home(member, region) => {
            Err(format!("the certificate is not for region `{region}`"))
        }
        (Who::Member(member), Callers::Servers) if member.role != Role::Server => Err(format!(
            "`{method}` is for servers, and the certificate is that of a {}",
            member.role.name()
        )),
        (Who::Member(_), _) => Ok(()),
    }
}

/// Whether a certificate that an operator made was made for this region. Those of the cluster's own
/// authority need no such check: no other cluster has it.
fn is_at_home(member: &Member, region: &str) -> bool {
    match &member.home {
        Home::Cluster(_) => true,
        Home::Region(name) => name == region,
    }
}

/// Checks whether a peer may speak for a node. A server may speak for any; where an operator made
/// the certificate it names none, and the node's secret is what tells nodes apart.
pub(crate) fn check_node(peer: &Peer, node: &str) -> Result<(), String> {
    match &peer.who {
        Who::Member(Member { role: Role::Client, id: Some(id), .. }) if id != node => {
            Err(format!("the certificate is that of node {id}, and it speaks for node {node}"))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    fn peer(who: &str) -> Peer {
        let member = |role, id: Option<&str>, home| {
            Who::Member(Member { role, id: id.map(str::to_owned), home })
        };
        let ours = || Home::Cluster("c".to_owned());
        let region = |name: &str| Home::Region(name.to_owned());
        Peer {
            address: SocketAddr::from(([10, 0, 0, 1], 1)),
            who: match who {
                "plain" => Who::Trusted,
                "stranger" => Who::Stranger,
                "introduced" => Who::Introduced,
                "server" => member(Role::Server, Some("s"), ours()),
                "client" => member(Role::Client, Some("n"), ours()),
                "given server" => member(Role::Server, None, region("global")),
                "given client" => member(Role::Client, None, region("global")),
                "elsewhere" => member(Role::Server, None, region("eu")),
                other => panic!("{other}"),
            },
        }
    }

    /// Who of all kinds of peers may call a method.
    #[track_caller]
    fn check_row(method: &str, expected: &[&str]) {
        let all = [
            "plain",
            "stranger",
            "introduced",
            "server",
            "client",
            "given server",
            "given client",
            "elsewhere",
        ];
        let allowed: Vec<&str> =
            all.into_iter().filter(|who| check(&peer(who), method, "global").is_ok()).collect();
        assert_eq!(allowed, expected, "{method}");
    }

    #[test]
    fn consensus_and_what_servers_forward_is_for_servers() {
        for method in [
            "raft.append",
            "raft.vote",
            "raft.snapshot",
            wire::PROPOSE,
            wire::BARRIER,
            wire::HEARTBEATS,
            wire::STATUS,
            wire::CONFIRMATIONS,
            wire::KEYRING,
            wire::LEADER_WATCH,
        ] {
            check_row(method, &["plain", "server", "given server"]);
        }
    }

    #[test]
    fn agents_speak_for_themselves_and_strangers_may_only_ask_to_join() {
        for method in [wire::AGENT_STREAM, wire::AGENT_QUERY, cos_identity::wire::RENEW] {
            check_row(method, &["plain", "server", "client", "given server", "given client"]);
        }
        let all = [
            "plain",
            "stranger",
            "introduced",
            "server",
            "client",
            "given server",
            "given client",
            "elsewhere",
        ];
        check_row(cos_identity::wire::JOIN, &all);
    }

    #[test]
    fn what_is_not_in_the_table_is_nobodys() {
        for method in ["", "server", "agent.streams", "rafts", "identity.join2"] {
            check_row(method, &[]);
        }
    }

    #[test]
    fn a_client_speaks_for_its_own_node_only() {
        for (who, node, expected) in [
            ("client", "n", true),
            ("client", "other", false),
            ("server", "other", true),
            ("given client", "other", true),
            ("plain", "other", true),
        ] {
            assert_eq!(check_node(&peer(who), node).is_ok(), expected, "{who} for {node}");
        }
    }
}
