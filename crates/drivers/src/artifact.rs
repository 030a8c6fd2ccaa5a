//! Artifacts: files and archives that are fetched into a task's directory before it starts.
//!
//! Sources are written as go-getter takes them: `https://host/file?checksum=sha256:…`, an archive
//! is recognised by its ending or by `archive=`, `http::` before a source says what it is.
//!
//! # Invariants
//!
//! - **Nothing is placed before it was verified.** A file is fetched beside its place, checked, and
//!   then moved or unpacked.
//! - **Nothing leaves the allocation.** Neither a destination, nor a name in an archive, nor a link
//!   on the way leads out of it; see `unpack`.
//! - **Everything has a limit**: bytes fetched, bytes and files unpacked, and the time between two
//!   pieces of an answer.
//!
//! # Deliberately absent
//!
//! - git, Mercurial, S3 and GCS. They are refused by name.
//! - Directories as sources, and files of the host that not everybody may read: a job must not see
//!   through the agent what its author could not see.

mod checksum;
mod source;
mod unpack;

use std::fs::{self, File, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use cos_model::Artifact;
use cos_platform::entropy;
use futures_util::StreamExt;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

use self::checksum::{Checksum, Hasher};
use self::source::{Kind, Source};

pub use self::source::SourceError;
pub use self::unpack::UnpackError;

/// Where artifacts go if the job does not say.
const DEFAULT_DESTINATION: &str = "local/";

/// Redirects that are followed; a longer chain is a loop.
const REDIRECTS_MAX: usize = 10;

/// How long a connection may take.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(30);

/// The mode of a fetched file: it may be a program.
const FILE_MODE: u32 = 0o755;

/// How much of a local file is copied at once.
const CHUNK_BYTES: usize = 64 * 1024;

/// What an artifact may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArtifactLimits {
    /// Bytes of one source.
    pub bytes_max: u64,
    /// Bytes of everything in an archive.
    pub unpacked_bytes_max: u64,
    /// Files in an archive.
    pub files_max: u64,
    /// Time without any byte arriving.
    pub silence_max: Duration,
}

/// How far a transfer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Bytes that have arrived.
    pub received: u64,
    /// Bytes in all, if the source says.
    pub total: Option<u64>,
}

/// Who gets the files of an artifact with `chown`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// An artifact could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum ArtifactError {
    /// Its source or options are wrong, or not supported.
    #[error("artifact `{source_text}`: {error}")]
    Source {
        /// The source, without credentials.
        source_text: String,
        /// What is wrong.
        #[source]
        error: SourceError,
    },
    /// Its destination leaves the allocation.
    #[error("artifact destination `{0}` leaves the allocation directory")]
    Escapes(String),
    /// The server said no.
    #[error("failed to fetch `{source_text}`: the server answered {status}")]
    Status {
        /// The source, without credentials.
        source_text: String,
        /// The answer.
        status: u16,
    },
    /// The transfer failed.
    #[error("failed to fetch `{source_text}`: {why}")]
    Transfer {
        /// The source, without credentials.
        source_text: String,
        /// What happened.
        why: String,
    },
    /// It is larger than allowed.
    #[error("artifact `{source_text}` has more than {bytes_max} bytes")]
    TooLarge {
        /// The source, without credentials.
        source_text: String,
        /// The limit.
        bytes_max: u64,
    },
    /// It is not what was promised.
    #[error("checksums did not match for `{source_text}`: expected {expected}, got {found}")]
    Checksum {
        /// The source, without credentials.
        source_text: String,
        /// As the job says.
        expected: String,
        /// As it is.
        found: String,
    },
    /// It could not be unpacked.
    #[error("failed to unpack `{source_text}`: {error}")]
    Unpack {
        /// The source, without credentials.
        source_text: String,
        /// What is wrong.
        #[source]
        error: UnpackError,
    },
    /// It could not be written.
    #[error("failed to write {path}: {error}")]
    Write {
        /// Where.
        path: PathBuf,
        /// Why not.
        #[source]
        error: io::Error,
    },
}

/// A fetched file that has not found its place.
struct Download {
    path: PathBuf,
}

/// Where a fetched file goes.
struct Place {
    /// The file, if it stays one.
    file: PathBuf,
    /// The directory that it is unpacked into.
    dir: PathBuf,
    /// Whether the result must be one file.
    is_file: bool,
    /// Who gets it.
    owner: Option<Owner>,
}

impl Default for ArtifactLimits {
    /// The limits that the original has.
    fn default() -> Self {
        Self {
            bytes_max: 100_000_000_000,
            unpacked_bytes_max: 100_000_000_000,
            files_max: 4096,
            silence_max: Duration::from_mins(5),
        }
    }
}

impl ArtifactError {
    /// Whether trying again may help.
    pub fn is_recoverable(&self) -> bool {
        match self {
            Self::Transfer { .. } => true,
            Self::Status { status, .. } => *status >= 500 || *status == 429,
            _ => false,
        }
    }
}

