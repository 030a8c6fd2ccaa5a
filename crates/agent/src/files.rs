//! Reading the files of an allocation: lists, contents, and logs that are being written.
//!
//! # Invariants
//!
//! - **Confined.** Every path is resolved by the kernel below the allocation's directory; neither
//!   `..` nor a link that a task planted leads out, nor into another task's secrets through a link.
//! - **Rotation is invisible.** Logs are one stream over all numbered files, oldest first.
//!
//! # Deliberately absent
//!
//! - Framing for HTTP. The edge does that.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use cos_model::Timestamp;
use rustix::fs::{CWD, Dir, FileType, Mode, OFlags, ResolveFlags};
use tokio::sync::mpsc;

mod follow;
#[cfg(test)]
mod tests;

/// The largest piece of a file that is handed on at once.
pub const CHUNK_BYTES_MAX: usize = 64 * 1024;

/// How often a followed file is looked at.
pub const FOLLOW_EVERY: Duration = Duration::from_millis(100);

/// How many pieces wait for a slow reader.
const CHUNKS_MAX: usize = 16;

/// Why a file cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FileError {
    /// It is not there, or lies outside of the allocation.
    #[error("stat {0}: no such file or directory")]
    NotFound(String),
    /// It is a directory.
    #[error("{0} is a directory")]
    IsDirectory(String),
    /// It is no directory.
    #[error("{0} is not a directory")]
    NotDirectory(String),
    /// The kernel said something else.
    #[error("{path}: {why}")]
    Failed {
        /// The path.
        path: String,
        /// What the kernel said.
        why: String,
    },
}

/// A file or directory of an allocation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileInfo {
    /// Its name without folders.
    pub name: String,
    /// Whether it is a directory.
    pub is_dir: bool,
    /// Its size in bytes.
    pub size: u64,
    /// Type and permissions as the kernel stores them.
    pub mode: u32,
    /// When it was changed last.
    pub modified: Timestamp,
}

/// From where an offset counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// From the beginning, forwards.
    Start,
    /// From the end, backwards.
    End,
}

/// Which of a task's outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// How much of a file or a log is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// From where `offset` counts.
    pub origin: Origin,
    /// Where to begin.
    pub offset: u64,
    /// Whether to wait for more.
    pub follow: bool,
}

/// A piece of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// The file, relative to the allocation's directory.
    pub file: String,
    /// Where in the file the piece ends.
    pub offset: u64,
    /// The piece; empty if there is only an event.
    pub data: Bytes,
    /// `file truncated`, `file deleted`, or empty.
    pub event: &'static str,
}

/// The files of one allocation.
#[derive(Clone, Debug)]
pub struct AllocFiles {
    root: PathBuf,
}

impl AllocFiles {
    /// Names the directory of an allocation.
    pub fn new(root: PathBuf) -> Self {
        Self { root }
    }

