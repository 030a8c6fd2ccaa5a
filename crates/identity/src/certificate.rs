//! Certificates: of an authority, of an authority by another, and of a member.
//!
//! All keys are Ed25519, so that the same inputs give the same bytes.
//!
//! Pure: time and entropy are arguments.

use std::net::IpAddr;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};

use crate::der;

/// How many bytes a key's seed has.
pub const SEED_BYTES: usize = 32;

/// How many bytes a public key has.
pub const PUBLIC_KEY_BYTES: usize = 32;

/// What stands before the seed in the form in which private keys are stored.
const PKCS8_PREFIX: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];

const ED25519: [u32; 4] = [1, 3, 101, 112];
const COMMON_NAME: [u32; 4] = [2, 5, 4, 3];
const SUBJECT_KEY: [u32; 4] = [2, 5, 29, 14];
const KEY_USAGE: [u32; 4] = [2, 5, 29, 15];
const OTHER_NAMES: [u32; 4] = [2, 5, 29, 17];
const BASIC_CONSTRAINTS: [u32; 4] = [2, 5, 29, 19];
const AUTHORITY_KEY: [u32; 4] = [2, 5, 29, 35];
const EXTENDED_USAGE: [u32; 4] = [2, 5, 29, 37];
const FOR_SERVERS: [u32; 9] = [1, 3, 6, 1, 5, 5, 7, 3, 1];
const FOR_CLIENTS: [u32; 9] = [1, 3, 6, 1, 5, 5, 7, 3, 2];

/// Numbers of the kinds of names.
const DNS_NAME: u8 = 2;
const URI: u8 = 6;
const IP_ADDRESS: u8 = 7;

/// A key that signs.
#[derive(Debug)]
pub struct Key {
    seed: Seed,
    pair: Ed25519KeyPair,
}

/// What a key is made of. Never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Seed(pub [u8; SEED_BYTES]);

impl std::fmt::Debug for Seed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seed(not shown)")
    }
}

impl Key {
    /// Makes the key of a seed.
    pub fn from_seed(seed: Seed) -> Self {
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed.0)
            .expect("any 32 bytes are the seed of a key");
        Self { seed, pair }
    }

    /// What others verify with.
    pub fn public(&self) -> [u8; PUBLIC_KEY_BYTES] {
        self.pair.public_key().as_ref().try_into().expect("the length belongs to the algorithm")
    }

    /// Signs.
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.pair.sign(message).as_ref().to_vec()
    }

    /// What it is made of.
    pub fn seed(&self) -> &Seed {
        &self.seed
    }

    /// The form in which private keys are stored (PKCS #8, DER).
    pub fn to_pkcs8(&self) -> Vec<u8> {
        [&PKCS8_PREFIX[..], &self.seed.0].concat()
    }

    /// Reads what [`Key::to_pkcs8`] wrote.
    pub fn from_pkcs8(bytes: &[u8]) -> Option<Self> {
        let seed = bytes.strip_prefix(&PKCS8_PREFIX)?;
        Some(Self::from_seed(Seed(seed.try_into().ok()?)))
    }
}

/// From when until when, in seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// The first second.
    pub from: u64,
    /// The last second.
    pub until: u64,
}

/// What a certificate says of a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// What people read.
    pub common_name: String,
    /// Who it is, as members read it.
    pub uri: String,
    /// Names by which it is reached.
    pub dns: Vec<String>,
    /// Addresses at which it is reached.
    pub addresses: Vec<IpAddr>,
}

/// The name of an authority, from its key.
pub fn authority_name(public: &[u8; PUBLIC_KEY_BYTES]) -> String {
    let id: String = key_id(public)[..4].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("cos CA {id}")
}

/// The certificate of an authority, by itself.
pub fn root(key: &Key, validity: Validity, serial: u128) -> Vec<u8> {
    authority(&key.public(), key, validity, serial)
}

/// The certificate of an authority, by another one: whoever believes `by` believes it too.
pub fn cross(
    public: &[u8; PUBLIC_KEY_BYTES],
    by: &Key,
    validity: Validity,
    serial: u128,
) -> Vec<u8> {
    authority(public, by, validity, serial)
}

