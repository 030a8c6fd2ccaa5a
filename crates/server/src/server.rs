//! One server: started, asked, stopped.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use cos_model::catalog::Catalog;
use cos_model::{ProposerId, ServerId, Timestamp, version};
use cos_platform::rpc::{self, Client};
use cos_platform::tls::{Protocol, Role};
use cos_platform::{Clock, Fate, Tasks, entropy};
use cos_raft::Raft;
use cos_state::{
    Command, Committed, ControlPlane, GroupChange, GroupError, GroupHealth, Leadership, Member,
    ProposeError, State, Topic,
};
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::{Semaphore, mpsc, watch};

use crate::config::Config;
use crate::gossip::{self, Gossip, Keyring, KeyringChange, KeyringReport};
use crate::machine::Machine;
use crate::peers_file::PeersFile;
use crate::proposals::Proposals;
use crate::publish::Published;
use crate::shared::{FORMAT_TAG, Shared, new_id};
use crate::shares::Shares;
use crate::transport::RaftTransport;
use crate::trust::{self, AuthorityStatus, Members, TrustError};
use crate::wire::{GroupAnswer, GroupAsk};
use crate::{autopilot, bootstrap, group, identity, leader, liveness, reports, vigil, wire};

/// How many heartbeats and relays may wait.
const SIGNS_MAX: usize = 4096;

/// How long a leader that stops waits for another to take over.
const HANDOVER_WAIT: Duration = Duration::from_secs(2);

/// How often a server that leaves asks whether the others have let it go.
const LEAVE_LOOK: Duration = Duration::from_millis(50);

/// How long a server that leaves waits until the others have let it go.
const LEAVE_WAIT: Duration = Duration::from_secs(5);

/// Where consensus keeps its files, below the data directory.
const RAFT_DIR: &str = "raft";

/// A running server. Clones are handles to the same one.
#[derive(Clone, Debug)]
pub struct Server {
    shared: Arc<Shared>,
}

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data directory cannot be used.
    #[error("data directory {path}")]
    DataDir {
        /// Which directory.
        path: String,
        /// What went wrong.
        #[source]
        cause: io::Error,
    },
    /// A port is taken or an address is not of this machine.
    #[error("{what} port {address}")]
    Bind {
        /// Which listener.
        what: &'static str,
        /// Where it should listen.
        address: SocketAddr,
        /// What went wrong.
        #[source]
        cause: io::Error,
    },
    /// Consensus cannot start from what is stored.
    #[error("consensus")]
    Consensus(#[source] cos_raft::StartError),
}

impl Server {
    /// Starts a server: listens, restores what it had acknowledged, and begins or joins a group.
    /// All its tasks belong to `tasks`. Returns before a leader is known.
    pub async fn start(
        mut config: Config,
        clock: Arc<dyn Clock>,
        tasks: Tasks,
    ) -> Result<Self, StartError> {
        let data_dir = config.data_dir.clone();
        let in_dir = |cause| StartError::DataDir { path: data_dir.display().to_string(), cause };
        let id = server_id(&data_dir).map_err(in_dir)?;
        identity::note_used(&data_dir).map_err(in_dir)?;
        let (listener, socket) = listen(&mut config).await?;
        let security = config.security.rpc();
        let published = Arc::new(Published::new());
        let peers_file = PeersFile::find(&data_dir.join(RAFT_DIR)).map_err(in_dir)?;
        let recover = peers_file.as_ref().map(|file| file.recovery.clone());
        let raft = Raft::start(
            cos_raft::Config { recover, ..raft_config(&config, id) },
            Box::new(Machine::new(Arc::clone(&published), Arc::clone(&clock))),
            Arc::new(RaftTransport::new(config.security.rpc())),
        )
        .await
        .map_err(StartError::Consensus)?;
        peers_file.map_or(Ok(()), |file| file.put_away()).map_err(in_dir)?;
        let generation = u64::try_from(clock.unix_nanos() / 1_000_000).unwrap_or(1);
        let tags = gossip_tags(&config, id);
        let keyring = Keyring::open(&config.data_dir, &config.gossip_keys).map_err(in_dir)?;
        let serf = config.advertise.serf;
        let gossip = Gossip::start(socket, serf, generation, tags, keyring, &tasks);
        let (signs, signs_inbox) = mpsc::channel(SIGNS_MAX);
        let (liveness, liveness_inbox) = mpsc::channel(SIGNS_MAX);
        let (reports, reports_inbox) = mpsc::channel(reports::REPORTS_MAX);
        let pace = watch::Sender::new(config.timing.heartbeats.heartbeat_every(0));
        let shared = Arc::new(Shared {
            config,
            id,
            clock,
            tasks: tasks.clone(),
            published,
            raft,
            healths: watch::Sender::default(),
            proposals: Proposals::new(ProposerId::from_bits(new_id())),
            confirmations: Shares::default(),
            client: Client::secured(security.clone(), Protocol::Servers),
            members: Members::default(),
            gossip,
            room: Semaphore::new(crate::shared::ROOM_KIB),
            signs,
            reports,
            pace,
            liveness,
            contact_millis: AtomicU64::new(0),
            is_leaving: AtomicBool::new(false),
        });
        let (service, rpc_tasks) = (Arc::new(crate::rpc::Rpc(Arc::clone(&shared))), tasks.clone());
        tasks.spawn("rpc", Fate::Vital, async move {
            rpc::serve(listener, service, security, &rpc_tasks).await;
        });
        spawn_tasks(&shared, signs_inbox, liveness_inbox, reports_inbox);
        tracing::info!(server = %id, name = shared.config.name, "server started");
        Ok(Self { shared })
    }

