//! The small files beside the segments: `state` (whose log it is, the vote, what was purged),
//! replaced whole and durably; and `committed`, a hint that is overwritten in place.
//!
//! The hint is written only after what it names is durable. So a log that ends before the hint
//! has lost what was acknowledged, and recovery says so.

use std::io;

use bytes::Bytes;
use cos_model::ServerId;
use cos_platform::Disk;

use crate::bytes::{Reader, Truncated, Writer};

pub(super) const STATE_NAME: &str = "state";
pub(super) const COMMITTED_NAME: &str = "committed";

const STATE_VERSION: u8 = 1;

/// Which entry: its place and the term in which it was proposed. Ordered as Raft orders logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Mark {
    pub(crate) term: u64,
    pub(crate) index: u64,
}

/// Whom this server voted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Vote {
    pub(crate) term: u64,
    pub(crate) candidate: ServerId,
    /// Whether a quorum voted for the same, as far as this server knows.
    pub(crate) granted: bool,
}

/// The content of `state`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) id: ServerId,
    pub(crate) vote: Option<Vote>,
    pub(crate) purged: Option<Mark>,
}

impl State {
    pub(crate) fn new(id: ServerId) -> Self {
        Self { id, vote: None, purged: None }
    }

    /// Makes this the content of the file, durably.
    pub(super) fn save(&self, disk: &dyn Disk) -> io::Result<()> {
        disk.replace(STATE_NAME, &self.encode())
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut content = Vec::new();
        let mut writer = Writer::new(&mut content);
        writer.u8(STATE_VERSION);
        writer.u128(self.id.bits());
        writer.option(self.vote, |writer, vote| {
            writer.u64(vote.term);
            writer.u128(vote.candidate.bits());
            writer.u8(u8::from(vote.granted));
        });
        writer.option(self.purged, write_mark);
        seal(&mut content);
        content
    }

    /// `None` if the content is damaged or of a later version.
    pub(crate) fn decode(content: &[u8]) -> Option<Self> {
        Self::read(Reader::new(unseal(content)?)).ok().flatten()
    }

    fn read(mut reader: Reader) -> Result<Option<Self>, Truncated> {
        if reader.u8()? != STATE_VERSION {
            return Ok(None);
        }
        let id = ServerId::from_bits(reader.u128()?);
        let vote = reader.option(|reader| {
            let term = reader.u64()?;
            let candidate = ServerId::from_bits(reader.u128()?);
            Ok::<_, Truncated>(Vote { term, candidate, granted: reader.u8()? != 0 })
        })?;
        let purged = reader.option(read_mark)?;
        Ok(reader.is_empty().then_some(Self { id, vote, purged }))
    }
}

pub(crate) fn encode_committed(mark: Mark) -> Vec<u8> {
    let mut content = Vec::new();
    write_mark(&mut Writer::new(&mut content), mark);
    seal(&mut content);
    content
}

/// `None` if there is nothing of use in it; a hint may be torn.
pub(crate) fn decode_committed(content: &[u8]) -> Option<Mark> {
    read_mark(&mut Reader::new(unseal(content)?)).ok()
}

pub(crate) fn write_mark(writer: &mut Writer<'_>, mark: Mark) {
    writer.u64(mark.term);
    writer.u64(mark.index);
}

pub(crate) fn read_mark(reader: &mut Reader) -> Result<Mark, Truncated> {
    Ok(Mark { term: reader.u64()?, index: reader.u64()? })
}

/// Ends `content` with a checksum.
pub(crate) fn seal(content: &mut Vec<u8>) {
    let crc = crc32fast::hash(content);
    content.extend_from_slice(&crc.to_le_bytes());
}

/// The content without its checksum, or `None` if that does not match.
pub(crate) fn unseal(content: &[u8]) -> Option<Bytes> {
    let (content, crc) = content.split_last_chunk::<4>()?;
    (crc32fast::hash(content) == u32::from_le_bytes(*crc)).then(|| Bytes::copy_from_slice(content))
}
