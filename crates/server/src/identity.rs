//! The id under which a server takes part in consensus, kept beside its log.
//!
//! # Invariants
//!
//! - The id is written and synced before it is used, so that a server never votes under two.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use cos_model::ServerId;

/// The file's name in the data directory.
const FILE: &str = "server-id";

/// Reads the id from the data directory, or draws one and stores it.
pub(crate) fn load_or_create(data_dir: &Path, draw: impl FnOnce() -> u128) -> io::Result<ServerId> {
    let path = data_dir.join(FILE);
    match fs::read_to_string(&path) {
        Ok(text) => text.trim().parse().map_err(|error| {
            let (file, directory) = (path.display(), data_dir.display());
            let text = format!(
                "{file}: {error}; to recover, move the directory {directory} away and start the \
                 server again, as a new member"
            );
            io::Error::new(io::ErrorKind::InvalidData, text)
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let id = ServerId::from_bits(draw());
            let draft = data_dir.join(format!("{FILE}.new"));
            let mut file = File::create(&draft)?;
            file.write_all(id.to_string().as_bytes())?;
            file.sync_all()?;
            fs::rename(&draft, &path)?;
            File::open(data_dir)?.sync_all()?;
            Ok(id)
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_drawn_once() {
        let dir = tempfile::tempdir().unwrap();
        let first = load_or_create(dir.path(), || 7).unwrap();
        assert_eq!(load_or_create(dir.path(), || 8).unwrap(), first);
    }

    #[test]
    fn a_damaged_id_is_an_error_that_names_the_file() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(FILE), "not an id").unwrap();
        let error = load_or_create(dir.path(), || 7).unwrap_err();
        assert!(error.to_string().contains("server-id"), "{error}");
    }
}
