//! Whether a peer is the one that was meant: certified by the cluster, and of the role that was
//! called, or that the call is for.

use std::sync::Arc;

use rustls::client::ResolvesClientCert;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, RootCertStore,
    SignatureScheme,
};

use super::{Member, Role, Trust};

/// How many certificates a peer may show; a chain of ours has four at most.
const CHAIN_LENGTH_MAX: usize = 8;

/// Believes members of a cluster.
#[derive(Debug)]
pub(super) struct Members {
    trust: Believed,
    role: Option<Role>,
    algorithms: WebPkiSupportedAlgorithms,
}

#[derive(Debug)]
enum Believed {
    Roots(RootCertStore),
    Fingerprint([u8; 32]),
}

/// A certificate that is good in itself and not the one that was meant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NotMeant {
    #[error("the certificate names no member of a cluster")]
    Nobody,
    #[error("the certificate is that of a client, and a server was called")]
    NoServer,
    #[error(
        "the certificate authority is not the one that the join token names; the token is of \
         another cluster, or older than the last `ca rotate`; create a new one with `cos token create`"
    )]
    OtherAuthority,
    #[error("more certificates were shown than are ever needed")]
    TooMany,
    #[error("its certificate is that of {0}, and it asked for the protocol of servers")]
    CallerIsNoServer(String),
}

impl Members {
    pub(super) fn new(trust: &Trust, roots: Option<&RootCertStore>, role: Option<Role>) -> Self {
        let trust = match (trust, roots) {
            (Trust::Fingerprint(sum), _) => Believed::Fingerprint(*sum),
            (Trust::Roots(_) | Trust::Introduction(_), roots) => {
                Believed::Roots(roots.cloned().unwrap_or_else(RootCertStore::empty))
            }
        };
        let algorithms = default_provider().signature_verification_algorithms;
        Self { trust, role, algorithms }
    }
}

impl ServerCertVerifier for Members {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if intermediates.len() > CHAIN_LENGTH_MAX {
            return Err(not_meant(NotMeant::TooMany));
        }
        let parsed = ParsedCertificate::try_from(end_entity)?;
        let named;
        let roots = match &self.trust {
            Believed::Roots(roots) => roots,
            Believed::Fingerprint(sum) => {
                let root = intermediates.iter().find(|shown| sha256(shown) == *sum);
                let root = root.ok_or_else(|| not_meant(NotMeant::OtherAuthority))?;
                let mut store = RootCertStore::empty();
                store.add(root.clone().into_owned())?;
                named = store;
                &named
            }
        };
        verify_server_cert_signed_by_trust_anchor(
            &parsed,
            roots,
            intermediates,
            now,
            self.algorithms.all,
        )?;
        let member = Member::of(end_entity).ok_or_else(|| not_meant(NotMeant::Nobody))?;
        if self.role == Some(Role::Server) && member.role != Role::Server {
            return Err(not_meant(NotMeant::NoServer));
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Lets only servers through, of those whom another verifier believes.
#[derive(Debug)]
pub(super) struct OnlyServers(pub(super) Arc<dyn ClientCertVerifier>);

impl ClientCertVerifier for OnlyServers {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.0.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.0.verify_client_cert(end_entity, intermediates, now)?;
        match Member::of(end_entity) {
            Some(Member { role: Role::Server, .. }) => Ok(verified),
            Some(other) => Err(not_meant(NotMeant::CallerIsNoServer(other.to_string()))),
            None => Err(not_meant(NotMeant::Nobody)),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

fn not_meant(why: NotMeant) -> Error {
    Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(why))))
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let provider = default_provider();
    let suites = &provider.cipher_suites;
    let hash = suites.iter().find_map(|suite| {
        let hash = suite.tls13()?.common.hash_provider;
        (hash.output_len() == 32).then_some(hash)
    });
    let sum = hash.expect("TLS 1.3 has a suite with SHA-256").hash(bytes);
    sum.as_ref().try_into().expect("the length was just checked")
}

/// Whether a chain that was verified before leads to one of these roots.
pub(super) fn is_signed(chain: &[CertificateDer<'_>], roots: &RootCertStore) -> bool {
    let Some((first, rest)) = chain.split_first() else { return false };
    let algorithms = default_provider().signature_verification_algorithms;
    ParsedCertificate::try_from(first).is_ok_and(|parsed| {
        let now = UnixTime::now();
        verify_server_cert_signed_by_trust_anchor(&parsed, roots, rest, now, algorithms.all).is_ok()
    })
}

/// Shows one certificate, whichever authorities the peer says it believes: it may believe a root
/// that certified ours by way of another.
#[derive(Debug)]
pub(super) struct Always(pub(super) Arc<CertifiedKey>);

impl ResolvesClientCert for Always {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}
