//! The keys of gossip: the first encrypts, all of them decrypt.
//!
//! A packet is one byte that says so, a nonce of 12 bytes, and the rest sealed by AES-GCM with a key
//! of 16, 24 or 32 bytes. Without a key packets go in the clear.
//!
//! # Invariants
//!
//! - Once there is a key, nothing goes or comes in the clear.
//! - A change of the keys is durable before it is used.
//! - The key that encrypts cannot be removed.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aws_lc_rs::aead::{
    AES_128_GCM, AES_192_GCM, AES_256_GCM, Aad, Algorithm, LessSafeKey, NONCE_LEN, Nonce,
    UnboundKey,
};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cos_platform::entropy;
use serde::{Deserialize, Serialize};

/// The file in the server's data directory, in the form of the original.
const FILE: &str = "serf.keyring";

/// How many keys there may be: one in use, one to come, and some that are forgotten.
const KEYS_MAX: usize = 16;

/// The first byte of an encrypted packet.
const ENCRYPTED: u8 = 0xc5;

/// By how much a packet grows.
pub(crate) const OVERHEAD_BYTES: usize = 1 + NONCE_LEN + 16;

/// What is asked of the keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum KeyringChange {
    /// Only lists them.
    List,
    /// Adds a key.
    Install(String),
    /// Encrypts with a key that was added.
    Use(String),
    /// Forgets a key.
    Remove(String),
}

/// A key, or a change of keys, that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// It is no key.
    #[error(
        "a gossip key is 16, 24 or 32 bytes in base64; make one with `operator gossip keyring generate`"
    )]
    NoKey,
    /// It is not there.
    #[error("requested key is not in the keyring")]
    Unknown,
    /// It is in use.
    #[error("removing the primary key is not allowed")]
    Primary,
    /// There are too many.
    #[error("there are {KEYS_MAX} keys already; remove one first")]
    TooMany,
    /// Encryption cannot be switched on under way.
    #[error(
        "gossip is not encrypted here; set server {{ encrypt = \"KEY\" }} on all servers and \
         restart them"
    )]
    Off,
    /// It cannot be stored.
    #[error("the keyring cannot be stored: {0}")]
    Disk(String),
}

/// Why a packet is not for us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PacketRefusal {
    #[error("it is encrypted, and no `encrypt` key is configured here")]
    NoKeyHere,
    #[error("it is in the clear, and gossip is encrypted here")]
    Clear,
    #[error("it is encrypted with another key than those of this server's keyring")]
    OtherKey,
}

/// The keys of one server. Clones are handles to the same.
#[derive(Clone, Default)]
pub(crate) struct Keyring {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    /// Where they are stored.
    path: Option<PathBuf>,
    keys: Mutex<Vec<Vec<u8>>>,
}

impl std::fmt::Debug for Keyring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Keyring({} keys)", self.held().len())
    }
}

