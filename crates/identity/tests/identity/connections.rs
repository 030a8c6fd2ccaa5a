//! Real connections between members, strangers and those who are neither: who gets through, and what
//! the others hear.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use cos_identity::certificate::{Key, Seed};
use cos_identity::secret::Derived;
use cos_identity::wire::ServerSecrets;
use cos_identity::{Authority, Folder, Keeper, Settings, authority};
use cos_platform::rpc::{Client, Peer, RpcError, Security, Service, Who, serve};
use cos_platform::tls::{Certificate, Credentials, Identity, Protocol, Role, Trust};
use cos_platform::{Fate, SystemClock, Tasks, entropy};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

const PATIENCE: Duration = Duration::from_secs(10);
const HOUR: Duration = Duration::from_hours(1);

/// Says who called.
struct Mirror;

#[async_trait]
impl Service for Mirror {
    async fn call(&self, peer: &Peer, method: &str, body: Bytes) -> Result<Bytes, RpcError> {
        if method == "length" {
            return Ok(Bytes::from(body.len().to_string()));
        }
        Ok(Bytes::from(match &peer.who {
            Who::Trusted => "trusted".to_owned(),
            Who::Stranger => "stranger".to_owned(),
            Who::Introduced => "introduced".to_owned(),
            Who::Member(member) => member.to_string(),
        }))
    }

    async fn stream(
        &self,
        _: &Peer,
        _: &str,
        _: mpsc::Receiver<Bytes>,
        _: mpsc::Sender<Bytes>,
    ) -> Result<(), RpcError> {
        Err(RpcError::Refused("there are no streams here".to_owned()))
    }
}

/// A cluster of one server that mirrors.
struct Cluster {
    authority: Authority,
    address: String,
    server: Identity,
    tasks: Tasks,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.tasks.stop();
    }
}

fn now() -> u64 {
    let nanos = cos_platform::Clock::unix_nanos(&SystemClock::new());
    u64::try_from(nanos / 1_000_000_000).unwrap()
}

fn new_authority(name: &str, seed: u8) -> Authority {
    Authority::new(name.to_owned(), Seed([seed; 32]), now(), &mut entropy::draw)
}

/// The credentials of a member, certified at `at` for an hour.
fn member(by: &Authority, role: Role, id: &str, at: u64) -> Credentials {
    let key = Key::draw();
    let request = authority::Request {
        public: key.public(),
        role,
        id: id.to_owned(),
        region: "global".to_owned(),
        addresses: vec![IpAddr::V4(Ipv4Addr::LOCALHOST)],
    };
    let chain = by.issue(&request, HOUR, at, &mut entropy::draw);
    Credentials {
        own: Some(certificate(&chain, &key)),
        trust: Trust::Roots(ders(&by.certificates())),
        introduction: None,
    }
}

fn certificate(chain: &[Vec<u8>], key: &Key) -> Certificate {
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.to_pkcs8()));
    Certificate { chain: ders(chain), key }
}

fn ders(list: &[Vec<u8>]) -> Vec<CertificateDer<'static>> {
    list.iter().map(|bytes| CertificateDer::from(bytes.clone())).collect()
}

impl Cluster {
    async fn start() -> Self {
        let authority = new_authority("c", 1);
        let server = Identity::new(&member(&authority, Role::Server, "s", now())).unwrap();
        Self::serve(authority, server).await
    }

    async fn serve(authority: Authority, server: Identity) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (tasks, inner) = (Tasks::new(), Tasks::new());
        let security = Security::Tls { identity: server.clone(), upgrading: false };
        let stop = tasks.stopping();
        tasks.spawn("mirror", Fate::Ends, async move {
            tokio::select! {
                () = serve(listener, Arc::new(Mirror), security, &inner) => {}
                () = stop.cancelled() => inner.stop(),
            }
        });
        Self { authority, address, server, tasks }
    }

    /// Calls with these credentials as an agent, and returns the answer or the error as text.
    async fn ask(&self, credentials: &Credentials) -> String {
        self.ask_as(credentials, Protocol::Agents).await
    }

    async fn ask_as(&self, credentials: &Credentials, protocol: Protocol) -> String {
        let identity = Identity::new(credentials).unwrap();
        let security = Security::Tls { identity, upgrading: false };
        self.ask_with(&Client::secured(security, protocol)).await
    }

    async fn ask_with(&self, client: &Client) -> String {
        match client.call(&self.address, "who", Bytes::new(), PATIENCE).await {
            Ok(answer) => String::from_utf8(answer.to_vec()).unwrap(),
            Err(error) => error.to_string(),
        }
    }
}

#[track_caller]
fn check(answer: &str, expected: &str) {
    assert!(answer.contains(expected), "{answer:?} should contain {expected:?}");
}

#[tokio::test]
async fn members_are_known_by_role_and_id() {
    let cluster = Cluster::start().await;
    for (role, id, expected) in [(Role::Server, "s2", "server s2"), (Role::Client, "n", "client n")]
    {
        let credentials = member(&cluster.authority, role, id, now());
        assert_eq!(cluster.ask(&credentials).await, expected);
    }
}

