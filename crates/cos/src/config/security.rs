//! The blocks `cluster` and `tls`, and what follows from them: whether the cluster speaks in the
//! clear, by an operator's certificates, or by its own.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use cos_jobspec::hcl::Fields;

use super::read::set;
use super::{ConfigError, Endpoints, Settings};

/// `cluster { … }`.
#[derive(Clone, Debug, Default)]
pub(crate) struct ClusterSettings {
    /// Whether to speak TLS also where all addresses are loopback.
    pub(crate) tls: Option<bool>,
    /// Whether to speak in the clear although addresses are not loopback.
    pub(crate) insecure: Option<bool>,
    /// What lets this agent join.
    pub(crate) join_token: Option<String>,
    /// `host:port` of servers' RPC to ask for a certificate.
    pub(crate) join: Vec<String>,
    /// How long certificates live that this server issues.
    pub(crate) certificate_ttl: Option<Duration>,
}

/// `tls { … }`.
#[derive(Clone, Debug, Default)]
pub(crate) struct TlsSettings {
    pub(crate) http: Option<bool>,
    pub(crate) rpc: Option<bool>,
    pub(crate) ca_file: Option<PathBuf>,
    pub(crate) cert_file: Option<PathBuf>,
    pub(crate) key_file: Option<PathBuf>,
    pub(crate) verify_https_client: Option<bool>,
    pub(crate) rpc_upgrade_mode: Option<bool>,
    pub(crate) min_version: Option<String>,
}

/// How members of the cluster know each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Not at all; with the address that makes this unsafe, if one does.
    Plain(Option<SocketAddr>),
    /// By certificates that the operator made.
    Given,
    /// By the cluster's own certificates.
    Own,
}

/// The shortest life of a certificate: renewal needs time to be tried again.
const TTL_MIN: Duration = Duration::from_secs(10);

/// Reads one `cluster` block.
pub(super) fn cluster(settings: &mut ClusterSettings, fields: &mut Fields<'_>) {
    set(&mut settings.tls, fields.boolean("tls"));
    set(&mut settings.insecure, fields.boolean("insecure"));
    set(&mut settings.join_token, fields.string("join_token"));
    if let Some(addresses) = fields.strings("join") {
        settings.join = addresses;
    }
    if let Some(ttl) = fields.duration("certificate_ttl") {
        if ttl < TTL_MIN {
            if let Some(entry) = fields.entry("certificate_ttl") {
                let summary = "a certificate that lives so short is not renewed in time";
                fields.report(entry.node.span, summary, "10s or longer");
            }
        } else {
            settings.certificate_ttl = Some(ttl);
        }
    }
}

/// Reads one `tls` block.
pub(super) fn tls(settings: &mut TlsSettings, warnings: &mut Vec<String>, fields: &mut Fields<'_>) {
    set(&mut settings.http, fields.boolean("http"));
    set(&mut settings.rpc, fields.boolean("rpc"));
    set(&mut settings.ca_file, fields.string("ca_file").map(Into::into));
    set(&mut settings.cert_file, fields.string("cert_file").map(Into::into));
    set(&mut settings.key_file, fields.string("key_file").map(Into::into));
    set(&mut settings.verify_https_client, fields.boolean("verify_https_client"));
    set(&mut settings.rpc_upgrade_mode, fields.boolean("rpc_upgrade_mode"));
    if fields.boolean("verify_server_hostname") == Some(false) {
        warnings.push(
            "`tls { verify_server_hostname = false }` has no effect: the role in a certificate is \
             always checked"
                .to_owned(),
        );
    }
    if fields.has("tls_cipher_suites") {
        fields.accept(&["tls_cipher_suites"]);
        warnings.push("`tls_cipher_suites` has no effect: all suites offered are safe".to_owned());
    }
    if let Some(version) = fields.string("tls_min_version") {
        if ["tls12", "tls13"].contains(&version.as_str()) {
            settings.min_version = Some(version);
        } else if let Some(entry) = fields.entry("tls_min_version") {
            let summary = format!("`{version}` is no version of TLS that is safe");
            fields.report(entry.node.span, summary, "tls12 or tls13");
        }
    }
    fields.accept(&["verify_server_hostname", "tls_prefer_server_cipher_suites"]);
}

