//! What a `urlprefix-` tag says: where requests come in and what is done with them.
//!
//! The grammar is fabio's: `urlprefix-[host][:port]/path [option=value …]`, or `urlprefix-:port
//! proto=tcp`. An option that is not known is kept and shown, as fabio does.

use std::collections::BTreeMap;

/// The beginning of the tags that are routes.
pub(crate) const TAG_PREFIX: &str = "urlprefix-";

/// A route as a tag describes it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RouteSpec {
    /// The host in lower case, perhaps a glob; empty matches every host.
    pub host: String,
    /// The path's beginning; empty for TCP routes.
    pub path: String,
    /// The listening port of a TCP route.
    pub port: Option<u16>,
    /// All options as given, for display.
    pub options: BTreeMap<String, String>,
    /// `proto`: `http` unless said otherwise.
    pub protocol: String,
    /// `strip`: removed from the path's beginning.
    pub strip: Option<String>,
    /// `prepend`: put before the path after stripping.
    pub prepend: Option<String>,
    /// `weight`: a fixed share from 0 to 1.
    pub weight: Option<f64>,
    /// `redirect`: status and target.
    pub redirect: Option<(u16, String)>,
    /// `host`: `dst` or a name to send upstream.
    pub upstream_host: Option<String>,
    /// `tlsskipverify`: accept any certificate upstream.
    pub skip_verify: bool,
}

/// Why a tag is no route.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TagError {
    /// There is nothing after the prefix.
    #[error("no route after `{TAG_PREFIX}`")]
    Empty,
    /// A part cannot be read.
    #[error("`{part}` in `{tag}`: {reason}")]
    Part {
        /// The whole tag.
        tag: String,
        /// The part.
        part: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The option restricts who may come in, and cannot be enforced.
    #[error("{0}= is not supported; serving the route without it would open it to everybody")]
    Restriction(String),
    /// The protocol cannot be served.
    #[error("proto={0} is not supported; use http, https or tcp")]
    Protocol(String),
}

/// Reads a tag. Returns `None` if it is not meant as a route.
pub fn parse_tag(tag: &str, datacenter: &str) -> Option<Result<RouteSpec, TagError>> {
    let rest = tag.trim().strip_prefix(TAG_PREFIX)?;
    let mut words = rest.split_whitespace();
    let Some(source) = words.next() else { return Some(Err(TagError::Empty)) };
    let source = source.replace("${DC}", datacenter).replace("$DC", datacenter);
    let mut spec = RouteSpec { protocol: "http".to_owned(), ..RouteSpec::default() };
    for word in words {
        if let Err(error) = apply_option(&mut spec, tag, word) {
            return Some(Err(error));
        }
    }
    Some(place(spec, tag, &source))
}

fn apply_option(spec: &mut RouteSpec, tag: &str, word: &str) -> Result<(), TagError> {
    let (name, value) = word.split_once('=').unwrap_or((word, ""));
    let wrong = |reason| TagError::Part { tag: tag.to_owned(), part: word.to_owned(), reason };
    match name {
        "proto" => match value {
            "http" | "https" | "tcp" => value.clone_into(&mut spec.protocol),
            other => return Err(TagError::Protocol(other.to_owned())),
        },
        "strip" => spec.strip = Some(value.to_owned()),
        "prepend" => spec.prepend = Some(value.to_owned()),
        "weight" => {
            let weight: f64 = value.parse().ok().ok_or_else(|| wrong("not a number"))?;
            if !weight.is_finite() || weight < 0.0 {
                return Err(wrong("must be between 0 and 1"));
            }
            spec.weight = Some(weight);
        }
        "redirect" => {
            let redirect = parse_redirect(value);
            let reason = "must be a status from 300 to 399, a comma and a URL";
            spec.redirect = Some(redirect.ok_or_else(|| wrong(reason))?);
        }
        "host" => spec.upstream_host = Some(value.to_owned()),
        "tlsskipverify" => spec.skip_verify = value == "true",
        "allow" | "deny" | "auth" => return Err(TagError::Restriction(name.to_owned())),
        _ => {} // kept for display only, as the doc of this file says
    }
    spec.options.insert(name.to_owned(), value.to_owned());
    Ok(())
}

