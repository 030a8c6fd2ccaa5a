//! HTTP over TLS on the port that also speaks it in the clear, told apart by the first byte.
//!
//! Members of the cluster ask for [`super::MEMBER_NAME`] and are shown the cluster's certificate;
//! everybody else is shown the one that the operator gave.
//!
//! # Invariants
//!
//! - Where HTTPS is asked for, nothing else is answered, besides a sentence that says so.
//! - A peer that says nothing, or that speaks half a handshake, is cut off after a named time.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::CertificateDer;
use rustls::server::WebPkiClientVerifier;
use rustls::version::{TLS12, TLS13};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::{
    Certificate, Identity, MEMBER_NAME, MaybeTls, Member, TlsError, certified, first_byte,
    handshake_failure, hello, is_tls, linger, store,
};

/// How long a connection may rest before its first byte.
const FIRST_BYTE_WAIT: Duration = Duration::from_mins(2);
/// How long a handshake may take from its first byte on; less than a listener waits for a request.
const HANDSHAKE_WAIT: Duration = Duration::from_secs(8);

/// What is said to a caller in the clear where only HTTPS is spoken.
const WRONG_PROTOCOL: &[u8] = b"HTTP/1.0 400 Bad Request\r\nContent-Type: text/plain; \
    charset=utf-8\r\nConnection: close\r\n\r\nClient sent an HTTP request to an HTTPS server.\n";

/// What an operator wants of HTTPS.
#[derive(Clone, Debug)]
pub struct WebSettings {
    /// What is shown.
    pub certificate: Certificate,
    /// By whom callers must be certified, if they must be.
    pub callers: Option<Vec<CertificateDer<'static>>>,
    /// Whether only TLS 1.3 will do.
    pub only_tls13: bool,
}

/// How an HTTP listener treats fresh connections. Clones are handles to the same.
#[derive(Clone, Debug, Default)]
pub struct Web {
    /// What members are shown; absent where the cluster speaks in the clear.
    members: Option<Identity>,
    /// What everybody else is shown.
    others: Arc<ArcSwapOption<ServerConfig>>,
    /// Whether callers in the clear are turned away.
    only_tls: bool,
}

/// Why a connection came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum WebError {
    /// The peer said nothing, or broke off.
    #[error("nothing was said")]
    Silent,
    /// The peer spoke in the clear where that is not allowed, and was told.
    #[error("it speaks HTTP in the clear, and this port is HTTPS")]
    Plain,
    /// The handshake failed; the words say why.
    #[error("{0}")]
    Handshake(String),
}

impl Web {
    /// A listener on which members are recognised, if there is anything to recognise them by.
    pub fn new(members: Option<Identity>) -> Self {
        Self { members, others: Arc::default(), only_tls: false }
    }

    /// Makes it HTTPS for everybody.
    #[must_use]
    pub fn only_tls(mut self) -> Self {
        self.only_tls = true;
        self
    }

    /// Takes what is shown to those who are no members, from now on.
    pub fn show(&self, settings: &WebSettings) -> Result<(), TlsError> {
        self.others.store(Some(Arc::new(config(settings)?)));
        Ok(())
    }

    /// Whether there is anything to do before HTTP begins.
    pub fn is_plain(&self) -> bool {
        self.members.is_none() && !self.only_tls
    }

    /// Prepares a fresh connection, and says who the peer is if it showed a member's certificate.
    pub async fn accept(&self, stream: TcpStream) -> Result<(MaybeTls, Option<Member>), WebError> {
        if self.is_plain() {
            return Ok((MaybeTls::Plain(stream), None));
        }
        let first = tokio::time::timeout(FIRST_BYTE_WAIT, first_byte(&stream)).await;
        let Ok(Ok(Some(first))) = first else { return Err(WebError::Silent) };
        if is_tls(first) {
            let secured = tokio::time::timeout(HANDSHAKE_WAIT, self.handshake(stream)).await;
            return secured
                .unwrap_or_else(|_late| Err(WebError::Handshake("it took too long".to_owned())));
        }
        if self.only_tls {
            let mut stream = stream;
            // Who has gone already does not read it.
            drop(stream.write_all(WRONG_PROTOCOL).await);
            linger(stream).await;
            return Err(WebError::Plain);
        }
        Ok((MaybeTls::Plain(stream), None))
    }

    async fn handshake(&self, stream: TcpStream) -> Result<(MaybeTls, Option<Member>), WebError> {
        let words = |error: &io::Error| WebError::Handshake(handshake_failure(error));
        let begun = hello(stream).await.map_err(|error| words(&error))?;
        let is_member = begun.client_hello().server_name() == Some(MEMBER_NAME);
        let for_members = || self.members.as_ref()?.configs()?.web.clone();
        let config = if is_member { for_members() } else { None };
        let config = config.or_else(|| self.others.load_full()).or_else(for_members);
        let Some(config) = config else {
            return Err(WebError::Handshake("this agent has no certificate yet".to_owned()));
        };
        match begun.into_stream(config).into_fallible().await {
            Ok(stream) => {
                let chain = stream.get_ref().1.peer_certificates();
                let member = chain.and_then(|chain| Member::of(chain.first()?));
                Ok((MaybeTls::Tls(Box::new(stream.into())), member.filter(|_| is_member)))
            }
            Err((error, stream)) => {
                linger(stream).await;
                Err(words(&error))
            }
        }
    }
}

fn config(settings: &WebSettings) -> Result<ServerConfig, TlsError> {
    let provider = Arc::new(default_provider());
    let own = certified(&settings.certificate, &provider)?;
    let versions: &[_] = if settings.only_tls13 { &[&TLS13] } else { &[&TLS13, &TLS12] };
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(versions)
        .expect("the provider has both versions");
    let builder = match &settings.callers {
        Some(roots) => {
            let roots = Arc::new(store(roots)?);
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider)
                .build()
                .map_err(TlsError::NoRoots)?;
            builder.with_client_cert_verifier(verifier)
        }
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(Arc::new(Shown(own)));
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// The configuration of the cluster's own protocol, for HTTP.
pub(super) fn for_members(server: &ServerConfig) -> Arc<ServerConfig> {
    let mut config = server.clone();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Arc::new(config)
}

/// Always the same certificate.
#[derive(Debug)]
struct Shown(Arc<rustls::sign::CertifiedKey>);

impl rustls::server::ResolvesServerCert for Shown {
    fn resolve(
        &self,
        _hello: rustls::server::ClientHello<'_>,
    ) -> Option<Arc<rustls::sign::CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}
