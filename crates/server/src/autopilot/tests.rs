//! Tables: who is there, and what becomes of the group.

use std::net::SocketAddr;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;

const NOW: Duration = Duration::from_secs(100);

fn server(id: &str) -> ServerId {
    ServerId::from_bits(id.parse().unwrap())
}

/// One server: `id@address[/zone]:gossip,consensus[,health][,nonvoter]`. Gossip is `alive`,
/// `failed`, `left` or `-`; consensus is `voter`, `follower` or `-`; health is `well` (for long),
/// `new` (for 5 s) or `ill` (for long).
struct Line {
    peer: Option<Peer>,
    member: Option<(ServerId, Standing)>,
    health: Health,
}

fn line(text: &str) -> Line {
    let (who, how) = text.split_once(':').unwrap();
    let (id, place) = who.split_once('@').unwrap();
    let (address, zone) = place.split_once('/').unwrap_or((place, ""));
    let words: Vec<&str> = how.split(',').collect();
    let has = |word: &str| words.contains(&word);
    let mut tags = BTreeMap::from([
        ("id".to_owned(), server(id).to_string()),
        ("region".to_owned(), "global".to_owned()),
        ("rpc_addr".to_owned(), address.to_owned()),
        (ZONE_TAG.to_owned(), zone.to_owned()),
    ]);
    if has("nonvoter") {
        tags.insert(NON_VOTER_TAG.to_owned(), "1".to_owned());
    }
    let status = match words[0] {
        "alive" => Some(MemberStatus::Alive),
        "failed" => Some(MemberStatus::Failed),
        "left" => Some(MemberStatus::Left),
        _ => None,
    };
    let peer = status.map(|status| Peer {
        address: SocketAddr::from(([127, 0, 0, 1], 1)),
        tags: Arc::new(tags),
        status,
    });
    let is_well = !has("ill");
    let standing = Standing {
        // One that is in the group at another address than gossip says.
        address: if has("moved") { "elsewhere".to_owned() } else { address.to_owned() },
        votes: has("voter"),
        last_contact: is_well.then_some(Duration::from_millis(50)),
        lag: 0,
    };
    let member = (has("voter") || has("follower")).then(|| (server(id), standing));
    let since = if has("new") { Duration::from_secs(95) } else { Duration::ZERO };
    Line { peer, member, health: Health { is_healthy: is_well, since } }
}

#[track_caller]
fn check_with(config: &AutopilotConfig, servers: &str, expected: &str) {
    let lines: Vec<Line> = servers.split_whitespace().map(line).collect();
    let peers: Vec<Peer> = lines.iter().filter_map(|line| line.peer.clone()).collect();
    let members = lines.iter().filter_map(|line| line.member.clone()).collect();
    let view = View::new(config, server("1"), "global", &peers, members);
    let known = lines.iter().filter_map(|l| Some((l.member.as_ref()?.0, l.health))).collect();
    let shown: Vec<String> = decide(&view, &Healths { known }, NOW)
        .iter()
        .map(|change| match change {
            Change::Add(id, address) => format!("add{}@{address}", id.bits()),
            Change::Promote(id) => format!("promote{}", id.bits()),
            Change::Demote(id) => format!("demote{}", id.bits()),
            Change::Remove(id) => format!("remove{}", id.bits()),
        })
        .collect();
    assert_eq!(shown.join(" "), expected);
}

#[track_caller]
fn check(servers: &str, expected: &str) {
    check_with(&AutopilotConfig::default(), servers, expected);
}

#[test]
fn a_new_server_follows_first_and_votes_once_it_is_stable() {
    check("1@a:alive,voter 2@b:alive,-", "add2@b");
    check("1@a:alive,voter 2@b:failed,-", "");
    check("1@a:alive,voter 2@b:alive,follower,new", "");
    check("1@a:alive,voter 2@b:alive,follower,ill", "");
    check("1@a:alive,voter 2@b:alive,follower,well", "promote2");
    check("1@a:alive,voter 2@b:alive,voter", "");
}

#[test]
fn a_server_that_moved_is_noted_at_its_new_address() {
    check("1@a:alive,voter 2@b:alive,voter,moved", "add2@b");
}

