//! What a proxy must take from and add to a request's head.

use std::net::SocketAddr;

use hyper::header::{self, Entry, HeaderMap, HeaderName, HeaderValue};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");

/// Headers that concern one connection only.
const HOP_BY_HOP: [HeaderName; 7] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    HeaderName::from_static("proxy-connection"),
];

/// Headers by which instances judge where a request came from. A client may not have them removed
/// by naming them in `Connection`.
const PROTECTED: [&str; 7] = [
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-prefix",
    "x-forwarded-proto",
    "x-real-ip",
];

/// Removes what concerns only the connection it came on.
pub(super) fn remove_hop_by_hop(headers: &mut HeaderMap) {
    // Few heads hold any, and one look at each name costs less than a search for each of these.
    if !headers.keys().any(|name| HOP_BY_HOP.contains(name)) {
        return;
    }
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .filter(|name: &HeaderName| !PROTECTED.contains(&name.as_str()))
        .collect();
    for name in named.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
}

/// Whether a request wants to leave HTTP, as WebSocket does, and to what.
pub(super) fn wanted_upgrade(headers: &HeaderMap) -> Option<HeaderValue> {
    let asks = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|word| word.trim().eq_ignore_ascii_case("upgrade"));
    if asks { headers.get(header::UPGRADE).cloned() } else { None }
}

/// What instances are told about a client's connection, written once for all of its requests.
#[derive(Debug)]
pub(super) struct Origin {
    peer: String,
    /// `by=` of `Forwarded`: the address that the client connected to.
    by: String,
    address: HeaderValue,
    forwarded: HeaderValue,
}

impl Origin {
    /// Describes a connection, or nothing if an address cannot stand in a header.
    pub(super) fn new(peer: SocketAddr, local: SocketAddr) -> Option<Self> {
        let peer = peer.ip().to_string();
        let by = format!("by={}", local.ip());
        let address = HeaderValue::from_str(&peer).ok()?;
        let forwarded = format!("for={peer}; proto=http; {by}; httpproto=http/1.1");
        let forwarded = HeaderValue::from_str(&forwarded).ok()?;
        Some(Self { peer, by, address, forwarded })
    }

    /// Adds who asked, how and where, as fabio does: the client's address is appended, the rest is
    /// set only where it is absent.
    pub(super) fn add_to(&self, headers: &mut HeaderMap, host: Option<&HeaderValue>) {
        append(headers, X_FORWARDED_FOR, ", ", &self.peer, &self.address);
        append(headers, header::FORWARDED, "; ", &self.by, &self.forwarded);
        headers.entry(X_REAL_IP).or_insert_with(|| self.address.clone());
        headers.entry(X_FORWARDED_PROTO).or_insert(HeaderValue::from_static("http"));
        if let Some(host) = host {
            headers.entry(X_FORWARDED_PORT).or_insert_with(|| port_of(host));
            headers.entry(X_FORWARDED_HOST).or_insert_with(|| host.clone());
        }
    }
}

/// Appends to a list that earlier proxies began, or begins it.
fn append(
    headers: &mut HeaderMap,
    name: HeaderName,
    separator: &str,
    link: &str,
    alone: &HeaderValue,
) {
    match headers.entry(name) {
        Entry::Vacant(vacant) => drop(vacant.insert(alone.clone())),
        Entry::Occupied(mut before) => {
            let longer =
                before.get().to_str().ok().and_then(|text| {
                    HeaderValue::from_str(&format!("{text}{separator}{link}")).ok()
                });
            // What is not text was no list of addresses.
            before.insert(longer.unwrap_or_else(|| alone.clone()));
        }
    }
}

fn port_of(host: &HeaderValue) -> HeaderValue {
    host.to_str()
        .ok()
        .and_then(|host| host.rsplit_once(':'))
        .and_then(|(_, port)| HeaderValue::from_str(port).ok())
        .unwrap_or(HeaderValue::from_static("80"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(text: &str) -> HeaderMap {
        text.lines()
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap()))
            .collect()
    }

    #[test]
    fn headers_of_one_hop_are_removed_and_protected_ones_stay() {
        let mut head = headers(
            "connection: keep-alive, x-secret, X-Forwarded-For\nkeep-alive: 5\nte: gzip\n\
             x-secret: 1\nx-forwarded-for: 9.9.9.9\naccept: a",
        );
        remove_hop_by_hop(&mut head);
        let mut left: Vec<&str> = head.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["accept", "x-forwarded-for"]);
    }

    #[test]
    fn the_client_is_appended_and_the_rest_is_set_once() {
        let mut head = headers("x-forwarded-for: 9.9.9.9\nx-forwarded-proto: https");
        let host = HeaderValue::from_static("shop:9999");
        let origin =
            Origin::new("10.1.1.1:5".parse().unwrap(), "10.2.2.2:9999".parse().unwrap()).unwrap();
        origin.add_to(&mut head, Some(&host));
        let get = |name: &str| head.get(name).unwrap().to_str().unwrap();
        assert_eq!(get("x-forwarded-for"), "9.9.9.9, 10.1.1.1");
        assert_eq!(get("x-forwarded-proto"), "https");
        assert_eq!(get("x-forwarded-port"), "9999");
        assert_eq!(get("x-forwarded-host"), "shop:9999");
        assert_eq!(get("x-real-ip"), "10.1.1.1");
        assert_eq!(get("forwarded"), "for=10.1.1.1; proto=http; by=10.2.2.2; httpproto=http/1.1");
    }

    #[test]
    fn an_upgrade_needs_both_headers() {
        assert!(wanted_upgrade(&headers("upgrade: websocket")).is_none());
        let head = headers("connection: keep-alive, Upgrade\nupgrade: websocket");
        assert_eq!(wanted_upgrade(&head).unwrap(), "websocket");
    }
}
