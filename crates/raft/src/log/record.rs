//! One entry as bytes.
//!
//! ```text
//! length  u32   bytes of the payload
//! crc     u32   over everything else, length included
//! chain   u32   crc of the record before, also across segments
//! batch   u32   how many records of the same batch come before this one
//! index   u64
//! term    u64
//! kind    u8    1 blank, 2 normal, 3 membership; never 0, so a record is never all zeros
//! payload
//! ```
//!
//! All numbers are little-endian. A record can be checked by itself, wherever it is found: that
//! is how recovery tells a tail that was torn from damage in the middle. `batch` says which
//! records shared a sync, because only within one batch may a later record have reached the disk
//! when an earlier one has not.

use bytes::Bytes;

use crate::bytes::{Reader, Truncated, Writer};
use crate::log::{Entry, Kind, Mark};

/// Bytes of a record without its payload.
pub(super) const HEADER_BYTES: usize = 33;
/// Where in a record the chain is.
pub(super) const CHAIN_OFFSET: u64 = 8;

/// A record as it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) entry: Entry,
    pub(super) crc: u32,
    pub(super) chain: u32,
    /// The first index of the batch it belongs to.
    pub(super) batch_first: u64,
    /// Bytes with header.
    pub(super) length: usize,
}

/// What is at a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// A whole, valid record.
    Record(Record),
    /// Zeros, or the end of the file: nothing was written here.
    Nothing,
    /// Something that is no record.
    Damage,
}

/// Appends the record of `entry` to `target` and returns its checksum.
pub(super) fn encode(entry: &Entry, chain: u32, batch_first: u64, target: &mut Vec<u8>) -> u32 {
    let start = target.len();
    let batch = u32::try_from(entry.mark.index - batch_first).expect("a batch is bounded");
    let mut writer = Writer::new(target);
    writer.u32(u32::try_from(entry.payload.len()).expect("proposals are bounded"));
    writer.u32(0);
    writer.u32(chain);
    writer.u32(batch);
    writer.u64(entry.mark.index);
    writer.u64(entry.mark.term);
    writer.u8(number(entry.kind));
    writer.raw(&entry.payload);
    let crc = checksum(&target[start..]);
    target[start + 4..start + 8].copy_from_slice(&crc.to_le_bytes());
    crc
}

/// Looks at what begins at `offset`.
pub(super) fn find(bytes: &Bytes, offset: usize) -> Found {
    let rest = bytes.get(offset..).unwrap_or_default();
    if rest.iter().take(HEADER_BYTES).all(|byte| *byte == 0) {
        return Found::Nothing;
    }
    parse(bytes, offset).ok().flatten().map_or(Found::Damage, Found::Record)
}

/// `None` where the checksum or the kind is wrong.
fn parse(bytes: &Bytes, offset: usize) -> Result<Option<Record>, Truncated> {
    let mut reader = Reader::new(bytes.slice(offset..));
    let payload_length = reader.u32()? as usize;
    let crc = reader.u32()?;
    let chain = reader.u32()?;
    let batch = reader.u32()?;
    let mark = Mark { index: reader.u64()?, term: reader.u64()? };
    let kind = kind(reader.u8()?);
    let payload = reader.raw(payload_length)?;
    let length = HEADER_BYTES + payload_length;
    let Some(batch_first) = mark.index.checked_sub(u64::from(batch)) else { return Ok(None) };
    let Some(kind) = kind else { return Ok(None) };
    if checksum(&bytes[offset..offset + length]) != crc {
        return Ok(None);
    }
    Ok(Some(Record { entry: Entry { mark, kind, payload }, crc, chain, batch_first, length }))
}

/// Over a whole record except the four bytes of the checksum itself.
fn checksum(record: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&record[..4]);
    hasher.update(&record[8..]);
    hasher.finalize()
}

/// The stored form of a kind.
pub(crate) fn number(kind: Kind) -> u8 {
    match kind {
        Kind::Blank => 1,
        Kind::Normal => 2,
        Kind::Membership => 3,
    }
}

/// The kind of a stored form.
pub(crate) fn kind(number: u8) -> Option<Kind> {
    match number {
        1 => Some(Kind::Blank),
        2 => Some(Kind::Normal),
        3 => Some(Kind::Membership),
        _ => None,
    }
}
