//! The key-value store's nouns.

use serde::{Deserialize, Serialize};

use crate::id::SessionId;

/// One key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KvEntry {
    /// The whole key, without a leading slash.
    pub key: String,
    /// Its bytes.
    #[serde(with = "bytes")]
    pub value: Vec<u8>,
    /// A number that clients may attach.
    pub flags: u64,
    /// How often it was locked.
    pub lock_index: u64,
    /// The session that holds it, if one does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionId>,
    /// Index of its creation.
    pub create_index: u64,
    /// Index of its last change.
    pub modify_index: u64,
}

/// A change of the key-value store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum KvOp {
    /// Writes, whatever is there.
    Set {
        /// The key.
        key: String,
        /// The bytes.
        #[serde(with = "bytes")]
        value: Vec<u8>,
        /// The attached number.
        flags: u64,
    },
    /// Writes if the key's `modify_index` is as given; zero means "if absent".
    SetIfUnchanged {
        /// The key.
        key: String,
        /// The bytes.
        #[serde(with = "bytes")]
        value: Vec<u8>,
        /// The attached number.
        flags: u64,
        /// The expected index.
        expected: u64,
    },
    /// Writes and locks, unless another session holds the key or a lock delay lasts. Refused if
    /// there is no such session.
    Acquire {
        /// The key.
        key: String,
        /// The bytes.
        #[serde(with = "bytes")]
        value: Vec<u8>,
        /// The attached number.
        flags: u64,
        /// The session that is to hold it.
        session: SessionId,
    },
    /// Writes and unlocks, if this session holds the key.
    Release {
        /// The key.
        key: String,
        /// The bytes.
        #[serde(with = "bytes")]
        value: Vec<u8>,
        /// The attached number.
        flags: u64,
        /// The session that holds it.
        session: SessionId,
    },
    /// Deletes one key.
    Delete {
        /// The key.
        key: String,
    },
    /// Deletes one key if its `modify_index` is as given.
    DeleteIfUnchanged {
        /// The key.
        key: String,
        /// The expected index.
        expected: u64,
    },
    /// Deletes all keys that begin so.
    DeleteTree {
        /// The beginning.
        prefix: String,
    },
}

/// Stores bytes as a byte string, not as a list of numbers.
/// Bytes as the encoding's own bytes instead of a list of numbers.
pub mod bytes {
    use std::fmt;

    use serde::{Deserializer, Serializer};

    /// Writes them.
    pub fn serialize<S: Serializer>(value: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(value)
    }

    /// Reads them.
    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<u8>, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Vec<u8>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes")
            }

            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
                Ok(bytes.to_vec())
            }
        }
        d.deserialize_bytes(Visitor)
    }
}
