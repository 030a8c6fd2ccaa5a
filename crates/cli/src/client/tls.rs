//! TLS to an agent: whom the command line believes, what it shows, and what it says when that fails.

use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

use reqwest::ClientBuilder;

use super::{causes, is_true};
use crate::command::{Failure, Program};
use crate::flags::Parsed;

/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// What Go programs say, and scripts look for.
const UNKNOWN_AUTHORITY: &str = "x509: certificate signed by unknown authority";

/// Names of the settings: flag and variable.
type Names = [(&'static str, &'static str); 4];
const NOMAD: Names = [
    ("ca-cert", "NOMAD_CACERT"),
    ("ca-path", "NOMAD_CAPATH"),
    ("client-cert", "NOMAD_CLIENT_CERT"),
    ("client-key", "NOMAD_CLIENT_KEY"),
];
const CONSUL: Names = [
    ("ca-file", "CONSUL_CACERT"),
    ("ca-path", "CONSUL_CAPATH"),
    ("client-cert", "CONSUL_CLIENT_CERT"),
    ("client-key", "CONSUL_CLIENT_KEY"),
];

/// A client that believes and shows what flags and variables say.
pub(super) fn builder(
    program: Program,
    flags: &Parsed,
    setting: impl Fn(&str, &str) -> Option<String>,
) -> Result<ClientBuilder, Failure> {
    let names = if program == Program::Consul { CONSUL } else { NOMAD };
    let [ca_cert, ca_path, cert, key] = names.map(|(flag, variable)| setting(flag, variable));
    let mut builder = reqwest::Client::builder().connect_timeout(CONNECT_TIMEOUT);
    let skip = match program {
        Program::Consul => is_true("CONSUL_HTTP_SSL_VERIFY") == Some(false),
        Program::Cos | Program::Nomad => is_true("NOMAD_SKIP_VERIFY") == Some(true),
    };
    if flags.on("tls-skip-verify") || flags.on("insecure") || skip {
        builder = builder.danger_accept_invalid_certs(true);
    }
    let mut authorities = Vec::new();
    if let Some(path) = ca_cert {
        let certificates = certificates(&path)?;
        if certificates.is_empty() {
            return Err(Failure::new(format!("{path}: no certificate is in it")));
        }
        authorities.extend(certificates);
    }
    if let Some(dir) = ca_path {
        let entries = std::fs::read_dir(&dir)
            .map_err(|error| Failure::new(format!("cannot read {dir}: {error}")))?;
        let files = entries.flatten().map(|entry| entry.path()).filter(|path| path.is_file());
        // What else lies in a directory does not matter.
        for path in files {
            authorities.extend(certificates(&path.to_string_lossy())?);
        }
    }
    builder = builder.tls_certs_merge(authorities);
    match (cert, key) {
        (Some(cert), Some(key)) => {
            let mut pem = read(&cert)?;
            pem.extend(read(&key)?);
            let identity = reqwest::Identity::from_pem(&pem)
                .map_err(|error| Failure::new(format!("{cert}, {key}: {}", causes(&error))))?;
            builder = builder.identity(identity);
        }
        (None, None) => {}
        _ => {
            return Err(Failure::new(
                "a client certificate and its key are given together or not at all",
            ));
        }
    }
    Ok(builder)
}

/// Makes the client expect another name than that of the address, if one is set: it then speaks to
/// that name, and finds it at the address. Returns the address to use.
pub(super) fn named(
    builder: ClientBuilder,
    program: Program,
    address: &str,
    setting: impl Fn(&str, &str) -> Option<String>,
) -> Result<(ClientBuilder, String), Failure> {
    let variable =
        if program == Program::Consul { "CONSUL_TLS_SERVER_NAME" } else { "NOMAD_TLS_SERVER_NAME" };
    let address = address.trim_end_matches('/');
    let name = setting("tls-server-name", variable);
    let Some((name, rest)) = name.zip(address.strip_prefix("https://")) else {
        return Ok((builder, address.to_owned()));
    };
    let (place, path) = rest
        .split_once('/')
        .map_or((rest, String::new()), |(place, path)| (place, format!("/{path}")));
    let place = if place.parse::<SocketAddr>().is_ok() || place.contains(':') {
        place.to_owned()
    } else {
        format!("{place}:443")
    };
    let found: Vec<SocketAddr> = place
        .to_socket_addrs()
        .map_err(|error| Failure::new(format!("cannot find {place}: {error}")))?
        .collect();
    let port = found.first().map_or(443, SocketAddr::port);
    Ok((builder.resolve_to_addrs(&name, &found), format!("https://{name}:{port}{path}")))
}

fn certificates(path: &str) -> Result<Vec<reqwest::Certificate>, Failure> {
    reqwest::Certificate::from_pem_bundle(&read(path)?)
        .map_err(|error| Failure::new(format!("{path}: {}", causes(&error))))
}

fn read(path: &str) -> Result<Vec<u8>, Failure> {
    std::fs::read(path).map_err(|error| Failure::new(format!("cannot read {path}: {error}")))
}

/// What helps against a failure that has to do with TLS; `None` if it has not.
pub(super) fn explain(message: &str, program: Program) -> Option<String> {
    let (ca, cert, skip) = if program == Program::Consul {
        (
            "-ca-file or CONSUL_CACERT",
            "-client-cert and -client-key",
            "CONSUL_HTTP_SSL_VERIFY=false",
        )
    } else {
        ("-ca-cert or NOMAD_CACERT", "-client-cert and -client-key", "-tls-skip-verify")
    };
    let has = |words: &[&str]| words.iter().any(|word| message.contains(word));
    if has(&["UnknownIssuer", "unknown issuer", "CaUsedAsEndEntity", "UnknownCA"]) {
        return Some(format!(
            "{UNKNOWN_AUTHORITY}\nName the authority with {ca}, or accept any certificate with \
             {skip} (not over networks that you do not trust)."
        ));
    }
    if has(&["CertificateRequired"]) {
        return Some(format!(
            "The agent wants a certificate of its callers: give one with {cert}."
        ));
    }
    if has(&["NotValidForName", "not valid for name"]) {
        return Some(
            "x509: the certificate is not valid for this name; give the name that it has with \
             -tls-server-name."
                .to_owned(),
        );
    }
    if has(&["Expired", "certificate expired"]) {
        return Some("x509: certificate has expired or is not yet valid".to_owned());
    }
    if has(&["InvalidContentType", "corrupt message", "InvalidMessage"]) {
        return Some(
            "http: server gave HTTP response to HTTPS client\nThe agent does not speak TLS: write \
             http:// instead of https:// in its address."
                .to_owned(),
        );
    }
    None
}
