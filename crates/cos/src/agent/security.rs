//! How this agent becomes a member of its cluster before it does anything else, and what it shows.
//!
//! A membership that is stored is taken up; otherwise the agent joins with a token or a shared key,
//! or begins a cluster. It joins before its parts start, so that an agent that may not join says so
//! and ends.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use cos_identity::certificate::Key;
use cos_identity::join::{JoinError, Joiner, Proof, join};
use cos_identity::wire::ServerSecrets;
use cos_identity::{ClientMember, Derived, Folder, GivenFiles, Keeper, Token};
use cos_platform::rpc;
use cos_platform::tls::{Identity, Role, Web, WebSettings};
use cos_platform::{Fate, Tasks, entropy};
use cos_server::Security;

use super::Parts;
use crate::config::{Mode, Settings};

/// How long a certificate lives unless `cluster { certificate_ttl }` says otherwise.
const CERTIFICATE_TTL: Duration = Duration::from_hours(72);

/// The waits between two rounds of asking to join.
const JOIN_WAIT_MIN: Duration = Duration::from_millis(200);
const JOIN_WAIT_MAX: Duration = Duration::from_secs(3);

/// How often files that an operator gave are looked at.
const FILES_LOOK_EVERY: Duration = Duration::from_secs(5);

/// What helps an agent that may not join.
const HELP: &str = "create a token with `cos token create -role";

/// Who this agent is.
pub(super) struct Secured {
    /// For the server part.
    pub(super) server: Security,
    /// For the client part.
    pub(super) link: rpc::Security,
    /// To call other agents over HTTP; absent where that is in the clear.
    pub(super) members: Option<Identity>,
    /// For the HTTP listeners.
    pub(super) web: Web,
    /// The membership of a client, to be kept fresh.
    pub(super) member: Option<Arc<ClientMember>>,
    /// The first keys of gossip.
    pub(super) gossip_keys: Vec<Vec<u8>>,
    /// In one word, for people.
    pub(super) word: &'static str,
}

/// Takes up or begins this agent's membership.
pub(super) async fn start(parts: &Parts<'_>) -> anyhow::Result<Secured> {
    let settings = parts.settings;
    let encrypt = settings.server.encrypt.as_deref().map(cos_server::parse_key).transpose()?;
    let gossip_keys: Vec<Vec<u8>> = encrypt.iter().cloned().collect();
    let mut secured = match settings.mode(parts.endpoints)? {
        Mode::Plain(outside) => {
            if let Some(address) = outside {
                tracing::warn!(
                    %address,
                    "cluster {{ insecure = true }}: everything inside this cluster is in the \
                     clear, and whoever reaches this address is believed"
                );
            }
            plain(if outside.is_some() { "insecure" } else { "plain" })
        }
        Mode::Given => given(parts)?,
        Mode::Own if settings.is_server() => {
            let (keeper, keys) = Box::pin(keeper(parts, encrypt.as_deref())).await?;
            let keeper = Arc::new(keeper);
            let identity = keeper.identity();
            let server = Security::Own(keeper);
            Secured { server, gossip_keys: keys, ..tls(identity, "mtls") }
        }
        Mode::Own => {
            let member = Arc::new(Box::pin(client(parts, encrypt.as_deref())).await?);
            let identity = member.identity();
            Secured { member: Some(member), ..tls(identity, "mtls") }
        }
    };
    if secured.gossip_keys.is_empty() {
        secured.gossip_keys = gossip_keys;
    }
    web(parts, &mut secured)?;
    Ok(secured)
}

fn plain(word: &'static str) -> Secured {
    Secured {
        server: Security::Plain,
        link: rpc::Security::Plain,
        members: None,
        web: Web::new(None),
        member: None,
        gossip_keys: Vec::new(),
        word,
    }
}

fn tls(identity: Identity, word: &'static str) -> Secured {
    let link = rpc::Security::Tls { identity: identity.clone(), upgrading: false };
    let web = Web::new(Some(identity.clone()));
    Secured { link, members: Some(identity), web, ..plain(word) }
}