impl Settings {
    /// Decides how members know each other, from the addresses that are really used.
    pub(crate) fn mode(&self, endpoints: &Endpoints) -> Result<Mode, ConfigError> {
        let outside = self.outside(endpoints);
        let cluster = &self.cluster;
        let insecure = cluster.insecure == Some(true);
        let wants_own = cluster.tls == Some(true) || cluster.join_token.is_some();
        let invalid = |text: String| Err(ConfigError::Invalid(text));
        if self.tls.rpc == Some(true) {
            return if insecure {
                invalid(
                    "tls { rpc = true } and cluster { insecure = true } exclude each other".into(),
                )
            } else {
                Ok(Mode::Given)
            };
        }
        if insecure && wants_own {
            return invalid(
                "cluster { insecure = true } excludes cluster { tls = true } and a join token"
                    .into(),
            );
        }
        match outside {
            _ if wants_own => Ok(Mode::Own),
            None => Ok(Mode::Plain(None)),
            Some(address) if insecure => Ok(Mode::Plain(Some(address))),
            Some(address) if cluster.tls == Some(false) => invalid(format!(
                "cluster {{ tls = false }}: {address} is not loopback; to speak in the clear there, \
                 write cluster {{ insecure = true }}"
            )),
            Some(_) => Ok(Mode::Own),
        }
    }

    /// The first address of the cluster's own traffic that others than this machine reach.
    fn outside(&self, endpoints: &Endpoints) -> Option<SocketAddr> {
        let mut all = vec![endpoints.http.bind, endpoints.http.advertise];
        if self.is_server() {
            let (rpc, serf) = (endpoints.rpc, endpoints.serf);
            all.extend([rpc.bind, rpc.advertise, serf.bind, serf.advertise]);
        }
        let asked = self.client_servers();
        let asked = asked.iter().chain(&self.server.retry_join).chain(&self.cluster.join);
        all.extend(asked.filter_map(|address| parse(address)));
        all.into_iter().find(|address| !address.ip().is_loopback())
    }
}

/// The address in a configured one; a name other than `localhost` counts as one outside.
fn parse(text: &str) -> Option<SocketAddr> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Some(address);
    }
    let host = text.rsplit_once(':').map_or(text, |(host, _)| host);
    let is_here = host == "localhost";
    let ip = host.trim_matches(['[', ']']).parse::<IpAddr>();
    let unknown = IpAddr::from([255, 255, 255, 255]);
    (!is_here).then(|| SocketAddr::new(ip.unwrap_or(unknown), 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The mode of a client with these lines, or the beginning of the error.
    #[track_caller]
    fn check(lines: &str, expected: &str) {
        let mut settings = Settings::default();
        let text = format!("client {{ enabled = true }}\n{lines}");
        settings.read_text(&text, "test.hcl").unwrap();
        let endpoints = settings.endpoints(Some(IpAddr::from([10, 0, 0, 9]))).unwrap();
        let shown = match settings.mode(&endpoints) {
            Ok(Mode::Plain(None)) => "plain".to_owned(),
            Ok(Mode::Plain(Some(address))) => format!("plain at {}", address.ip()),
            Ok(Mode::Given) => "given".to_owned(),
            Ok(Mode::Own) => "own".to_owned(),
            Err(error) => error.to_string(),
        };
        assert!(shown.starts_with(expected), "{lines}: {shown}");
    }

    #[test]
    fn loopback_alone_is_plain_unless_more_is_asked_for() {
        check("", "plain");
        check("bind_addr = \"127.0.0.3\"", "plain");
        check("client { servers = [\"127.0.0.1:4647\", \"localhost\", \"[::1]:4647\"] }", "plain");
        check("cluster { tls = true }", "own");
        check("cluster { join_token = \"x\" }", "own");
        check("cluster { insecure = true }", "plain");
        check("tls { rpc = true }", "given");
        check("tls { http = true }", "plain");
    }

    #[test]
    fn one_address_outside_is_enough() {
        for line in [
            "bind_addr = \"0.0.0.0\"",
            "bind_addr = \"10.0.0.1\"",
            "advertise { http = \"10.0.0.1\" }",
            "client { servers = [\"10.0.0.1\"] }",
            "client { servers = [\"nomad.example.com:4647\"] }",
            "cluster { join = [\"10.0.0.1:4647\"] }",
        ] {
            check(line, "own");
            check(&format!("{line}\ncluster {{ insecure = true }}"), "plain at ");
            check(&format!("{line}\ncluster {{ tls = false }}"), "cluster { tls = false }: ");
            check(&format!("{line}\ntls {{ rpc = true }}"), "given");
        }
    }

    #[test]
    fn what_excludes_each_other_is_told() {
        check("cluster {\n insecure = true\n tls = true\n}", "cluster { insecure = true } excl");
        check("tls { rpc = true }\ncluster { insecure = true }", "tls { rpc = true } and");
    }
}