    /// This server's id in the consensus group.
    pub fn id(&self) -> ServerId {
        self.shared.id
    }

    /// The configuration with the addresses that are really used.
    pub fn config(&self) -> &Config {
        &self.shared.config
    }

    /// The newest state, for those who follow it: it is new whenever the watched index changes.
    pub fn follow(&self) -> watch::Receiver<u64> {
        self.shared.published.index()
    }

    /// The catalog as this server last applied it.
    pub fn catalog(&self) -> watch::Receiver<Arc<Catalog>> {
        self.shared.published.catalog()
    }

    /// Takes part no longer, but stays a member of the group and is expected back. A leader hands
    /// over first. The tasks end when their group is asked to.
    pub async fn shutdown(&self) {
        self.hand_over().await;
        self.shared.raft.shutdown().await;
    }

    /// Leaves the group for good, says good-bye in gossip, and takes part no longer.
    pub async fn leave(&self) {
        self.hand_over().await;
        self.shared.gossip.leave().await;
        if tokio::time::timeout(LEAVE_WAIT, self.let_go()).await.is_err() {
            tracing::warn!("left without having been let go by the others");
        }
        self.shared.raft.shutdown().await;
    }

    /// Waits until the group goes on without this server. One that is no member any more is told
    /// nothing, so it asks.
    async fn let_go(&self) {
        let shared = &self.shared;
        while shared.members().len() > 1 {
            if let Some((_, leader)) = shared.other_leader()
                && let Ok(reply) =
                    shared.client.call(&leader, wire::STATUS, Bytes::new(), wire::QUICK_CALL).await
                && let Ok(status) = wire::decode::<wire::Status>(&reply)
                && !status.members.contains(&shared.id)
            {
                return;
            }
            tokio::time::sleep(LEAVE_LOOK).await;
        }
    }

    /// Makes a join token and returns its text, which nobody can get a second time.
    pub async fn create_token(&self, role: Role, ttl: Duration) -> Result<String, TrustError> {
        trust::create_token(&self.shared, role, ttl).await
    }

    /// Begins to replace the certificate authority.
    pub async fn rotate_authority(&self) -> Result<(), TrustError> {
        trust::rotate(&self.shared).await
    }

    /// Changes the keys of gossip on all servers of the region.
    pub async fn change_keyring(&self, change: KeyringChange) -> KeyringReport {
        gossip::change_everywhere(&self.shared, change).await
    }

    /// How the certificate authority stands.
    pub async fn authority_status(&self) -> Result<AuthorityStatus, TrustError> {
        trust::status(&self.shared).await
    }

    /// Consensus as it changes.
    #[cfg(test)]
    pub(crate) fn metrics_for_tests(&self) -> watch::Receiver<cos_raft::Metrics> {
        self.shared.raft.metrics()
    }

