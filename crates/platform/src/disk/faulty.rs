//! A disk that fails as it is told, for tests of what follows.
//!
//! A real process takes its rules from the file that `COS_TEST_DISK_FAULTS` names, if it was built
//! with debug assertions or with the feature `faults`; the file is read again whenever it changes,
//! so that a device can break, and heal, while the process runs. What is shipped has no such door.
//! `docs/fault-injection.md` has the syntax.
//!
//! Invariants: without a rule an operation does what the disk below does; one that is told to fail
//! has done nothing.
//!
//! Deliberately absent: chance. A test says what fails, and when.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use rustix::io::Errno;

pub use rules::{Action, Operation, Rule, RuleError, parse};

use super::{Disk, DiskFile};

mod rules;

/// The variable that names the file with the rules.
pub const VARIABLE: &str = "COS_TEST_DISK_FAULTS";

/// What is to fail. Clones are handles to the same rules.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    rules: Vec<Rule>,
    /// Where the rules come from, and what that file was like when it was read.
    source: Option<PathBuf>,
    read: Option<(SystemTime, u64)>,
    problem: Option<String>,
}

/// What an operation has to do before, or instead of, its work.
#[derive(Clone, Copy, Debug, Default)]
struct Order {
    wait: Duration,
    error: Option<Errno>,
    is_held: bool,
}

impl Faults {
    /// Rules that a test sets by hand.
    pub fn new() -> Self {
        Self::default()
    }

    /// Rules that are read from a file, again whenever it changes. None while there is no file.
    pub fn from_file(path: impl Into<PathBuf>) -> Self {
        let faults = Self::default();
        faults.lock().source = Some(path.into());
        faults
    }

    /// Replaces all rules.
    pub fn set(&self, text: &str) -> Result<(), RuleError> {
        self.lock().rules = parse(text)?;
        Ok(())
    }

    /// Waits, fails or says that a write is to be held, as the rules want it.
    #[expect(clippy::disallowed_methods, reason = "callers are threads that may block")]
    fn obey(&self, operation: Operation, name: &str) -> io::Result<bool> {
        let order = self.lock().order(operation, name)?;
        if !order.wait.is_zero() {
            std::thread::sleep(order.wait);
        }
        match order.error {
            Some(error) => Err(error.into()),
            None => Ok(order.is_held),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn order(&mut self, operation: Operation, name: &str) -> io::Result<Order> {
        self.refresh();
        if let Some(problem) = &self.problem {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, problem.clone()));
        }
        let mut order = Order::default();
        let matching = |rule: &&mut Rule| rule.operation == operation && rule.concerns(name);
        for rule in self.rules.iter_mut().filter(matching) {
            if rule.after > 0 {
                rule.after -= 1;
                continue;
            }
            match rule.action {
                Action::InputOutput => order.error = Some(Errno::IO),
                Action::Full => order.error = Some(Errno::NOSPC),
                Action::Slow(wait) => order.wait += wait,
                Action::Hold => order.is_held = true,
            }
        }
        Ok(order)
    }

    fn refresh(&mut self) {
        let Some(source) = &self.source else { return };
        let seen = source.metadata().ok();
        let seen = seen.and_then(|seen| Some((seen.modified().ok()?, seen.len())));
        if seen == self.read {
            return;
        }
        self.read = seen;
        let text = std::fs::read_to_string(source).unwrap_or_default();
        match parse(&text) {
            Ok(rules) => (self.rules, self.problem) = (rules, None),
            Err(error) => self.problem = Some(format!("{}: {error}", source.display())),
        }
    }
}

/// A directory whose operations obey [`Faults`].
#[derive(Clone, Debug)]
pub struct FaultyDisk {
    below: Arc<dyn Disk>,
    faults: Faults,
}

impl FaultyDisk {
    /// Puts rules before a disk.
    pub fn new(below: Arc<dyn Disk>, faults: Faults) -> Self {
        Self { below, faults }
    }
}

impl Disk for FaultyDisk {
    fn describe(&self) -> String {
        self.below.describe()
    }

    fn names(&self) -> io::Result<Vec<String>> {
        self.below.names()
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        self.faults.obey(Operation::Open, name)?;
        Ok(Arc::new(FaultyFile {
            below: self.below.open(name)?,
            name: name.to_owned(),
            faults: self.faults.clone(),
            held: Mutex::default(),
        }))
    }

    fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        self.faults.obey(Operation::Read, name)?;
        self.below.read(name)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.faults.obey(Operation::Remove, name)?;
        self.below.remove(name)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.faults.obey(Operation::Rename, to)?;
        self.below.rename(from, to)
    }

    fn sync(&self) -> io::Result<()> {
        self.faults.obey(Operation::Sync, "")?;
        self.below.sync()
    }
}

/// A file whose operations obey [`Faults`].
#[derive(Debug)]
struct FaultyFile {
    below: Arc<dyn DiskFile>,
    name: String,
    faults: Faults,
    /// Writes that reach the disk below with the next sync, and are lost if the process ends
    /// before. Reading and resizing let them through as well.
    held: Mutex<VecDeque<(u64, Vec<u8>)>>,
}

impl FaultyFile {
    fn let_through(&self) -> io::Result<()> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some((offset, bytes)) = held.front() {
            self.below.write_at(*offset, bytes)?;
            held.pop_front();
        }
        Ok(())
    }
}

impl DiskFile for FaultyFile {
    fn length(&self) -> io::Result<u64> {
        self.let_through()?;
        self.below.length()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.let_through()?;
        self.faults.obey(Operation::Read, &self.name)?;
        self.below.read_at(offset, buffer)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        if self.faults.obey(Operation::Write, &self.name)? {
            let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
            held.push_back((offset, bytes.to_vec()));
            return Ok(());
        }
        self.let_through()?;
        self.below.write_at(offset, bytes)
    }

    fn resize(&self, length: u64) -> io::Result<()> {
        self.let_through()?;
        self.faults.obey(Operation::Write, &self.name)?;
        self.below.resize(length)
    }

    fn reserve(&self, length: u64) -> io::Result<()> {
        self.let_through()?;
        self.faults.obey(Operation::Write, &self.name)?;
        self.below.reserve(length)
    }

    fn sync(&self) -> io::Result<()> {
        self.faults.obey(Operation::Sync, &self.name)?;
        self.let_through()?;
        self.below.sync()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::MemoryDisk;

    fn disk(rules: &str) -> (MemoryDisk, FaultyDisk, Faults) {
        let (below, faults) = (MemoryDisk::new(), Faults::new());
        faults.set(rules).unwrap();
        let disk = FaultyDisk::new(Arc::new(below.clone()), faults.clone());
        (below, disk, faults)
    }

    #[test]
    fn only_what_a_rule_names_fails_and_it_does_nothing() {
        let (below, disk, faults) = disk("write full log- after=1\nsync io snap-");
        let log = disk.open("log-1").unwrap();
        log.write_at(0, b"a").unwrap();
        let error = log.write_at(0, b"b").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        log.sync().unwrap();
        assert_eq!(below.read("log-1").unwrap().unwrap(), b"a");
        let snapshot = disk.open("snap-1").unwrap();
        snapshot.write_at(0, b"s").unwrap();
        assert_eq!(snapshot.sync().unwrap_err().raw_os_error(), Some(Errno::IO.raw_os_error()));
        assert!(disk.replace("snap-2", b"x").is_err());
        assert_eq!(below.names().unwrap(), ["log-1", "snap-1", "snap-2.tmp"]);
        faults.set("").unwrap();
        disk.replace("snap-2", b"x").unwrap();
    }

    #[test]
    fn held_writes_come_with_a_sync_and_are_lost_without() {
        let (below, disk, _) = disk("write hold");
        let file = disk.open("a").unwrap();
        file.write_at(0, b"kept").unwrap();
        file.sync().unwrap();
        file.write_at(0, b"lost").unwrap();
        drop(file);
        assert_eq!(below.read("a").unwrap().unwrap(), b"kept");
    }

    #[test]
    fn a_file_of_rules_is_read_again_when_it_changes() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("rules");
        let disk = FaultyDisk::new(Arc::new(MemoryDisk::new()), Faults::from_file(&path));
        disk.sync().unwrap();
        std::fs::write(&path, "sync io\n").unwrap();
        disk.sync().unwrap_err();
        std::fs::write(&path, "sync io after=1\n").unwrap();
        disk.sync().unwrap();
        disk.sync().unwrap_err();
        std::fs::write(&path, "nonsense\n").unwrap();
        let error = disk.sync().unwrap_err().to_string();
        assert!(error.contains("line 1"), "{error}");
        std::fs::remove_file(&path).unwrap();
        disk.sync().unwrap();
    }
}
