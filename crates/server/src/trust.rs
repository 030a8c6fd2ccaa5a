//! Who is a member: takes agents in, renews certificates, and keeps the certificate authority the
//! same on all servers.
//!
//! The authority is replicated, sealed; each server also holds it on disk, because it needs a
//! certificate before it can reach the others. The leader replicates its own if none is there, and
//! drops an old root when every member has shown that it does without.
//!
//! # Invariants
//!
//! - A token is used up in the log before anything is issued for it.
//! - An old root is dropped when all servers hold the new authority and all nodes use certificates of
//!   the new root, or when every certificate of the old one has ended.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use cos_identity::authority::{Authority, Rotating};
use cos_identity::join::Answer;
use cos_identity::token::{Token, secret_hash};
use cos_identity::wire::{JoinRequest, Joined, RenewRequest, Renewed, ServerSecrets};
use cos_identity::{Keeper, token};
use cos_model::trust::{JoinToken, SealedAuthority, TrustChange};
use cos_platform::rpc::{self, Peer, Who};
use cos_platform::tls::{Identity, Member, Role};
use cos_platform::{LogGate, entropy};
use cos_state::{Command, ProposeError, Refused};
use tokio::time::MissedTickBehavior;

use crate::shared::Shared;
use crate::wire::{self, Confirmations};

/// How often a change of the authority is looked for, besides whenever the state says so.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How a server knows its peers.
#[derive(Clone, Debug, Default)]
pub enum Security {
    /// It believes what they say: the network is trusted as a whole.
    #[default]
    Plain,
    /// By certificates that an operator made.
    Given {
        /// What this server shows and whom it believes.
        identity: Identity,
        /// Whether peers in the clear are served too, while the cluster is changed over.
        upgrading: bool,
    },
    /// By certificates of the cluster's own authority.
    Own(Arc<Keeper>),
}

impl Security {
    /// The same as the cluster's own protocol wants it.
    pub fn rpc(&self) -> rpc::Security {
        match self {
            Self::Plain => rpc::Security::Plain,
            Self::Given { identity, upgrading } => {
                rpc::Security::Tls { identity: identity.clone(), upgrading: *upgrading }
            }
            Self::Own(keeper) => {
                rpc::Security::Tls { identity: keeper.identity(), upgrading: false }
            }
        }
    }
}

/// What this server heard of members' certificates, and how often it complained.
#[derive(Debug, Default)]
pub(crate) struct Members {
    /// For each node, the version of the authority that issued its certificate.
    confirmed: Mutex<BTreeMap<String, u64>>,
    /// For refusals.
    pub(crate) gate: LogGate,
}

impl Members {
    /// Notes by which version of the authority a node is certified.
    pub(crate) fn note(&self, node: &str, version: u64) {
        let mut confirmed = self.confirmed.lock().unwrap_or_else(PoisonError::into_inner);
        confirmed.insert(node.to_owned(), version);
    }

    fn confirmed(&self) -> BTreeMap<String, u64> {
        self.confirmed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Why something about the authority was not done.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// The cluster has no authority of its own.
    #[error(
        "this cluster has no certificate authority of its own: it speaks in the clear, or uses \
         certificates from tls {{ }}"
    )]
    NoAuthority,
    /// It is being replaced already.
    #[error(transparent)]
    Rotating(#[from] Rotating),
    /// It was not committed.
    #[error(transparent)]
    Propose(#[from] ProposeError),
}

/// How the authority stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthorityStatus {
    /// The cluster's id.
    pub cluster: String,
    /// The version of the authority.
    pub version: u64,
    /// SHA-256 of its roots in hexadecimal, the one that issues first.
    pub roots: Vec<String>,
    /// Members that still need the older root.
    pub waiting_for: Vec<String>,
}

fn keeper(shared: &Shared) -> Option<&Arc<Keeper>> {
    match &shared.config.security {
        Security::Own(keeper) => Some(keeper),
        Security::Plain | Security::Given { .. } => None,
    }
}

/// Makes a join token and returns its text, which nobody can get a second time.
pub(crate) async fn create_token(
    shared: &Shared,
    role: Role,
    ttl: Duration,
) -> Result<String, TrustError> {
    let keeper = keeper(shared).ok_or(TrustError::NoAuthority)?;
    let token = Token {
        role,
        id: entropy::draw(),
        secret: entropy::draw().to_be_bytes(),
        authority: keeper.authority().fingerprint(),
    };
    let now = shared.now();
    let stored = JoinToken {
        id: token.id,
        role: role.name().to_owned(),
        secret_hash: token.secret_hash().to_vec(),
        created_at: now,
        expires_at: now + ttl,
        used: None,
    };
    shared.propose(Command::Trust(TrustChange::CreateToken(stored))).await?;
    Ok(token.to_text())
}

