//! The folder with what a member must not forget: its certificate and key, and on servers the
//! authority.
//!
//! # Invariants
//!
//! - A file is replaced as a whole and is durable before it is used.
//! - Only the agent's user can read anything here, besides the certificates of the authority.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The first byte of each stored value.
const VERSION: u8 = 1;

/// How many characters a line of PEM has.
const PEM_LINE: usize = 64;

/// The folder of one agent.
#[derive(Clone, Debug)]
pub struct Folder {
    path: PathBuf,
}

/// A file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// The system refused.
    #[error("{path}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// It holds something else than expected.
    #[error(
        "{path} cannot be read by this version, or is damaged; remove the folder and join again \
         with a token from `cos token create`"
    )]
    Damaged {
        /// Which file.
        path: PathBuf,
    },
}

impl Folder {
    /// Makes the folder if it is not there.
    pub fn open(path: &Path) -> Result<Self, DiskError> {
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
        made.map_err(|cause| DiskError::Io { path: path.to_owned(), cause })?;
        Ok(Self { path: path.to_owned() })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads a value; `None` if there is none.
    pub(crate) fn read<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, DiskError> {
        let path = self.path.join(name);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(cause) => return Err(DiskError::Io { path, cause }),
        };
        let value = bytes.strip_prefix(&[VERSION]).and_then(|b| rmp_serde::from_slice(b).ok());
        value.map(Some).ok_or(DiskError::Damaged { path })
    }

    /// Writes a value.
    pub(crate) fn write<T: Serialize>(&self, name: &str, value: &T) -> Result<(), DiskError> {
        let mut bytes = vec![VERSION];
        bytes.extend(crate::wire::encode(value));
        self.write_bytes(name, &bytes)
    }

    /// Writes certificates, and perhaps a key before them, in the form that other programs read.
    pub(crate) fn write_pem(
        &self,
        name: &str,
        key: Option<&[u8]>,
        certificates: &[Vec<u8>],
    ) -> Result<(), DiskError> {
        let mut text = key.map_or_else(String::new, |key| pem("PRIVATE KEY", key));
        for certificate in certificates {
            text += &pem("CERTIFICATE", certificate);
        }
        self.write_bytes(name, text.as_bytes())
    }

    fn write_bytes(&self, name: &str, bytes: &[u8]) -> Result<(), DiskError> {
        let path = self.path.join(name);
        self.replace(&path, bytes).map_err(|cause| DiskError::Io { path, cause })
    }

    fn replace(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let draft = path.with_extension("new");
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&draft, path)?;
        File::open(&self.path)?.sync_all()
    }
}

fn pem(what: &str, bytes: &[u8]) -> String {
    let text = STANDARD.encode(bytes);
    let lines: Vec<&str> = text
        .as_bytes()
        .chunks(PEM_LINE)
        .map(|line| std::str::from_utf8(line).expect("base64 is ASCII"))
        .collect();
    format!("-----BEGIN {what}-----\n{}\n-----END {what}-----\n", lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn what_is_written_is_read_by_the_same_user_only() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(&dir.path().join("tls")).unwrap();
        assert_eq!(folder.read::<u32>("value").unwrap(), None);
        folder.write("value", &7_u32).unwrap();
        assert_eq!(folder.read::<u32>("value").unwrap(), Some(7));
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(folder.path()), 0o700);
        assert_eq!(mode(&folder.path().join("value")), 0o600);
    }

    #[test]
    fn a_damaged_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(dir.path()).unwrap();
        for bytes in [&b""[..], b"\x02\x07", b"\x01\xc1"] {
            fs::write(dir.path().join("value"), bytes).unwrap();
            let error = folder.read::<u32>("value").unwrap_err();
            assert!(error.to_string().contains("value"), "{error}");
        }
    }
}
