//! Who is connected: so many connections of one client, so many in all.
//!
//! Pure: time is an argument. One roster counts for all listeners of an agent.
//!
//! # Invariants
//!
//! - No client has more than its share, unless it is one of the cluster's own agents.
//! - A full house is no closed door: the connection that has rested longest makes room, taken from
//!   whoever has most, and only if all are busy is a newcomer turned away.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

/// Which connection.
pub(crate) type ConnectionId = u64;

/// How many there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Places {
    /// Of one client; zero is no limit.
    pub(crate) per_client: usize,
    /// In all.
    pub(crate) total: usize,
}

/// What becomes of a newcomer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// It may stay.
    Admitted {
        /// Its number.
        id: ConnectionId,
        /// The connection that has to go for it.
        evicted: Option<ConnectionId>,
    },
    /// Its client has too many.
    TooMany,
    /// There is no room, and nobody rests.
    Full,
}

/// Who is connected.
#[derive(Debug)]
pub(crate) struct Roster {
    places: Places,
    next: ConnectionId,
    connections: BTreeMap<ConnectionId, Entry>,
    clients: BTreeMap<IpAddr, Client>,
    /// Clients with a resting connection, by how many connections they have.
    restful: BTreeSet<(usize, IpAddr)>,
}

#[derive(Debug)]
struct Entry {
    client: IpAddr,
    /// How many requests it has under way.
    requests: u32,
    /// Since when it rests, if it does.
    resting: Option<Duration>,
}

#[derive(Debug, Default)]
struct Client {
    connections: usize,
    /// Its connections that rest, longest first.
    resting: BTreeSet<(Duration, ConnectionId)>,
}

impl Roster {
    pub(crate) fn new(places: Places) -> Self {
        Self {
            places,
            next: 0,
            connections: BTreeMap::new(),
            clients: BTreeMap::new(),
            restful: BTreeSet::new(),
        }
    }

    /// How many are connected.
    pub(crate) fn count(&self) -> usize {
        self.connections.len()
    }

    /// Decides about a newcomer. `is_agent` is asked only if its client has its share.
    pub(crate) fn admit(
        &mut self,
        client: IpAddr,
        now: Duration,
        is_agent: impl FnOnce() -> bool,
    ) -> Admission {
        let has = self.clients.get(&client).map_or(0, |client| client.connections);
        if self.places.per_client > 0 && has >= self.places.per_client && !is_agent() {
            return Admission::TooMany;
        }
        let mut evicted = None;
        if self.connections.len() >= self.places.total {
            evicted = self.longest_rest();
            match evicted {
                Some(id) => self.leave(id),
                None => return Admission::Full,
            }
        }
        let id = self.next;
        self.next += 1;
        self.connections.insert(id, Entry { client, requests: 0, resting: Some(now) });
        self.change(client, |client| {
            client.connections += 1;
            client.resting.insert((now, id));
        });
        Admission::Admitted { id, evicted }
    }

    /// The connection that may go soonest, without one newcomer in mind: as when the process has no
    /// file handle left.
    pub(crate) fn longest_rest(&self) -> Option<ConnectionId> {
        let (_, client) = self.restful.last()?;
        let (_, id) = self.clients.get(client)?.resting.first()?;
        Some(*id)
    }

    /// Notes that a request begins.
    pub(crate) fn begin(&mut self, id: ConnectionId) {
        let Some(entry) = self.connections.get_mut(&id) else { return };
        entry.requests += 1;
        if let Some(since) = entry.resting.take() {
            let client = entry.client;
            self.change(client, |client| {
                client.resting.remove(&(since, id));
            });
        }
    }

    /// Notes that a request is answered.
    pub(crate) fn end(&mut self, id: ConnectionId, now: Duration) {
        let Some(entry) = self.connections.get_mut(&id) else { return };
        entry.requests = entry.requests.saturating_sub(1);
        if entry.requests == 0 && entry.resting.is_none() {
            entry.resting = Some(now);
            let client = entry.client;
            self.change(client, |client| {
                client.resting.insert((now, id));
            });
        }
    }

    /// Notes that a connection is closed.
    pub(crate) fn leave(&mut self, id: ConnectionId) {
        let Some(entry) = self.connections.remove(&id) else { return };
        self.change(entry.client, |client| {
            client.connections = client.connections.saturating_sub(1);
            if let Some(since) = entry.resting {
                client.resting.remove(&(since, id));
            }
        });
    }