/// By files that the operator gave, which are read again when they change.
fn given(parts: &Parts<'_>) -> anyhow::Result<Secured> {
    let files = files(parts.settings)?.context(
        "tls { rpc = true } needs ca_file, cert_file and key_file; without them the cluster makes \
         its own certificates, if tls { rpc } is left out",
    )?;
    let upgrading = parts.settings.tls.rpc_upgrade_mode == Some(true);
    let identity = Identity::new(&files.read()?).context("tls")?;
    let renewed = identity.clone();
    watch(files, parts.tasks, move |files| {
        renewed.replace(&files.read()?)?;
        Ok(())
    });
    let link = rpc::Security::Tls { identity: identity.clone(), upgrading };
    let server = Security::Given { identity: identity.clone(), upgrading };
    Ok(Secured { server, link, ..tls(identity, "mtls with given certificates") })
}

fn files(settings: &Settings) -> anyhow::Result<Option<GivenFiles>> {
    let tls = &settings.tls;
    let given: [&Option<PathBuf>; 3] = [&tls.ca_file, &tls.cert_file, &tls.key_file];
    match given {
        [Some(ca), Some(certificate), Some(key)] => {
            let (ca, certificate, key) = (ca.clone(), certificate.clone(), key.clone());
            Ok(Some(GivenFiles { ca, certificate, key }))
        }
        [None, None, None] => Ok(None),
        _ => bail!("tls {{ }}: ca_file, cert_file and key_file are given together or not at all"),
    }
}

/// Makes HTTPS of the listeners if that is asked for.
fn web(parts: &Parts<'_>, secured: &mut Secured) -> anyhow::Result<()> {
    let settings = parts.settings;
    if settings.tls.http != Some(true) {
        return Ok(());
    }
    let only_tls13 = settings.tls.min_version.as_deref() == Some("tls13");
    let verifies = settings.tls.verify_https_client == Some(true);
    match files(settings)? {
        Some(files) => {
            let read = move |files: &GivenFiles| -> anyhow::Result<WebSettings> {
                let callers =
                    verifies.then(|| cos_identity::read_certificates(&files.ca)).transpose()?;
                Ok(WebSettings { certificate: files.certificate()?, callers, only_tls13 })
            };
            if secured.members.is_none() {
                let identity = Identity::new(&files.read()?).context("tls")?;
                secured.web = Web::new(Some(identity.clone()));
                secured.members = Some(identity);
            }
            secured.web.show(&read(&files)?).context("tls")?;
            let shown = secured.web.clone();
            watch(files, parts.tasks, move |files| Ok(shown.show(&read(files)?)?));
        }
        None if verifies => bail!("tls {{ verify_https_client = true }} needs ca_file"),
        None if secured.members.is_none() => bail!(
            "tls {{ http = true }} needs ca_file, cert_file and key_file, or the cluster's own \
             certificates with cluster {{ tls = true }}"
        ),
        None => {}
    }
    secured.web = std::mem::take(&mut secured.web).only_tls();
    Ok(())
}

/// Does something again whenever one of the files changes.
fn watch(
    files: GivenFiles,
    tasks: &Tasks,
    renew: impl Fn(&GivenFiles) -> anyhow::Result<()> + Send + 'static,
) {
    let stop = tasks.stopping();
    tasks.spawn("certificate files", Fate::Vital, async move {
        let mut known = files.modified();
        loop {
            // Either arm may be dropped: both only wait.
            tokio::select! {
                () = tokio::time::sleep(FILES_LOOK_EVERY) => {}
                () = stop.cancelled() => return,
            }
            let now = files.modified();
            if now == known {
                continue;
            }
            known = now;
            match renew(&files) {
                Ok(()) => tracing::info!("certificates read again"),
                // The old ones stay; a file may be half written, and will change once more.
                Err(error) => tracing::warn!("changed certificates not used: {error:#}"),
            }
        }
    });
}

