//! What goes wrong, drawn from the seed: crashes, pauses, partitions, bad weather, wrong clocks, full
//! disks; and what operators do meanwhile to the servers.
//!
//! # Invariants
//!
//! - Every fault ends, at the latest when the storm does.

use std::collections::BTreeSet;

use crate::context::{Body, Event};
use crate::network::{Peer, Weather};
use crate::server::Server;
use crate::world::World;

/// What ends.
#[derive(Clone, Copy, Debug)]
pub enum Ended {
    /// A server is started again.
    Server(usize),
    /// An agent is started again.
    Agent(usize),
    /// All cuts are mended.
    Cuts,
    /// The weather is fair again.
    Weather,
    /// There is room on a server's disk again.
    Disk(usize),
}

/// The fewest servers that operators leave.
const SERVERS_MIN: usize = 3;

/// The most servers that operators make.
const SERVERS_MAX: usize = 6;

impl World {
    /// Lets something go wrong.
    pub(crate) fn fault(&mut self) {
        let context = &mut self.context;
        let mean = context.options.fault_every;
        let wait = context.random.between(mean / 4, mean * 2);
        context.after(wait, Event::Fault);
        let server = context.random.index(self.servers.len());
        let agent = context.random.index(self.agents.len());
        match context.random.below(100) {
            0..18 => self.crash_server(server),
            18..26 => self.pause(server, agent),
            26..42 => self.cut(server),
            42..50 => self.spoil_weather(),
            50..62 => self.crash_agent(agent),
            62..68 => self.skew(server, agent),
            68..73 => self.fill_disk(server),
            73..82 => self.change_group(),
            82..90 => self.transfer(),
            90..96 => self.servers[server].take_snapshot(&mut self.context),
            96..98 => (0..self.servers.len()).for_each(|server| self.crash_server(server)),
            _ => self.context.network.mend(),
        }
        self.servers[server].settle(&mut self.context);
    }

    /// Lets a fault end.
    pub(crate) fn heal(&mut self, ended: Ended) {
        match ended {
            Ended::Server(number) => self.boot_server(number),
            Ended::Agent(number) => self.agents[number].boot(&mut self.context),
            Ended::Cuts => self.context.network.mend(),
            Ended::Weather => self.context.network.weather = Weather::FAIR,
            Ended::Disk(number) => self.servers[number].disk.is_full = false,
        }
    }

    /// Ends all faults, except that who is paused goes on when its time has come: what waits for it
    /// would else come after what is sent to it now.
    pub(crate) fn heal_all(&mut self) {
        self.context.network.mend();
        self.context.network.weather = Weather::FAIR;
        for number in 0..self.servers.len() {
            let server = &mut self.servers[number];
            (server.disk.is_full, server.clock) = (false, 0);
            if self.is_member(number) {
                self.boot_server(number);
            }
        }
        for agent in &mut self.agents {
            agent.clock = 0;
            agent.boot(&mut self.context);
        }
    }

    fn note(&mut self, what: u64, whom: u64, words: impl FnOnce() -> String) {
        self.context.trace.note(self.context.now, &[50, what, whom], words);
    }

    fn crash_server(&mut self, number: usize) {
        if !self.servers[number].is_up {
            return;
        }
        self.note(1, number as u64, || format!("server {number} crashes"));
        self.servers[number].crash(&mut self.context);
        let wait = self.context.random.between(200_000, 8_000_000);
        self.context.after(wait, Event::Heal(Ended::Server(number)));
    }

    fn pause(&mut self, server: usize, agent: usize) {
        let until = self.context.now + self.context.random.between(300_000, 6_000_000);
        if self.context.random.chance(600) {
            self.note(2, server as u64, || format!("server {server} is paused"));
            let paused = &mut self.servers[server].paused_until;
            *paused = until.max(*paused);
        } else {
            self.note(2, 100 + agent as u64, || format!("agent {agent} is paused"));
            let paused = &mut self.agents[agent].paused_until;
            *paused = until.max(*paused);
        }
    }

