//! A server's hold on the authority: it certifies itself and others with it, keeps it on disk, and
//! takes over a newer one.
//!
//! # Invariants
//!
//! - What is on disk is what is used; a newer authority is durable before anything is issued by it.
//! - A server's own certificate is made at each start and again after two thirds of its life.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cos_platform::tls::{Certificate, Credentials, Identity, Role, TlsError, Trust};
use cos_platform::{Clock, entropy};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::authority::{Authority, Request, Rotating};
use crate::certificate::{Key, SEED_BYTES, Seed};
use crate::disk::{DiskError, Folder};
use crate::secret::{self, RootKey};
use crate::wire::{Grant, KeyProof, ServerSecrets};

/// The file with the authority.
const FILE: &str = "authority";
/// The roots, for other programs.
const ROOTS_FILE: &str = "ca.pem";
/// The own certificate and key, for other programs.
const OWN_FILE: &str = "node.pem";

/// What a keeper has to know of its server.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The server's id.
    pub id: String,
    /// Its region.
    pub region: String,
    /// Where it is reached.
    pub addresses: Vec<IpAddr>,
    /// How long certificates live that this server issues.
    pub certificate_ttl: Duration,
    /// By which authority agents introduce themselves that know only a shared key.
    pub introduction: Option<Authority>,
}

/// Why a keeper cannot do its work.
#[derive(Debug, thiserror::Error)]
pub enum KeeperError {
    /// The authority cannot be read or written.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// Certificates of it cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The stored authority has no key for what is replicated.
    #[error("the stored root key is damaged")]
    RootKey,
}

/// The authority as one server holds it.
#[derive(Debug)]
pub struct Keeper {
    folder: Folder,
    settings: Settings,
    clock: Arc<dyn Clock>,
    identity: Identity,
    held: Mutex<Held>,
}

#[derive(Debug)]
struct Held {
    authority: Authority,
    root_key: RootKey,
    /// When the own certificate is due to be replaced, in seconds since 1970.
    due: u64,
}

impl Keeper {
    /// Takes up what was stored by [`Keeper::begin`]; `None` if nothing was.
    pub fn resume(
        folder: Folder,
        settings: Settings,
        clock: Arc<dyn Clock>,
    ) -> Result<Option<Self>, KeeperError> {
        match folder.read::<ServerSecrets>(FILE)? {
            Some(stored) => Self::start(folder, settings, clock, stored).map(Some),
            None => Ok(None),
        }
    }

    /// Begins with what was made here or received from another server, and stores it.
    pub fn begin(
        folder: Folder,
        settings: Settings,
        clock: Arc<dyn Clock>,
        secrets: ServerSecrets,
    ) -> Result<Self, KeeperError> {
        folder.write(FILE, &ServerSecrets { gossip: Vec::new(), ..secrets.clone() })?;
        Self::start(folder, settings, clock, secrets)
    }

    /// Makes the authority of a new cluster.
    pub fn fresh(now: u64) -> ServerSecrets {
        let cluster = format!("{:032x}", entropy::draw());
        let authority = Authority::new(cluster, draw_seed(), now, &mut entropy::draw);
        ServerSecrets { authority, root_key: draw_seed().0.to_vec(), gossip: Vec::new() }
    }

    fn start(
        folder: Folder,
        settings: Settings,
        clock: Arc<dyn Clock>,
        secrets: ServerSecrets,
    ) -> Result<Self, KeeperError> {
        let root_key: [u8; 32] = secrets.root_key.try_into().ok().ok_or(KeeperError::RootKey)?;
        let held = Held { authority: secrets.authority, root_key: RootKey(root_key), due: 0 };
        let keeper =
            Self { folder, settings, clock, identity: Identity::vacant(), held: Mutex::new(held) };
        keeper.certify_self()?;
        Ok(keeper)
    }

    /// What this server shows and whom it believes.
    pub fn identity(&self) -> Identity {
        self.identity.clone()
    }

    /// The authority as it is held now, with its keys.
    pub fn authority(&self) -> Authority {
        self.held().authority.clone()
    }

    /// What another server needs to hold the same, besides the keys of gossip.
    pub fn secrets(&self) -> ServerSecrets {
        let held = self.held();
        ServerSecrets {
            authority: held.authority.clone(),
            root_key: held.root_key.0.to_vec(),
            gossip: Vec::new(),
        }
    }

    /// An authority as it may be replicated.
    pub fn seal(&self, authority: &Authority) -> Vec<u8> {
        let plain = crate::wire::encode(authority);
        secret::seal(&self.held().root_key, entropy::draw(), &plain)
    }

    /// Reads a replicated authority; `None` if it is not of this cluster.
    pub fn open(&self, sealed: &[u8]) -> Option<Authority> {
        let plain = secret::open(&self.held().root_key, sealed).ok()?;
        rmp_serde::from_slice(&plain).ok()
    }

