//! Why a handshake failed, in words that name the side and the cure.

use std::error::Error as StdError;
use std::io;

use rustls::{AlertDescription, CertificateError, Error};

/// Says why a caller was turned away, to whoever reads the log of the called side.
pub fn handshake_failure(error: &io::Error) -> String {
    match find(error) {
        Some(Error::InvalidCertificate(CertificateError::UnknownIssuer)) => {
            "its certificate was not issued by this cluster".to_owned()
        }
        Some(Error::InvalidCertificate(
            CertificateError::Expired | CertificateError::ExpiredContext { .. },
        )) => "its certificate has expired".to_owned(),
        Some(Error::InvalidCertificate(CertificateError::Other(why))) => why.0.to_string(),
        Some(Error::InvalidCertificate(why)) => format!("its certificate is not valid: {why}"),
        Some(Error::NoCertificatesPresented) => {
            "it showed no certificate, and asked for the protocol of servers".to_owned()
        }
        Some(Error::AlertReceived(alert)) => {
            format!("it did not accept this server's certificate: {}", alert_words(*alert))
        }
        Some(Error::InvalidMessage(_) | Error::InappropriateHandshakeMessage { .. }) => {
            "it sent bytes that are no TLS".to_owned()
        }
        Some(other) => other.to_string(),
        None if error.kind() == io::ErrorKind::UnexpectedEof => {
            "it hung up during the handshake".to_owned()
        }
        None => error.to_string(),
    }
}

/// Says to a caller what the called side, or its own check of it, objected to; `None` if this was
/// no matter of certificates.
pub fn refusal(error: &(dyn StdError + 'static)) -> Option<String> {
    let text = match find(error)? {
        Error::AlertReceived(AlertDescription::NoApplicationProtocol) => {
            "it does not know this agent's protocol; is it of another version?".to_owned()
        }
        Error::AlertReceived(AlertDescription::ProtocolVersion) => no_tls(),
        Error::AlertReceived(alert) => {
            format!("it did not accept this agent's certificate: {}", alert_words(*alert))
        }
        Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
            "x509: certificate signed by unknown authority: it belongs to another cluster"
                .to_owned()
        }
        Error::InvalidCertificate(CertificateError::Other(why)) => format!("x509: {}", why.0),
        Error::InvalidCertificate(why) => format!("x509: {why}"),
        Error::InvalidMessage(_) => no_tls(),
        other => other.to_string(),
    };
    Some(text)
}

fn no_tls() -> String {
    "it does not speak TLS; is `cluster { tls }` or `insecure` set there?".to_owned()
}

fn alert_words(alert: AlertDescription) -> String {
    match alert {
        AlertDescription::UnknownCA | AlertDescription::DecryptError => {
            "it was issued by another authority".to_owned()
        }
        AlertDescription::CertificateExpired => "it has expired".to_owned(),
        AlertDescription::BadCertificate | AlertDescription::CertificateUnknown => {
            "it is not one of a member of the cluster, or not of the role that this takes"
                .to_owned()
        }
        AlertDescription::CertificateRequired => "none was shown".to_owned(),
        AlertDescription::UnrecognisedName | AlertDescription::AccessDenied => {
            "no shared key is configured there".to_owned()
        }
        other => format!("{other:?}"),
    }
}

/// The error of TLS among the causes of an error.
fn find<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a Error> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(found) = error.downcast_ref::<Error>() {
            return Some(found);
        }
        // An `io::Error` does not count what it wraps among its sources.
        let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        cause = wrapped.map(|inner| inner as &(dyn StdError + 'static)).or_else(|| error.source());
    }
    None
}