/// Checks an artifact's source, options, mode and destination without fetching it.
pub fn validate(artifact: &Artifact) -> Result<(), ArtifactError> {
    parse(artifact)?;
    destination(Path::new("/alloc/task"), artifact).map(drop)
}

/// Fetches an artifact into a task's directory, whose parent is the allocation's. Returns the file,
/// or the directory that was unpacked into. `progress` is called for each piece that arrives.
pub async fn fetch(
    artifact: &Artifact,
    task_dir: &Path,
    owner: Option<Owner>,
    limits: &ArtifactLimits,
    progress: &(dyn Fn(Progress) + Send + Sync),
) -> Result<PathBuf, ArtifactError> {
    let source = parse(artifact)?;
    let destination = destination(task_dir, artifact)?;
    let is_file = artifact.mode == "file";
    let dir = match destination.parent() {
        Some(parent) if is_file => parent.to_owned(),
        _ => destination.clone(),
    };
    make_dir_inside(task_dir, &dir, artifact)?;
    let download = Download { path: dir.join(format!(".artifact-{:032x}", entropy::draw())) };
    match source.kind {
        Kind::Http => fetch_http(artifact, &source, &download, limits, progress).await?,
        Kind::File => copy_file(&source, &download, limits, progress)?,
    }
    let file = if is_file { destination } else { dir.join(&source.file_name) };
    let place = Place { file, dir, is_file, owner: owner.filter(|_| artifact.chown) };
    let limits = *limits;
    // Unpacking is work for the processor and the disk, not for this thread.
    let placed = tokio::task::spawn_blocking(move || download.place(&source, place, &limits));
    placed.await.map_err(|error| ArtifactError::Write {
        path: task_dir.to_owned(),
        error: io::Error::other(error),
    })?
}

fn parse(artifact: &Artifact) -> Result<Source, ArtifactError> {
    Source::parse(artifact).map_err(|error| ArtifactError::Source {
        source_text: source::redact(&artifact.source),
        error,
    })
}

/// Returns where an artifact goes. It must be below the allocation's directory.
fn destination(task_dir: &Path, artifact: &Artifact) -> Result<PathBuf, ArtifactError> {
    let wanted = if artifact.destination.is_empty() {
        match artifact.mode.as_str() {
            "file" => Path::new(DEFAULT_DESTINATION).join(parse(artifact)?.file_name),
            _ => PathBuf::from(DEFAULT_DESTINATION),
        }
    } else {
        PathBuf::from(&artifact.destination)
    };
    let escapes = || ArtifactError::Escapes(wanted.display().to_string());
    let mut path = task_dir.to_owned();
    for component in wanted.components() {
        match component {
            Component::Normal(name) => path.push(name),
            Component::ParentDir => drop(path.pop()),
            // An absolute path is meant as seen by the task.
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    let alloc_dir = task_dir.parent().ok_or_else(escapes)?;
    if path.starts_with(alloc_dir) && path != alloc_dir { Ok(path) } else { Err(escapes()) }
}

/// Makes a directory, unless a link on the way leads out of the allocation.
fn make_dir_inside(task_dir: &Path, dir: &Path, artifact: &Artifact) -> Result<(), ArtifactError> {
    let at = |path: &Path| {
        let path = path.to_owned();
        move |error| ArtifactError::Write { path, error }
    };
    let alloc_dir = task_dir.parent().unwrap_or(task_dir);
    let real_alloc = fs::canonicalize(alloc_dir).map_err(at(alloc_dir))?;
    let existing = dir.ancestors().find(|path| fs::symlink_metadata(path).is_ok());
    let existing = existing.unwrap_or(alloc_dir);
    let real = fs::canonicalize(existing).map_err(at(existing))?;
    if !real.starts_with(&real_alloc) {
        return Err(ArtifactError::Escapes(artifact.destination.clone()));
    }
    fs::create_dir_all(dir).map_err(at(dir))
}

async fn fetch_http(
    artifact: &Artifact,
    source: &Source,
    download: &Download,
    limits: &ArtifactLimits,
    progress: &(dyn Fn(Progress) + Send + Sync),
) -> Result<(), ArtifactError> {
    let text = &source.text;
    let failed = |error: reqwest::Error| ArtifactError::Transfer {
        source_text: text.clone(),
        why: chain(&error.without_url()),
    };
    let client = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::limited(REDIRECTS_MAX))
        .connect_timeout(CONNECT_TIME_MAX)
        .read_timeout(limits.silence_max)
        .tls_danger_accept_invalid_certs(artifact.insecure)
        .build()
        .map_err(failed)?;
    let headers = headers(artifact)
        .map_err(|error| ArtifactError::Source { source_text: text.clone(), error })?;
    let response = client.get(&source.location).headers(headers).send().await.map_err(failed)?;
    if !response.status().is_success() {
        let status = response.status().as_u16();
        return Err(ArtifactError::Status { source_text: text.clone(), status });
    }
    let total = response.content_length();
    let mut sink = Sink::open(source, download, limits)?;
    let mut body = response.bytes_stream();
    while let Some(piece) = body.next().await {
        sink.write(&piece.map_err(failed)?)?;
        progress(Progress { received: sink.received, total });
    }
    sink.finish()
}

fn headers(artifact: &Artifact) -> Result<HeaderMap, SourceError> {
    let mut headers = HeaderMap::new();
    for (name, value) in &artifact.headers {
        let bad = || SourceError::Header(name.clone());
        let key = HeaderName::from_bytes(name.as_bytes()).ok().ok_or_else(bad)?;
        headers.append(key, HeaderValue::from_str(value).ok().ok_or_else(bad)?);
    }
    Ok(headers)
}

fn copy_file(
    source: &Source,
    download: &Download,
    limits: &ArtifactLimits,
    progress: &(dyn Fn(Progress) + Send + Sync),
) -> Result<(), ArtifactError> {
    let failed = |error: io::Error| ArtifactError::Transfer {
        source_text: source.text.clone(),
        why: error.to_string(),
    };
    let refused = |error| ArtifactError::Source { source_text: source.text.clone(), error };
    let mut file = File::open(&source.location).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(refused(SourceError::NotAFile));
    }
    if metadata.permissions().mode() & 0o004 == 0 {
        return Err(refused(SourceError::NotPublic));
    }
    let mut sink = Sink::open(source, download, limits)?;
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let count = file.read(&mut chunk).map_err(failed)?;
        if count == 0 {
            return sink.finish();
        }
        sink.write(&chunk[..count])?;
        progress(Progress { received: sink.received, total: Some(metadata.len()) });
    }
}