    fn change(&mut self, address: IpAddr, change: impl FnOnce(&mut Client)) {
        let client = self.clients.entry(address).or_default();
        self.restful.remove(&(client.connections, address));
        change(client);
        if !client.resting.is_empty() {
            self.restful.insert((client.connections, address));
        }
        if client.connections == 0 {
            self.clients.remove(&address);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use proptest::prelude::*;

    use super::*;

    fn client(number: u8) -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(10, 0, 0, number))
    }

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn admitted(id: ConnectionId, evicted: Option<ConnectionId>) -> Admission {
        Admission::Admitted { id, evicted }
    }

    #[test]
    fn a_client_has_its_share_and_agents_have_more() {
        let mut roster = Roster::new(Places { per_client: 2, total: 10 });
        assert_eq!(roster.admit(client(1), at(0), || false), admitted(0, None));
        assert_eq!(roster.admit(client(1), at(0), || false), admitted(1, None));
        assert_eq!(roster.admit(client(1), at(0), || false), Admission::TooMany);
        assert_eq!(roster.admit(client(1), at(0), || true), admitted(2, None));
        assert_eq!(roster.admit(client(2), at(0), || panic!("not asked")), admitted(3, None));
        roster.leave(0);
        roster.leave(1);
        assert_eq!(roster.admit(client(1), at(0), || false), admitted(4, None));
        let mut unlimited = Roster::new(Places { per_client: 0, total: 10 });
        for id in 0..5 {
            assert_eq!(unlimited.admit(client(1), at(0), || false), admitted(id, None));
        }
    }

    #[test]
    fn a_full_house_lets_the_longest_rest_of_the_greediest_go() {
        let mut roster = Roster::new(Places { per_client: 0, total: 3 });
        for (second, who) in [(0, 2), (1, 1), (2, 1)] {
            roster.admit(client(who), at(second), || false);
        }
        assert_eq!(roster.admit(client(3), at(3), || false), admitted(3, Some(1)));
        // One that works is left alone.
        roster.begin(0);
        roster.begin(2);
        assert_eq!(roster.admit(client(3), at(4), || false), admitted(4, Some(3)));
        roster.begin(4);
        assert_eq!(roster.admit(client(3), at(5), || false), Admission::Full);
        roster.end(2, at(6));
        assert_eq!(roster.admit(client(3), at(7), || false), admitted(5, Some(2)));
    }

    proptest! {
        /// Against a recount of everything after every step.
        #[test]
        fn the_counts_are_right(
            per_client in 0_usize..4, total in 1_usize..6,
            steps in prop::collection::vec((0_u8..5, 0_u8..4), 0..80),
        ) {
            let mut roster = Roster::new(Places { per_client, total });
            let mut naive: BTreeMap<ConnectionId, (u8, u32)> = BTreeMap::new();
            for (second, (what, number)) in (0..).zip(steps) {
                let pick = naive.keys().nth(usize::from(number)).copied();
                match (what, pick) {
                    (0, Some(id)) => {
                        roster.begin(id);
                        naive.get_mut(&id).unwrap().1 += 1;
                    }
                    (1, Some(id)) => {
                        roster.end(id, at(second));
                        let requests = &mut naive.get_mut(&id).unwrap().1;
                        *requests = requests.saturating_sub(1);
                    }
                    (2, Some(id)) => {
                        roster.leave(id);
                        naive.remove(&id);
                    }
                    _ => {
                        let own = naive.values().filter(|(who, _)| *who == number).count();
                        let resting = naive.values().any(|(_, requests)| *requests == 0);
                        match roster.admit(client(number), at(second), || false) {
                            Admission::TooMany => prop_assert!(per_client > 0 && own >= per_client),
                            Admission::Full => prop_assert!(naive.len() >= total && !resting),
                            Admission::Admitted { id, evicted } => {
                                prop_assert!(per_client == 0 || own < per_client);
                                prop_assert_eq!(evicted.is_some(), naive.len() >= total);
                                if let Some(gone) = evicted {
                                    prop_assert_eq!(naive.remove(&gone).unwrap().1, 0);
                                }
                                naive.insert(id, (number, 0));
                            }
                        }
                    }
                }
                prop_assert_eq!(roster.count(), naive.len());
                prop_assert!(naive.len() <= total);
                let resting = naive.values().any(|(_, requests)| *requests == 0);
                prop_assert_eq!(roster.longest_rest().is_some(), resting);
            }
        }
    }
}
