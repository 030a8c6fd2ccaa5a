//! What a certificate says of its owner: a role, and where it was issued by the cluster itself, an
//! id.
//!
//! The cluster's own certificates carry a URI, `cos://<cluster>/<role>/<id>`. Certificates that an
//! operator made carry a DNS name, `server.<region>.nomad` or `client.<region>.nomad`.
//!
//! # Invariants
//!
//! - A certificate that says both is what its URI says; one with two URIs of ours is nobody's.

use rustls::pki_types::CertificateDer;

/// What a member of a cluster is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// It takes part in consensus and is believed everything.
    Server,
    /// It runs tasks and speaks for its own node only.
    Client,
}

impl Role {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Client => "client",
        }
    }

    /// The role with this word.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Server, Self::Client].into_iter().find(|role| role.name() == text)
    }
}

/// A member as its certificate names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its role.
    pub role: Role,
    /// Its id, if the cluster itself issued the certificate.
    pub id: Option<String>,
    /// The cluster that issued the certificate, or the region that it was made for.
    pub home: Home,
}

/// Where a member belongs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Home {
    /// The cluster with this id.
    Cluster(String),
    /// A region of this name.
    Region(String),
}

impl Member {
    /// Reads the names of a certificate; `None` if they name no member.
    pub fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let certificate = webpki::EndEntityCert::try_from(certificate).ok()?;
        Self::from_names(certificate.valid_uri_names(), certificate.valid_dns_names())
    }

    fn from_names<'a>(
        uris: impl Iterator<Item = &'a str>,
        mut dns: impl Iterator<Item = &'a str>,
    ) -> Option<Self> {
        let mut ours = uris.filter_map(|uri| uri.strip_prefix("cos://"));
        match (ours.next(), ours.next()) {
            (Some(only), None) => return Self::from_uri(only),
            (Some(_), Some(_)) => return None,
            (None, _) => {}
        }
        dns.find_map(|name| {
            let (role, rest) = name.split_once('.')?;
            let region = rest.strip_suffix(".nomad")?;
            let role = Role::parse(role)?;
            Some(Self { role, id: None, home: Home::Region(region.to_owned()) })
        })
    }

    fn from_uri(rest: &str) -> Option<Self> {
        let mut parts = rest.split('/');
        let (cluster, role, id) = (parts.next()?, parts.next()?, parts.next()?);
        if cluster.is_empty() || id.is_empty() || parts.next().is_some() {
            return None;
        }
        Some(Self {
            role: Role::parse(role)?,
            id: Some(id.to_owned()),
            home: Home::Cluster(cluster.to_owned()),
        })
    }

    /// The URI of a member, as [`Member::of`] reads it.
    pub fn uri(cluster: &str, role: Role, id: &str) -> String {
        format!("cos://{cluster}/{}/{id}", role.name())
    }
}

impl std::fmt::Display for Member {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.role.name())?;
        self.id.iter().try_for_each(|id| write!(f, " {id}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(uris: &[&str], dns: &[&str], expected: &str) {
        let member = Member::from_names(uris.iter().copied(), dns.iter().copied());
        let shown = member.map_or_else(String::new, |member| {
            let home = match &member.home {
                Home::Cluster(id) => format!("cluster {id}"),
                Home::Region(name) => format!("region {name}"),
            };
            format!("{member} of {home}")
        });
        assert_eq!(shown, expected, "{uris:?} {dns:?}");
    }

    #[test]
    fn a_member_is_what_its_certificate_names() {
        check(&["cos://c1/server/7"], &[], "server 7 of cluster c1");
        check(&["cos://c1/client/7"], &["server.global.nomad"], "client 7 of cluster c1");
        check(&["https://other/x"], &["client.eu.nomad"], "client of region eu");
        check(&[], &["www.example.com", "server.global.nomad"], "server of region global");
    }

    #[test]
    fn anything_else_names_nobody() {
        for uri in ["cos://", "cos://c/server", "cos://c//7", "cos://c/admin/7", "cos://c/server/"]
        {
            check(&[uri], &[], "");
        }
        check(&["cos://c/server/7/8"], &[], "");
        check(&["cos://c/client/7", "cos://c/server/7"], &[], "");
        check(&[], &["server.global.consul", "nomad", "server.nomad", "admin.global.nomad"], "");
    }
}