    /// Gossip as it is known here.
    #[cfg(test)]
    pub(crate) fn gossip_for_tests(&self) -> &Gossip {
        &self.shared.gossip
    }

    async fn hand_over(&self) {
        self.shared.is_leaving.store(true, Ordering::Relaxed);
        if !self.leadership().is_leader {
            return;
        }
        // Without another voter there is nobody to hand over to.
        if let Ok(Err(error)) =
            tokio::time::timeout(HANDOVER_WAIT, self.shared.raft.transfer_leadership(None)).await
        {
            tracing::debug!(%error, "leadership not handed over");
        }
    }
}

/// The id that the server with this data directory has, drawn now if it has none yet.
pub fn server_id(data_dir: &Path) -> io::Result<ServerId> {
    std::fs::create_dir_all(data_dir)?;
    identity::load_or_create(data_dir, &data_dir.join(RAFT_DIR).join("log"), entropy::draw)
}

/// Opens both sockets and completes what is advertised with the ports that were given.
async fn listen(config: &mut Config) -> Result<(TcpListener, UdpSocket), StartError> {
    let failed = |what, address| move |cause| StartError::Bind { what, address, cause };
    let (rpc, serf) = (config.bind.rpc, config.bind.serf);
    let listener = TcpListener::bind(rpc).await.map_err(failed("rpc", rpc))?;
    let socket = gossip::bind(serf).await.map_err(failed("serf", serf))?;
    let rpc_port = listener.local_addr().map_err(failed("rpc", rpc))?.port();
    let serf_port = socket.local_addr().map_err(failed("serf", serf))?.port();
    for (address, port) in
        [(&mut config.advertise.rpc, rpc_port), (&mut config.advertise.serf, serf_port)]
    {
        if address.port() == 0 {
            address.set_port(port);
        }
    }
    Ok((listener, socket))
}

fn raft_config(config: &Config, id: ServerId) -> cos_raft::Config {
    let (election_min, election_max) = config.timing.raft_election;
    cos_raft::Config {
        timings: cos_raft::Timings {
            heartbeat: config.timing.raft_heartbeat,
            election_min,
            election_max,
        },
        ..cos_raft::Config::new(
            id,
            config.advertise.rpc.to_string(),
            config.data_dir.join(RAFT_DIR),
        )
    }
}

fn gossip_tags(config: &Config, id: ServerId) -> BTreeMap<String, String> {
    let mut tags = config.tags.clone();
    let own = [
        ("role", "nomad".to_owned()),
        ("name", config.name.clone()),
        ("region", config.region.clone()),
        ("dc", config.datacenter.clone()),
        ("id", id.to_string()),
        ("rpc_addr", config.advertise.rpc.to_string()),
        ("http", config.advertise.http.clone()),
        ("consul", config.advertise.consul_http.clone()),
        ("expect", config.bootstrap_expect.to_string()),
        ("build", version::NOMAD.to_owned()),
        (autopilot::ZONE_TAG, config.zone.clone()),
        (autopilot::NON_VOTER_TAG, if config.never_votes { "1" } else { "" }.to_owned()),
        ("cos", version::COS.to_owned()),
        (FORMAT_TAG, cos_state::FORMAT.to_string()),
    ];
    let own = own.into_iter().filter(|(_, value)| !value.is_empty());
    tags.extend(own.map(|(name, value)| (name.to_owned(), value)));
    tags
}

fn spawn_tasks(
    shared: &Arc<Shared>,
    signs: mpsc::Receiver<liveness::Sign>,
    liveness: mpsc::Receiver<wire::Liveness>,
    reports: mpsc::Receiver<reports::Report>,
) {
    let tasks = &shared.tasks;
    tasks.spawn("heartbeats", Fate::Vital, Box::pin(liveness::run(Arc::clone(shared), signs)));
    let (telling, stop) = (Arc::clone(shared), tasks.stopping());
    tasks.spawn("catalog news", Fate::Vital, async move {
        telling.published.tell_catalog(stop).await;
    });
    tasks.spawn("reports", Fate::Vital, Box::pin(reports::run(Arc::clone(shared), reports)));
    tasks.spawn("leader", Fate::Vital, Box::pin(leader::run(Arc::clone(shared), liveness)));
    tasks.spawn("consensus", Fate::Vital, Box::pin(watch_consensus(Arc::clone(shared))));
    tasks.spawn("vigil", Fate::Vital, Box::pin(vigil::run(Arc::clone(shared))));
    tasks.spawn("trust", Fate::Ends, Box::pin(trust::run(Arc::clone(shared))));
    tasks.spawn("group", Fate::Vital, Box::pin(group::run(Arc::clone(shared))));
    tasks.spawn("bootstrap", Fate::Ends, Box::pin(bootstrap::run(Arc::clone(shared))));
    if !shared.config.retry_join.is_empty() {
        let join = gossip::retry_join(
            shared.gossip.clone(),
            shared.config.retry_join.clone(),
            shared.config.retry_interval,
            tasks.stopping(),
        );
        tasks.spawn("retry join", Fate::Ends, Box::pin(join));
    }
}