#[test]
fn who_left_or_was_replaced_is_let_go() {
    check("1@a:alive,voter 2@b:left,voter", "remove2");
    check("1@a:alive,voter 2@b:left,follower", "remove2");
    check("1@a:alive,voter 2@b:failed,voter,ill 3@b:alive,-", "add3@b remove2");
}

#[test]
fn a_dead_server_is_let_go_once_another_has_taken_its_place() {
    let three = "1@a:alive,voter 2@b:alive,voter 3@c:failed,voter,ill";
    check(three, "");
    check(&format!("{three} 4@d:alive,-"), "add4@d");
    check(&format!("{three} 4@d:alive,follower,new"), "");
    check(&format!("{three} 4@d:alive,follower,well"), "promote4 remove3");
    check(&format!("{three} 4@d:alive,voter"), "remove3");
    // One that died just now may be back in a moment.
    check("1@a:alive,voter 2@b:alive,voter 3@c:failed,voter,ill,new 4@d:alive,voter", "");
    // Gossip that forgot it is no reason to keep it.
    check("1@a:alive,voter 2@b:alive,voter 3@c:-,voter,ill 4@d:alive,voter", "remove3");
    // One that only follows is no part of any majority.
    check("1@a:alive,voter 2@b:failed,follower,ill", "remove2");
}

#[test]
fn no_death_takes_a_group_below_a_majority_of_itself() {
    let well = "1@a:alive,voter 2@b:alive,voter 3@c:alive,voter";
    check(&format!("{well} 4@d:failed,voter,ill 5@e:failed,voter,ill"), "remove4 remove5");
    let two = "1@a:alive,voter 2@b:alive,voter";
    check(&format!("{two} 3@c:failed,voter,ill 4@d:failed,voter,ill"), "");
    let config = AutopilotConfig { min_quorum: 4, ..AutopilotConfig::default() };
    check_with(&config, &format!("{well} 4@d:failed,voter,ill 5@e:failed,voter,ill"), "remove4");
    let config = AutopilotConfig { cleanup_dead_servers: false, ..AutopilotConfig::default() };
    check_with(&config, &format!("{well} 4@d:failed,voter,ill 5@e:failed,voter,ill"), "");
}

#[test]
fn of_each_zone_one_votes_and_the_others_stand_by() {
    let config = AutopilotConfig { enable_redundancy_zones: true, ..AutopilotConfig::default() };
    let three = "1@a/x:alive,voter 2@b/y:alive,voter 3@c/z:alive,voter";
    check_with(&config, &format!("{three} 4@d/y:alive,follower,well"), "");
    check_with(
        &config,
        &format!("{three} 4@d/w:alive,follower,well 5@e/w:alive,follower,well"),
        "promote4",
    );
    check(&format!("{three} 4@d/y:alive,follower,well"), "promote4");
    // A zone whose voter is dead gets another; the dead one stops to vote, and is then let go.
    let lost = "1@a/x:alive,voter 2@b/y:failed,voter,ill,new 3@c/z:alive,voter";
    check_with(&config, &format!("{lost} 4@d/y:alive,follower,well"), "promote4 demote2");
    check_with(
        &config,
        "1@a/x:alive,voter 2@b/y:failed,follower,ill 3@c/z:alive,voter 4@d/y:alive,voter",
        "remove2",
    );
    // Zones were switched on later. The leader keeps its vote.
    check_with(
        &config,
        "1@a/x:alive,voter 2@b/x:alive,voter 3@c/y:alive,voter 4@d/y:alive,voter,ill",
        "demote2 demote4",
    );
}

#[test]
fn a_server_that_never_votes_follows() {
    check("1@a:alive,voter 2@b:alive,follower,well,nonvoter", "");
    check("1@a:alive,voter 2@b:alive,voter,nonvoter", "demote2");
}

