//! Identifiers. Each kind of id is its own type, so that a node is never looked up as a job.
//!
//! Ids are 128-bit values made by the proposer from its entropy and shown as UUIDs. In stored
//! formats they are 16 bytes; in human-readable formats (JSON) they are UUID text.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The text is not a UUID.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an id of the form xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx")]
pub struct ParseIdError(pub String);

fn format_uuid(bits: u128, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let hex = format!("{bits:032x}");
    let groups = [&hex[0..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..32]];
    f.write_str(&groups.join("-"))
}

fn parse_uuid(text: &str) -> Result<u128, ParseIdError> {
    let bad = || ParseIdError(text.to_owned());
    let dashes: Vec<usize> = text.match_indices('-').map(|(at, _)| at).collect();
    if text.len() != 36 || dashes != [8, 13, 18, 23] {
        return Err(bad());
    }
    let hex: String = text.chars().filter(|c| *c != '-').collect();
    if !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(bad());
    }
    u128::from_str_radix(&hex, 16).ok().ok_or_else(bad)
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(u128);

        impl $name {
            /// Makes an id from 128 bits of entropy, or from a stored id.
            pub const fn from_bits(bits: u128) -> Self {
                Self(bits)
            }

            /// Returns the 128 bits.
            pub const fn bits(self) -> u128 {
                self.0
            }

            /// Returns the first eight hexadecimal digits, as lists show them.
            pub fn short(self) -> String {
                format!("{:032x}", self.0)[..8].to_owned()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                format_uuid(self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                parse_uuid(text).map(Self)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                if serializer.is_human_readable() {
                    serializer.collect_str(self)
                } else {
                    serializer.serialize_bytes(&self.0.to_be_bytes())
                }
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserialize_bits(deserializer).map(Self)
            }
        }
    };
}

id! {
    /// A client node: one agent that runs tasks.
    NodeId
}
id! {
    /// One placement of a task group on a node. Never moves; a move is a new allocation.
    AllocId
}
id! {
    /// One unit of scheduling work.
    EvalId
}
id! {
    /// One rollout of a job version.
    DeploymentId
}
id! {
    /// One server in the consensus group.
    ServerId
}
id! {
    /// One restore of a saved state.
    RestoreId
}
id! {
    /// One server from its start to its end, as the one that proposes.
    ProposerId
}
id! {
    /// One session, which may hold locks on keys.
    SessionId
}

struct BitsVisitor;

impl serde::de::Visitor<'_> for BitsVisitor {
    type Value = u128;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("16 bytes or a UUID")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<u128, E> {
        parse_uuid(text).map_err(E::custom)
    }

    fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<u128, E> {
        let array = <[u8; 16]>::try_from(bytes)
            .ok()
            .ok_or_else(|| E::invalid_length(bytes.len(), &"16 bytes"))?;
        Ok(u128::from_be_bytes(array))
    }
}

fn deserialize_bits<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u128, D::Error> {
    if deserializer.is_human_readable() {
        deserializer.deserialize_str(BitsVisitor)
    } else {
        deserializer.deserialize_bytes(BitsVisitor)
    }
}

/// A job's name within its namespace: what users call "the job".
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct JobKey {
    /// The namespace, `default` unless said otherwise.
    pub namespace: Arc<str>,
    /// The job's id within the namespace.
    pub id: Arc<str>,
}

impl JobKey {
    /// Names a job.
    pub fn new(namespace: impl Into<Arc<str>>, id: impl Into<Arc<str>>) -> Self {
        Self { namespace: namespace.into(), id: id.into() }
    }
}

impl fmt::Display for JobKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.id)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_id_survives_text_and_storage(bits in any::<u128>()) {
            let id = NodeId::from_bits(bits);
            prop_assert_eq!(id.to_string().parse::<NodeId>(), Ok(id));
            let stored = rmp_serde::to_vec_named(&id).unwrap();
            prop_assert_eq!(rmp_serde::from_slice::<NodeId>(&stored).unwrap(), id);
        }

        #[test]
        fn any_text_is_an_id_or_an_error(text in ".{0,40}") {
            drop(text.parse::<AllocId>());
        }
    }

    #[test]
    fn a_dash_in_the_wrong_place_is_refused() {
        assert!("0000000-00000-0000-0000-000000000000".parse::<EvalId>().is_err());
        assert!("+0000000-0000-0000-0000-000000000000".parse::<EvalId>().is_err());
    }
}