fn folder(settings: &Settings) -> anyhow::Result<Folder> {
    Ok(Folder::open(&settings.data_dir.clone().unwrap_or_default().join("tls"))?)
}

/// A server's hold on the authority, and the keys of gossip if it got or made them just now.
async fn keeper(
    parts: &Parts<'_>,
    encrypt: Option<&[u8]>,
) -> anyhow::Result<(Keeper, Vec<Vec<u8>>)> {
    let settings = parts.settings;
    let data_dir = settings.data_dir.clone().unwrap_or_default().join("server");
    let id = cos_server::server_id(&data_dir).context("data_dir")?;
    let derived = encrypt.map(Derived::from_key);
    let endpoints = parts.endpoints;
    let mut addresses = vec![endpoints.rpc.advertise.ip(), endpoints.http.advertise.ip()];
    addresses.dedup();
    let for_keeper = cos_identity::Settings {
        id: id.to_string(),
        region: settings.region(),
        addresses,
        certificate_ttl: settings.cluster.certificate_ttl.unwrap_or(CERTIFICATE_TTL),
        introduction: derived.as_ref().map(|derived| derived.introduction.clone()),
    };
    let folder = folder(settings)?;
    let clock = Arc::clone(parts.clock);
    let resumed = Keeper::resume(folder.clone(), for_keeper.clone(), Arc::clone(&clock))?;
    if let Some(keeper) = resumed {
        return Ok((keeper, Vec::new()));
    }
    let joiner = joiner(parts, Role::Server, id.to_string(), derived.as_ref())?;
    let secrets = match (joiner, derived) {
        (Some(joiner), None) => joined_server(parts, &joiner, None).await?,
        (Some(joiner), Some(derived)) => joined_server(parts, &joiner, Some(derived)).await?,
        (None, _) if settings.dev || settings.server.bootstrap_expect == Some(1) => {
            tracing::info!("new cluster: certificate authority made");
            let mut secrets = Keeper::fresh(unix_seconds(parts));
            secrets.gossip =
                vec![[entropy::draw(), entropy::draw()].map(u128::to_be_bytes).concat()];
            secrets
        }
        (None, _) => bail!(
            "this server has no certificate and nothing to get one with. Start the first server \
             with bootstrap_expect = 1, then {HELP} server` there and start this one with \
             -join-token; or set the same server {{ encrypt }} key on all servers"
        ),
    };
    let keys = secrets.gossip.clone();
    Ok((Keeper::begin(folder, for_keeper, clock, secrets)?, keys))
}

/// What all servers share, from one of them; or derived from the shared key, if this server helps to
/// begin the cluster and nobody is there.
async fn joined_server(
    parts: &Parts<'_>,
    joiner: &Joiner,
    derived: Option<Derived>,
) -> anyhow::Result<ServerSecrets> {
    let may_begin = parts.settings.server.bootstrap_expect.is_some_and(|count| count > 0);
    let first = match (&derived, may_begin) {
        (Some(_), true) => match join(&addresses(parts), joiner, unix_seconds(parts)).await {
            Err(JoinError::NotNow(_)) => None,
            other => Some(other?),
        },
        _ => Some(join_until_told(parts, joiner).await?),
    };
    match (first, derived) {
        (Some(joined), _) => joined.shared.context("the cluster did not share its authority"),
        (None, Some(derived)) => Ok(ServerSecrets {
            authority: derived.authority,
            root_key: derived.root_key.0.to_vec(),
            gossip: Vec::new(),
        }),
        (None, None) => unreachable!("without a shared key the server waits"),
    }
}

