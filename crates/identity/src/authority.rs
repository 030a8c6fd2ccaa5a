//! The cluster's certificate authority: it certifies members, and is replaced by a younger one
//! without anybody noticing.
//!
//! While one is being replaced there are two roots. The younger one issues, and shows beside each
//! certificate that the older one vouches for it. So whoever knows only the older one believes new
//! certificates, whoever knows both believes all, and the older one is dropped when nobody shows a
//! certificate of it any more.
//!
//! Pure: time and entropy are arguments.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use cos_platform::tls::{Member, Role};
use serde::{Deserialize, Serialize};

use crate::certificate::{self, Key, PUBLIC_KEY_BYTES, SEED_BYTES, Seed, Subject, Validity};

/// How long a root lasts.
const ROOT_TIME: Duration = Duration::from_hours(10 * 365 * 24);

/// How long before its making a certificate is valid, for clocks that are behind.
const CLOCK_SLACK: Duration = Duration::from_hours(1);

/// The authority of one cluster, with its keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Authority {
    /// The cluster's id, in the name of every member.
    pub cluster: String,
    /// Grows with each change.
    pub version: u64,
    /// The roots that are believed; the first one issues.
    pub roots: Vec<Root>,
    /// The version with which the one that issues began to.
    pub issuer_version: u64,
    /// When the first one was made, in seconds since 1970.
    pub since: u64,
}

/// One root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Root {
    /// Its certificate, by itself.
    pub certificate: Vec<u8>,
    /// Its certificate by the root before it, while that one is believed.
    pub vouched: Option<Vec<u8>>,
    /// The seed of its key.
    seed: StoredSeed,
}

/// A seed as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<u8>", into = "Vec<u8>")]
struct StoredSeed(Seed);

impl TryFrom<Vec<u8>> for StoredSeed {
    type Error = &'static str;

    fn try_from(bytes: Vec<u8>) -> Result<Self, Self::Error> {
        let bytes: [u8; SEED_BYTES] = bytes.try_into().ok().ok_or("a seed has 32 bytes")?;
        Ok(Self(Seed(bytes)))
    }
}

impl From<StoredSeed> for Vec<u8> {
    fn from(seed: StoredSeed) -> Self {
        seed.0.0.to_vec()
    }
}

/// Whom to certify.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Its public key.
    pub public: [u8; PUBLIC_KEY_BYTES],
    /// Its role.
    pub role: Role,
    /// Its id.
    pub id: String,
    /// The region it is in.
    pub region: String,
    /// Where it is reached, beside loopback.
    pub addresses: Vec<IpAddr>,
}

/// The authority is being replaced already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the certificate authority is being replaced already; wait until that is done")]
pub struct Rotating;

impl Authority {
    /// Makes the authority of a new cluster.
    pub fn new(cluster: String, seed: Seed, now: u64, draw: &mut dyn FnMut() -> u128) -> Self {
        let validity = Validity { from: now - slack(now), until: now + ROOT_TIME.as_secs() };
        Self::made(cluster, seed, validity, draw())
    }

    /// Makes an authority from what it consists of; the same inputs give the same bytes.
    pub fn made(cluster: String, seed: Seed, validity: Validity, serial: u128) -> Self {
        let key = Key::from_seed(seed.clone());
        let certificate = certificate::root(&key, validity, serial);
        let root = Root { certificate, vouched: None, seed: StoredSeed(seed) };
        Self { cluster, version: 1, roots: vec![root], issuer_version: 1, since: validity.from }
    }

    /// Takes a younger root beside the one that issued so far.
    pub fn rotate(
        &self,
        seed: Seed,
        now: u64,
        draw: &mut dyn FnMut() -> u128,
    ) -> Result<Self, Rotating> {
        let [older] = self.roots.as_slice() else { return Err(Rotating) };
        let validity = Validity { from: now - slack(now), until: now + ROOT_TIME.as_secs() };
        let key = Key::from_seed(seed.clone());
        let vouched = certificate::cross(&key.public(), &older.key(), validity, draw());
        let younger = Root {
            certificate: certificate::root(&key, validity, draw()),
            vouched: Some(vouched),
            seed: StoredSeed(seed),
        };
        Ok(Self {
            cluster: self.cluster.clone(),
            version: self.version + 1,
            roots: vec![younger, older.clone()],
            issuer_version: self.version + 1,
            since: now,
        })
    }

    /// Drops all roots but the one that issues.
    #[must_use]
    pub fn retire(&self) -> Self {
        let mut next = self.clone();
        next.version += 1;
        next.roots.truncate(1);
        next.roots[0].vouched = None;
        next
    }

    /// Whether an older root is still believed.
    pub fn is_rotating(&self) -> bool {
        self.roots.len() > 1
    }

    /// The root that issues.
    pub fn issuer(&self) -> &Root {
        self.roots.first().expect("an authority has a root")
    }

    /// The roots that are believed.
    pub fn certificates(&self) -> Vec<Vec<u8>> {
        self.roots.iter().map(|root| root.certificate.clone()).collect()
    }

    /// By what a join token names this authority.
    pub fn fingerprint(&self) -> [u8; 32] {
        certificate::fingerprint(&self.issuer().certificate)
    }

    /// Certifies a member until `ttl` from now. Returns its certificate and those that lead to the
    /// roots, which are shown with it.
    pub fn issue(
        &self,
        request: &Request,
        ttl: Duration,
        now: u64,
        draw: &mut dyn FnMut() -> u128,
    ) -> Vec<Vec<u8>> {
        let Request { public, role, id, region, addresses } = request;
        let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let mut reached = vec![loopback];
        reached.extend(addresses.iter().filter(|address| **address != loopback));
        let subject = Subject {
            common_name: format!("{} {id}", role.name()),
            uri: Member::uri(&self.cluster, *role, id),
            dns: vec![format!("{}.{region}.nomad", role.name()), "localhost".to_owned()],
            addresses: reached,
        };
        let validity = Validity { from: now - slack(now), until: now + ttl.as_secs() };
        let key = self.issuer().key();
        let own = certificate::member(public, &subject, &key, validity, draw());
        let mut chain = vec![own];
        chain.extend(self.issuer().vouched.clone());
        chain.extend(self.certificates());
        chain
    }
}

impl Root {
    fn key(&self) -> Key {
        Key::from_seed(self.seed.0.clone())
    }
}

fn slack(now: u64) -> u64 {
    CLOCK_SLACK.as_secs().min(now)
}