impl Keyring {
    /// Reads the stored keys, or stores the given ones if none are.
    pub(crate) fn open(data_dir: &Path, given: &[Vec<u8>]) -> io::Result<Self> {
        let path = data_dir.join(FILE);
        let keys = match std::fs::read(&path) {
            Ok(bytes) => read_file(&bytes).ok_or_else(|| {
                let text = format!("{}: not a list of gossip keys", path.display());
                io::Error::new(io::ErrorKind::InvalidData, text)
            })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if !given.is_empty() {
                    write_file(&path, given)?;
                }
                given.to_vec()
            }
            Err(error) => return Err(error),
        };
        Ok(Self { inner: Arc::new(Inner { path: Some(path), keys: Mutex::new(keys) }) })
    }

    /// The keys, the one that encrypts first.
    pub(crate) fn keys(&self) -> Vec<Vec<u8>> {
        self.held().clone()
    }

    /// Changes the keys, and returns them as text, the one that encrypts first.
    pub(crate) fn change(&self, change: &KeyringChange) -> Result<Vec<String>, KeyError> {
        let mut held = self.held();
        let next = changed(&held, change)?;
        if next != *held {
            if let Some(path) = &self.inner.path {
                write_file(path, &next).map_err(|error| KeyError::Disk(error.to_string()))?;
            }
            *held = next;
        }
        Ok(held.iter().map(|key| STANDARD.encode(key)).collect())
    }

    /// Encrypts a packet, if there is a key.
    pub(crate) fn seal(&self, packet: Vec<u8>) -> Vec<u8> {
        let held = self.held();
        let Some(key) = held.first().and_then(|key| cipher(key)) else { return packet };
        let nonce: [u8; NONCE_LEN] = entropy::draw().to_be_bytes()[..NONCE_LEN]
            .try_into()
            .expect("a nonce is shorter than 16 bytes");
        let mut sealed = packet;
        key.seal_in_place_append_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::from([ENCRYPTED]),
            &mut sealed,
        )
        .expect("a packet is far below the limit of the cipher");
        [&[ENCRYPTED][..], &nonce, &sealed].concat()
    }

    /// Decrypts a packet, if there is a key.
    pub(crate) fn open_packet(&self, packet: &[u8]) -> Result<Vec<u8>, PacketRefusal> {
        let held = self.held();
        let sealed = packet.strip_prefix(&[ENCRYPTED]);
        let sealed = match (held.is_empty(), sealed) {
            (true, None) => return Ok(packet.to_vec()),
            (true, Some(_)) => return Err(PacketRefusal::NoKeyHere),
            (false, None) => return Err(PacketRefusal::Clear),
            (false, Some(sealed)) => sealed,
        };
        let (nonce, sealed) =
            sealed.split_first_chunk::<NONCE_LEN>().ok_or(PacketRefusal::OtherKey)?;
        let open = |key: &Vec<u8>| {
            let mut bytes = sealed.to_vec();
            let nonce = Nonce::assume_unique_for_key(*nonce);
            let aad = Aad::from([ENCRYPTED]);
            let length = cipher(key)?.open_in_place(nonce, aad, &mut bytes).ok()?.len();
            bytes.truncate(length);
            Some(bytes)
        };
        held.iter().find_map(open).ok_or(PacketRefusal::OtherKey)
    }

    fn held(&self) -> MutexGuard<'_, Vec<Vec<u8>>> {
        self.inner.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads a key as operators write it.
pub fn parse_key(text: &str) -> Result<Vec<u8>, KeyError> {
    let key = STANDARD.decode(text.trim()).ok().ok_or(KeyError::NoKey)?;
    algorithm(&key).map(|_| key).ok_or(KeyError::NoKey)
}

fn changed(held: &[Vec<u8>], change: &KeyringChange) -> Result<Vec<Vec<u8>>, KeyError> {
    let mut keys = held.to_vec();
    let text = match change {
        KeyringChange::List => return Ok(keys),
        KeyringChange::Install(text) | KeyringChange::Use(text) | KeyringChange::Remove(text) => {
            text
        }
    };
    if keys.is_empty() {
        return Err(KeyError::Off);
    }
    let key = parse_key(text)?;
    let place = keys.iter().position(|known| *known == key);
    match (change, place) {
        (KeyringChange::Install(_), None) if keys.len() >= KEYS_MAX => {
            return Err(KeyError::TooMany);
        }
        (KeyringChange::Install(_), None) => keys.push(key),
        (KeyringChange::Install(_) | KeyringChange::List, _) => {}
        (_, None) => return Err(KeyError::Unknown),
        (KeyringChange::Use(_), Some(place)) => keys[..=place].rotate_right(1),
        (KeyringChange::Remove(_), Some(0)) => return Err(KeyError::Primary),
        (KeyringChange::Remove(_), Some(place)) => drop(keys.remove(place)),
    }
    Ok(keys)
}

fn algorithm(key: &[u8]) -> Option<&'static Algorithm> {
    match key.len() {
        16 => Some(&AES_128_GCM),
        24 => Some(&AES_192_GCM),
        32 => Some(&AES_256_GCM),
        _ => None,
    }
}

fn cipher(key: &[u8]) -> Option<LessSafeKey> {
    Some(LessSafeKey::new(UnboundKey::new(algorithm(key)?, key).ok()?))
}