    /// The directory on the host.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Lists a directory, by name.
    pub fn list(&self, path: &str) -> Result<Vec<FileInfo>, FileError> {
        let directory = self.open(path, OFlags::RDONLY | OFlags::DIRECTORY)?;
        let failed = |error: rustix::io::Errno| failure(path, error);
        let mut list = Vec::new();
        for entry in Dir::read_from(&directory).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            // The agent's own folder for drivers is none of the allocation's files.
            if name == "." || name == ".." || name == crate::directories::STATE_FOLDER {
                continue;
            }
            let flags = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
            if let Ok(stat) = rustix::fs::statat(&directory, entry.file_name(), flags) {
                list.push(info(name, &stat));
            }
        }
        list.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(list)
    }

    /// Describes a file or directory.
    pub fn stat(&self, path: &str) -> Result<FileInfo, FileError> {
        let file = self.open(path, OFlags::PATH)?;
        let stat = rustix::fs::fstat(&file).map_err(|error| failure(path, error))?;
        let name = Path::new(path).file_name().unwrap_or_else(|| OsStr::new("/"));
        Ok(info(name.to_string_lossy().into_owned(), &stat))
    }

    /// Reads at most `limit` bytes from `offset`.
    pub fn read(&self, path: &str, offset: u64, limit: u64) -> Result<Vec<u8>, FileError> {
        let mut file = self.open_file(path)?;
        let failed = |error: std::io::Error| io_failure(path, &error);
        file.seek(SeekFrom::Start(offset)).map_err(failed)?;
        let mut data = Vec::new();
        file.take(limit).read_to_end(&mut data).map_err(failed)?;
        Ok(data)
    }

    /// Hands out a file in pieces; with `follow` until the reader is gone.
    pub fn stream(&self, path: &str, span: Span) -> Result<mpsc::Receiver<Chunk>, FileError> {
        let size = self.stat(path)?.size;
        drop(self.open_file(path)?);
        let start = match span.origin {
            Origin::Start => span.offset.min(size),
            Origin::End => size.saturating_sub(span.offset),
        };
        let (sender, receiver) = mpsc::channel(CHUNKS_MAX);
        follow::file(self.clone(), path.to_owned(), start, span.follow, sender);
        Ok(receiver)
    }

    /// Hands out a task's output in pieces, over all rotated files.
    pub fn logs(
        &self,
        task: &str,
        stream: LogStream,
        span: Span,
    ) -> Result<mpsc::Receiver<Chunk>, FileError> {
        if task.is_empty() || task.contains('/') {
            return Err(FileError::NotFound(task.to_owned()));
        }
        let prefix = format!("{task}.{}.", stream.name());
        let files = self.log_files(&prefix)?;
        let (index, offset) = follow::start_of(&files, span);
        let (sender, receiver) = mpsc::channel(CHUNKS_MAX);
        follow::logs(self.clone(), prefix, index, offset, span.follow, sender);
        Ok(receiver)
    }

    /// Lists the rotated files of a log with number and size, oldest first.
    fn log_files(&self, prefix: &str) -> Result<Vec<(u64, u64)>, FileError> {
        let mut files: Vec<(u64, u64)> = self
            .list("alloc/logs")?
            .into_iter()
            .filter_map(|file| {
                let number = file.name.strip_prefix(prefix)?.parse().ok()?;
                Some((number, file.size))
            })
            .collect();
        files.sort_unstable();
        Ok(files)
    }

    fn open_file(&self, path: &str) -> Result<File, FileError> {
        let file = File::from(self.open(path, OFlags::RDONLY | OFlags::NONBLOCK)?);
        let metadata = file.metadata().map_err(|error| io_failure(path, &error))?;
        if metadata.is_dir() {
            return Err(FileError::IsDirectory(path.to_owned()));
        }
        // A pipe or device that a task planted must not be able to hold the reader.
        if !metadata.is_file() {
            return Err(FileError::Failed {
                path: path.to_owned(),
                why: "not a regular file".to_owned(),
            });
        }
        Ok(file)
    }

    fn open(&self, path: &str, flags: OFlags) -> Result<OwnedFd, FileError> {
        let failed = |error: rustix::io::Errno| failure(path, error);
        let directory_flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root =
            rustix::fs::openat(CWD, &self.root, directory_flags, Mode::empty()).map_err(failed)?;
        let relative = path.trim_start_matches('/');
        let relative = if relative.is_empty() { "." } else { relative };
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        let flags = flags | OFlags::CLOEXEC;
        rustix::fs::openat2(&root, relative, flags, Mode::empty(), resolve).map_err(failed)
    }
}

impl LogStream {
    /// The word in file names and requests.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

fn info(name: String, stat: &rustix::fs::Stat) -> FileInfo {
    let nanos = i64::try_from(stat.st_mtime_nsec).unwrap_or(0);
    FileInfo {
        name,
        is_dir: FileType::from_raw_mode(stat.st_mode) == FileType::Directory,
        size: u64::try_from(stat.st_size).unwrap_or(0),
        mode: stat.st_mode,
        modified: Timestamp(stat.st_mtime.saturating_mul(1_000_000_000).saturating_add(nanos)),
    }
}

fn failure(path: &str, error: rustix::io::Errno) -> FileError {
    io_failure(path, &std::io::Error::from(error))
}

/// A path that leads out is not found, as if nothing were there.
fn io_failure(path: &str, error: &std::io::Error) -> FileError {
    let path = path.to_owned();
    match error.raw_os_error().map(rustix::io::Errno::from_raw_os_error) {
        Some(rustix::io::Errno::NOENT | rustix::io::Errno::XDEV | rustix::io::Errno::LOOP) => {
            FileError::NotFound(path)
        }
        Some(rustix::io::Errno::NOTDIR) => FileError::NotDirectory(path),
        Some(rustix::io::Errno::ISDIR) => FileError::IsDirectory(path),
        _ => FileError::Failed { path, why: error.to_string() },
    }
}
