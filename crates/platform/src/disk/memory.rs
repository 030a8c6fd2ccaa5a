//! The twin of a directory for tests and simulation: it knows what a crash would leave.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Disk, DiskFile};

/// A directory in memory. Clones are handles to the same directory.
#[derive(Clone, Debug, Default)]
pub struct MemoryDisk {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    names: BTreeMap<String, u64>,
    names_durable: BTreeMap<String, u64>,
    contents: BTreeMap<u64, Content>,
    next: u64,
    fails: bool,
}

#[derive(Clone, Debug, Default)]
struct Content {
    now: Vec<u8>,
    durable: Vec<u8>,
}

impl MemoryDisk {
    /// Makes an empty directory.
    pub fn new() -> Self {
        Self::default()
    }

    /// What a crash of the machine would leave: only what was synced.
    #[must_use]
    pub fn crashed(&self) -> Self {
        let inner = self.lock();
        let disk = Self::new();
        for (name, id) in &inner.names_durable {
            let content = inner.contents.get(id);
            disk.put(name, content.map(|content| content.durable.clone()).unwrap_or_default());
        }
        disk
    }

    /// From now on every sync fails, as on a broken device.
    pub fn break_syncs(&self) {
        self.lock().fails = true;
    }

    /// Puts a file with this content there, durably, whatever was there before.
    pub fn put(&self, name: &str, content: Vec<u8>) {
        let mut inner = self.lock();
        let id = inner.next;
        inner.next += 1;
        inner.names.insert(name.to_owned(), id);
        inner.names_durable.insert(name.to_owned(), id);
        inner.contents.insert(id, Content { now: content.clone(), durable: content });
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn check(&self) -> io::Result<()> {
        if self.fails { Err(io::Error::other("the device is broken")) } else { Ok(()) }
    }

    fn content(&mut self, id: u64) -> &mut Content {
        self.contents.entry(id).or_default()
    }
}

impl Disk for MemoryDisk {
    fn describe(&self) -> String {
        "memory".to_owned()
    }

    fn names(&self) -> io::Result<Vec<String>> {
        Ok(self.lock().names.keys().cloned().collect())
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let mut inner = self.lock();
        let next = inner.next;
        let id = *inner.names.entry(name.to_owned()).or_insert(next);
        if id == next {
            inner.next += 1;
        }
        Ok(Arc::new(MemoryFile { disk: self.clone(), id }))
    }

    fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        let mut inner = self.lock();
        let id = inner.names.get(name).copied();
        Ok(id.map(|id| inner.content(id).now.clone()))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.lock().names.remove(name);
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut inner = self.lock();
        let id = inner.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        inner.names.insert(to.to_owned(), id);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut inner = self.lock();
        inner.check()?;
        inner.names_durable = inner.names.clone();
        Ok(())
    }
}

#[derive(Debug)]
struct MemoryFile {
    disk: MemoryDisk,
    id: u64,
}

fn position(offset: u64) -> usize {
    usize::try_from(offset).expect("a file in memory is no longer than memory")
}

impl DiskFile for MemoryFile {
    fn length(&self) -> io::Result<u64> {
        Ok(self.disk.lock().content(self.id).now.len() as u64)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let mut inner = self.disk.lock();
        let start = position(offset);
        let range = start..start.saturating_add(buffer.len());
        let bytes = inner.content(self.id).now.get(range).ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(bytes);
        Ok(())
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut inner = self.disk.lock();
        let content = &mut inner.content(self.id).now;
        let (start, end) = (position(offset), position(offset) + bytes.len());
        if content.len() < end {
            content.resize(end, 0);
        }
        content[start..end].copy_from_slice(bytes);
        Ok(())
    }

    fn resize(&self, length: u64) -> io::Result<()> {
        self.disk.lock().content(self.id).now.resize(position(length), 0);
        Ok(())
    }

    fn reserve(&self, length: u64) -> io::Result<()> {
        let longer = self.length()?.max(length);
        self.resize(longer)
    }

    fn sync(&self) -> io::Result<()> {
        let mut inner = self.disk.lock();
        inner.check()?;
        let content = inner.content(self.id);
        content.durable = content.now.clone();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::disk::{Directory, Disk, MemoryDisk};

    /// Both disks must behave alike to their user.
    fn check(disk: &dyn Disk) {
        assert_eq!(disk.read("a").unwrap(), None);
        let file = disk.open("a").unwrap();
        file.write_at(2, b"xyz").unwrap();
        assert_eq!(disk.read("a").unwrap().unwrap(), b"\0\0xyz");
        file.resize(4).unwrap();
        file.reserve(6).unwrap();
        assert_eq!(file.length().unwrap(), 6);
        let mut buffer = [9; 4];
        file.read_at(2, &mut buffer).unwrap();
        assert_eq!(&buffer, b"xy\0\0");
        assert!(file.read_at(3, &mut buffer).is_err(), "reads past the end fail");
        file.sync().unwrap();
        disk.replace("b", b"new").unwrap();
        disk.rename("a", "c").unwrap();
        assert_eq!(disk.names().unwrap(), ["b", "c"]);
        disk.remove("c").unwrap();
        disk.remove("c").unwrap();
        disk.sync().unwrap();
        assert_eq!(disk.names().unwrap(), ["b"]);
        assert_eq!(disk.read("b").unwrap().unwrap(), b"new");
    }

    #[test]
    fn memory_and_machine_behave_alike() {
        check(&MemoryDisk::new());
        let directory = tempfile::tempdir().unwrap();
        check(&Directory::open(directory.path().join("deep/er")).unwrap());
    }

    #[test]
    fn a_crash_leaves_only_what_was_synced() {
        let disk = MemoryDisk::new();
        let file = disk.open("log").unwrap();
        file.write_at(0, b"kept").unwrap();
        file.sync().unwrap();
        assert_eq!(disk.crashed().names().unwrap(), Vec::<String>::new(), "the name is not");
        disk.sync().unwrap();
        file.write_at(4, b"lost").unwrap();
        assert_eq!(disk.crashed().read("log").unwrap().unwrap(), b"kept");
        disk.break_syncs();
        assert!(file.sync().is_err());
    }
}
