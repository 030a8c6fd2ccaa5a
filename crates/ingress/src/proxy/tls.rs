//! TLS towards instances whose tag says `proto=https`.

use std::cell::OnceCell;
use std::io::{Error, ErrorKind};
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls_platform_verifier::BuilderVerifierExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Connectors, made when first needed: most ingresses never speak TLS to an instance.
#[derive(Default)]
pub(super) struct Connectors {
    strict: OnceCell<TlsConnector>,
    lenient: OnceCell<TlsConnector>,
}

impl std::fmt::Debug for Connectors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connectors").finish_non_exhaustive()
    }
}

impl Connectors {
    /// Speaks TLS on a socket.
    pub(super) async fn connect(
        &self,
        socket: TcpStream,
        server_name: &str,
        skip_verify: bool,
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let cell = if skip_verify { &self.lenient } else { &self.strict };
        let connector = if let Some(connector) = cell.get() {
            connector
        } else {
            let made = connector(skip_verify).map_err(Error::other)?;
            cell.get_or_init(|| made)
        };
        let name = ServerName::try_from(server_name.to_owned())
            .map_err(|error| Error::new(ErrorKind::InvalidInput, error))?;
        connector.connect(name, socket).await
    }
}

fn connector(skip_verify: bool) -> Result<TlsConnector, rustls::Error> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()?;
    let builder = if skip_verify {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
    } else {
        builder.with_platform_verifier()?
    };
    Ok(TlsConnector::from(Arc::new(builder.with_no_client_auth())))
}

/// Accepts any certificate, for tags that say `tlsskipverify=true`. Signatures are still checked.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
