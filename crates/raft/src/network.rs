//! How the engine reaches other servers: its messages as bytes over a [`Transport`].
//!
//! Deliberately absent: connections and retries. The transport has the former, the engine does
//! the latter.

use std::error::Error;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use cos_model::ServerId;
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::impls::BasicNode;
use openraft::network::{RPCOption, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use tokio::time::Instant;

use crate::bytes::{Reader, Writer};
use crate::campaign::Campaign;
use crate::codec::DecodeError;
use crate::types::{Snapshot, Types, Vote};
use crate::wire::{self, Piece, PieceReply};

pub(crate) const APPEND: &str = "raft.append";
pub(crate) const VOTE: &str = "raft.vote";
pub(crate) const PRE_VOTE: &str = "raft.prevote";
pub(crate) const SNAPSHOT: &str = "raft.snapshot";
pub(crate) const TRANSFER: &str = "raft.transfer";

/// How much of a snapshot goes into one message; well below what a transport carries.
const PIECE_BYTES: usize = 32 * 1024 * 1024;
/// How long a follower may take to store entries before they are sent again. Its disk may be
/// slow, and sending again does not make it faster.
const APPEND_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a message got no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransportError {
    /// The server cannot be reached now; the next attempt comes after a pause.
    #[error("unreachable: {0}")]
    Unreachable(String),
    /// It was reached, but it did not answer in time, or refused, or the connection broke.
    #[error("failed: {0}")]
    Failed(String),
}

/// Carries messages to other servers, whose [`crate::Raft::handle`] answers them.
#[async_trait]
pub trait Transport: Send + Sync + 'static {
    /// Sends one message and waits for its answer.
    async fn send(
        &self,
        target: ServerId,
        address: &str,
        method: &str,
        body: Bytes,
        timeout: Duration,
    ) -> Result<Bytes, TransportError>;
}

/// Whether only a leader sends messages with this name.
pub fn is_from_leader(method: &str) -> bool {
    matches!(method, APPEND | SNAPSHOT | TRANSFER)
}

/// Makes the engine's connections.
pub(crate) struct Network {
    own: ServerId,
    transport: Arc<dyn Transport>,
    campaign: Arc<Campaign>,
}

impl Network {
    pub(crate) fn new(
        own: ServerId,
        transport: Arc<dyn Transport>,
        campaign: Arc<Campaign>,
    ) -> Self {
        Self { own, transport, campaign }
    }
}

impl RaftNetworkFactory<Types> for Network {
    type Network = Peer;

    async fn new_client(&mut self, target: ServerId, node: &BasicNode) -> Peer {
        Peer {
            own: self.own,
            transport: Arc::clone(&self.transport),
            campaign: Arc::clone(&self.campaign),
            target,
            address: node.addr.clone(),
        }
    }
}

/// One other server.
pub(crate) struct Peer {
    own: ServerId,
    transport: Arc<dyn Transport>,
    campaign: Arc<Campaign>,
    target: ServerId,
    address: String,
}

impl Peer {
    async fn exchange<T>(
        &self,
        method: &str,
        timeout: Duration,
        write: impl FnOnce(&mut Writer<'_>),
        read: impl FnOnce(&mut Reader) -> Result<T, DecodeError>,
    ) -> Result<T, RPCError<Types>> {
        let body = wire::encode(write);
        let sent = self.transport.send(self.target, &self.address, method, body, timeout).await;
        let answer = sent.map_err(|error| match error {
            TransportError::Unreachable(_) => RPCError::Unreachable(Unreachable::new(&error)),
            TransportError::Failed(_) => broken(&error),
        })?;
        wire::decode(answer, read).map_err(|error| broken(&error))
    }

    async fn send_pieces(
        &self,
        vote: Vote,
        snapshot: Snapshot,
        timeout: Duration,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        let content = snapshot.snapshot;
        let mut offset = 0;
        loop {
            let end = content.len().min(offset + PIECE_BYTES);
            let piece = Piece {
                vote,
                meta: snapshot.meta.clone(),
                total: content.len() as u64,
                offset: offset as u64,
                content: content.slice(offset..end),
            };
            let write = |writer: &mut Writer<'_>| wire::write_piece(writer, &piece);
            match self.exchange(SNAPSHOT, timeout, write, wire::read_piece_reply).await? {
                PieceReply::Done(vote) => return Ok(SnapshotResponse::new(vote)),
                PieceReply::More if end < content.len() => offset = end,
                PieceReply::More => {
                    let text = "the snapshot was sent, but more is expected";
                    return Err(StreamingError::Network(NetworkError::from_string(text)));
                }
            }
        }
    }
}

fn broken(error: &(impl Error + 'static)) -> RPCError<Types> {
    RPCError::Network(NetworkError::new(error))
}

impl RaftNetworkV2<Types> for Peer {
    type SnapshotData = Bytes;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<Types>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<Types>, RPCError<Types>> {
        // A heartbeat is followed by the next one soon; entries are worth waiting for.
        let is_heartbeat = request.entries.is_empty();
        let timeout = if is_heartbeat { option.hard_ttl() } else { APPEND_TIMEOUT };
        let write = |writer: &mut Writer<'_>| wire::write_append(writer, request);
        self.exchange(APPEND, timeout, write, wire::read_append_reply).await
    }

    async fn vote(
        &mut self,
        request: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        self.campaign.note(self.own, Instant::now());
        let write = |writer: &mut Writer<'_>| wire::write_vote(writer, &request);
        self.exchange(VOTE, option.hard_ttl(), write, wire::read_vote_reply).await
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        let write = |writer: &mut Writer<'_>| wire::write_vote(writer, &request);
        self.exchange(PRE_VOTE, option.hard_ttl(), write, wire::read_vote_reply).await
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        // A sending that is cancelled leaves pieces at the receiver, which the next one replaces.
        tokio::select! {
            outcome = self.send_pieces(vote, snapshot, option.hard_ttl()) => outcome,
            closed = cancel => Err(StreamingError::Closed(closed)),
        }
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<Types>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<Types>, RPCError<Types>> {
        let write = |writer: &mut Writer<'_>| wire::write_transfer(writer, &request);
        self.exchange(TRANSFER, option.hard_ttl(), write, wire::read_transfer_reply).await
    }
}