#[tokio::test]
async fn who_shows_nothing_is_a_stranger_and_knows_whom_it_asks() {
    let cluster = Cluster::start().await;
    let fingerprint =
        |sum| Credentials { own: None, trust: Trust::Fingerprint(sum), introduction: None };
    assert_eq!(cluster.ask(&fingerprint(cluster.authority.fingerprint())).await, "stranger");
    let other = new_authority("other", 2).fingerprint();
    check(&cluster.ask(&fingerprint(other)).await, "not the one that the join token names");
}

#[tokio::test]
async fn certificates_that_are_not_good_are_refused_on_both_sides() {
    let cluster = Cluster::start().await;
    // Of another cluster, but believing this one, so that the server has to object.
    let other = new_authority("other", 2);
    let trust = member(&cluster.authority, Role::Server, "x", now()).trust;
    let foreign = Credentials { trust, ..member(&other, Role::Server, "s", now()) };
    check(&cluster.ask(&foreign).await, "issued by another authority");
    let expired = member(&cluster.authority, Role::Client, "n", now() - 10 * HOUR.as_secs());
    check(&cluster.ask(&expired).await, "it has expired");
    // Believing only another one: the caller objects.
    let stray = member(&other, Role::Client, "n", now());
    check(&cluster.ask(&stray).await, "x509: certificate signed by unknown authority");
}

#[tokio::test]
async fn a_client_cannot_pass_for_a_server() {
    let authority = new_authority("c", 1);
    let posing = Identity::new(&member(&authority, Role::Client, "n", now())).unwrap();
    let cluster = Cluster::serve(authority, posing).await;
    let caller = member(&cluster.authority, Role::Server, "s2", now());
    check(&cluster.ask(&caller).await, "that of a client, and a server was called");
}

#[tokio::test]
async fn the_shared_key_introduces_and_no_more() {
    let derived = Derived::from_key(b"shared");
    let authority = new_authority("c", 1);
    let key = Key::draw();
    let request = authority::Request {
        public: key.public(),
        role: Role::Server,
        id: "x".to_owned(),
        region: String::new(),
        addresses: Vec::new(),
    };
    let introduced = |by: &Authority| {
        let chain = by.issue(&request, HOUR, now(), &mut entropy::draw);
        (certificate(&chain, &key), ders(&by.certificates()).remove(0))
    };
    let server = Credentials {
        introduction: Some(introduced(&derived.introduction)),
        ..member(&authority, Role::Server, "s", now())
    };
    let cluster = Cluster::serve(authority, Identity::new(&server).unwrap()).await;
    let with = |by: &Authority| {
        let (own, root) = introduced(by);
        Credentials { own: Some(own), trust: Trust::Introduction(root), introduction: None }
    };
    assert_eq!(cluster.ask(&with(&derived.introduction)).await, "introduced");
    let wrong = Derived::from_key(b"another").introduction;
    check(&cluster.ask(&with(&wrong)).await, "x509: certificate signed by unknown authority");
}

#[tokio::test]
async fn the_protocol_of_servers_is_spoken_with_servers_only() {
    let derived = Derived::from_key(b"shared");
    let authority = new_authority("c", 1);
    let key = Key::draw();
    let request = authority::Request {
        public: key.public(),
        role: Role::Server,
        id: "x".to_owned(),
        region: String::new(),
        addresses: Vec::new(),
    };
    let chain = derived.introduction.issue(&request, HOUR, now(), &mut entropy::draw);
    let roots = ders(&derived.introduction.certificates());
    let (introduced, root) = (certificate(&chain, &key), roots[0].clone());
    let server = Credentials {
        introduction: Some((introduced.clone(), root.clone())),
        ..member(&authority, Role::Server, "s", now())
    };
    let cluster = Cluster::serve(authority, Identity::new(&server).unwrap()).await;
    let is = |role, id| member(&cluster.authority, role, id, now());
    let trust = || Trust::Fingerprint(cluster.authority.fingerprint());
    let ask =
        async |credentials: Credentials| cluster.ask_as(&credentials, Protocol::Servers).await;
    assert_eq!(ask(is(Role::Server, "s2")).await, "server s2");
    check(&ask(is(Role::Client, "n")).await, "not of the role that this takes");
    let stranger = Credentials { own: None, trust: trust(), introduction: None };
    check(&ask(stranger).await, "none was shown");
    // Whoever only knows the shared key may ask to join, as an agent, though its certificate says
    // that it is going to be a server.
    let introduced = Credentials { own: Some(introduced), trust: trust(), introduction: None };
    check(&ask(introduced).await, "issued by another authority");
    let expired = member(&cluster.authority, Role::Server, "s2", now() - 10 * HOUR.as_secs());
    check(&ask(expired).await, "it has expired");
    let foreign = member(&new_authority("other", 2), Role::Server, "s2", now());
    check(&ask(Credentials { trust: trust(), ..foreign }).await, "issued by another authority");
}

