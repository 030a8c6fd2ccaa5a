//! The routing table: built from the catalog, read by every request.
//!
//! # Invariants
//!
//! - Only instances that pass all their checks on a node that is alive are targets. An instance
//!   without a check of its own is never routed, as with fabio: nobody vouches for it.
//! - Lookup order is part of the contract: hosts from the most specific to none, within a host the
//!   longest path first.
//! - The shares of a route's targets add up to one unless all of them are zero.
//!
//! # Deliberately absent
//!
//! - Connections, retries, counters; see `proxy`.

use std::collections::BTreeMap;
use std::sync::Arc;

use cos_model::catalog::{ALIVE_CHECK, Catalog, Health, Instance};

use crate::route::{RouteSpec, parse_tag};

/// How a target is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1.
    Http,
    /// HTTP/1.1 over TLS.
    Https {
        /// Whether any certificate is accepted.
        skip_verify: bool,
    },
    /// Bytes.
    Tcp,
}

/// One instance behind a route.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    /// The service's name.
    pub service: Arc<str>,
    /// `host:port` to connect to.
    pub address: Arc<str>,
    /// How to speak to it.
    pub protocol: Protocol,
    /// Its share of the route's requests, from 0 to 1.
    pub share: f64,
    /// What the tag said.
    pub spec: Arc<RouteSpec>,
    /// The service's other tags, for display.
    pub tags: Vec<String>,
}

/// All targets of one host and path.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// The host or glob; empty matches every host.
    pub host: String,
    /// The path's beginning.
    pub path: String,
    /// The targets, in order of service and address.
    pub targets: Vec<Target>,
    /// Running sums of the shares, in billionths, for picking.
    bounds: Vec<u64>,
}

/// All routes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Table {
    /// Routes by host, most specific host first, longest path first.
    hosts: Vec<(String, Vec<Route>)>,
    /// TCP routes by listening port.
    tcp: BTreeMap<u16, Route>,
    /// Tags that cannot be served, with the reason.
    refused: Vec<String>,
}

/// Shares are picked from this many parts.
const PARTS: u64 = 1_000_000_000;

impl Table {
    /// Builds the table for one state of the catalog.
    pub fn build(catalog: &Catalog, datacenter: &str) -> Self {
        let mut grouped: BTreeMap<(String, String), Vec<Target>> = BTreeMap::new();
        let mut tcp: BTreeMap<u16, Vec<Target>> = BTreeMap::new();
        let mut refused = Vec::new();
        for name in catalog.service_names() {
            for instance in catalog.instances(&name).iter().filter(|i| is_routable(i)) {
                for tag in &instance.service.tags {
                    match parse_tag(tag, datacenter) {
                        None => {}
                        Some(Err(error)) => refused.push(format!("{name}: {error}")),
                        Some(Ok(spec)) => {
                            let target = target_of(instance, &spec);
                            if let Some(port) = spec.port {
                                tcp.entry(port).or_default().push(target);
                            } else {
                                let place = (spec.host, spec.path);
                                grouped.entry(place).or_default().push(target);
                            }
                        }
                    }
                }
            }
        }
        refused.dedup();
        let mut hosts: BTreeMap<String, Vec<Route>> = BTreeMap::new();
        for ((host, path), targets) in grouped.into_iter().rev() {
            hosts.entry(host.clone()).or_default().push(Route::new(host, path, targets));
        }
        let mut hosts: Vec<(String, Vec<Route>)> = hosts.into_iter().collect();
        // Reversed names put `a.example.com` before `*.example.com` before the empty host.
        hosts.sort_by_key(|(host, _)| std::cmp::Reverse(host.chars().rev().collect::<String>()));
        let tcp = tcp
            .into_iter()
            .map(|(port, targets)| (port, Route::new(String::new(), format!(":{port}"), targets)))
            .collect();
        Self { hosts, tcp, refused }
    }

    /// Finds the routes for a host (in lower case, without port) and a normalised path, best first.
    pub fn candidates<'a>(
        &'a self,
        host: &'a str,
        path: &'a str,
    ) -> impl Iterator<Item = &'a Route> {
        self.hosts.iter().filter(move |(pattern, _)| host_matches(pattern, host)).filter_map(
            move |(_, routes)| routes.iter().find(|route| path.starts_with(&route.path)),
        )
    }

    /// All HTTP routes, in lookup order.
    pub fn routes(&self) -> impl Iterator<Item = &Route> {
        self.hosts.iter().flat_map(|(_, routes)| routes)
    }

    /// All TCP routes by listening port.
    pub fn tcp_routes(&self) -> &BTreeMap<u16, Route> {
        &self.tcp
    }

    /// Tags that cannot be served, with the reason.
    pub fn refused(&self) -> &[String] {
        &self.refused
    }
}

