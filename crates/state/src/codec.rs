//! How log entries and snapshots are stored: a format byte, then `MessagePack` with field
//! names. A snapshot carries a checksum as well; the log has its own.
//!
//! The format is the lowest one that a program has to know to understand what follows. So what
//! uses nothing new is read by older programs, and what does is refused by them instead of being
//! understood by halves.
//!
//! Names instead of positions, so that a field added later does not make old logs unreadable.
//! Lists of allocations are written by [`cos_model::stored`], each job once.
//!
//! # Invariants
//!
//! - What was written once can be read for ever: `tests/golden` holds one entry of each kind.
//! - No bytes panic the readers or make them recurse without bound.

use serde::Serialize;
use serde::de::DeserializeOwned;

use cos_model::kv::KvOp;

use crate::command::{Command, Request};
use crate::digest::Digest;

/// The newest format of entries and snapshots that this program knows: 2 has sessions and
/// locks, restores, and numbered proposals.
pub const FORMAT: u8 = 2;

/// The format of what was there from the beginning.
pub const FIRST_FORMAT: u8 = 1;

/// How many bytes a snapshot's checksum takes.
const CHECKSUM_BYTES: usize = 8;

/// How deep lists and maps may be nested. Job files are read to a depth of 160 and JSON bodies to
/// 128, and a request wraps that in a dozen levels more; each level read takes stack.
const DEPTH_MAX: usize = 224;

/// Why bytes are not an entry or a snapshot.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// A newer program wrote it, and an older one would understand it by halves.
    #[error(
        "written in format {0} by a newer version of cos, and this one knows formats up to \
         {FORMAT}; start that version again, nothing was changed"
    )]
    Newer(u8),
    /// Nothing that any version wrote.
    #[error("damaged: it does not begin with a format")]
    NoFormat,
    /// The bytes are not those that were written.
    #[error("damaged: the checksum differs")]
    Checksum,
    /// The rest cannot be read.
    #[error("damaged entry")]
    Damaged(#[source] rmp_serde::decode::Error),
}

/// The format that a program has to know to apply a command.
pub fn format_of(command: &Command) -> u8 {
    let is_lock = |op: &KvOp| matches!(op, KvOp::Acquire { .. } | KvOp::Release { .. });
    match command {
        Command::Session(_)
        | Command::SetAutopilotConfig(_)
        | Command::Restore(_)
        | Command::Trust(_) => 2,
        Command::Kv { ops } if ops.iter().any(is_lock) => 2,
        _ => FIRST_FORMAT,
    }
}

/// Encodes a request for the log.
pub fn encode_request(request: &Request) -> Vec<u8> {
    let mut bytes = vec![format_of(&request.command)];
    write(&mut bytes, request);
    bytes
}

/// Decodes a request from the log.
pub fn decode_request(bytes: &[u8]) -> Result<Request, DecodeError> {
    read(after_format(bytes)?)
}

/// Encodes a value with a checksum.
pub(crate) fn seal<T: Serialize>(format: u8, value: &T) -> Vec<u8> {
    let mut bytes = vec![format];
    bytes.extend([0; CHECKSUM_BYTES]);
    write(&mut bytes, value);
    let (head, body) = bytes.split_at_mut(1 + CHECKSUM_BYTES);
    head[1..].copy_from_slice(&checksum(body));
    bytes
}

/// Decodes a value that [`seal`] encoded.
pub(crate) fn unseal<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    let sealed = after_format(bytes)?.split_first_chunk::<CHECKSUM_BYTES>();
    match sealed {
        Some((sum, body)) if *sum == checksum(body) => read(body),
        _ => Err(DecodeError::Checksum),
    }
}

fn after_format(bytes: &[u8]) -> Result<&[u8], DecodeError> {
    match bytes.split_first() {
        Some((FIRST_FORMAT..=FORMAT, rest)) => Ok(rest),
        Some((newer, _)) if *newer > FORMAT => Err(DecodeError::Newer(*newer)),
        _ => Err(DecodeError::NoFormat),
    }
}

fn write<T: Serialize>(bytes: &mut Vec<u8>, value: &T) {
    rmp_serde::encode::write_named(bytes, value)
        .expect("writing our own types to memory cannot fail");
}

fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    let mut reader = rmp_serde::Deserializer::from_read_ref(bytes);
    reader.set_max_depth(DEPTH_MAX);
    T::deserialize(&mut reader).map_err(DecodeError::Damaged)
}

fn checksum(body: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let mut digest = Digest::new(0);
    digest.bytes(body);
    digest.finish().to_le_bytes()
}
