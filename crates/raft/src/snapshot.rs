//! Snapshot files: everything up to one log entry in one file.
//!
//! ```text
//! magic "cossnap1" · length u64 of the description · description · crc of the three
//! length u64 of the content · content · crc of the content
//! ```
//!
//! Invariants: a file under its final name is whole and durable; the two newest are kept, so that
//! a damaged one does not end the server, because the log reaches back to the older.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use cos_platform::Disk;
use cos_platform::disk::TEMPORARY_SUFFIX;

use crate::bytes::{Reader, Writer};
use crate::codec::{self, DecodeError};
use crate::log::{Mark, advice};
use crate::types::{Snapshot, SnapshotMeta};

const MAGIC: &[u8; 8] = b"cossnap1";
const PREFIX: &str = "snap-";
/// How many are kept.
const KEPT: usize = 2;

/// The snapshots of one server.
#[derive(Clone, Debug)]
pub(crate) struct Snapshots {
    disk: Arc<dyn Disk>,
}

/// Why the snapshots do not suffice to start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SnapshotError {
    #[error("cannot read the snapshots in {directory}")]
    Io {
        directory: String,
        #[source]
        source: io::Error,
    },
    #[error(
        "the log starts after entry {purged}, but no whole snapshot reaches that far ({problem}, in \
         {directory}); {advice}",
        advice = advice(.directory)
    )]
    Missing { directory: String, purged: u64, problem: String },
}

impl Snapshots {
    pub(crate) fn new(disk: Arc<dyn Disk>) -> Self {
        Self { disk }
    }

    /// Writes a snapshot durably and lets go of old ones. Blocks.
    pub(crate) fn save(&self, meta: &SnapshotMeta, content: &[u8]) -> io::Result<()> {
        let name = name(meta);
        self.disk.replace(&name, &encode(meta, content))?;
        let mut names = self.names()?;
        names.retain(|other| *other != name);
        // The newest others stay.
        for old in names.iter().rev().skip(KEPT - 1) {
            self.disk.remove(old)?;
        }
        self.disk.sync()
    }

    /// The newest snapshot that is whole. Blocks.
    pub(crate) fn newest(&self) -> io::Result<Option<Snapshot>> {
        let (snapshot, problems) = self.search()?;
        for problem in problems {
            tracing::error!(problem, "skipped a damaged snapshot");
        }
        Ok(snapshot)
    }

    /// Tidies up, and checks that a snapshot covers what the log has purged. Blocks.
    pub(crate) fn check(&self, purged: Option<Mark>) -> Result<(), SnapshotError> {
        let directory = self.disk.describe();
        let (snapshot, problems) = self
            .tidy()
            .and_then(|()| self.search())
            .map_err(|source| SnapshotError::Io { directory, source })?;
        let Some(purged) = purged.map(|purged| purged.index) else { return Ok(()) };
        let reached = snapshot.and_then(|snapshot| snapshot.meta.last_log_id);
        let reached = reached.map(|last| last.index());
        if reached.is_some_and(|reached| reached >= purged) {
            return Ok(());
        }
        let problem = match (problems.is_empty(), reached) {
            (false, _) => problems.join("; "),
            (true, Some(reached)) => format!("the newest ends with entry {reached}"),
            (true, None) => "there is none".to_owned(),
        };
        Err(SnapshotError::Missing { directory: self.disk.describe(), purged, problem })
    }

    /// Removes what a crash left unfinished.
    fn tidy(&self) -> io::Result<()> {
        for name in self.disk.names()? {
            if name.starts_with(PREFIX) && name.ends_with(TEMPORARY_SUFFIX) {
                self.disk.remove(&name)?;
            }
        }
        Ok(())
    }

    fn search(&self) -> io::Result<(Option<Snapshot>, Vec<String>)> {
        let mut problems = Vec::new();
        for name in self.names()?.iter().rev() {
            let content = self.disk.read(name)?.unwrap_or_default();
            match decode(&content.into()) {
                Ok(snapshot) => return Ok((Some(snapshot), problems)),
                Err(error) => problems.push(format!("{name} {error}")),
            }
        }
        Ok((None, problems))
    }

    /// From oldest to newest: numbers in names have a fixed width.
    fn names(&self) -> io::Result<Vec<String>> {
        let mut names = self.disk.names()?;
        names.retain(|name| parse_name(name).is_some());
        names.sort_by_key(|name| parse_name(name));
        Ok(names)
    }
}

fn name(meta: &SnapshotMeta) -> String {
    let (term, index) =
        meta.last_log_id.map_or((0, 0), |id| (**id.committed_leader_id(), id.index()));
    format!("{PREFIX}{term:010}-{index:020}")
}

/// Index and term.
fn parse_name(name: &str) -> Option<(u64, u64)> {
    let (term, index) = name.strip_prefix(PREFIX)?.split_once('-')?;
    Some((index.parse().ok()?, term.parse().ok()?))
}

pub(crate) fn encode(meta: &SnapshotMeta, content: &[u8]) -> Vec<u8> {
    let mut description = Vec::new();
    codec::write_meta(&mut Writer::new(&mut description), meta);
    let mut file = Vec::with_capacity(content.len() + description.len() + 32);
    let mut writer = Writer::new(&mut file);
    writer.raw(MAGIC);
    writer.u64(description.len() as u64);
    writer.raw(&description);
    let crc = crc32fast::hash(&file);
    let mut writer = Writer::new(&mut file);
    writer.u32(crc);
    writer.u64(content.len() as u64);
    writer.raw(content);
    writer.u32(crc32fast::hash(content));
    file
}

pub(crate) fn decode(file: &Bytes) -> Result<Snapshot, DecodeError> {
    let mut reader = Reader::new(file.clone());
    if reader.raw(MAGIC.len())? != MAGIC.as_slice() {
        return Err(DecodeError::Invalid("no snapshot"));
    }
    let description = read_long(&mut reader)?;
    let head = MAGIC.len() + 8 + description.len();
    if crc32fast::hash(&file[..head]) != reader.u32()? {
        return Err(DecodeError::Invalid("a damaged description"));
    }
    let meta = codec::read_meta(&mut Reader::new(description))?;
    let content = read_long(&mut reader)?;
    if crc32fast::hash(&content) != reader.u32()? || !reader.is_empty() {
        return Err(DecodeError::Invalid("a damaged content"));
    }
    Ok(Snapshot { meta, snapshot: content })
}

fn read_long(reader: &mut Reader) -> Result<Bytes, DecodeError> {
    let length = usize::try_from(reader.u64()?).map_err(|_too_long| DecodeError::Truncated)?;
    Ok(reader.raw(length)?)
}