/// Ends when consensus fails, as when the disk does: what is stored is only known after a restart.
async fn watch_consensus(shared: Arc<Shared>) {
    let stop = shared.tasks.stopping();
    // Either arm may be dropped: both only wait.
    tokio::select! {
        why = shared.raft.failed() => {
            if !shared.is_leaving.load(Ordering::Relaxed) {
                tracing::error!(why, "consensus failed on this server, stopping");
                return;
            }
        }
        () = stop.cancelled() => return,
    }
    // It was stopped on purpose; everything else may take its time.
    stop.cancelled().await;
}

#[async_trait]
impl ControlPlane for Server {
    async fn propose(&self, command: Command) -> Result<Committed, ProposeError> {
        self.shared.propose_for_client(command).await
    }

    fn state(&self) -> Arc<State> {
        self.shared.published.state()
    }

    async fn barrier(&self) -> Result<(), ProposeError> {
        self.shared.barrier().await
    }

    async fn changed(&self, topics: &[Topic], index: u64, wait: Duration) {
        self.shared.published.changed(topics, index, wait).await;
    }

    fn leadership(&self) -> Leadership {
        self.shared.leadership()
    }

    fn members(&self) -> Vec<Member> {
        let peers = self.shared.gossip.peers();
        peers
            .iter()
            .map(|peer| Member {
                name: format!("{}.{}", peer.tag("name"), peer.tag("region")),
                address: peer.address.ip().to_string(),
                port: peer.address.port(),
                tags: shown_tags(&peer.tags),
                status: peer.status,
            })
            .collect()
    }

    async fn join(&self, addresses: &[String]) -> Result<usize, ProposeError> {
        Ok(gossip::join(&self.shared.gossip, addresses).await)
    }

    fn peers(&self) -> Vec<(ServerId, String, bool)> {
        let metrics = self.shared.raft.metrics().borrow().clone();
        let voters = metrics.voters.into_iter().map(|(id, address)| (id, address, true));
        let learners = metrics.learners.into_iter().map(|(id, address)| (id, address, false));
        voters.chain(learners).collect()
    }

    async fn change_group(&self, change: GroupChange) -> Result<Option<ServerId>, GroupError> {
        if let GroupChange::Forget { name, prune } = &change {
            return group::forget(&self.shared, name, *prune).await.map(|()| None);
        }
        match group::ask(&self.shared, GroupAsk::Change(change)).await? {
            GroupAnswer::Done(leader) => Ok(leader),
            other => Err(GroupError::Refused(format!("unexpected answer: {other:?}"))),
        }
    }

    async fn group_health(&self) -> Result<GroupHealth, GroupError> {
        match group::ask(&self.shared, GroupAsk::Health).await? {
            GroupAnswer::Health(health) => Ok(health),
            other => Err(GroupError::Refused(format!("unexpected answer: {other:?}"))),
        }
    }

    fn new_id(&self) -> u128 {
        new_id()
    }

    fn now(&self) -> Timestamp {
        self.shared.now()
    }
}

/// The tags under the names that clients know: `port` and `rpc_addr` apart.
fn shown_tags(tags: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut shown = tags.clone();
    if let Some(address) = tags.get("rpc_addr").and_then(|text| text.parse::<SocketAddr>().ok()) {
        shown.insert("rpc_addr".to_owned(), address.ip().to_string());
        shown.insert("port".to_owned(), address.port().to_string());
    }
    shown
}
