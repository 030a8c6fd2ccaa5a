//! The messages between servers, as bytes. Each begins with the version of its form.
//!
//! Decoding takes whatever the network brings and answers with an error, never with a panic.

use bytes::Bytes;
use cos_model::ServerId;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, TransferLeaderError, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};

use crate::bytes::{Reader, Writer};
use crate::codec::{self, DecodeError};
use crate::log::{self, Mark, kind, number};
use crate::types::{SnapshotMeta, Types, Vote};

/// The version of all messages.
const VERSION: u8 = 1;

/// One piece of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    /// The vote of the leader that sends it.
    pub(crate) vote: Vote,
    pub(crate) meta: SnapshotMeta,
    /// How long the whole content is.
    pub(crate) total: u64,
    /// Where this piece begins.
    pub(crate) offset: u64,
    pub(crate) content: Bytes,
}

/// The answer to a piece.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PieceReply {
    /// More is expected.
    More,
    /// It was the last one; this is the receiver's vote after it.
    Done(Vote),
}

pub(crate) fn encode(write: impl FnOnce(&mut Writer<'_>)) -> Bytes {
    let mut bytes = vec![VERSION];
    write(&mut Writer::new(&mut bytes));
    bytes.into()
}

pub(crate) fn decode<T>(
    bytes: Bytes,
    read: impl FnOnce(&mut Reader) -> Result<T, DecodeError>,
) -> Result<T, DecodeError> {
    let mut reader = Reader::new(bytes);
    match reader.u8()? {
        VERSION => {}
        other => return Err(DecodeError::Version(other)),
    }
    let value = read(&mut reader)?;
    if reader.is_empty() { Ok(value) } else { Err(DecodeError::Invalid("more than it should")) }
}

pub(crate) fn write_append(writer: &mut Writer<'_>, request: AppendEntriesRequest<Types>) {
    codec::write_vote(writer, &request.vote);
    codec::write_log_id(writer, request.prev_log_id.as_ref());
    codec::write_log_id(writer, request.leader_commit.as_ref());
    writer.count(request.entries.len());
    for entry in request.entries {
        let entry = codec::stored_entry(entry);
        writer.u64(entry.mark.term);
        writer.u64(entry.mark.index);
        writer.u8(number(entry.kind));
        writer.bytes(&entry.payload);
    }
}

pub(crate) fn read_append(reader: &mut Reader) -> Result<AppendEntriesRequest<Types>, DecodeError> {
    let vote = codec::read_vote(reader)?;
    let prev_log_id = codec::read_log_id(reader)?;
    let leader_commit = codec::read_log_id(reader)?;
    let mut entries = Vec::new();
    let mut next = prev_log_id.map_or(0, |previous| previous.index().saturating_add(1));
    for _ in 0..reader.count()? {
        let mark = Mark { term: reader.u64()?, index: reader.u64()? };
        let kind = kind(reader.u8()?).ok_or(DecodeError::Invalid("an unknown kind of entry"))?;
        let entry = codec::entry(log::Entry { mark, kind, payload: reader.bytes()? })?;
        // The engine relies on it and would otherwise fail as a whole.
        if mark.index != next {
            return Err(DecodeError::Invalid("entries with a gap"));
        }
        next = next.saturating_add(1);
        entries.push(entry);
    }
    Ok(AppendEntriesRequest { vote, prev_log_id, entries, leader_commit })
}

pub(crate) fn write_append_reply(writer: &mut Writer<'_>, reply: &AppendEntriesResponse<Types>) {
    match reply {
        AppendEntriesResponse::Success => writer.u8(0),
        AppendEntriesResponse::PartialSuccess(upto) => {
            writer.u8(1);
            codec::write_log_id(writer, upto.as_ref());
        }
        AppendEntriesResponse::Conflict => writer.u8(2),
        AppendEntriesResponse::HigherVote(vote) => {
            writer.u8(3);
            codec::write_vote(writer, vote);
        }
    }
}

pub(crate) fn read_append_reply(
    reader: &mut Reader,
) -> Result<AppendEntriesResponse<Types>, DecodeError> {
    Ok(match reader.u8()? {
        0 => AppendEntriesResponse::Success,
        1 => AppendEntriesResponse::PartialSuccess(codec::read_log_id(reader)?),
        2 => AppendEntriesResponse::Conflict,
        3 => AppendEntriesResponse::HigherVote(codec::read_vote(reader)?),
        _ => return Err(DecodeError::Invalid("an unknown reply")),
    })
}

pub(crate) fn write_vote(writer: &mut Writer<'_>, request: &VoteRequest<Types>) {
    codec::write_vote(writer, &request.vote);
    codec::write_log_id(writer, request.last_log_id.as_ref());
    writer.u8(u8::from(request.leadership_transfer));
}

pub(crate) fn read_vote(reader: &mut Reader) -> Result<VoteRequest<Types>, DecodeError> {
    let vote = codec::read_vote(reader)?;
    let last_log_id = codec::read_log_id(reader)?;
    Ok(VoteRequest { vote, last_log_id, leadership_transfer: reader.u8()? != 0 })
}

pub(crate) fn write_vote_reply(writer: &mut Writer<'_>, reply: &VoteResponse<Types>) {
    codec::write_vote(writer, &reply.vote);
    writer.u8(u8::from(reply.vote_granted));
    codec::write_log_id(writer, reply.last_log_id.as_ref());
}

pub(crate) fn read_vote_reply(reader: &mut Reader) -> Result<VoteResponse<Types>, DecodeError> {
    let vote = codec::read_vote(reader)?;
    let granted = reader.u8()? != 0;
    Ok(VoteResponse::new(vote, codec::read_log_id(reader)?, granted))
}

pub(crate) fn write_piece(writer: &mut Writer<'_>, piece: &Piece) {
    codec::write_vote(writer, &piece.vote);
    codec::write_meta(writer, &piece.meta);
    writer.u64(piece.total);
    writer.u64(piece.offset);
    writer.bytes(&piece.content);
}

pub(crate) fn read_piece(reader: &mut Reader) -> Result<Piece, DecodeError> {
    Ok(Piece {
        vote: codec::read_vote(reader)?,
        meta: codec::read_meta(reader)?,
        total: reader.u64()?,
        offset: reader.u64()?,
        content: reader.bytes()?,
    })
}

pub(crate) fn write_piece_reply(writer: &mut Writer<'_>, reply: &PieceReply) {
    let vote = match reply {
        PieceReply::More => None,
        PieceReply::Done(vote) => Some(vote),
    };
    writer.option(vote, codec::write_vote);
}

pub(crate) fn read_piece_reply(reader: &mut Reader) -> Result<PieceReply, DecodeError> {
    Ok(reader.option(codec::read_vote)?.map_or(PieceReply::More, PieceReply::Done))
}

pub(crate) fn write_transfer(writer: &mut Writer<'_>, request: &TransferLeaderRequest<Types>) {
    codec::write_vote(writer, request.from_leader());
    writer.u128(request.to_node_id().bits());
    codec::write_log_id(writer, request.last_log_id());
}

pub(crate) fn read_transfer(
    reader: &mut Reader,
) -> Result<TransferLeaderRequest<Types>, DecodeError> {
    let from = codec::read_vote(reader)?;
    let to = ServerId::from_bits(reader.u128()?);
    Ok(TransferLeaderRequest::new(from, to, codec::read_log_id(reader)?))
}

pub(crate) fn write_transfer_reply(writer: &mut Writer<'_>, reply: &TransferLeaderResponse<Types>) {
    match reply {
        Ok(()) => writer.u8(0),
        Err(TransferLeaderError::VoteChanged { expected, actual }) => {
            writer.u8(1);
            codec::write_vote(writer, expected);
            codec::write_vote(writer, actual);
        }
        Err(TransferLeaderError::LogNotFlushed { expected, actual }) => {
            writer.u8(2);
            codec::write_log_id(writer, expected.as_ref());
            codec::write_log_id(writer, actual.as_ref());
        }
    }
}

pub(crate) fn read_transfer_reply(
    reader: &mut Reader,
) -> Result<TransferLeaderResponse<Types>, DecodeError> {
    Ok(match reader.u8()? {
        0 => Ok(()),
        1 => {
            let expected = codec::read_vote(reader)?;
            Err(TransferLeaderError::VoteChanged { expected, actual: codec::read_vote(reader)? })
        }
        2 => {
            let expected = codec::read_log_id(reader)?;
            let actual = codec::read_log_id(reader)?;
            Err(TransferLeaderError::LogNotFlushed { expected, actual })
        }
        _ => return Err(DecodeError::Invalid("an unknown reply")),
    })
}
