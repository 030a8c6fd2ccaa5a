//! A saved state in one file: a gzipped tar with `meta.json`, `state.bin` and `SHA256SUMS`.
//!
//! The shape is that of Nomad's and Consul's archives, so that what only looks into the file keeps
//! working; the state inside is our own, and theirs is refused by name.
//!
//! # Invariants
//!
//! - Nothing of an archive is believed before all of it was read and every sum was right.
//! - What reading takes is bounded by the limits here, whatever the file claims.

use std::io::{self, Read};
use std::time::Duration;

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The largest archive that is taken, in bytes.
pub const ARCHIVE_BYTES_MAX: usize = 512 * 1024 * 1024;

/// The largest state inside, in bytes.
const STATE_BYTES_MAX: u64 = cos_state::RESTORE_BYTES_MAX as u64;

/// The largest of the small files inside, in bytes.
const SMALL_BYTES_MAX: u64 = 1024 * 1024;

/// The version of this format; a newer one is refused.
const VERSION: u32 = 1;

/// Who wrote it.
const PRODUCT: &str = "cos";

const META: &str = "meta.json";
const STATE: &str = "state.bin";
const SUMS: &str = "SHA256SUMS";

/// What an archive says of its state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Meta {
    /// The version of the format.
    pub version: u32,
    /// Who wrote it: `cos`.
    #[serde(default)]
    pub product: String,
    /// The version of the program that wrote it.
    #[serde(default)]
    pub build: String,
    /// A name for this snapshot: term, index and time.
    #[serde(rename = "ID")]
    pub id: String,
    /// The index of the last change in it.
    pub index: u64,
    /// The consensus term in which it was taken.
    pub term: u64,
    /// When it was taken, in seconds since the Unix epoch.
    #[serde(default)]
    pub taken_at: i64,
    /// The digest of what is in it, in hexadecimal.
    #[serde(default)]
    pub state_hash: String,
    /// How many objects of each kind are in it.
    #[serde(default)]
    pub objects: std::collections::BTreeMap<String, u64>,
}

/// An archive whose sums are right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Archive {
    /// What it says of its state.
    pub meta: Meta,
    /// The state as it is stored.
    pub state: Vec<u8>,
}

/// Why a file is no archive of ours.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// It ends in the middle, or what is compressed in it is damaged.
    #[error("the snapshot file is cut off or damaged: {0}")]
    Damaged(#[source] io::Error),
    /// A part is missing, comes twice, or is none.
    #[error("the snapshot file is none of ours: {0}")]
    Shape(String),
    /// A part is not what was written.
    #[error("the snapshot file is damaged: the checksum of {0} differs")]
    Sum(&'static str),
    /// A part is larger than anything that is written.
    #[error("the snapshot file is too large: {name} has more than {limit} bytes")]
    TooLarge {
        /// Which part.
        name: &'static str,
        /// The limit.
        limit: u64,
    },
    /// It was written by another program, or by a newer one.
    #[error("{0}")]
    Foreign(String),
}

impl Meta {
    /// Describes a state that was taken at `taken_at` since the Unix epoch.
    pub fn of(state: &cos_state::State, term: u64, taken_at: Duration) -> Self {
        let count = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        let objects = [
            ("nodes", count(state.nodes().count())),
            ("jobs", count(state.jobs().count())),
            ("evaluations", count(state.evals().count())),
            ("allocations", count(state.allocs().count())),
            ("deployments", count(state.deployments().count())),
            ("services", count(state.catalog().services().count())),
            ("keys", count(state.kv_list("").count())),
        ];
        Self {
            version: VERSION,
            product: PRODUCT.to_owned(),
            build: cos_model::version::COS.to_owned(),
            id: format!("{term}-{}-{}", state.index(), taken_at.as_millis()),
            index: state.index(),
            term,
            taken_at: i64::try_from(taken_at.as_secs()).unwrap_or(i64::MAX),
            state_hash: format!("{:016x}", state.content_hash()),
            objects: objects.map(|(name, count)| (name.to_owned(), count)).into(),
        }
    }
}

impl Archive {
    /// Writes the file.
    pub fn write(&self) -> io::Result<Vec<u8>> {
        let meta = serde_json::to_vec(&self.meta)?;
        let sums = format!("{}  {META}\n{}  {STATE}\n", sum(&meta), sum(&self.state));
        let mut tar = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
        for (name, content) in
            [(META, meta.as_slice()), (STATE, self.state.as_slice()), (SUMS, sums.as_bytes())]
        {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o600);
            header.set_mtime(self.meta.taken_at.try_into().unwrap_or(0));
            header.set_cksum();
            tar.append_data(&mut header, name, content)?;
        }
        tar.into_inner()?.finish()
    }

    /// Reads a file, all of it, and checks its sums.
    pub fn read(file: impl Read) -> Result<Self, ArchiveError> {
        let mut tar = tar::Archive::new(GzDecoder::new(file));
        let (mut meta, mut state, mut sums) = (None, None, None);
        for entry in tar.entries().map_err(ArchiveError::Damaged)? {
            let mut entry = entry.map_err(ArchiveError::Damaged)?;
            let path = entry.path_bytes().into_owned();
            let (slot, name, limit) = match path.as_slice() {
                b"meta.json" => (&mut meta, META, SMALL_BYTES_MAX),
                b"state.bin" => (&mut state, STATE, STATE_BYTES_MAX),
                b"SHA256SUMS" => (&mut sums, SUMS, SMALL_BYTES_MAX),
                other => {
                    let other = String::from_utf8_lossy(other).chars().take(64).collect::<String>();
                    return Err(ArchiveError::Shape(format!("it holds `{other}`")));
                }
            };
            let content = bounded(&mut entry, name, limit)?;
            if slot.replace(content).is_some() {
                return Err(ArchiveError::Shape(format!("it holds {name} twice")));
            }
        }
        // What follows the end of the tar belongs to the compression, whose own sum is there.
        let mut rest = tar.into_inner();
        let trailing = io::copy(&mut rest.by_ref().take(SMALL_BYTES_MAX), &mut io::sink());
        trailing.map_err(ArchiveError::Damaged)?;
        let missing = |name| move || ArchiveError::Shape(format!("{name} is missing"));
        let meta = meta.ok_or_else(missing(META))?;
        let state = state.ok_or_else(missing(STATE))?;
        check_sums(&sums.ok_or_else(missing(SUMS))?, &meta, &state)?;
        let meta: Meta = serde_json::from_slice(&meta)
            .map_err(|error| ArchiveError::Shape(format!("{META} cannot be read: {error}")))?;
        meta.check()?;
        Ok(Self { meta, state })
    }
}

