//! How log entries are stored: a version byte, then MessagePack with field names.
//!
//! Names instead of positions, so that a field added later does not make old logs unreadable.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::command::Request;

/// The version of the encoding, the first byte of each entry.
const VERSION: u8 = 1;

/// Why bytes are not an entry.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// Nothing, or a version this program does not know.
    #[error("stored with format version {0:?}, this program reads version {VERSION}")]
    Version(Option<u8>),
    /// The rest cannot be read.
    #[error("damaged entry")]
    Damaged(#[source] rmp_serde::decode::Error),
}

/// Encodes a request for the log.
pub fn encode_request(request: &Request) -> Vec<u8> {
    encode(request)
}

/// Decodes a request from the log.
pub fn decode_request(bytes: &[u8]) -> Result<Request, DecodeError> {
    decode(bytes)
}

pub(crate) fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    let mut bytes = vec![VERSION];
    rmp_serde::encode::write_named(&mut bytes, value)
        .expect("writing our own types to memory cannot fail");
    bytes
}

pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    match bytes.split_first() {
        Some((&VERSION, rest)) => rmp_serde::from_slice(rest).map_err(DecodeError::Damaged),
        other => Err(DecodeError::Version(other.map(|(version, _)| *version))),
    }
}