/// A client's membership.
async fn client(parts: &Parts<'_>, encrypt: Option<&[u8]>) -> anyhow::Result<ClientMember> {
    let settings = parts.settings;
    let state = settings.data_dir.clone().unwrap_or_default().join("client").join("state.db");
    let id = cos_agent::store::identity(&state, entropy::draw)?.node.to_string();
    let folder = folder(settings)?;
    let clock = Arc::clone(parts.clock);
    let derived = encrypt.map(Derived::from_key);
    let joiner = joiner(parts, Role::Client, id.clone(), derived.as_ref())?;
    match ClientMember::resume(folder.clone(), &id, Arc::clone(&clock))? {
        Some(member) if !member.has_ended() => return Ok(member),
        Some(_) if joiner.is_none() => bail!(
            "this agent's certificate has expired, and it was away too long to renew it: {HELP} \
             client` on a server and start it with -join-token"
        ),
        _ => {}
    }
    let joiner = joiner.with_context(|| {
        format!(
            "this agent is no member of the cluster yet: {HELP} client` on a server and start it \
             with -join-token, or set the servers' server {{ encrypt }} key here too"
        )
    })?;
    let joined = join_until_told(parts, &joiner).await?;
    Ok(ClientMember::begin(folder, &id, clock, &joiner.key, joined.grant)?)
}

/// What this agent can join with, if anything.
fn joiner(
    parts: &Parts<'_>,
    role: Role,
    id: String,
    derived: Option<&Derived>,
) -> anyhow::Result<Option<Joiner>> {
    let token = parts.settings.cluster.join_token.as_deref();
    let proof = match (token, derived) {
        (Some(token), _) => {
            let token = Token::parse(token)?;
            if token.role != role {
                bail!(
                    "the join token is for a {}, and this agent is a {}: {HELP} {}` on a server",
                    token.role.name(),
                    role.name(),
                    role.name()
                );
            }
            Proof::Token(token)
        }
        (None, Some(derived)) => Proof::Shared(derived.introduction.clone()),
        (None, None) => return Ok(None),
    };
    let key = Key::draw();
    Ok(Some(Joiner { role, id, name: parts.name.to_owned(), key, proof }))
}

/// Asks until a server says yes or no.
async fn join_until_told(
    parts: &Parts<'_>,
    joiner: &Joiner,
) -> anyhow::Result<cos_identity::wire::Joined> {
    let addresses = addresses(parts);
    if addresses.is_empty() {
        bail!("no server to join is known: set retry_join, client servers or cluster {{ join }}");
    }
    let mut wait = JOIN_WAIT_MIN;
    let mut told = String::new();
    loop {
        match join(&addresses, joiner, unix_seconds(parts)).await {
            Ok(joined) => return Ok(joined),
            Err(JoinError::NotNow(why)) => {
                if why != told {
                    tracing::warn!(why, "not joined yet, trying again");
                    told = why;
                }
            }
            Err(error) => return Err(error.into()),
        }
        tokio::time::sleep(wait).await;
        wait = JOIN_WAIT_MAX.min(wait * 2);
    }
}

/// Where servers may be asked, `host:port` of their RPC.
fn addresses(parts: &Parts<'_>) -> Vec<String> {
    let settings = parts.settings;
    let port = parts.endpoints.rpc.bind.port();
    if !settings.cluster.join.is_empty() {
        return settings.cluster.join.iter().map(|a| super::with_port(a, port)).collect();
    }
    let own = parts.endpoints.rpc.advertise.to_string();
    // Servers are named by where they gossip, which is beside where they are called.
    let beside = settings.server.retry_join.iter().map(|address| {
        let host = address.rsplit_once(':').map_or(address.as_str(), |(host, _)| host);
        super::with_port(host, port)
    });
    let mut all: Vec<String> =
        settings.client_servers().iter().map(|a| super::with_port(a, port)).collect();
    all.extend(beside);
    all.retain(|address| !settings.is_server() || *address != own);
    all
}

fn unix_seconds(parts: &Parts<'_>) -> u64 {
    u64::try_from(parts.clock.unix_nanos() / 1_000_000_000).unwrap_or(0)
}
