//! What this server answers on the cluster's own port.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use cos_platform::rpc::{Peer, RpcError, Service};
use tokio::sync::mpsc;

use crate::shared::Shared;
use crate::wire::{self, Liveness};
use crate::{access, agents, bootstrap, gossip, group, queries, trust, vigil};

/// The server's side of the cluster's own protocol.
#[derive(Clone, Debug)]
pub(crate) struct Rpc(pub(crate) Arc<Shared>);

#[async_trait]
impl Service for Rpc {
    async fn call(&self, peer: &Peer, method: &str, body: Bytes) -> Result<Bytes, RpcError> {
        let shared = &self.0;
        self.admit(peer, method, access::check(peer, method, &shared.config.region))?;
        metrics::counter!(crate::metrics::RPC_REQUESTS).increment(1);
        match method {
            wire::PROPOSE => Ok(wire::encode(&shared.propose_forwarded(body).await)),
            wire::BARRIER => Ok(wire::encode(&shared.barrier_forwarded().await)),
            wire::HEARTBEATS => {
                let liveness: Liveness = read(method, &body)?;
                // A full queue means that the leader is drowning; the next heartbeat tells again.
                drop(shared.liveness.try_send(liveness));
                Ok(Bytes::new())
            }
            wire::STATUS => Ok(wire::encode(&bootstrap::status(shared).await)),
            wire::GROUP => {
                let ask = read(method, &body)?;
                Ok(wire::encode(&group::answer(shared, ask).await))
            }
            wire::AGENT_QUERY => {
                let query = read(method, &body)?;
                self.admit(peer, method, access::check_node(peer, &queries::asker(&query)))?;
                Ok(wire::encode(&queries::answer(shared, query).await))
            }
            wire::CONFIRMATIONS => Ok(wire::encode(&trust::confirmations(shared))),
            wire::KEYRING => Ok(wire::encode(&gossip::change(shared, &read(method, &body)?))),
            cos_identity::wire::JOIN => {
                Ok(wire::encode(&Box::pin(trust::join(shared, peer, &body)).await))
            }
            cos_identity::wire::RENEW => trust::renew(shared, peer, &body)
                .map(|r| wire::encode(&r))
                .map_err(RpcError::Refused),
            _ if method.starts_with(access::CONSENSUS) => {
                if cos_raft::is_from_leader(method) {
                    shared.note_contact();
                }
                let handled = shared.raft.handle(method, body).await;
                handled.map_err(|error| RpcError::Refused(error.to_string()))
            }
            _ => Err(RpcError::Refused(format!("there is no method `{method}`"))),
        }
    }

    async fn stream(
        &self,
        peer: &Peer,
        method: &str,
        inbound: mpsc::Receiver<Bytes>,
        outbound: mpsc::Sender<Bytes>,
    ) -> Result<(), RpcError> {
        self.admit(peer, method, access::check(peer, method, &self.0.config.region))?;
        match method {
            wire::LEADER_WATCH => vigil::be_watched(inbound, outbound).await,
            wire::AGENT_STREAM => Box::pin(agents::serve(&self.0, peer, inbound, outbound)).await,
            _ => Err(RpcError::Refused(format!("there is no stream `{method}`"))),
        }
    }
}

impl Rpc {
    /// Turns a refusal into an answer, and tells the log, though not without end.
    fn admit(&self, peer: &Peer, method: &str, may: Result<(), String>) -> Result<(), RpcError> {
        may.map_err(|why| {
            self.0.complain(peer, method, &why);
            RpcError::Refused(why)
        })
    }
}

fn read<T: serde::de::DeserializeOwned>(method: &str, body: &Bytes) -> Result<T, RpcError> {
    wire::decode(body)
        .map_err(|error| RpcError::Refused(format!("`{method}` cannot be read: {error}")))
}
