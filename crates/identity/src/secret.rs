//! What follows from a secret: keys derived from a shared key, and things sealed under a key.
//!
//! Pure: entropy is an argument.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Salt};

use crate::authority::Authority;
use crate::certificate::{Seed, Validity};

/// Sets our derivations apart from everybody else's.
const SALT: &[u8] = b"cos cluster v1";

/// What a derived authority is valid from and until: 2024 and 2049. Everybody must derive the same.
const DERIVED_VALIDITY: Validity = Validity { from: 1_704_067_200, until: 2_524_607_999 };

/// What is bound to sealed bytes, so that they are taken for nothing else.
const SEALED_AS: &[u8] = b"cos sealed v1";

/// A symmetric key. Never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct RootKey(pub [u8; 32]);

impl std::fmt::Debug for RootKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RootKey(not shown)")
    }
}

/// Sealed bytes cannot be opened with this key, or were changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("sealed under another key, or damaged")]
pub struct NotOpened;

/// What all agents that know one shared key derive from it.
#[derive(Clone, Debug)]
pub struct Derived {
    /// The authority with which the cluster begins.
    pub authority: Authority,
    /// Seals the authority where it is replicated.
    pub root_key: RootKey,
    /// The authority by which agents with the key introduce themselves.
    pub introduction: Authority,
}

impl Derived {
    /// Derives everything from a shared key.
    pub fn from_key(key: &[u8]) -> Self {
        let cluster: String =
            derive(key, b"cluster")[..16].iter().map(|byte| format!("{byte:02x}")).collect();
        let authority = |cluster: String, label: &[u8]| {
            Authority::made(cluster, Seed(derive(key, label)), DERIVED_VALIDITY, 1)
        };
        Self {
            authority: authority(cluster, b"authority"),
            root_key: RootKey(derive(key, b"root key")),
            introduction: authority("introduction".to_owned(), b"introduction"),
        }
    }
}

struct Bytes32;

impl KeyType for Bytes32 {
    fn len(&self) -> usize {
        32
    }
}

fn derive(key: &[u8], label: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    let pseudorandom = Salt::new(HKDF_SHA256, SALT).extract(key);
    let labels = [label];
    let expanded = pseudorandom.expand(&labels, Bytes32);
    let filled = expanded.and_then(|bytes| bytes.fill(&mut out));
    filled.expect("32 bytes are far below what may be derived");
    out
}

/// Seals bytes. `nonce` must be drawn for every call.
pub fn seal(key: &RootKey, nonce: u128, plain: &[u8]) -> Vec<u8> {
    let nonce: [u8; NONCE_LEN] =
        nonce.to_be_bytes()[..NONCE_LEN].try_into().expect("a nonce is shorter than 16 bytes");
    let mut sealed = plain.to_vec();
    cipher(key)
        .seal_in_place_append_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(SEALED_AS),
            &mut sealed,
        )
        .expect("what we seal is far below the limit of the cipher");
    [&nonce[..], &sealed].concat()
}

/// Opens what [`seal`] sealed.
pub fn open(key: &RootKey, sealed: &[u8]) -> Result<Vec<u8>, NotOpened> {
    let (nonce, sealed) = sealed.split_first_chunk::<NONCE_LEN>().ok_or(NotOpened)?;
    let mut bytes = sealed.to_vec();
    let nonce = Nonce::assume_unique_for_key(*nonce);
    let opened = cipher(key).open_in_place(nonce, Aad::from(SEALED_AS), &mut bytes);
    let length = opened.ok().ok_or(NotOpened)?.len();
    bytes.truncate(length);
    Ok(bytes)
}

fn cipher(key: &RootKey) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &key.0).expect("the key has 32 bytes"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn everybody_derives_the_same_from_one_key_and_something_else_from_another() {
        let (one, two) = (Derived::from_key(b"one key"), Derived::from_key(b"one key"));
        assert_eq!(one.authority, two.authority);
        assert_eq!(one.root_key, two.root_key);
        let other = Derived::from_key(b"another");
        assert_ne!(one.authority.cluster, other.authority.cluster);
        assert_ne!(one.authority.fingerprint(), other.authority.fingerprint());
        assert_ne!(one.authority.fingerprint(), one.introduction.fingerprint());
    }

    proptest! {
        #[test]
        fn what_is_sealed_can_be_opened_with_its_key_only(
            plain: Vec<u8>, nonce: u128, place: prop::sample::Index, flip in 1..=255_u8,
        ) {
            let key = RootKey([7; 32]);
            let sealed = seal(&key, nonce, &plain);
            prop_assert_eq!(open(&key, &sealed), Ok(plain));
            prop_assert_eq!(open(&RootKey([8; 32]), &sealed), Err(NotOpened));
            let mut damaged = sealed.clone();
            damaged[place.index(sealed.len())] ^= flip;
            prop_assert_eq!(open(&key, &damaged), Err(NotOpened));
        }

        #[test]
        fn no_bytes_panic_the_opening(bytes: Vec<u8>) {
            prop_assert_eq!(open(&RootKey([7; 32]), &bytes), Err(NotOpened));
        }
    }
}
