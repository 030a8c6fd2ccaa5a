//! What this server answers on the cluster's own port.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use cos_platform::rpc::{RpcError, Service};
use tokio::sync::mpsc;

use crate::shared::Shared;
use crate::wire::{self, Liveness};
use crate::{agents, bootstrap, queries, vigil};

/// The server's side of the cluster's own protocol.
#[derive(Clone, Debug)]
pub(crate) struct Rpc(pub(crate) Arc<Shared>);

#[async_trait]
impl Service for Rpc {
    async fn call(&self, method: &str, body: Bytes) -> Result<Bytes, RpcError> {
        let shared = &self.0;
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
            wire::AGENT_QUERY => {
                let query = read(method, &body)?;
                Ok(wire::encode(&queries::answer(shared, query).await))
            }
            _ if method.starts_with("raft.") => {
                shared.note_contact();
                let handled = shared.raft.handle(method, body).await;
                handled.map_err(|error| RpcError::Refused(error.to_string()))
            }
            _ => Err(RpcError::Refused(format!("there is no method `{method}`"))),
        }
    }

    async fn stream(
        &self,
        method: &str,
        inbound: mpsc::Receiver<Bytes>,
        outbound: mpsc::Sender<Bytes>,
    ) -> Result<(), RpcError> {
        match method {
            wire::LEADER_WATCH => vigil::be_watched(inbound, outbound).await,
            wire::AGENT_STREAM => Box::pin(agents::serve(&self.0, inbound, outbound)).await,
            _ => Err(RpcError::Refused(format!("there is no stream `{method}`"))),
        }
    }
}

fn read<T: serde::de::DeserializeOwned>(method: &str, body: &Bytes) -> Result<T, RpcError> {
    wire::decode(body)
        .map_err(|error| RpcError::Refused(format!("`{method}` cannot be read: {error}")))
}