fn read_file(bytes: &[u8]) -> Option<Vec<Vec<u8>>> {
    let texts: Vec<String> = serde_json::from_slice(bytes).ok()?;
    texts.iter().map(|text| parse_key(text).ok()).collect()
}

fn write_file(path: &Path, keys: &[Vec<u8>]) -> io::Result<()> {
    let texts: Vec<String> = keys.iter().map(|key| STANDARD.encode(key)).collect();
    let draft = path.with_extension("new");
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
    file.write_all(serde_json::to_string(&texts).map_err(io::Error::other)?.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&draft, path)?;
    let folder = path.parent().unwrap_or_else(|| Path::new("/"));
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(byte: u8, length: usize) -> String {
        STANDARD.encode(vec![byte; length])
    }

    fn ring(dir: &Path, keys: &[String]) -> Keyring {
        let keys: Vec<Vec<u8>> = keys.iter().map(|key| parse_key(key).unwrap()).collect();
        Keyring::open(dir, &keys).unwrap()
    }

    #[test]
    fn keys_are_changed_one_by_one_and_stored() {
        let dir = tempfile::tempdir().unwrap();
        let [a, b, c] = [key(1, 16), key(2, 24), key(3, 32)];
        let keys = ring(dir.path(), std::slice::from_ref(&a));
        let install = |text: &String| KeyringChange::Install(text.clone());
        assert_eq!(keys.change(&KeyringChange::Use(b.clone())), Err(KeyError::Unknown));
        keys.change(&install(&b)).unwrap();
        keys.change(&install(&c)).unwrap();
        assert_eq!(keys.change(&install(&c)).unwrap(), [a.clone(), b.clone(), c.clone()]);
        let used = keys.change(&KeyringChange::Use(c.clone())).unwrap();
        assert_eq!(used, [c.clone(), a.clone(), b.clone()]);
        assert_eq!(keys.change(&KeyringChange::Remove(c.clone())), Err(KeyError::Primary));
        keys.change(&KeyringChange::Remove(a)).unwrap();
        assert_eq!(keys.change(&KeyringChange::Install(key(9, 17))), Err(KeyError::NoKey));
        // What was stored wins over what is configured.
        let again = ring(dir.path(), &[key(7, 16)]);
        assert_eq!(again.change(&KeyringChange::List).unwrap(), [c, b]);
    }

    #[test]
    fn a_key_cannot_be_added_where_nothing_is_encrypted() {
        let change = KeyringChange::Install(key(1, 16));
        assert_eq!(Keyring::default().change(&change), Err(KeyError::Off));
    }

    proptest! {
        #[test]
        fn packets_are_read_with_the_right_key_and_refused_otherwise(
            packet in proptest::collection::vec(any::<u8>(), 0..1400),
            length in proptest::sample::select(vec![16_usize, 24, 32]),
            place: proptest::sample::Index,
        ) {
            let dir = tempfile::tempdir().unwrap();
            let [own, other] = ["a", "b"].map(|name| dir.path().join(name));
            std::fs::create_dir_all(&own).unwrap();
            std::fs::create_dir_all(&other).unwrap();
            let mine = ring(&own, &[key(1, length)]);
            let theirs = ring(&other, &[key(2, length)]);
            let sealed = mine.seal(packet.clone());
            prop_assert_eq!(sealed.len(), packet.len() + OVERHEAD_BYTES);
            prop_assert_eq!(mine.open_packet(&sealed), Ok(packet.clone()));
            prop_assert_eq!(theirs.open_packet(&sealed), Err(PacketRefusal::OtherKey));
            let plain = Keyring::default();
            prop_assert_eq!(plain.open_packet(&sealed), Err(PacketRefusal::NoKeyHere));
            theirs.change(&KeyringChange::Install(key(1, length))).unwrap();
            prop_assert_eq!(theirs.open_packet(&sealed), Ok(packet));
            let mut damaged = sealed.clone();
            damaged[place.index(sealed.len())] ^= 1;
            prop_assert!(mine.open_packet(&damaged).is_err());
        }

        #[test]
        fn no_packet_panics(packet: Vec<u8>) {
            let dir = tempfile::tempdir().unwrap();
            drop(ring(dir.path(), &[key(1, 16)]).open_packet(&packet));
        }
    }
}
