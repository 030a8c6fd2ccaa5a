//! The faults: what each one is called, what it does, and whether it belongs to the short form.

use std::pin::Pin;
use std::time::Duration;

use crate::cluster::Cluster;

mod client;
mod clock;
mod damage;
mod device;
mod disk;
mod limits;
mod network;
mod process;

/// How many hand-overs are tried until the wanted server leads.
const HAND_OVERS_MAX: usize = 20;

/// What a fault works with.
#[derive(Debug)]
pub(crate) struct Run<'a> {
    /// The cluster, whole and under load.
    pub(crate) cluster: &'a mut Cluster,
    /// Draws the moments of the fault.
    pub(crate) seed: u64,
}

impl Run<'_> {
    /// The next number below a bound.
    pub(crate) fn draw(&mut self, below: u64) -> u64 {
        self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.seed >> 33) % below
    }

    /// Lets a server lead, by having whoever leads hand over until it does.
    pub(crate) async fn make_leader(&mut self, wanted: usize) -> anyhow::Result<()> {
        for _ in 0..HAND_OVERS_MAX {
            let leader = self.cluster.leader().await?;
            if leader == wanted {
                return Ok(());
            }
            self.cluster.servers[leader].end().await?;
            self.cluster.until_a_write(&[wanted]).await?;
            self.cluster.make_whole().await?;
        }
        anyhow::bail!("server-{} never led", wanted + 1)
    }

    /// Lets the load go on for a while.
    pub(crate) async fn load(&mut self, time: Duration) {
        tokio::time::sleep(time).await;
    }
}

/// What came of a fault.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// From the fault, or from its end where it left no quorum, to the first accepted write.
    pub(crate) recovered: Duration,
    /// What else is to be told.
    pub(crate) note: String,
}

impl Outcome {
    fn after(recovered: Duration) -> Self {
        Self { recovered, note: String::new() }
    }

    fn noted(recovered: Duration, note: impl Into<String>) -> Self {
        Self { recovered, note: note.into() }
    }
}

/// What a fault returns.
pub(crate) type Acting<'a> = Pin<Box<dyn Future<Output = anyhow::Result<Outcome>> + 'a>>;

/// One fault.
#[derive(Clone, Copy)]
pub(crate) struct Scene {
    /// What it is called on the command line and in the results.
    pub(crate) name: &'static str,
    /// Whether it is in the short form.
    pub(crate) is_short: bool,
    /// What it does.
    pub(crate) act: for<'a, 'b> fn(&'a mut Run<'b>) -> Acting<'a>,
}

/// Names a function as a scene.
macro_rules! scene {
    ($name:literal, $length:ident, $act:path) => {
        Scene { name: $name, is_short: scene!($length), act: |run| Box::pin($act(run)) }
    };
    (short) => {
        true
    };
    (long) => {
        false
    };
}

/// All faults, in the order in which they are done.
pub(crate) const SCENES: &[Scene] = &[
    scene!("kill -9 leader", short, process::kill_leader),
    scene!("kill -9 follower", long, process::kill_follower),
    scene!("kill -9 all servers", short, process::kill_all),
    scene!("SIGTERM leader (hand-over)", short, process::end_leader),
    scene!("SIGSTOP leader 3 s", short, process::pause_leader),
    scene!("SIGSTOP leader 10 s", long, process::pause_leader_long),
    scene!("SIGSTOP follower 5 s", long, process::pause_follower),
    scene!("SIGSTOP all servers 1 s", long, process::pause_all),
    scene!("partition: leader alone", short, network::isolate_leader),
    scene!("partition: follower alone", long, network::isolate_follower),
    scene!("partition: nobody sees anybody", long, network::isolate_all),
    scene!("partition: A-B cut, both see C", short, network::cut_pair),
    scene!("one-way: leader hears nobody", short, network::deaf_leader),
    scene!("one-way: nobody hears leader", long, network::mute_leader),
    scene!("flapping partition", long, network::flap),
    scene!("20 % of packets lost", short, network::lose),
    scene!("clock +1 h on the leader", short, clock::leader_ahead),
    scene!("clock -1 h on the leader", long, clock::leader_behind),
    scene!("clock +1 h on a follower", long, clock::follower_ahead),
    scene!("clock jumps to and fro", long, clock::to_and_fro),
    scene!("disk of the leader full", short, disk::full_on_leader),
    scene!("disk of a follower full", long, disk::full_on_follower),
    scene!("no inodes left on the leader", long, disk::no_inodes_on_leader),
    scene!("fsync takes 1 s on the leader", long, device::slow_leader),
    scene!("fsync takes 1 s on a follower", long, device::slow_follower),
    scene!("EIO on fsync, leader", short, device::failing_sync_on_leader),
    scene!("EIO on write, leader", long, device::failing_write_on_leader),
    scene!("EIO on fsync, follower", long, device::failing_sync_on_follower),
    scene!("no room for snapshots", long, device::no_room_for_snapshots),
    scene!("power lost on all servers", short, device::power_lost),
    scene!("torn tail of the log", short, damage::torn_tail),
    scene!("bit flips in every file", long, damage::bit_flips),
    scene!("bit flips in the log's end", short, damage::bit_flips_in_tail),
    scene!("data directory gone", long, damage::wiped),
    scene!("kill -9 agent with tasks (OOM)", short, client::kill),
    scene!("SIGSTOP agent with tasks 1 s", long, client::pause),
    scene!("SIGUSR2 agent with tasks", short, client::replace),
    scene!("disk of an agent full", long, client::disk_full),
    scene!("descriptors exhausted", short, limits::descriptors),
    scene!("1000 watchers, leader killed", long, limits::watchers),
    scene!("oversize job and value", short, limits::oversize),
];