/// Takes an agent in, or says why not.
pub(crate) async fn join(shared: &Shared, peer: &Peer, body: &[u8]) -> Answer {
    let Ok(request) = wire::decode::<JoinRequest>(body) else {
        return denied("the request cannot be read");
    };
    let Some(keeper) = keeper(shared) else {
        return denied(&TrustError::NoAuthority.to_string());
    };
    let Some(role) = Role::parse(&request.role) else {
        return denied("only servers and clients can join");
    };
    if request.id.is_empty() || request.id.contains('/') || request.id.len() > 64 {
        return denied("the id of the node cannot be used");
    }
    if let Err(answer) = may_join(shared, peer, &request).await {
        return answer;
    }
    let address = Some(peer.address.ip());
    let Some(grant) = keeper.certify(&request.key, role, &request.id, address) else {
        return denied("the proof of possession does not fit the key");
    };
    tracing::info!(
        role = role.name(), id = request.id, name = request.name, from = %peer.address,
        "agent joined"
    );
    let shared = (role == Role::Server)
        .then(|| ServerSecrets { gossip: shared.gossip.keys(), ..keeper.secrets() });
    Answer::Joined(Box::new(Joined { grant, shared }))
}

/// Checks the token and uses it up, or the introduction.
async fn may_join(shared: &Shared, peer: &Peer, request: &JoinRequest) -> Result<(), Answer> {
    let hint = format!("create a token with `cos token create -role {}` on a server", request.role);
    let Some((id, secret)) = &request.token else {
        return match peer.who {
            Who::Introduced => Ok(()),
            _ => Err(denied(&format!("no join token was given; {hint}"))),
        };
    };
    let hash = secret_hash(secret);
    match is_known(shared, *id, &hash).await {
        Ok(true) => {}
        Ok(false) => {
            let why = "this join token is not known here, or was revoked";
            return Err(denied(&format!("{why}; {hint}")));
        }
        Err(error) => return Err(Answer::Denied { why: error.to_string(), may_retry: true }),
    }
    let used = shared.propose(Command::Trust(TrustChange::UseToken {
        id: *id,
        secret_hash: hash.to_vec(),
        role: request.role.clone(),
        by: request.name.clone(),
        key: request.key.public.clone(),
    }));
    match used.await {
        Ok(_) => Ok(()),
        Err(ProposeError::Refused(Refused::Invalid(why) | Refused::NotFound(why))) => {
            let (name, from) = (&request.name, peer.address);
            tracing::warn!(name, %from, why, "agent may not join");
            Err(denied(&format!("{why}; {hint}")))
        }
        Err(error) => Err(Answer::Denied { why: error.to_string(), may_retry: true }),
    }
}

/// Whether there is such a token, so that nobody without one can fill the log with attempts.
async fn is_known(shared: &Shared, id: u128, hash: &[u8]) -> Result<bool, ProposeError> {
    let is_there = || {
        let state = shared.published.state();
        state.trust().tokens.get(&id).is_some_and(|token| token.secret_hash == hash)
    };
    // A token that was made a moment ago may not have reached this server.
    if is_there() {
        return Ok(true);
    }
    shared.barrier().await?;
    Ok(is_there())
}

fn denied(why: &str) -> Answer {
    Answer::Denied { why: why.to_owned(), may_retry: false }
}

/// Answers a member that asks whether anything changed, and certifies it anew if it wants that.
pub(crate) fn renew(shared: &Shared, peer: &Peer, body: &[u8]) -> Result<Renewed, String> {
    let request: RenewRequest = wire::decode(body).map_err(|error| error.to_string())?;
    let keeper = keeper(shared).ok_or_else(|| TrustError::NoAuthority.to_string())?;
    let Who::Member(Member { role, id: Some(id), .. }) = &peer.who else {
        return Err("only a certificate of this cluster can be renewed".to_owned());
    };
    let authority = keeper.authority();
    shared.members.note(id, request.version);
    let grant = match &request.key {
        Some(key) => {
            let address: Option<IpAddr> = Some(peer.address.ip());
            let grant = keeper.certify(key, *role, id, address);
            Some(grant.ok_or("the proof of possession does not fit the key")?)
        }
        None => None,
    };
    Ok(Renewed {
        version: authority.version,
        is_due: request.version < authority.issuer_version,
        roots: authority.certificates(),
        grant,
    })
}

/// What this server heard, for the leader.
pub(crate) fn confirmations(shared: &Shared) -> Confirmations {
    let held = keeper(shared).map_or(0, |keeper| keeper.authority().version);
    Confirmations { held, nodes: shared.members.confirmed() }
}

/// Begins to replace the authority.
pub(crate) async fn rotate(shared: &Shared) -> Result<(), TrustError> {
    let keeper = keeper(shared).ok_or(TrustError::NoAuthority)?;
    let next = keeper.rotated()?;
    // In the first second of a cluster the leader may not have replicated it yet. If it just did,
    // this is refused, and nothing is missing.
    if shared.published.state().trust().authority.is_none()
        && let Err(error) = replace(shared, keeper, &keeper.authority(), 0).await
    {
        tracing::debug!(%error, "certificate authority replicated by another server");
    }
    replace(shared, keeper, &next, next.version - 1).await?;
    Ok(())
}

