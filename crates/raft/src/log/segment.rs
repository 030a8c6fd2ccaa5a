//! One file of the log: a header and then records, one after the other.
//!
//! The file is reserved in full when it is made, and a stretch ahead of the last record is
//! filled with zeros now and then: a sync after overwriting what was written before costs the
//! file system no change of its own books.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use cos_platform::{Disk, DiskFile};

use crate::bytes::{Reader, Truncated, Writer};
use crate::log::state::{seal, unseal};

const MAGIC: &[u8; 8] = b"cosraft1";
/// Magic, first index, chain, checksum.
pub(super) const HEADER_BYTES: usize = 8 + 8 + 4 + 4;
/// How far ahead of the last record zeros are written.
const ZEROS_AHEAD: u64 = 256 * 1024;

const PREFIX: &str = "log-";
const SUFFIX: &str = ".segment";

/// A segment that can be appended to.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) first: u64,
    pub(super) file: Arc<dyn DiskFile>,
    /// Where the next record goes.
    pub(super) end: u64,
    /// The checksum of the last record, or the chain of the header if there is none.
    pub(super) crc: u32,
    /// Up to here the file was written, with records or zeros.
    filled: u64,
}

/// The file name of the segment that starts with index `first`.
pub(super) fn name(first: u64) -> String {
    format!("{PREFIX}{first:020}{SUFFIX}")
}

/// The first index of the segment of that name, or `None` if it is no segment.
pub(super) fn first_of(name: &str) -> Option<u64> {
    name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?.parse().ok()
}

impl Segment {
    /// Makes an empty segment. It is durable only after the next sync of file and directory.
    pub(super) fn create(disk: &dyn Disk, first: u64, chain: u32, bytes: u64) -> io::Result<Self> {
        let file = disk.open(&name(first))?;
        file.resize(0)?;
        file.reserve(bytes)?;
        let mut header = Vec::with_capacity(HEADER_BYTES);
        let mut writer = Writer::new(&mut header);
        writer.raw(MAGIC);
        writer.u64(first);
        writer.u32(chain);
        seal(&mut header);
        file.write_at(0, &header)?;
        Ok(Self::resume(first, file, header.len() as u64, chain))
    }

    /// Continues a segment after what recovery found in it.
    pub(super) fn resume(first: u64, file: Arc<dyn DiskFile>, end: u64, crc: u32) -> Self {
        Self { first, file, end, crc, filled: end }
    }

    /// Writes records at the end. Durable only after a sync.
    pub(super) fn write(&mut self, mut records: Vec<u8>, segment_bytes: u64) -> io::Result<()> {
        let end = self.end + records.len() as u64;
        if end > self.filled {
            let filled = (end + ZEROS_AHEAD).min(segment_bytes).max(end);
            let zeros = usize::try_from(filled - end).expect("the stretch is short");
            records.resize(records.len() + zeros, 0);
            self.filled = filled;
        }
        self.file.write_at(self.end, &records)?;
        self.end = end;
        Ok(())
    }

    /// Cuts everything from `end` on, durably, so that nothing old is found there later.
    pub(super) fn cut(&mut self, end: u64, crc: u32, segment_bytes: u64) -> io::Result<()> {
        self.file.resize(end)?;
        self.file.reserve(segment_bytes.max(end))?;
        self.file.sync()?;
        (self.end, self.crc, self.filled) = (end, crc, end);
        Ok(())
    }
}

/// The chain that a segment's header names, or `None` if it is no header of that segment.
pub(super) fn read_header(content: &Bytes, first: u64) -> Option<u32> {
    let header = unseal(content.get(..HEADER_BYTES)?)?;
    let parse = || -> Result<Option<u32>, Truncated> {
        let mut reader = Reader::new(header);
        let is_ours = reader.raw(MAGIC.len())? == MAGIC.as_slice() && reader.u64()? == first;
        Ok(if is_ours { Some(reader.u32()?) } else { None })
    };
    parse().ok().flatten()
}