fn parse_redirect(value: &str) -> Option<(u16, String)> {
    let (code, url) = value.split_once(',')?;
    let code: u16 = code.parse().ok()?;
    ((300..400).contains(&code) && !url.is_empty()).then(|| (code, url.to_owned()))
}

/// Splits the source into host and path, or reads the port of a TCP route.
fn place(spec: RouteSpec, tag: &str, source: &str) -> Result<RouteSpec, TagError> {
    if spec.protocol == "tcp" || (source.starts_with(':') && !source.contains('/')) {
        let port = source.rsplit(':').next().and_then(|port| port.parse::<u16>().ok());
        let port = port.filter(|port| *port != 0).ok_or_else(|| TagError::Part {
            tag: tag.to_owned(),
            part: source.to_owned(),
            reason: "a tcp route is written `:port`",
        })?;
        return Ok(RouteSpec { port: Some(port), protocol: "tcp".to_owned(), ..spec });
    }
    let (host, path) = match source.find('/') {
        Some(slash) => (&source[..slash], &source[slash..]),
        None => (source, "/"),
    };
    Ok(RouteSpec { host: host.to_lowercase(), path: path.to_owned(), ..spec })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(tag: &str, expected: &str) {
        let actual = match parse_tag(tag, "dc1") {
            None => "none".to_owned(),
            Some(Err(error)) => error.to_string(),
            Some(Ok(spec)) => {
                let options: Vec<String> =
                    spec.options.iter().map(|(k, v)| format!("{k}={v}")).collect();
                let port = spec.port.map_or_else(String::new, |port| format!(":{port}"));
                format!(
                    "{} [{}]{port}{} {}",
                    spec.protocol,
                    spec.host,
                    spec.path,
                    options.join(" ")
                )
            }
        };
        assert_eq!(actual.trim_end(), expected, "tag: {tag}");
    }

    #[test]
    fn every_form_of_fabio_is_read() {
        check("urlprefix-/ping", "http []/ping");
        check("urlprefix-Example.COM/Path", "http [example.com]/Path");
        check("urlprefix-example.com", "http [example.com]/");
        check("urlprefix-$DC.example.com/", "http [dc1.example.com]/");
        check("urlprefix-/a strip=/a prepend=/b", "http []/a prepend=/b strip=/a");
        check("urlprefix-:3306 proto=tcp", "tcp []:3306 proto=tcp");
        check(
            "urlprefix-/a proto=https tlsskipverify=true",
            "https []/a proto=https tlsskipverify=true",
        );
        check("urlprefix-/a future=1", "http []/a future=1");
        check("traefik.enable=true", "none");
    }

    #[test]
    fn what_cannot_be_served_says_why() {
        check("urlprefix-", "no route after `urlprefix-`");
        check("urlprefix-/a proto=grpc", "proto=grpc is not supported; use http, https or tcp");
        check(
            "urlprefix-/a allow=ip:10.0.0.0/8",
            "allow= is not supported; serving the route without it would open it to everybody",
        );
        check(
            "urlprefix-:x proto=tcp",
            "`:x` in `urlprefix-:x proto=tcp`: a tcp route is written `:port`",
        );
        check(
            "urlprefix-/a weight=much",
            "`weight=much` in `urlprefix-/a weight=much`: not a number",
        );
        check(
            "urlprefix-/a redirect=200,http://x/",
            "`redirect=200,http://x/` in `urlprefix-/a redirect=200,http://x/`: \
             must be a status from 300 to 399, a comma and a URL",
        );
    }

    proptest! {
        #[test]
        fn no_tag_panics(tag in "urlprefix-.{0,60}") {
            drop(parse_tag(&tag, "dc"));
        }
    }
}
