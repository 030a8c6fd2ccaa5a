//! Changing the keys of gossip on all servers of the region at once.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::keyring::KeyringChange;
use crate::shared::Shared;
use crate::wire;

/// What all servers answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyringReport {
    /// How many servers were asked.
    pub servers: usize,
    /// How many have each key.
    pub keys: BTreeMap<String, usize>,
    /// How many encrypt with each key.
    pub primary: BTreeMap<String, usize>,
    /// What went wrong, by server.
    pub problems: BTreeMap<String, String>,
}

/// What one server answers: its keys as text, the one that encrypts first, or why not.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct KeyringAnswer {
    outcome: Result<Vec<String>, String>,
}

/// Does a change here.
pub(crate) fn change(shared: &Shared, change: &KeyringChange) -> KeyringAnswer {
    let outcome = shared.gossip.change_keys(change).map_err(|error| error.to_string());
    if outcome.is_ok() && *change != KeyringChange::List {
        tracing::info!("gossip keyring changed");
    }
    KeyringAnswer { outcome }
}

/// Does a change on all servers of the region that answer.
pub(crate) async fn change_everywhere(shared: &Shared, wanted: KeyringChange) -> KeyringReport {
    let mut report = KeyringReport::default();
    report.take(&shared.config.name, change(shared, &wanted).outcome);
    let peers = shared.gossip.peers();
    let others = peers.iter().filter(|peer| {
        peer.is_alive()
            && peer.tag("region") == shared.config.region
            && peer.id() != Some(shared.id)
    });
    for peer in others {
        let (body, address) = (wire::encode(&wanted), peer.tag("rpc_addr"));
        let reply = shared.client.call(address, wire::KEYRING, body, wire::QUICK_CALL).await;
        let outcome = match reply {
            Ok(reply) => wire::decode::<KeyringAnswer>(&reply)
                .map_or_else(|error| Err(error.to_string()), |answer| answer.outcome),
            Err(error) => Err(error.to_string()),
        };
        report.take(peer.tag("name"), outcome);
    }
    report
}

impl KeyringReport {
    fn take(&mut self, server: &str, outcome: Result<Vec<String>, String>) {
        self.servers += 1;
        match outcome {
            Ok(keys) => {
                if let Some(first) = keys.first() {
                    *self.primary.entry(first.clone()).or_default() += 1;
                }
                for key in keys {
                    *self.keys.entry(key).or_default() += 1;
                }
            }
            Err(why) => {
                self.problems.insert(server.to_owned(), why);
            }
        }
    }
}