#[tokio::test]
async fn an_authority_is_replaced_under_connections_that_live() {
    let cluster = Cluster::start().await;
    let old = cluster.authority.clone();
    let caller = Identity::new(&member(&old, Role::Client, "n", now())).unwrap();
    let client =
        Client::secured(Security::Tls { identity: caller, upgrading: false }, Protocol::Agents);
    assert_eq!(cluster.ask_with(&client).await, "client n");
    let both = old.rotate(Seed([9; 32]), now(), &mut entropy::draw).unwrap();
    assert!(both.rotate(Seed([9; 32]), now(), &mut entropy::draw).is_err(), "one at a time");
    let only_new = both.retire();
    let is = |authority: &Authority| member(authority, Role::Client, "n", now());
    let mut refused = Vec::new();
    for (step, server) in [("old", &old), ("both", &both), ("new", &only_new)] {
        cluster.server.replace(&member(server, Role::Server, "s", now())).unwrap();
        assert_eq!(cluster.ask_with(&client).await, "client n", "the old connection, {step}");
        for (who, credentials) in [("old", is(&old)), ("both", is(&both)), ("new", is(&only_new))] {
            if cluster.ask(&credentials).await != "client n" {
                refused.push(format!("{who} at {step}"));
            }
        }
    }
    // Neighbouring steps always get along; only who skipped the whole of it does not.
    assert_eq!(refused, ["new at old", "old at new"]);
}

#[tokio::test]
async fn bytes_that_are_no_handshake_end_the_connection_soon() {
    let cluster = Cluster::start().await;
    for bytes in
        [&b"GET / HTTP/1.1\r\n\r\n"[..], b"PRI * HTTP/2.0\r\n\r\n", b"\x16\x03\x01\xff\xff", b"\0"]
    {
        let mut stream = TcpStream::connect(&cluster.address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut rest = Vec::new();
        let ended = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut rest)).await;
        assert!(ended.is_ok(), "{bytes:?} holds the connection");
    }
    // A plain caller hears why, and a member is served as before.
    check(&cluster.ask_with(&Client::new()).await, "it speaks TLS, and this agent does not");
    let good = member(&cluster.authority, Role::Server, "s2", now());
    assert_eq!(cluster.ask(&good).await, "server s2");
}

#[tokio::test]
async fn a_stranger_may_not_send_much() {
    let cluster = Cluster::start().await;
    let ask = async |credentials: &Credentials, bytes: usize| {
        let identity = Identity::new(credentials).unwrap();
        let client =
            Client::secured(Security::Tls { identity, upgrading: false }, Protocol::Agents);
        let body = Bytes::from(vec![7; bytes]);
        client.call(&cluster.address, "length", body, PATIENCE).await
    };
    let trust = Trust::Fingerprint(cluster.authority.fingerprint());
    let stranger = Credentials { own: None, trust, introduction: None };
    assert!(ask(&stranger, 60_000).await.is_ok());
    assert!(ask(&stranger, 70_000).await.is_err());
    let good = member(&cluster.authority, Role::Client, "n", now());
    assert!(ask(&good, 1_000_000).await.is_ok());
}

#[tokio::test]
async fn a_keeper_keeps_its_authority_over_a_restart_and_renews_its_own_certificate() {
    let dir = tempfile::tempdir().unwrap();
    let folder = || Folder::open(&dir.path().join("tls")).unwrap();
    let settings = || Settings {
        id: "s".to_owned(),
        region: "global".to_owned(),
        addresses: Vec::new(),
        certificate_ttl: HOUR,
        introduction: None,
    };
    let clock = || Arc::new(SystemClock::new());
    assert!(Keeper::resume(folder(), settings(), clock()).unwrap().is_none());
    let secrets = Keeper::fresh(now());
    let keeper = Keeper::begin(folder(), settings(), clock(), secrets.clone()).unwrap();
    let next = keeper.rotated().unwrap();
    let sealed = keeper.seal(&next);
    let stranger_dir = tempfile::tempdir().unwrap();
    let stranger = Keeper::begin(
        Folder::open(stranger_dir.path()).unwrap(),
        settings(),
        clock(),
        Keeper::fresh(now()),
    );
    assert_eq!(stranger.unwrap().open(&sealed), None, "another cluster cannot read it");
    assert!(keeper.adopt(keeper.open(&sealed).unwrap()).unwrap());
    assert!(!keeper.adopt(secrets.authority.clone()).unwrap(), "an older one is not taken");
    let again = Keeper::resume(folder(), settings(), clock()).unwrap().unwrap();
    assert_eq!(again.authority(), next);
    let ServerSecrets { authority, .. } = again.secrets();
    assert_eq!(authority.version, 2);
    // Others verify the certificate that it made for itself.
    let cluster = Cluster::serve(next, again.identity()).await;
    let old = member(&secrets.authority, Role::Client, "n", now());
    assert_eq!(cluster.ask(&old).await, "client n");
}
