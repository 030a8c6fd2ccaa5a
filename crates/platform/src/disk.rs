//! One directory of files as a durable log needs it: write at an offset, sync, rename, sync the
//! directory. Nothing here is asynchronous; callers run on threads that may block.
//!
//! Invariants: what was written before a successful [`DiskFile::sync`] survives a crash of the
//! machine; a name survives once [`Disk::sync`] has succeeded after it appeared.
//!
//! Deliberately absent: retries. A failed sync leaves the state of the file unknown, and only
//! the caller knows what follows from that.

use std::fmt::Debug;
use std::io;
use std::path::Path;
use std::sync::Arc;

pub use directory::Directory;
pub use memory::MemoryDisk;

mod directory;
pub mod faulty;
mod memory;

/// Ending of files that are not complete yet; a reader ignores them.
pub const TEMPORARY_SUFFIX: &str = ".tmp";

/// Opens a directory of the machine, making it and its parents if need be.
///
/// A build for tests lets the operations fail as [`faulty`] describes.
pub fn open(path: impl AsRef<Path>) -> io::Result<Arc<dyn Disk>> {
    let directory = Arc::new(Directory::open(path)?);
    #[cfg(any(debug_assertions, feature = "faults"))]
    if let Some(rules) = std::env::var_os(faulty::VARIABLE) {
        return Ok(Arc::new(faulty::FaultyDisk::new(directory, faulty::Faults::from_file(rules))));
    }
    Ok(directory)
}

/// A directory.
pub trait Disk: Debug + Send + Sync + 'static {
    /// What to call this directory in messages to people.
    fn describe(&self) -> String;

    /// The names of all files, in order.
    fn names(&self) -> io::Result<Vec<String>>;

    /// Opens a file for reading and writing, and makes an empty one if there is none.
    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>>;

    /// The whole content of a file, or `None` if there is none of that name.
    fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>>;

    /// Removes a file; it is no error if there is none.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Gives a file another name, replacing what had it.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Makes names (created, renamed, removed) durable.
    fn sync(&self) -> io::Result<()>;

    /// Replaces a file so that after a crash either the old or the new content is there, whole.
    fn replace(&self, name: &str, content: &[u8]) -> io::Result<()> {
        let temporary = format!("{name}{TEMPORARY_SUFFIX}");
        let file = self.open(&temporary)?;
        file.resize(0)?;
        file.write_at(0, content)?;
        file.sync()?;
        self.rename(&temporary, name)?;
        self.sync()
    }
}

/// An open file. Clones of the handle see the same file.
pub trait DiskFile: Debug + Send + Sync + 'static {
    /// The length in bytes.
    fn length(&self) -> io::Result<u64>;

    /// Fills `buffer` from `offset`; fails if the file ends before.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;

    /// Writes all bytes at `offset`, growing the file if need be.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Cuts the file, or grows it with zeros.
    fn resize(&self, length: u64) -> io::Result<()>;

    /// Grows the file with zeros to at least `length` and takes the room from the disk now, so
    /// that a full disk is noticed here. Where a file system cannot do that, it only grows.
    fn reserve(&self, length: u64) -> io::Result<()>;

    /// Makes content and length durable.
    fn sync(&self) -> io::Result<()>;
}
