//! A task's output in numbered files: `<task>.stdout.0`, `<task>.stdout.1`, ….
//!
//! # Invariants
//!
//! - No file is larger than its limit, and no more than the allowed number of them is kept; the
//!   highest number is the newest.
//! - A line is split between two files only if it is longer than a file.
//! - A new rotator goes on where the last one stopped.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Writes one stream of one task.
#[derive(Debug)]
pub struct Rotator {
    dir: PathBuf,
    prefix: String,
    bytes_max: u64,
    files_max: u64,
    index: u64,
    written: u64,
    file: Option<File>,
}

/// Returns the files of a stream, such as `web.stdout`, with their numbers, oldest first.
pub fn files(dir: &Path, prefix: &str) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let number = name
            .to_str()
            .and_then(|name| name.strip_prefix(prefix))
            .and_then(|rest| rest.strip_prefix('.'))
            .and_then(|number| number.parse().ok());
        if let Some(number) = number {
            found.push((number, entry.path()));
        }
    }
    found.sort_unstable();
    Ok(found)
}

impl Rotator {
    /// Opens a stream such as `web.stdout`. At least one file of at least one byte is kept.
    pub fn open(dir: &Path, prefix: &str, files_max: u64, bytes_max: u64) -> io::Result<Self> {
        let newest = files(dir, prefix)?.pop();
        let index = newest.map_or(0, |(index, _)| index);
        let mut rotator = Self {
            dir: dir.to_owned(),
            prefix: prefix.to_owned(),
            bytes_max: bytes_max.max(1),
            files_max: files_max.max(1),
            index,
            written: 0,
            file: None,
        };
        rotator.reopen()?;
        Ok(rotator)
    }

    /// Appends output. After an error the rest of `bytes` is lost and the next call tries afresh.
    pub fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            if self.file.is_none() {
                self.reopen()?;
            }
            let room =
                usize::try_from(self.bytes_max.saturating_sub(self.written)).unwrap_or(usize::MAX);
            let take = self.piece(bytes, room);
            if take == 0 {
                self.rotate()?;
                continue;
            }
            let (piece, rest) = bytes.split_at(take);
            self.append(piece)?;
            bytes = rest;
        }
        Ok(())
    }

    /// How much of `bytes` goes into the current file: all, up to a line's end, or, in an empty
    /// file, what fits.
    fn piece(&self, bytes: &[u8], room: usize) -> usize {
        if bytes.len() <= room {
            return bytes.len();
        }
        let line_end = bytes[..room].iter().rposition(|byte| *byte == b'\n').map(|at| at + 1);
        line_end.unwrap_or(if self.written == 0 { room } else { 0 })
    }

    fn append(&mut self, piece: &[u8]) -> io::Result<()> {
        let Some(file) = self.file.as_mut() else { return Ok(()) };
        match file.write_all(piece) {
            Ok(()) => {
                self.written += piece.len() as u64;
                Ok(())
            }
            Err(error) => {
                self.file = None;
                Err(error)
            }
        }
    }

    fn rotate(&mut self) -> io::Result<()> {
        self.index += 1;
        self.file = None;
        self.reopen()?;
        let keep_from = (self.index + 1).saturating_sub(self.files_max);
        for (index, path) in files(&self.dir, &self.prefix)? {
            if index < keep_from {
                fs::remove_file(path)?;
            }
        }
        Ok(())
    }

    fn reopen(&mut self) -> io::Result<()> {
        let path = self.dir.join(format!("{}.{}", self.prefix, self.index));
        let file = OpenOptions::new().append(true).create(true).open(path)?;
        self.written = file.metadata()?.len();
        self.file = Some(file);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes the pieces, reopening before each if asked, and compares the files that are left.
    fn check(files_max: u64, bytes_max: u64, reopen: bool, pieces: &[&str], want: &[(u64, &str)]) {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let open = || Rotator::open(dir.path(), "t.stdout", files_max, bytes_max).expect("open");
        let mut rotator = open();
        for piece in pieces {
            if reopen {
                rotator = open();
            }
            rotator.write(piece.as_bytes()).expect("write");
        }
        let found: Vec<(u64, String)> = files(dir.path(), "t.stdout")
            .expect("list")
            .into_iter()
            .map(|(index, path)| (index, fs::read_to_string(path).expect("read")))
            .collect();
        let want: Vec<(u64, String)> =
            want.iter().map(|(index, text)| (*index, (*text).to_owned())).collect();
        assert_eq!(found, want);
    }

    #[test]
    fn output_below_the_limit_stays_in_one_file() {
        check(2, 10, false, &["ab\n", "cd\n"], &[(0, "ab\ncd\n")]);
    }

    #[test]
    fn a_line_that_does_not_fit_goes_into_the_next_file() {
        check(3, 8, false, &["aaaa\n", "bbbb\n"], &[(0, "aaaa\n"), (1, "bbbb\n")]);
    }

    #[test]
    fn a_line_longer_than_a_file_is_split() {
        check(3, 4, false, &["abcdefghij"], &[(0, "abcd"), (1, "efgh"), (2, "ij")]);
    }

    #[test]
    fn the_oldest_files_are_removed() {
        check(2, 2, false, &["a\nb\nc\nd\n"], &[(2, "c\n"), (3, "d\n")]);
    }

    #[test]
    fn a_new_rotator_goes_on_in_the_newest_file() {
        check(2, 6, true, &["a\n", "b\n", "c\n", "d\n"], &[(0, "a\nb\nc\n"), (1, "d\n")]);
    }
}
