//! Who a process is to its peers, and whom it believes: TLS for everything inside a cluster.
//!
//! An [`Identity`] is a handle to the certificates that a process uses now. They are replaced while
//! connections live: a connection keeps what it began with, the next one takes what is there then.
//!
//! # Invariants
//!
//! - Inside a cluster only TLS 1.3 is spoken, both sides show certificates, and no session is
//!   resumed, so that an expired or retired certificate ends with its connection.
//! - Only a certificate that names the role of a server is accepted where a server is called,
//!   whoever issued it ([`name`]).
//! - A caller says in the handshake which [`Protocol`] it speaks, and that of servers is spoken with
//!   servers only: whoever else asks for it is refused before the handshake ends.
//!
//! # Deliberately absent
//!
//! - Making certificates, and what a role may do. Both are decided elsewhere.

use std::io;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::io::AsyncBufReadExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

pub use name::{Home, Member, Role};
pub use protocol::Protocol;
pub use reason::{handshake_failure, refusal};
pub use stream::MaybeTls;
pub(crate) use stream::{alert, first_byte, hello, is_tls, linger};
pub use web::{Web, WebError, WebSettings};

mod name;
mod protocol;
mod reason;
mod stream;
mod verify;
mod web;

/// The name under which members of a cluster ask each other for certificates. It is never looked
/// up: whom a certificate stands for is written in it.
pub const MEMBER_NAME: &str = "member.cos.internal";

/// The name under which an agent asks that knows nothing but a key that all agents share.
pub const INTRODUCTION_NAME: &str = "introduction.cos.internal";

/// Certificates with their key.
#[derive(Debug)]
pub struct Certificate {
    /// The own certificate, then those between it and a root.
    pub chain: Vec<CertificateDer<'static>>,
    /// The key of the first.
    pub key: PrivateKeyDer<'static>,
}

impl Clone for Certificate {
    fn clone(&self) -> Self {
        Self { chain: self.chain.clone(), key: self.key.clone_key() }
    }
}

/// What a process shows and whom it believes.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// What it shows; an agent that has not joined yet has nothing to show.
    pub own: Option<Certificate>,
    /// Whom it believes.
    pub trust: Trust,
    /// What a server shows to agents that know only a shared key, and the root by which it knows
    /// them.
    pub introduction: Option<(Certificate, CertificateDer<'static>)>,
}