#[test]
fn health_is_seen_and_since_when() {
    let config = AutopilotConfig::default();
    let peers: Vec<Peer> = ["2@b:alive", "3@c:failed"].map(|text| line(text).peer.unwrap()).into();
    let mut standing = Standing {
        address: "b".to_owned(),
        votes: true,
        last_contact: Some(Duration::from_millis(200)),
        lag: 250,
    };
    let mut healths = Healths::default();
    let mut look = |standing: &Standing, at: u64| {
        let members = [("1", standing), ("2", standing), ("3", standing)];
        let members = members.map(|(id, standing)| (server(id), standing.clone())).into();
        let view = View::new(&config, server("1"), "global", &peers, members);
        healths.look(&view, Duration::from_secs(at));
        ["1", "2", "3"].map(|id| {
            let health = healths.of(server(id)).unwrap();
            (health.is_healthy, health.since.as_secs())
        })
    };
    assert_eq!(look(&standing, 1), [(true, 1), (true, 1), (false, 1)]);
    assert_eq!(look(&standing, 2), [(true, 1), (true, 1), (false, 1)]);
    standing.lag = 251;
    assert_eq!(look(&standing, 3), [(true, 1), (false, 3), (false, 1)]);
    (standing.lag, standing.last_contact) = (0, Some(Duration::from_millis(201)));
    assert_eq!(look(&standing, 4), [(true, 1), (false, 3), (false, 1)]);
    standing.last_contact = Some(Duration::ZERO);
    assert_eq!(look(&standing, 5), [(true, 1), (true, 5), (false, 1)]);
}

proptest! {
    /// Whoever is there in whatever condition: what answers of the voters stays a majority of them
    /// if it was one, and this server, which leads, stays.
    #[test]
    fn a_majority_stays_a_majority(
        servers in prop::collection::vec((0..4_u8, 0..3_u8, 0..3_u8, any::<bool>(), 0..3_u8), 0..8),
        zones: bool, min_quorum in 0..6_u32,
    ) {
        let mut lines = vec![line("1@s1/z0:alive,voter")];
        for (at, (gossip, consensus, health, nonvoter, zone)) in servers.into_iter().enumerate() {
            let gossip = ["alive", "failed", "left", "-"][usize::from(gossip)];
            let consensus = ["voter", "follower", "-"][usize::from(consensus)];
            let health = ["well", "new", "ill"][usize::from(health)];
            let nonvoter = if nonvoter { ",nonvoter" } else { "" };
            let id = at + 2;
            lines.push(line(&format!("{id}@s{id}/z{zone}:{gossip},{consensus},{health}{nonvoter}")));
        }
        let config = AutopilotConfig {
            enable_redundancy_zones: zones, min_quorum, ..AutopilotConfig::default()
        };
        let peers: Vec<Peer> = lines.iter().filter_map(|line| line.peer.clone()).collect();
        let members: BTreeMap<ServerId, Standing> =
            lines.iter().filter_map(|line| line.member.clone()).collect();
        let known: BTreeMap<ServerId, Health> =
            lines.iter().filter_map(|l| Some((l.member.as_ref()?.0, l.health))).collect();
        let view = View::new(&config, server("1"), "global", &peers, members);
        let healths = Healths { known };
        let mut voters: BTreeSet<ServerId> = view.voters().collect();
        let answers = |id: &ServerId| healths.is_well(*id);
        let had_majority = voters.iter().filter(|id| answers(id)).count() * 2 > voters.len();
        let changes = decide(&view, &healths, NOW);
        for change in &changes {
            match change {
                Change::Promote(id) => { prop_assert!(voters.insert(*id)); }
                Change::Demote(id) => { prop_assert!(voters.remove(id)); }
                Change::Remove(id) => { voters.remove(id); }
                Change::Add(..) => {}
            }
            prop_assert!(voters.contains(&server("1")), "{:?}", changes);
        }
        // Who leaves, or never votes, does so by its own will.
        let is_forced = |change: &Change| match change {
            Change::Remove(id) => !view.has_left(*id),
            Change::Demote(id) => !view.never_votes(*id) && view.zone(*id).is_none(),
            _ => true,
        };
        if had_majority && changes.iter().all(is_forced) {
            let well = voters.iter().filter(|id| answers(id)).count();
            prop_assert!(well * 2 > voters.len(), "{:?}", changes);
        }
    }
}
