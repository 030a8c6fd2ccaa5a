//! Answers to the messages of other servers.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use openraft::errors::{Fatal, RaftError};
use tokio::time::Instant;

use super::Raft;
use crate::codec::DecodeError;
use crate::network::{APPEND, PRE_VOTE, SNAPSHOT, TRANSFER, VOTE};
use crate::types::{Snapshot, SnapshotMeta, Types, Vote};
use crate::wire::{self, Piece, PieceReply};

/// The largest snapshot that is accepted.
const SNAPSHOT_BYTES_MAX: u64 = 8 * 1024 * 1024 * 1024;

/// Why a message has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandleError {
    /// There is no such message.
    #[error("no raft message is called `{0}`")]
    UnknownMethod(String),
    /// The bytes are not what they should be.
    #[error("a {method} message {problem}")]
    Malformed {
        /// Which message.
        method: String,
        /// What is wrong with it.
        problem: String,
    },
    /// This server takes part no more.
    #[error("raft has stopped: {0}")]
    Stopped(String),
}

/// The pieces of a snapshot that have arrived.
#[derive(Debug)]
pub(super) struct Assembly {
    vote: Vote,
    meta: SnapshotMeta,
    content: Vec<u8>,
}

impl Raft {
    /// Answers a message that another server's transport has sent.
    pub async fn handle(&self, method: &str, body: Bytes) -> Result<Bytes, HandleError> {
        let malformed = |error: DecodeError| HandleError::Malformed {
            method: method.to_owned(),
            problem: error.to_string(),
        };
        let engine = &self.inner.engine;
        match method {
            APPEND => {
                let request = wire::decode(body, wire::read_append).map_err(malformed)?;
                self.inner.heard.fetch_add(1, Ordering::Relaxed);
                let reply =
                    engine.append_entries(request).await.map_err(|error| stopped(&error))?;
                Ok(wire::encode(|writer| wire::write_append_reply(writer, &reply)))
            }
            VOTE => {
                let request = wire::decode(body, wire::read_vote).map_err(malformed)?;
                let candidate = request.vote.leader_id.voted_for;
                let reply = engine.vote(request).await.map_err(|error| stopped(&error))?;
                if reply.vote_granted {
                    self.inner.campaign.note(candidate, Instant::now());
                }
                Ok(wire::encode(|writer| wire::write_vote_reply(writer, &reply)))
            }
            PRE_VOTE => {
                let request = wire::decode(body, wire::read_vote).map_err(malformed)?;
                let candidate = request.vote.leader_id.voted_for;
                let mut reply = engine.pre_vote(request).await.map_err(|error| stopped(&error))?;
                if self.inner.campaign.rivals(candidate, Instant::now()).is_some() {
                    reply.vote_granted = false;
                } else if reply.vote_granted {
                    self.inner.campaign.note(candidate, Instant::now());
                }
                Ok(wire::encode(|writer| wire::write_vote_reply(writer, &reply)))
            }
            SNAPSHOT => {
                let piece = wire::decode(body, wire::read_piece).map_err(malformed)?;
                let reply = self.take_piece(piece).await?;
                Ok(wire::encode(|writer| wire::write_piece_reply(writer, &reply)))
            }
            TRANSFER => {
                let request = wire::decode(body, wire::read_transfer).map_err(malformed)?;
                let reply =
                    engine.handle_transfer_leader(request).await.map_err(|error| fatal(&error))?;
                Ok(wire::encode(|writer| wire::write_transfer_reply(writer, &reply)))
            }
            other => Err(HandleError::UnknownMethod(other.to_owned())),
        }
    }

    /// Adds a piece, and installs the snapshot if it was the last one.
    async fn take_piece(&self, piece: Piece) -> Result<PieceReply, HandleError> {
        let malformed = |problem: &str| HandleError::Malformed {
            method: SNAPSHOT.to_owned(),
            problem: problem.to_owned(),
        };
        let mut assembly = self.inner.assembly.lock().await;
        if piece.total > SNAPSHOT_BYTES_MAX {
            return Err(malformed("announces a snapshot that is too large"));
        }
        if piece.offset == 0 {
            // Pieces of an earlier attempt are of no use to this one.
            *assembly =
                Some(Assembly { vote: piece.vote, meta: piece.meta.clone(), content: Vec::new() });
        }
        let matching = assembly.as_mut().filter(|assembly| {
            assembly.vote == piece.vote
                && assembly.meta == piece.meta
                && assembly.content.len() as u64 == piece.offset
        });
        let Some(pending) = matching else {
            return Err(malformed("does not follow the one before"));
        };
        pending.content.extend_from_slice(&piece.content);
        let length = pending.content.len() as u64;
        if length < piece.total {
            return Ok(PieceReply::More);
        }
        let complete = assembly.take().filter(|_| length == piece.total);
        // Installing takes its time; the engine itself puts attempts in order.
        drop(assembly);
        let complete = complete.ok_or_else(|| malformed("is longer than announced"))?;
        let snapshot = Snapshot { meta: complete.meta, snapshot: complete.content.into() };
        let installed = self.inner.engine.install_full_snapshot(complete.vote, snapshot).await;
        Ok(PieceReply::Done(installed.map_err(|error| fatal(&error))?.vote))
    }
}

fn stopped(error: &RaftError<Types>) -> HandleError {
    HandleError::Stopped(error.to_string())
}

fn fatal(error: &Fatal<Types>) -> HandleError {
    HandleError::Stopped(error.to_string())
}