/// Whom a process believes.
#[derive(Clone, Debug)]
pub enum Trust {
    /// Whoever was certified by one of these.
    Roots(Vec<CertificateDer<'static>>),
    /// Whoever shows, beside its own, a root certificate with this SHA-256 that certified it.
    Fingerprint([u8; 32]),
    /// Whoever shows a certificate of this root when it is asked for an introduction.
    Introduction(CertificateDer<'static>),
}

/// Why certificates cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The key does not fit the certificate, or one of them cannot be read.
    #[error("certificate or key cannot be used")]
    Certificate(#[source] rustls::Error),
    /// A root cannot be used.
    #[error("certificate authority cannot be used")]
    Root(#[source] rustls::Error),
    /// No root was given.
    #[error("no certificate authority was given")]
    NoRoots(#[source] rustls::server::VerifierBuilderError),
}

/// A handle to what a process shows and whom it believes. Clones are handles to the same.
#[derive(Clone, Debug, Default)]
pub struct Identity {
    configs: Arc<ArcSwapOption<Configs>>,
}

/// What is made of [`Credentials`] once, for all connections.
#[derive(Debug)]
pub(crate) struct Configs {
    /// To call servers, as a server…
    as_server: Arc<ClientConfig>,
    /// …and as any other agent.
    as_agent: Arc<ClientConfig>,
    /// To call any member.
    to_member: Arc<ClientConfig>,
    /// To be called by servers; absent without an own certificate.
    by_servers: Option<Arc<ServerConfig>>,
    /// To be called by anybody.
    by_agents: Option<Arc<ServerConfig>>,
    /// The same for HTTP.
    pub(crate) web: Option<Arc<ServerConfig>>,
    /// The roots of members, to tell them from those who are only introduced.
    roots: Option<RootCertStore>,
    /// The name by which servers are asked.
    pub(crate) asked_name: &'static str,
}

impl Identity {
    /// Makes a handle to nothing; connections fail until [`Identity::replace`] was called.
    pub fn vacant() -> Self {
        Self::default()
    }

    /// Makes a handle to these.
    pub fn new(credentials: &Credentials) -> Result<Self, TlsError> {
        let identity = Self::vacant();
        identity.replace(credentials)?;
        Ok(identity)
    }

    /// Takes others for all connections made from now on.
    pub fn replace(&self, credentials: &Credentials) -> Result<(), TlsError> {
        self.configs.store(Some(Arc::new(Configs::new(credentials)?)));
        Ok(())
    }

    /// Calls a member over a fresh connection, whatever its role.
    pub async fn call_member(&self, stream: TcpStream) -> io::Result<MaybeTls> {
        let configs = self.configs().ok_or_else(not_joined)?;
        let connector = TlsConnector::from(Arc::clone(&configs.to_member));
        let stream = connector.connect(asked(configs.asked_name), stream).await?;
        Ok(MaybeTls::Tls(Box::new(stream.into())))
    }

    /// Calls a server over a fresh connection, to speak this protocol.
    pub(crate) async fn call_server(
        &self,
        stream: TcpStream,
        protocol: Protocol,
    ) -> io::Result<MaybeTls> {
        let configs = self.configs().ok_or_else(not_joined)?;
        let config = match protocol {
            Protocol::Servers => &configs.as_server,
            Protocol::Agents => &configs.as_agent,
        };
        let connector = TlsConnector::from(Arc::clone(config));
        let mut stream = connector.connect(asked(configs.asked_name), stream).await?;
        // A server speaks first. Whether it accepts our certificate is only known from what it says.
        if stream.fill_buf().await?.is_empty() {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the server hung up"));
        }
        Ok(MaybeTls::Tls(Box::new(stream.into())))
    }

    pub(crate) fn configs(&self) -> Option<Arc<Configs>> {
        self.configs.load_full()
    }
}

fn not_joined() -> io::Error {
    io::Error::other("this agent has no certificate of its cluster yet")
}

impl Configs {
    fn new(credentials: &Credentials) -> Result<Self, TlsError> {
        let provider = Arc::new(default_provider());
        let own = credentials.own.as_ref().map(|own| certified(own, &provider)).transpose()?;
        let roots = match &credentials.trust {
            Trust::Roots(list) => Some(store(list)?),
            Trust::Introduction(root) => Some(store(std::slice::from_ref(root))?),
            Trust::Fingerprint(_) => None,
        };
        let asked_name = match &credentials.trust {
            Trust::Introduction(_) => INTRODUCTION_NAME,
            Trust::Roots(_) | Trust::Fingerprint(_) => MEMBER_NAME,
        };
        let client =
            |protocol| Arc::new(client(&credentials.trust, roots.as_ref(), own.as_ref(), protocol));
        let introduction = credentials.introduction.as_ref();
        let server = |protocol| match (&own, &roots) {
            (Some(own), Some(roots)) => {
                server(own, roots.clone(), introduction, protocol, &provider)
                    .map(Arc::new)
                    .map(Some)
            }
            _ => Ok(None),
        };
        let by_agents = server(Protocol::Agents)?;
        Ok(Self {
            as_server: client(Some(Protocol::Servers)),
            as_agent: client(Some(Protocol::Agents)),
            to_member: client(None),
            by_servers: server(Protocol::Servers)?,
            web: by_agents.as_deref().map(web::for_members),
            by_agents,
            roots: introduction.and(roots),
            asked_name,
        })
    }

    /// How a caller that asked for a protocol is answered; `None` without an own certificate.
    pub(crate) fn called(&self, protocol: Protocol) -> Option<Arc<ServerConfig>> {
        match protocol {
            Protocol::Servers => self.by_servers.clone(),
            Protocol::Agents => self.by_agents.clone(),
        }
    }

    /// Whether a chain leads to a root of members, and not only to that of an introduction.
    pub(crate) fn is_members(&self, chain: &[CertificateDer<'static>]) -> bool {
        self.roots.as_ref().is_none_or(|roots| verify::is_signed(chain, roots))
    }
}

/// The configuration to call a server with, or any member where no protocol is named.
fn client(
    trust: &Trust,
    roots: Option<&RootCertStore>,
    own: Option<&Arc<CertifiedKey>>,
    protocol: Option<Protocol>,
) -> ClientConfig {
    let verifier = verify::Members::new(trust, roots, protocol.map(|_| Role::Server));
    let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[&TLS13])
        .expect("the provider has TLS 1.3")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = match own {
        Some(own) => builder.with_client_cert_resolver(Arc::new(verify::Always(Arc::clone(own)))),
        None => builder.with_no_client_auth(),
    };
    config.resumption = rustls::client::Resumption::disabled();
    config.alpn_protocols = protocol.iter().map(|protocol| protocol.alpn().to_vec()).collect();
    config
}

/// The configuration to be called with.
fn server(
    own: &Arc<CertifiedKey>,
    mut roots: RootCertStore,
    introduction: Option<&(Certificate, CertificateDer<'static>)>,
    protocol: Protocol,
    provider: &Arc<CryptoProvider>,
) -> Result<ServerConfig, TlsError> {
    let mut resolver = ByName { own: Arc::clone(own), introduction: None };
    if protocol == Protocol::Agents
        && let Some((certificate, root)) = introduction
    {
        resolver.introduction = Some(certified(certificate, provider)?);
        roots.add(root.clone()).map_err(TlsError::Root)?;
    }
    let builder =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
    let verifier: Arc<dyn ClientCertVerifier> = match protocol {
        Protocol::Servers => {
            Arc::new(verify::OnlyServers(builder.build().map_err(TlsError::NoRoots)?))
        }
        // Whoever shows nothing may ask to join; whoever shows something must show something good.
        Protocol::Agents => builder.allow_unauthenticated().build().map_err(TlsError::NoRoots)?,
    };
    let mut config = ServerConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(&[&TLS13])
        .expect("the provider has TLS 1.3")
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(resolver));
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.alpn_protocols = vec![protocol.alpn().to_vec()];
    Ok(config)
}

/// Shows the certificate that is meant by the name that was asked for.
#[derive(Debug)]
struct ByName {
    own: Arc<CertifiedKey>,
    introduction: Option<Arc<CertifiedKey>>,
}

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: rustls::server::ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        match hello.server_name() {
            Some(INTRODUCTION_NAME) => self.introduction.clone(),
            _ => Some(Arc::clone(&self.own)),
        }
    }
}

/// A name to ask for, as TLS wants it.
pub(crate) fn asked(name: &'static str) -> ServerName<'static> {
    ServerName::try_from(name).expect("the names above are host names")
}

pub(crate) fn certified(
    certificate: &Certificate,
    provider: &CryptoProvider,
) -> Result<Arc<CertifiedKey>, TlsError> {
    let (chain, key) = (certificate.chain.clone(), certificate.key.clone_key());
    let certified = CertifiedKey::from_der(chain, key, provider).map_err(TlsError::Certificate)?;
    Ok(Arc::new(certified))
}

pub(crate) fn store(roots: &[CertificateDer<'static>]) -> Result<RootCertStore, TlsError> {
    let mut store = RootCertStore::empty();
    for root in roots {
        store.add(root.clone()).map_err(TlsError::Root)?;
    }
    Ok(store)
}