impl Route {
    fn new(host: String, path: String, mut targets: Vec<Target>) -> Self {
        targets.sort_by(|a, b| (&a.service, &a.address).cmp(&(&b.service, &b.address)));
        spread_shares(&mut targets);
        let mut sum = 0;
        let bounds = targets
            .iter()
            .map(|target| {
                sum += parts(target.share);
                sum
            })
            .collect();
        Self { host, path, targets, bounds }
    }

    /// Picks a target by its share. Every value of `entropy` picks one if any has a share.
    pub fn pick(&self, entropy: u64) -> Option<&Target> {
        let total = *self.bounds.last()?;
        if total == 0 {
            return None;
        }
        let point = entropy % total;
        let at = self.bounds.partition_point(|bound| *bound <= point);
        self.targets.get(at)
    }

    /// All targets that have a share, once around from a place that `entropy` chooses.
    pub fn from_anywhere(&self, entropy: u64) -> impl Iterator<Item = &Target> {
        let length = self.targets.len().max(1);
        let start = usize::try_from(entropy % length as u64).unwrap_or(0);
        let (before, after) = self.targets.split_at(start.min(self.targets.len()));
        after.iter().chain(before).filter(|target| target.share > 0.0)
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a share is between 0 and 1, so the product fits"
)]
fn parts(share: f64) -> u64 {
    let parts = (share * PARTS as f64) as u64;
    // A positive share is never rounded away.
    if share > 0.0 { parts.max(1) } else { 0 }
}

/// Fixed weights first, then what is left in equal parts; scaled if they add up to another sum.
#[expect(clippy::cast_precision_loss, reason = "no route has that many targets")]
fn spread_shares(targets: &mut [Target]) {
    let fixed: f64 = targets.iter().filter_map(|target| target.spec.weight).sum();
    let free = targets.iter().filter(|target| target.spec.weight.is_none()).count();
    let scale = if fixed > 1.0 || (free == 0 && fixed > 0.0) { 1.0 / fixed } else { 1.0 };
    let rest = if free == 0 { 0.0 } else { (1.0 - fixed).max(0.0) / free as f64 };
    for target in targets {
        target.share = target.spec.weight.map_or(rest, |weight| weight * scale);
    }
}

fn is_routable(instance: &Instance) -> bool {
    let own = || instance.checks.iter().filter(|check| !check.service_id.is_empty());
    let node_alive = instance
        .checks
        .iter()
        .filter(|check| check.service_id.is_empty())
        .all(|check| check.status != Health::Critical || !is_about_node(&check.id));
    node_alive && own().next().is_some() && own().all(|check| check.status == Health::Passing)
}

/// Whether a node check takes the whole node out: its agent is gone, or it is in maintenance.
fn is_about_node(check_id: &str) -> bool {
    check_id == ALIVE_CHECK || check_id == "_node_maintenance"
}

fn target_of(instance: &Instance, spec: &RouteSpec) -> Target {
    let address = instance.address();
    let host = if address.contains(':') && !address.starts_with('[') {
        format!("[{address}]")
    } else {
        address.to_owned()
    };
    let protocol = match spec.protocol.as_str() {
        "https" => Protocol::Https { skip_verify: spec.skip_verify },
        "tcp" => Protocol::Tcp,
        _ => Protocol::Http,
    };
    Target {
        service: Arc::clone(&instance.service.name),
        address: format!("{host}:{}", instance.service.port).into(),
        protocol,
        share: 0.0,
        spec: Arc::new(spec.clone()),
        tags: instance
            .service
            .tags
            .iter()
            .filter(|tag| !tag.starts_with(crate::route::TAG_PREFIX))
            .cloned()
            .collect(),
    }
}

/// Whether a host matches an exact name, a glob with `*` and `?`, or the empty pattern.
fn host_matches(pattern: &str, host: &str) -> bool {
    if pattern.is_empty() || pattern == host {
        return true;
    }
    pattern.contains(['*', '?']) && glob_matches(pattern.as_bytes(), host.as_bytes())
}

/// Matches by remembering the last star, so that time is bounded by the product of the lengths.
fn glob_matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t, mut star) = (0, 0, None);
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(byte) if *byte == b'?' || *byte == text[t] => {
                p += 1;
                t += 1;
            }
            _ => match star {
                Some((at, from)) => {
                    p = at + 1;
                    t = from + 1;
                    star = Some((at, from + 1));
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests;