impl Meta {
    fn check(&self) -> Result<(), ArchiveError> {
        if self.product != PRODUCT {
            return Err(ArchiveError::Foreign(
                "the snapshot was not written by cos; snapshots of Nomad and Consul hold their own \
                 state and cannot be restored here"
                    .to_owned(),
            ));
        }
        if self.version > VERSION {
            return Err(ArchiveError::Foreign(format!(
                "the snapshot has format version {}, and this program reads version {VERSION}; \
                 restore it with cos {} or newer",
                self.version, self.build
            )));
        }
        Ok(())
    }
}

fn bounded(entry: &mut impl Read, name: &'static str, limit: u64) -> Result<Vec<u8>, ArchiveError> {
    let mut content = Vec::new();
    entry.take(limit + 1).read_to_end(&mut content).map_err(ArchiveError::Damaged)?;
    if content.len() as u64 > limit {
        return Err(ArchiveError::TooLarge { name, limit });
    }
    Ok(content)
}

fn check_sums(sums: &[u8], meta: &[u8], state: &[u8]) -> Result<(), ArchiveError> {
    let text = std::str::from_utf8(sums)
        .map_err(|_not_text| ArchiveError::Shape(format!("{SUMS} is no text")))?;
    for (name, content) in [(META, meta), (STATE, state)] {
        let line = text.lines().find_map(|line| line.strip_suffix(name)).map(str::trim_end);
        match line {
            Some(known) if known == sum(content) => {}
            Some(_) => return Err(ArchiveError::Sum(name)),
            None => return Err(ArchiveError::Shape(format!("{SUMS} does not name {name}"))),
        }
    }
    Ok(())
}

fn sum(content: &[u8]) -> String {
    Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use cos_model::kv::KvOp;
    use cos_state::{Command, Request, State};
    use proptest::prelude::*;

    use super::*;

    fn archive(keys: u32) -> Archive {
        let mut state = State::default();
        for key in 0..keys {
            let value = key.to_le_bytes().repeat(99);
            let op = KvOp::Set { key: format!("key/{key}"), value, flags: 0 };
            let command = Command::Kv { ops: vec![op] };
            state.apply(u64::from(key) + 1, &Request::new(cos_model::Timestamp(1), command));
        }
        let meta = Meta::of(&state, 7, Duration::from_secs(1_700_000_000));
        Archive { meta, state: state.encode_snapshot() }
    }

    #[test]
    fn what_was_written_is_read() {
        let archive = archive(9);
        let file = archive.write().unwrap();
        assert_eq!(Archive::read(file.as_slice()).unwrap(), archive);
        assert_eq!((archive.meta.index, archive.meta.objects["keys"]), (9, 9));
        let state = State::decode_snapshot(&archive.state).unwrap();
        assert_eq!(format!("{:016x}", state.content_hash()), archive.meta.state_hash);
    }

    #[test]
    fn a_file_that_is_cut_anywhere_is_refused() {
        let file = archive(50).write().unwrap();
        for end in (0..file.len()).step_by(61).chain(file.len() - 20..file.len()) {
            let error = Archive::read(&file[..end]).unwrap_err();
            let text = error.to_string();
            assert!(text.contains("snapshot file"), "cut at {end}: {text}");
        }
    }

    #[test]
    fn another_program_and_a_newer_one_are_named() {
        let mut foreign = archive(1);
        foreign.meta.product = String::new();
        let error = Archive::read(foreign.write().unwrap().as_slice()).unwrap_err().to_string();
        assert!(error.contains("not written by cos"), "{error}");
        let mut newer = archive(1);
        newer.meta.version = 2;
        let error = Archive::read(newer.write().unwrap().as_slice()).unwrap_err().to_string();
        assert!(error.contains("format version 2"), "{error}");
    }

    #[test]
    fn a_part_that_was_exchanged_is_noticed() {
        let (one, other) = (archive(1), archive(2));
        let meta = serde_json::to_vec(&one.meta).unwrap();
        let sums = format!("{}  {META}\n{}  {STATE}\n", sum(&meta), sum(&one.state));
        let error = check_sums(sums.as_bytes(), &meta, &other.state).unwrap_err();
        assert!(matches!(error, ArchiveError::Sum(STATE)), "{error}");
    }

    proptest! {
        #[test]
        fn a_flipped_bit_is_noticed(at in any::<prop::sample::Index>(), bit in 0..8_u8) {
            let archive = archive(5);
            let mut file = archive.write().unwrap();
            // The gzip header holds a time and a system, which mean nothing to us.
            let at = 10 + at.index(file.len() - 10);
            file[at] ^= 1 << bit;
            // A few bits between the compressed blocks mean nothing.
            if let Ok(read) = Archive::read(file.as_slice()) {
                prop_assert_eq!(read, archive, "byte {}", at);
            }
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(Archive::read(bytes.as_slice()).is_err());
        }
    }
}