    /// Takes over a newer authority. Returns whether it was newer.
    pub fn adopt(&self, authority: Authority) -> Result<bool, KeeperError> {
        if authority.version <= self.held().authority.version {
            return Ok(false);
        }
        let root_key = self.held().root_key.0.to_vec();
        let stored = ServerSecrets { authority: authority.clone(), root_key, gossip: Vec::new() };
        self.folder.write(FILE, &stored)?;
        self.held().authority = authority;
        self.certify_self()?;
        Ok(true)
    }

    /// The authority with a younger root, to be committed.
    pub fn rotated(&self) -> Result<Authority, Rotating> {
        self.authority().rotate(draw_seed(), self.now(), &mut entropy::draw)
    }

    /// Replaces the own certificate if it is time.
    pub fn refresh(&self) -> Result<(), KeeperError> {
        if self.now() < self.held().due {
            return Ok(());
        }
        self.certify_self()
    }

    /// Certifies a member whose proof holds; `None` if it does not.
    pub fn certify(
        &self,
        key: &KeyProof,
        role: Role,
        id: &str,
        address: Option<IpAddr>,
    ) -> Option<Grant> {
        let public = key.check(role, id)?;
        let request = Request {
            public,
            role,
            id: id.to_owned(),
            region: self.settings.region.clone(),
            addresses: address.into_iter().collect(),
        };
        Some(self.grant(&request))
    }

    /// How long certificates live.
    pub fn certificate_ttl(&self) -> Duration {
        self.settings.certificate_ttl
    }

    /// Reads the clock, in seconds since 1970.
    pub fn now(&self) -> u64 {
        u64::try_from(self.clock.unix_nanos() / 1_000_000_000).unwrap_or(0)
    }

    fn grant(&self, request: &Request) -> Grant {
        let (now, ttl) = (self.now(), self.settings.certificate_ttl);
        let authority = self.authority();
        Grant {
            version: authority.version,
            chain: authority.issue(request, ttl, now, &mut entropy::draw),
            roots: authority.certificates(),
            from: now,
            until: now + ttl.as_secs(),
        }
    }

    fn certify_self(&self) -> Result<(), KeeperError> {
        let key = Key::draw();
        let request = Request {
            public: key.public(),
            role: Role::Server,
            id: self.settings.id.clone(),
            region: self.settings.region.clone(),
            addresses: self.settings.addresses.clone(),
        };
        let grant = self.grant(&request);
        let introduction = self.settings.introduction.as_ref();
        let introduction = introduction.map(|by| introduced(by, &key, &request, self.now()));
        self.identity.replace(&Credentials {
            own: Some(certificate(&grant.chain, &key)),
            trust: Trust::Roots(ders(&grant.roots)),
            introduction,
        })?;
        self.folder.write_pem(ROOTS_FILE, None, &grant.roots)?;
        self.folder.write_pem(OWN_FILE, Some(&key.to_pkcs8()), &grant.chain)?;
        self.held().due = due(grant.from, grant.until);
        Ok(())
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long an introduction is good for: long enough for a slow clock.
const INTRODUCTION_TTL: Duration = Duration::from_hours(24 * 365);

/// The certificate of one that is introduced by a shared key, and the root of that.
pub(crate) fn introduced(
    by: &Authority,
    key: &Key,
    request: &Request,
    now: u64,
) -> (Certificate, CertificateDer<'static>) {
    let chain = by.issue(request, INTRODUCTION_TTL, now, &mut entropy::draw);
    (certificate(&chain, key), CertificateDer::from(by.issuer().certificate.clone()))
}

/// Two thirds of a life.
pub(crate) fn due(from: u64, until: u64) -> u64 {
    from + until.saturating_sub(from) / 3 * 2
}

pub(crate) fn certificate(chain: &[Vec<u8>], key: &Key) -> Certificate {
    Certificate {
        chain: ders(chain),
        key: PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.to_pkcs8())),
    }
}

pub(crate) fn ders(certificates: &[Vec<u8>]) -> Vec<CertificateDer<'static>> {
    certificates.iter().map(|bytes| CertificateDer::from(bytes.clone())).collect()
}

impl Key {
    /// Draws a fresh key.
    pub fn draw() -> Self {
        Self::from_seed(draw_seed())
    }
}

pub(crate) fn draw_seed() -> Seed {
    let mut seed = [0; SEED_BYTES];
    let (first, second) = seed.split_at_mut(SEED_BYTES / 2);
    first.copy_from_slice(&entropy::draw().to_be_bytes());
    second.copy_from_slice(&entropy::draw().to_be_bytes());
    Seed(seed)
}
