//! Consensus between servers, over the cluster's own protocol.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use cos_model::ServerId;
use cos_platform::rpc::{Client, RpcError, Security};
use cos_platform::tls::Protocol;
use cos_raft::{Transport, TransportError};

/// Carries consensus messages on connections of their own, so that an election never waits behind
/// an agent's traffic.
#[derive(Clone, Debug)]
pub(crate) struct RaftTransport {
    client: Client,
}

impl RaftTransport {
    /// Makes one without connections.
    pub(crate) fn new(security: Security) -> Self {
        Self { client: Client::secured(security, Protocol::Servers) }
    }
}

#[async_trait]
impl Transport for RaftTransport {
    async fn send(
        &self,
        _target: ServerId,
        address: &str,
        method: &str,
        body: Bytes,
        timeout: Duration,
    ) -> Result<Bytes, TransportError> {
        let answered = self.client.call(address, method, body, timeout).await;
        answered.map_err(|error| {
            tracing::debug!(address, method, %error, "message of the consensus lost");
            match error {
                RpcError::Unreachable(why) => TransportError::Unreachable(why),
                RpcError::Timeout | RpcError::Refused(_) | RpcError::Closed => {
                    TransportError::Failed(error.to_string())
                }
            }
        })
    }
}
