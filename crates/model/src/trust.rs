//! Who may become a member of the cluster, and by which authority: what of it is replicated.
//!
//! # Invariants
//!
//! - Nothing here lets its reader in: of a token only the hash of its secret is kept, and the
//!   authority's keys are sealed under a key that is in no log and no snapshot.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::Timestamp;

/// What is replicated about membership.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trust {
    /// The certificate authority, once there is one.
    #[serde(default)]
    pub authority: Option<SealedAuthority>,
    /// Join tokens by id, used ones until they would have ended.
    #[serde(default)]
    pub tokens: BTreeMap<u128, JoinToken>,
    /// Index of the last change.
    #[serde(default)]
    pub modify_index: u64,
}

/// The certificate authority as it is replicated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedAuthority {
    /// Grows with each change.
    pub version: u64,
    /// Its root certificates, the one that issues first.
    pub roots: Vec<Vec<u8>>,
    /// It all, keys included, sealed.
    pub sealed: Vec<u8>,
}

/// A join token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinToken {
    /// Its id.
    pub id: u128,
    /// The role that it gives, `server` or `client`.
    pub role: String,
    /// The SHA-256 of its secret.
    pub secret_hash: Vec<u8>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ends.
    pub expires_at: Timestamp,
    /// Who used it, and when.
    pub used: Option<TokenUse>,
}

/// The one use of a token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenUse {
    /// When.
    pub at: Timestamp,
    /// The name of the agent.
    pub by: String,
    /// The public key that was certified: the same agent may repeat a request whose answer it lost.
    pub key: Vec<u8>,
}

/// A change of what is replicated about membership.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TrustChange {
    /// Stores the authority if the stored one has this version; zero means that there is none.
    SetAuthority {
        /// The authority.
        authority: SealedAuthority,
        /// The version to be replaced.
        expected: u64,
    },
    /// Stores a token.
    CreateToken(JoinToken),
    /// Removes a token.
    RevokeToken {
        /// Its id.
        id: u128,
    },
    /// Uses a token up. Refused, in words for its owner, unless all of it fits.
    UseToken {
        /// Its id.
        id: u128,
        /// The SHA-256 of the secret that was shown.
        secret_hash: Vec<u8>,
        /// The role that was asked for.
        role: String,
        /// The name of the agent.
        by: String,
        /// The public key that is to be certified.
        key: Vec<u8>,
    },
}
