//! What clients may take of an agent: connections, waiting reads, and time.
//!
//! One [`Limits`] counts for all listeners of an agent.
//!
//! # Invariants
//!
//! - Everything a client can hold is counted or timed.
//! - Whoever is turned away is told so, with 429, while that costs nothing.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::error::ApiError;

mod roster;

pub(crate) use roster::{Admission, ConnectionId};
use roster::{Places, Roster};

/// Says whether an address is that of one of the cluster's own agents, which pass on the requests
/// of many clients.
pub type IsAgent = Arc<dyn Fn(IpAddr) -> bool + Send + Sync>;

/// How much clients may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Connections of one client, by address; zero is no limit.
    pub connections_per_client: usize,
    /// Connections in all.
    pub connections_total: usize,
    /// Reads of one client that wait for something newer; zero is no limit.
    pub waits_per_client: usize,
    /// Waiting reads in all.
    pub waits_total: usize,
    /// How long a new connection may take to send the head of its first request.
    pub first_head: Duration,
    /// How long the body of a request may pause.
    pub body_pause: Duration,
    /// How long a client may take nothing of an answer.
    pub write_pause: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            connections_per_client: 100,
            connections_total: 8192,
            waits_per_client: 1024,
            waits_total: 16_384,
            first_head: Duration::from_secs(10),
            body_pause: Duration::from_secs(10),
            write_pause: Duration::from_secs(30),
        }
    }
}

/// What clients have taken. A clone counts with the others.
#[derive(Clone)]
pub struct Limits {
    settings: Settings,
    is_agent: IsAgent,
    began: Instant,
    shared: Arc<Mutex<Shared>>,
}

struct Shared {
    roster: Roster,
    /// How to close a connection.
    closers: BTreeMap<ConnectionId, CancellationToken>,
    waits: BTreeMap<IpAddr, usize>,
    waits_total: usize,
}

/// A place among the connections, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    limits: Limits,
    id: ConnectionId,
    /// Cancelled when the connection has to make room.
    pub(crate) evicted: CancellationToken,
}

/// A request under way on a connection; over when it is dropped.
#[derive(Debug)]
pub(crate) struct UnderWay {
    limits: Limits,
    id: ConnectionId,
}

/// A read that waits; over when it is dropped.
#[derive(Debug)]
pub struct Waiting {
    limits: Limits,
    client: IpAddr,
}

impl Limits {
    /// Counts nothing yet.
    pub fn new(settings: Settings, is_agent: IsAgent) -> Self {
        let per_client = settings.connections_per_client;
        let places = Places { per_client, total: settings.connections_total.max(1) };
        let shared = Shared {
            roster: Roster::new(places),
            closers: BTreeMap::new(),
            waits: BTreeMap::new(),
            waits_total: 0,
        };
        Self { settings, is_agent, began: Instant::now(), shared: Arc::new(Mutex::new(shared)) }
    }

    /// The same limits for everybody, agents or not.
    pub fn equal(settings: Settings) -> Self {
        Self::new(settings, Arc::new(|_| false))
    }

    /// What was configured.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// How many connections there are.
    pub fn connections(&self) -> usize {
        self.shared().roster.count()
    }

    /// Notes that a client wants to wait for something newer.
    pub fn wait(&self, client: IpAddr) -> Result<Waiting, ApiError> {
        let mut shared = self.shared();
        let own = shared.waits.get(&client).copied().unwrap_or(0);
        let per_client = self.settings.waits_per_client;
        if shared.waits_total >= self.settings.waits_total
            || per_client > 0 && own >= per_client && !(self.is_agent)(client)
        {
            metrics::counter!(crate::metrics::TURNED_AWAY).increment(1);
            return Err(ApiError::too_many("too many blocking queries, try again later"));
        }
        *shared.waits.entry(client).or_default() += 1;
        shared.waits_total += 1;
        Ok(Waiting { limits: self.clone(), client })
    }

    /// Decides about a new connection; the error says what to answer.
    pub(crate) fn admit(&self, client: IpAddr) -> Result<Place, Admission> {
        let mut shared = self.shared();
        let admission = shared.roster.admit(client, self.now(), || (self.is_agent)(client));
        let Admission::Admitted { id, evicted } = admission else {
            metrics::counter!(crate::metrics::TURNED_AWAY).increment(1);
            return Err(admission);
        };
        if let Some(closer) = evicted.and_then(|evicted| shared.closers.remove(&evicted)) {
            closer.cancel();
        }
        let evicted = CancellationToken::new();
        shared.closers.insert(id, evicted.clone());
        Ok(Place { limits: self.clone(), id, evicted })
    }

    /// Closes the connection that may go soonest. Says whether there was one.
    pub(crate) fn evict_one(&self) -> bool {
        let mut shared = self.shared();
        let Some(id) = shared.roster.longest_rest() else { return false };
        shared.roster.leave(id);
        if let Some(closer) = shared.closers.remove(&id) {
            closer.cancel();
        }
        true
    }

    fn now(&self) -> Duration {
        Instant::now().saturating_duration_since(self.began)
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Notes that a request begins.
    pub(crate) fn begin(&self) -> UnderWay {
        self.limits.shared().roster.begin(self.id);
        UnderWay { limits: self.limits.clone(), id: self.id }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut shared = self.limits.shared();
        shared.roster.leave(self.id);
        shared.closers.remove(&self.id);
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let now = self.limits.now();
        self.limits.shared().roster.end(self.id, now);
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut shared = self.limits.shared();
        shared.waits_total = shared.waits_total.saturating_sub(1);
        if let Some(own) = shared.waits.get_mut(&self.client) {
            *own = own.saturating_sub(1);
            if *own == 0 {
                shared.waits.remove(&self.client);
            }
        }
    }
}

impl fmt::Debug for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limits").field("settings", &self.settings).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn reads_that_wait_are_counted_by_client_and_in_all() {
        let settings = Settings { waits_per_client: 2, waits_total: 3, ..Settings::default() };
        let agent = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 9));
        let limits = Limits::new(settings, Arc::new(move |address| address == agent));
        let client = |number| IpAddr::V4(Ipv4Addr::new(10, 0, 0, number));
        let first = limits.wait(client(1)).unwrap();
        let _second = limits.wait(client(1)).unwrap();
        let refused = limits.wait(client(1)).unwrap_err();
        assert_eq!(refused.status, 429);
        drop(first);
        let _third = limits.wait(client(1)).unwrap();
        let _of_agent = limits.wait(agent).unwrap();
        assert!(
            limits.wait(agent).is_err() && limits.wait(client(2)).is_err(),
            "the house is full"
        );
    }
}