fn authority(
    public: &[u8; PUBLIC_KEY_BYTES],
    by: &Key,
    validity: Validity,
    serial: u128,
) -> Vec<u8> {
    let may_sign_certificates = der::bits(1, &[0x06]);
    let extensions = [
        extension(&BASIC_CONSTRAINTS, true, &der::sequence(&[der::yes()])),
        extension(&KEY_USAGE, true, &may_sign_certificates),
        extension(&SUBJECT_KEY, false, &der::octets(&key_id(public))),
        authority_key(&by.public()),
    ];
    signed(public, &authority_name(public), &extensions, by, validity, serial)
}

/// The certificate of a member.
pub fn member(
    public: &[u8; PUBLIC_KEY_BYTES],
    subject: &Subject,
    by: &Key,
    validity: Validity,
    serial: u128,
) -> Vec<u8> {
    let mut names = vec![der::tagged_bytes(URI, subject.uri.as_bytes())];
    names.extend(subject.dns.iter().map(|name| der::tagged_bytes(DNS_NAME, name.as_bytes())));
    names.extend(subject.addresses.iter().map(|address| match address {
        IpAddr::V4(address) => der::tagged_bytes(IP_ADDRESS, &address.octets()),
        IpAddr::V6(address) => der::tagged_bytes(IP_ADDRESS, &address.octets()),
    }));
    let may_sign_handshakes = der::bits(7, &[0x80]);
    let usage = [der::object(&FOR_SERVERS), der::object(&FOR_CLIENTS)];
    let extensions = [
        extension(&KEY_USAGE, true, &may_sign_handshakes),
        extension(&EXTENDED_USAGE, false, &der::sequence(&usage)),
        extension(&OTHER_NAMES, false, &der::sequence(&names)),
        authority_key(&by.public()),
    ];
    signed(public, &subject.common_name, &extensions, by, validity, serial)
}

fn signed(
    public: &[u8; PUBLIC_KEY_BYTES],
    name: &str,
    extensions: &[Vec<u8>],
    by: &Key,
    validity: Validity,
    serial: u128,
) -> Vec<u8> {
    let algorithm = der::sequence(&[der::object(&ED25519)]);
    let body = der::sequence(&[
        der::tagged(0, &der::integer(&[2])),
        // Positive and never zero, whatever was drawn.
        der::integer(&((serial >> 1) | 1).to_be_bytes()),
        algorithm.clone(),
        common_name(&authority_name(&by.public())),
        der::sequence(&[der::time(validity.from), der::time(validity.until)]),
        common_name(name),
        der::sequence(&[algorithm.clone(), der::bits(0, public)]),
        der::tagged(3, &der::sequence(extensions)),
    ]);
    let signature = der::bits(0, &by.sign(&body));
    der::sequence(&[body, algorithm, signature])
}

fn common_name(name: &str) -> Vec<u8> {
    let attribute = der::sequence(&[der::object(&COMMON_NAME), der::text(name)]);
    der::sequence(&[der::set_of_one(&attribute)])
}

fn authority_key(public: &[u8; PUBLIC_KEY_BYTES]) -> Vec<u8> {
    let id = der::tagged_bytes(0, &key_id(public));
    extension(&AUTHORITY_KEY, false, &der::sequence(&[id]))
}

fn extension(kind: &[u32], critical: bool, content: &[u8]) -> Vec<u8> {
    let mut parts = vec![der::object(kind)];
    if critical {
        parts.push(der::yes());
    }
    parts.push(der::octets(content));
    der::sequence(&parts)
}

/// The first 20 bytes of the key's hash.
fn key_id(public: &[u8; PUBLIC_KEY_BYTES]) -> [u8; 20] {
    let mut id = [0; 20];
    id.copy_from_slice(&digest(&SHA256, public).as_ref()[..20]);
    id
}

/// The SHA-256 of a certificate, by which a join token names its authority.
pub fn fingerprint(certificate: &[u8]) -> [u8; 32] {
    digest(&SHA256, certificate).as_ref().try_into().expect("SHA-256 has 32 bytes")
}
