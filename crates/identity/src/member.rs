//! A client agent's membership: its certificate, kept on disk and renewed before it ends.
//!
//! # Invariants
//!
//! - A renewed certificate is durable before it is used, and the key goes with it.
//! - What the servers say of the authority is looked at every [`LOOK_EVERY`], or more often where
//!   certificates live short, so that a new one is believed long before the old one is dropped.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use cos_platform::Clock;
use cos_platform::rpc::{Client, Security};
use cos_platform::tls::{Credentials, Identity, Protocol, Role, Trust};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::certificate::Key;
use crate::disk::{DiskError, Folder};
use crate::keeper::{self, KeeperError};
use crate::wire::{self, Grant, KeyProof, RenewRequest, Renewed};

/// How often the servers are asked whether anything changed…
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// …and into how many parts the life of a certificate is divided at least by these looks: two of
/// them are left after it is due.
const LOOKS_MIN: u64 = 6;

/// How long an answer may take.
const ANSWER_WAIT: Duration = Duration::from_secs(5);

/// The file with certificate and key.
const FILE: &str = "member";
/// The roots, for other programs.
const ROOTS_FILE: &str = "ca.pem";
/// Certificate and key, for other programs.
const OWN_FILE: &str = "node.pem";

/// What is stored.
#[derive(Clone, Serialize, Deserialize)]
struct Stored {
    id: String,
    key: Vec<u8>,
    grant: Grant,
}

/// The membership of a client agent.
#[derive(Debug)]
pub struct ClientMember {
    folder: Folder,
    id: String,
    clock: Arc<dyn Clock>,
    identity: Identity,
    grant: Mutex<Grant>,
}

impl ClientMember {
    /// Takes up the membership that is stored for this id; `None` if there is none.
    pub fn resume(
        folder: Folder,
        id: &str,
        clock: Arc<dyn Clock>,
    ) -> Result<Option<Self>, KeeperError> {
        let Some(stored) = folder.read::<Stored>(FILE)? else { return Ok(None) };
        if stored.id != id {
            return Ok(None);
        }
        let path = folder.path().join(FILE);
        let key = Key::from_pkcs8(&stored.key).ok_or(DiskError::Damaged { path })?;
        let member = Self::with(folder, id, clock, stored.grant);
        member.show(&member.grant(), &key)?;
        Ok(Some(member))
    }

    /// Begins a membership and stores it.
    pub fn begin(
        folder: Folder,
        id: &str,
        clock: Arc<dyn Clock>,
        key: &Key,
        grant: Grant,
    ) -> Result<Self, KeeperError> {
        let member = Self::with(folder, id, clock, grant.clone());
        member.take(grant, key)?;
        Ok(member)
    }

    fn with(folder: Folder, id: &str, clock: Arc<dyn Clock>, grant: Grant) -> Self {
        let identity = Identity::vacant();
        Self { folder, id: id.to_owned(), clock, identity, grant: Mutex::new(grant) }
    }

    /// What this agent shows and whom it believes.
    pub fn identity(&self) -> Identity {
        self.identity.clone()
    }

    /// Whether the certificate has ended, so that only a fresh token helps.
    pub fn has_ended(&self) -> bool {
        self.now() >= self.grant().until
    }

    /// Keeps the certificate fresh until it is told to stop. `servers` says where servers are.
    pub async fn run(
        self: Arc<Self>,
        servers: impl Fn() -> Vec<String> + Send,
        stop: CancellationToken,
    ) {
        let identity = self.identity();
        let client =
            Client::secured(Security::Tls { identity, upgrading: false }, Protocol::Agents);
        let mut was_warned = false;
        loop {
            // Either arm may be dropped: both only wait.
            tokio::select! {
                () = tokio::time::sleep(self.look_every()) => {}
                () = stop.cancelled() => return,
            }
            match self.look(&client, &servers()).await {
                Ok(()) => was_warned = false,
                Err(why) if self.now() >= self.due() && !was_warned => {
                    was_warned = true;
                    tracing::warn!(why, "this agent's certificate is due and not renewed yet");
                }
                Err(why) => tracing::debug!(why, "no server told about the authority"),
            }
        }
    }

    async fn look(&self, client: &Client, servers: &[String]) -> Result<(), String> {
        let is_due = self.now() >= self.due();
        let mut failure = "no server is known".to_owned();
        for address in servers {
            let answered = match self.ask(client, address, is_due).await {
                // What is due was learned only now.
                Ok(Renewed { is_due: true, .. }) if !is_due => {
                    self.ask(client, address, true).await
                }
                other => other,
            };
            match answered {
                Ok(_) => return Ok(()),
                Err(why) => failure = format!("{address}: {why}"),
            }
        }
        Err(failure)
    }

    /// Asks one server, and takes over what it grants.
    async fn ask(&self, client: &Client, address: &str, renew: bool) -> Result<Renewed, String> {
        let key = renew.then(Key::draw);
        let proof = key.as_ref().map(|key| KeyProof::new(key, Role::Client, &self.id));
        let request = RenewRequest { version: self.grant().version, key: proof };
        let body = Bytes::from(wire::encode(&request));
        let reply = client.call(address, wire::RENEW, body, ANSWER_WAIT).await;
        let reply = reply.map_err(|error| error.to_string())?;
        let renewed: Renewed = rmp_serde::from_slice(&reply).map_err(|error| error.to_string())?;
        match (key, &renewed.grant) {
            (Some(key), Some(grant)) => {
                self.take(grant.clone(), &key).map_err(|error| error.to_string())?;
                tracing::info!(version = grant.version, "certificate renewed");
            }
            // An older root was dropped, or another one came: believe that before anything else.
            _ if renewed.roots != self.grant().roots => {
                let grant = Grant { roots: renewed.roots.clone(), ..self.grant() };
                let stored = self.folder.read::<Stored>(FILE).ok().flatten();
                let key = stored.and_then(|stored| Key::from_pkcs8(&stored.key));
                if let Some(key) = key {
                    self.take(grant, &key).map_err(|error| error.to_string())?;
                }
            }
            _ => {}
        }
        Ok(renewed)
    }

    fn take(&self, grant: Grant, key: &Key) -> Result<(), KeeperError> {
        let stored = Stored { id: self.id.clone(), key: key.to_pkcs8(), grant: grant.clone() };
        self.folder.write(FILE, &stored)?;
        self.folder.write_pem(ROOTS_FILE, None, &grant.roots)?;
        self.folder.write_pem(OWN_FILE, Some(&key.to_pkcs8()), &grant.chain)?;
        self.show(&grant, key)?;
        *self.held() = grant;
        Ok(())
    }

    fn show(&self, grant: &Grant, key: &Key) -> Result<(), KeeperError> {
        self.identity.replace(&Credentials {
            own: Some(keeper::certificate(&grant.chain, key)),
            trust: Trust::Roots(keeper::ders(&grant.roots)),
            introduction: None,
        })?;
        Ok(())
    }

    fn look_every(&self) -> Duration {
        let grant = self.grant();
        let part = grant.until.saturating_sub(grant.from) / LOOKS_MIN;
        LOOK_EVERY.min(Duration::from_secs(part.max(1)))
    }

    fn due(&self) -> u64 {
        let grant = self.grant();
        keeper::due(grant.from, grant.until)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.clock.unix_nanos() / 1_000_000_000).unwrap_or(0)
    }

    fn grant(&self) -> Grant {
        self.held().clone()
    }

    fn held(&self) -> MutexGuard<'_, Grant> {
        self.grant.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