/// How the authority stands, asked of all servers.
pub(crate) async fn status(shared: &Shared) -> Result<AuthorityStatus, TrustError> {
    let authority = keeper(shared).ok_or(TrustError::NoAuthority)?.authority();
    let fingerprint = |root: &Vec<u8>| token::hex(&cos_identity::certificate::fingerprint(root));
    let waiting_for =
        if authority.is_rotating() { waiting_for(shared, &authority).await } else { Vec::new() };
    Ok(AuthorityStatus {
        cluster: authority.cluster.clone(),
        version: authority.version,
        roots: authority.certificates().iter().map(fingerprint).collect(),
        waiting_for,
    })
}

/// Keeps this server's authority and certificate as they should be, until the server stops.
pub(crate) async fn run(shared: Arc<Shared>) {
    let Some(keeper) = keeper(&shared).map(Arc::clone) else { return };
    let stop = shared.tasks.stopping();
    let mut applied = shared.published.index();
    let mut look = tokio::time::interval(LOOK_EVERY);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut seen = 0;
    loop {
        // Each arm may be dropped: all of them only wait.
        let is_due = tokio::select! {
            _ = look.tick() => true,
            changed = applied.changed() => {
                if changed.is_err() {
                    return;
                }
                false
            }
            () = stop.cancelled() => return,
        };
        let trust = Arc::clone(shared.published.state().trust());
        if trust.modify_index != seen {
            seen = trust.modify_index;
            follow(&keeper, trust.authority.as_ref());
        }
        if !is_due {
            continue;
        }
        if let Err(error) = keeper.refresh() {
            tracing::error!(%error, "own certificate not renewed");
        }
        if shared.leadership().is_leader
            && let Err(error) = lead(&shared, &keeper, trust.authority.as_ref()).await
        {
            tracing::debug!(%error, "certificate authority not replicated yet");
        }
    }
}

/// Takes over what another server made.
fn follow(keeper: &Keeper, replicated: Option<&SealedAuthority>) {
    let opened = replicated.and_then(|authority| keeper.open(&authority.sealed));
    let Some(authority) = opened else { return };
    match keeper.adopt(authority) {
        Ok(true) => {
            let authority = keeper.authority();
            let rotating = authority.is_rotating();
            tracing::info!(version = authority.version, rotating, "certificate authority changed");
        }
        Ok(false) => {}
        Err(error) => tracing::error!(%error, "certificate authority not taken over"),
    }
}

/// What falls to the leader: that the authority is replicated, and that a rotation comes to an end.
async fn lead(
    shared: &Shared,
    keeper: &Arc<Keeper>,
    replicated: Option<&SealedAuthority>,
) -> Result<(), TrustError> {
    let held = keeper.authority();
    match replicated {
        None => return replace(shared, keeper, &held, 0).await,
        // Of a cluster whose log was recovered here without its keys: ours takes its place.
        Some(foreign) if keeper.open(&foreign.sealed).is_none() => {
            let version = held.version.max(foreign.version) + 1;
            let ours = Authority { version, ..held };
            return replace(shared, keeper, &ours, foreign.version).await;
        }
        // An older one of this cluster, from a log that was put back.
        Some(older) if older.version < held.version => {
            return replace(shared, keeper, &held, older.version).await;
        }
        Some(_) => {}
    }
    if !held.is_rotating() {
        return Ok(());
    }
    let all_ended = keeper.now() > held.since + keeper.certificate_ttl().as_secs();
    if all_ended || waiting_for(shared, &held).await.is_empty() {
        let next = held.retire();
        replace(shared, keeper, &next, held.version).await?;
        tracing::info!(version = next.version, "old certificate authority dropped");
    }
    Ok(())
}

async fn replace(
    shared: &Shared,
    keeper: &Keeper,
    authority: &Authority,
    expected: u64,
) -> Result<(), TrustError> {
    let change = TrustChange::SetAuthority {
        authority: SealedAuthority {
            version: authority.version,
            roots: authority.certificates(),
            sealed: keeper.seal(authority),
        },
        expected,
    };
    shared.propose(Command::Trust(change)).await?;
    Ok(())
}

/// The members that have not shown yet that they do without the older root.
async fn waiting_for(shared: &Shared, authority: &Authority) -> Vec<String> {
    let mut waiting = Vec::new();
    let mut nodes = shared.members.confirmed();
    for (id, address) in shared.members().into_iter().filter(|(id, _)| *id != shared.id) {
        let asked =
            shared.client.call(&address, wire::CONFIRMATIONS, Bytes::new(), wire::QUICK_CALL);
        let heard = asked.await.ok().and_then(|reply| wire::decode::<Confirmations>(&reply).ok());
        match heard {
            Some(heard) if heard.held >= authority.version => {
                for (node, version) in heard.nodes {
                    let known = nodes.entry(node).or_default();
                    *known = version.max(*known);
                }
            }
            _ => waiting.push(format!("server {id}")),
        }
    }
    let state = shared.published.state();
    let late = state.nodes().filter(|node| {
        nodes.get(&node.id.to_string()).is_none_or(|version| *version < authority.issuer_version)
    });
    waiting.extend(late.map(|node| format!("node {} ({})", node.id, node.name)));
    waiting
}
