//! The id under which a server takes part in consensus, kept beside its log.
//!
//! # Invariants
//!
//! - The id is written and synced before it is used, so that a server never votes under two.
//! - The id goes with the log. A server that came back under its old id without what it had
//!   acknowledged could vote away what a majority has stored; without a log it is a new one.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use cos_model::ServerId;

/// The file's name in the data directory.
const FILE: &str = "server-id";

/// A file that is there once a server has taken part under its id.
const USED: &str = "server-id.used";

/// Reads the id from the data directory, or draws one and stores it if there is none, or if it was
/// used and its log (whose directory is `log`) is gone.
pub(crate) fn load_or_create(
    data_dir: &Path,
    log: &Path,
    draw: impl FnOnce() -> u128,
) -> io::Result<ServerId> {
    let path = data_dir.join(FILE);
    match fs::read_to_string(&path) {
        Ok(text) if holds_something(log)? || !data_dir.join(USED).exists() => {
            text.trim().parse().map_err(|error| {
                let (file, directory) = (path.display(), data_dir.display());
                let text = format!(
                    "{file}: {error}; to recover, move the directory {directory} away and start \
                     the server again, as a new member"
                );
                io::Error::new(io::ErrorKind::InvalidData, text)
            })
        }
        Ok(_) => create(data_dir, &path, draw()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => create(data_dir, &path, draw()),
        Err(error) => Err(error),
    }
}

/// Notes, durably, that the server takes part under its id from now on.
pub(crate) fn note_used(data_dir: &Path) -> io::Result<()> {
    File::create(data_dir.join(USED))?.sync_all()?;
    File::open(data_dir)?.sync_all()
}

fn holds_something(directory: &Path) -> io::Result<bool> {
    match fs::read_dir(directory) {
        Ok(mut entries) => Ok(entries.next().is_some()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn create(data_dir: &Path, path: &Path, bits: u128) -> io::Result<ServerId> {
    let id = ServerId::from_bits(bits);
    match fs::remove_file(data_dir.join(USED)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let draft = data_dir.join(format!("{FILE}.new"));
    let mut file = File::create(&draft)?;
    file.write_all(id.to_string().as_bytes())?;
    file.sync_all()?;
    fs::rename(&draft, path)?;
    File::open(data_dir)?.sync_all()?;
    Ok(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_drawn_once() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        let first = load_or_create(dir.path(), &log, || 7).unwrap();
        assert_eq!(load_or_create(dir.path(), &log, || 8).unwrap(), first, "not used yet");
        note_used(dir.path()).unwrap();
        fs::create_dir(&log).unwrap();
        fs::write(log.join("state"), "").unwrap();
        assert_eq!(load_or_create(dir.path(), &log, || 8).unwrap(), first);
        // Without its log it is another server.
        fs::remove_file(log.join("state")).unwrap();
        assert_eq!(load_or_create(dir.path(), &log, || 9).unwrap(), ServerId::from_bits(9));
        assert_eq!(load_or_create(dir.path(), &log, || 10).unwrap(), ServerId::from_bits(9));
    }

    #[test]
    fn a_damaged_id_is_an_error_that_names_the_file() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(FILE), "not an id").unwrap();
        let error = load_or_create(dir.path(), dir.path(), || 7).unwrap_err();
        assert!(error.to_string().contains("server-id"), "{error}");
    }
}
