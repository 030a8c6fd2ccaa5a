//! What the leader's duties set in motion: small tasks that propose.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use cos_state::{Command, MemberStatus, ProposeError};

use crate::duties::Subject;
use crate::gossip::Peer;
use crate::registration::{self, ServerEntry};
use crate::shared::Shared;

/// The wait after an errand that failed, so that it is not repeated at full speed.
const FAILED_ERRAND_WAIT: Duration = Duration::from_millis(500);

/// Keeps the catalog as gossip says that servers are. Nothing is returned where nothing has to
/// change.
pub(super) fn members(shared: &Arc<Shared>) -> Option<impl Future<Output = ()> + use<>> {
    let commands = catalog_commands(shared, &shared.gossip.peers());
    if commands.is_empty() {
        return None;
    }
    let shared = Arc::clone(shared);
    Some(async move { propose_all(&shared, Subject::Members, commands).await })
}

/// Proposes commands in order.
pub(super) async fn propose_all(shared: &Shared, subject: Subject, commands: Vec<Command>) {
    for command in commands {
        match shared.propose_as_leader(command).await {
            Ok(_) => {}
            Err(ProposeError::Refused(refused)) => {
                tracing::info!(?subject, %refused, "leader's command refused");
                tokio::time::sleep(FAILED_ERRAND_WAIT).await;
            }
            Err(error) => {
                tracing::debug!(?subject, %error, "leader's command not done");
                tokio::time::sleep(FAILED_ERRAND_WAIT).await;
                return;
            }
        }
    }
}

/// What the catalog lacks of the servers that gossip knows.
fn catalog_commands(shared: &Shared, peers: &[Peer]) -> Vec<Command> {
    let own_region = || peers.iter().filter(|peer| peer.tag("region") == shared.config.region);
    let servers: Vec<ServerEntry> =
        own_region().filter(|peer| peer.status != MemberStatus::Left).map(server_entry).collect();
    let is_back = |name: &str| servers.iter().any(|server| server.name == name);
    let gone: Vec<String> = own_region()
        .filter(|peer| peer.status == MemberStatus::Left && !is_back(peer.tag("name")))
        .map(|peer| peer.tag("name").to_owned())
        .collect();
    let state = shared.published.state();
    let changes = registration::decide(state.catalog(), &servers, &gone);
    if changes.is_empty() { Vec::new() } else { vec![Command::Catalog { changes }] }
}

fn server_entry(peer: &Peer) -> ServerEntry {
    let socket = |tag: &str| peer.tag(tag).parse::<SocketAddr>().ok();
    let mut ports = BTreeMap::from([("serf", peer.address.port())]);
    ports.extend(socket("rpc_addr").map(|at| ("rpc", at.port())));
    ports.extend(socket("http").map(|at| ("http", at.port())));
    ServerEntry {
        name: peer.tag("name").to_owned(),
        id: peer.tag("id").to_owned(),
        address: socket("rpc_addr").map_or_else(|| peer.address.ip(), |at| at.ip()).to_string(),
        ports,
        is_alive: peer.is_alive(),
    }
}