    fn cut(&mut self, server: usize) {
        let mut peers: Vec<Peer> = (0..self.servers.len()).map(Peer::Server).collect();
        peers.extend((0..self.agents.len()).map(Peer::Agent));
        let random = &mut self.context.random;
        let shape = random.below(4);
        // One server alone; a group and the rest; two that do not see each other; one that is not
        // heard.
        let group: BTreeSet<Peer> = match shape {
            0 | 3 => [Peer::Server(server)].into(),
            1 => peers.iter().copied().filter(|_| random.chance(400)).collect(),
            _ => {
                let other = random.index(self.servers.len());
                [Peer::Server(server), Peer::Server(other)].into()
            }
        };
        let wait = random.between(500_000, 10_000_000);
        self.note(3, shape, || format!("cut of shape {shape} around {group:?}"));
        for one in &peers {
            for other in &peers {
                let (inside, beyond) = (group.contains(one), group.contains(other));
                let is_cut = match shape {
                    2 => inside && beyond && one != other,
                    3 => inside && !beyond,
                    _ => inside != beyond,
                };
                if is_cut {
                    self.context.network.cut(*one, *other);
                }
            }
        }
        self.context.after(wait, Event::Heal(Ended::Cuts));
    }

    fn spoil_weather(&mut self) {
        let random = &mut self.context.random;
        let weather = Weather {
            loss: random.between(0, 150),
            twice: random.between(0, 200),
            late: random.between(0, 150),
            delay_max: random.between(2_000, 60_000),
        };
        let wait = random.between(1_000_000, 8_000_000);
        self.note(4, weather.loss, || format!("{weather:?}"));
        self.context.network.weather = weather;
        self.context.after(wait, Event::Heal(Ended::Weather));
    }

    fn crash_agent(&mut self, number: usize) {
        let is_reboot = self.context.random.chance(300);
        let word = if is_reboot { "machine" } else { "agent" };
        self.note(5, number as u64, || format!("{word} {number} goes down"));
        self.agents[number].crash(is_reboot, &mut self.context);
        let wait = self.context.random.between(100_000, 14_000_000);
        self.context.after(wait, Event::Heal(Ended::Agent(number)));
    }

    fn skew(&mut self, server: usize, agent: usize) {
        let nanos = i64::try_from(self.context.random.below(40_000_000_000)).unwrap_or(0);
        let jump = nanos - 20_000_000_000;
        if self.context.random.chance(500) {
            self.note(6, server as u64, || format!("clock of server {server} jumps by {jump} ns"));
            self.servers[server].clock = jump;
        } else {
            self.note(6, 100 + agent as u64, || format!("clock of agent {agent} jumps by {jump}"));
            self.agents[agent].clock = jump;
        }
    }

    fn fill_disk(&mut self, number: usize) {
        self.note(7, number as u64, || format!("disk of server {number} is full"));
        self.servers[number].disk.is_full = true;
        let wait = self.context.random.between(300_000, 5_000_000);
        self.context.after(wait, Event::Heal(Ended::Disk(number)));
        self.context.after(wait + 100_000, Event::Heal(Ended::Server(number)));
    }

    fn transfer(&mut self) {
        let members: Vec<usize> = self.members.iter().copied().collect();
        let Some(to) = self.context.random.pick(&members).copied() else { return };
        let now = self.context.now;
        self.note(8, to as u64, || format!("leadership shall go to server {to}"));
        for server in self.servers.iter_mut().filter(|server| server.is_up) {
            server.raft.hand_over(to, now);
            server.settle(&mut self.context);
        }
    }

    /// An operator adds a server, or lets one go.
    fn change_group(&mut self) {
        let Some(leader) = self.servers.iter().position(Server::is_on_duty) else {
            return;
        };
        let mut members = self.servers[leader].raft.members().clone();
        let is_growing = self.context.random.chance(500);
        if is_growing && members.len() < SERVERS_MAX && self.servers.len() < SERVERS_MAX + 2 {
            // Never one that was there before: who forgot its vote may not vote again.
            let number = self.add_server();
            members.insert(number);
        } else if members.len() > SERVERS_MIN {
            let list: Vec<usize> = members.iter().copied().collect();
            let Some(gone) = self.context.random.pick(&list).copied() else { return };
            members.remove(&gone);
        } else {
            return;
        }
        self.note(9, members.len() as u64, || format!("servers shall be {members:?}"));
        let ask = Body::Ask(0, std::sync::Arc::new(crate::context::Ask::Group(members)));
        self.servers[leader].receive(Peer::Client(0), ask, &mut self.context);
    }
}
