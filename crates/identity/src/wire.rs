//! What joining and renewing agents and servers say to each other, `MessagePack` with field names.

use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use cos_platform::tls::Role;
use serde::{Deserialize, Serialize};

use crate::authority::Authority;
use crate::certificate::{Key, PUBLIC_KEY_BYTES};

/// Asks to become a member.
pub const JOIN: &str = "identity.join";
/// Asks for a fresh certificate, or only whether the authority changed.
pub const RENEW: &str = "identity.renew";

/// Sets signatures that prove possession apart from all others.
const PROOF: &[u8] = b"cos certificate request v1";

/// A public key and the proof that the asker has its other half.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyProof {
    /// The public key.
    pub public: Vec<u8>,
    /// A signature by it.
    pub proof: Vec<u8>,
}

/// The body of [`JOIN`].
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinRequest {
    /// `server` or `client`.
    pub role: String,
    /// The id of the node or server.
    pub id: String,
    /// Its name, for people.
    pub name: String,
    /// The token's id and secret; absent if the asker is introduced by a shared key.
    pub token: Option<(u128, Vec<u8>)>,
    /// The key to be certified.
    pub key: KeyProof,
}

impl std::fmt::Debug for JoinRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "JoinRequest({} {} `{}`, secrets not shown)", self.role, self.id, self.name)
    }
}

/// The answer to [`JOIN`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Joined {
    /// The asker's certificate.
    pub grant: Grant,
    /// For servers: what all servers share.
    #[serde(default)]
    pub shared: Option<ServerSecrets>,
}

/// What all servers of a cluster share.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerSecrets {
    /// The authority with its keys.
    pub authority: Authority,
    /// The key under which it is sealed where it is replicated.
    pub root_key: Vec<u8>,
    /// The keys of gossip, the one that encrypts first.
    #[serde(default)]
    pub gossip: Vec<Vec<u8>>,
}

impl std::fmt::Debug for ServerSecrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ServerSecrets(authority version {}, not shown)", self.authority.version)
    }
}

/// A certificate and what is needed to use it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// The version of the authority that issued it.
    pub version: u64,
    /// The certificate, then those that lead to a root.
    pub chain: Vec<Vec<u8>>,
    /// Whom to believe.
    pub roots: Vec<Vec<u8>>,
    /// From when until when it is valid, in seconds since 1970.
    pub from: u64,
    /// The end of it.
    pub until: u64,
}

/// The body of [`RENEW`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RenewRequest {
    /// The version of the authority that issued the certificate that the asker uses.
    pub version: u64,
    /// The key to be certified; absent if the asker only wants to know whether anything changed.
    pub key: Option<KeyProof>,
}

/// The answer to [`RENEW`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Renewed {
    /// The version of the authority.
    pub version: u64,
    /// Whether the asker should ask again with a key now.
    pub is_due: bool,
    /// Whom to believe.
    pub roots: Vec<Vec<u8>>,
    /// The certificate, if a key was given.
    pub grant: Option<Grant>,
}

impl KeyProof {
    /// Proves possession of a key by a member that is to be.
    pub fn new(key: &Key, role: Role, id: &str) -> Self {
        Self { public: key.public().to_vec(), proof: key.sign(&statement(role, id)) }
    }

    /// Returns the public key if the proof holds.
    pub fn check(&self, role: Role, id: &str) -> Option<[u8; PUBLIC_KEY_BYTES]> {
        let public: [u8; PUBLIC_KEY_BYTES] = self.public.as_slice().try_into().ok()?;
        let verifier = UnparsedPublicKey::new(&ED25519, &self.public);
        verifier.verify(&statement(role, id), &self.proof).ok()?;
        Some(public)
    }
}

fn statement(role: Role, id: &str) -> Vec<u8> {
    [PROOF, role.name().as_bytes(), b" ", id.as_bytes()].concat()
}

/// Encodes a message.
pub fn encode<T: Serialize>(message: &T) -> Vec<u8> {
    rmp_serde::to_vec_named(message).expect("writing our own types to memory cannot fail")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::certificate::Seed;

    #[test]
    fn a_proof_holds_for_its_member_only() {
        let key = Key::from_seed(Seed([3; 32]));
        let proof = KeyProof::new(&key, Role::Client, "a");
        assert_eq!(proof.check(Role::Client, "a"), Some(key.public()));
        assert_eq!(proof.check(Role::Client, "b"), None);
        assert_eq!(proof.check(Role::Server, "a"), None);
        let other = Key::from_seed(Seed([4; 32])).public().to_vec();
        assert_eq!(KeyProof { public: other, ..proof }.check(Role::Client, "a"), None);
    }
}