/// Takes what arrives, counts and hashes it.
struct Sink<'a> {
    source: &'a Source,
    path: &'a Path,
    file: File,
    hasher: Option<(Hasher, &'a Checksum)>,
    received: u64,
    bytes_max: u64,
}

impl<'a> Sink<'a> {
    fn open(
        source: &'a Source,
        download: &'a Download,
        limits: &ArtifactLimits,
    ) -> Result<Self, ArtifactError> {
        let path = download.path.as_path();
        let file = File::create_new(path)
            .map_err(|error| ArtifactError::Write { path: path.to_owned(), error })?;
        let hasher = source.checksum.as_ref().map(|sum| (Hasher::new(sum.algorithm), sum));
        Ok(Self { source, path, file, hasher, received: 0, bytes_max: limits.bytes_max })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), ArtifactError> {
        self.received += bytes.len() as u64;
        if self.received > self.bytes_max {
            let (source_text, bytes_max) = (self.source.text.clone(), self.bytes_max);
            return Err(ArtifactError::TooLarge { source_text, bytes_max });
        }
        if let Some((hasher, _)) = &mut self.hasher {
            hasher.update(bytes);
        }
        let path = self.path;
        self.file
            .write_all(bytes)
            .map_err(|error| ArtifactError::Write { path: path.to_owned(), error })
    }

    fn finish(self) -> Result<(), ArtifactError> {
        let Some((hasher, expected)) = self.hasher else { return Ok(()) };
        let found = hasher.finish();
        if found == expected.hex {
            return Ok(());
        }
        Err(ArtifactError::Checksum {
            source_text: self.source.text.clone(),
            expected: expected.hex.clone(),
            found,
        })
    }
}

impl Download {
    /// Moves or unpacks what was fetched.
    fn place(
        &self,
        source: &Source,
        place: Place,
        limits: &ArtifactLimits,
    ) -> Result<PathBuf, ArtifactError> {
        let Place { file, dir, is_file, owner } = place;
        let Some(format) = source.format else {
            let moved = || {
                fs::set_permissions(&self.path, Permissions::from_mode(FILE_MODE))?;
                fs::rename(&self.path, &file)?;
                give_to(&file, owner)
            };
            return match moved() {
                Ok(()) => Ok(file),
                Err(error) => Err(ArtifactError::Write { path: file, error }),
            };
        };
        let into = if is_file || format.is_single_file() { file } else { dir };
        unpack::unpack(&self.path, format, &into, is_file, owner, limits)
            .map_err(|error| ArtifactError::Unpack { source_text: source.text.clone(), error })?;
        Ok(into)
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        // It is not there any more if it found its place.
        drop(fs::remove_file(&self.path));
    }
}

fn give_to(path: &Path, owner: Option<Owner>) -> io::Result<()> {
    match owner {
        Some(owner) => std::os::unix::fs::lchown(path, Some(owner.uid), Some(owner.gid)),
        None => Ok(()),
    }
}

/// An error with all its causes, which say more than it does.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
