//! Which evaluations reports of failure cause, and which nodes a job may use at all.
//!
//! Pure: state in, evaluations out. Ids and time are arguments.
//!
//! # Deliberately absent
//!
//! - Queueing them; see [`crate::broker`].
//! - Evaluations for nodes and for users' requests; see [`cos_state::evaluations`].

use std::collections::BTreeSet;

use cos_model::link::AllocUpdate;
use cos_model::{ClientStatus, Evaluation, Job, JobKey, JobKind, Node, Timestamp, Trigger};
use cos_state::State;
use cos_state::evaluations::eval_for_job;

/// Draws a fresh id.
pub type Ids<'a> = &'a mut dyn FnMut() -> u128;

/// Returns one evaluation for each job of which an allocation failed by these reports and did not
/// before, or ended although it is to be kept running: its agent stopped it while no server was
/// heard of.
pub fn for_failures(
    state: &State,
    updates: &[AllocUpdate],
    ids: Ids<'_>,
    now: Timestamp,
) -> Vec<Evaluation> {
    let jobs: BTreeSet<JobKey> = updates
        .iter()
        .filter_map(|update| Some((update.client_status, state.alloc(update.id)?)))
        .filter(|(status, alloc)| match status {
            ClientStatus::Failed => true,
            ClientStatus::Complete => is_kept_running(alloc.job.kind),
            _ => false,
        })
        .filter(|(_, alloc)| !alloc.is_terminal())
        .map(|(_, alloc)| alloc.job_key().clone())
        .collect();
    jobs.iter()
        .filter_map(|key| state.job(key))
        .filter(|job| !job.stop)
        .map(|job| eval_for_job(job, Trigger::AllocFailure, ids(), now))
        .collect()
}

fn is_kept_running(kind: JobKind) -> bool {
    matches!(kind, JobKind::Service | JobKind::System)
}

/// Returns one evaluation for each job of which an allocation was out of reach and is heard of again
/// by these reports.
pub fn for_reconnects(
    state: &State,
    updates: &[AllocUpdate],
    ids: Ids<'_>,
    now: Timestamp,
) -> Vec<Evaluation> {
    let jobs: BTreeSet<JobKey> = updates
        .iter()
        .filter_map(|update| state.alloc(update.id))
        .filter(|alloc| alloc.client_status == ClientStatus::Unknown)
        .map(|alloc| alloc.job_key().clone())
        .collect();
    jobs.iter()
        .filter_map(|key| state.job(key))
        .map(|job| eval_for_job(job, Trigger::Reconnect, ids(), now))
        .collect()
}

/// Whether a job's instances could be on a node as far as datacenter and pool say.
pub fn may_use(job: &Job, node: &Node) -> bool {
    let pool = job.node_pool.as_str();
    (pool.is_empty() || pool == "all" || pool == node.node_pool)
        && job.datacenters.iter().any(|pattern| glob_matches(pattern, &node.datacenter))
}

/// Whether `text` matches a pattern in which `*` stands for anything.
fn glob_matches(pattern: &str, text: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut left) = text.strip_prefix(head) else { return false };
    let mut parts = rest.split('*').peekable();
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return left.ends_with(part);
        }
        match left.find(part) {
            Some(at) => left = &left[at + part.len()..],
            None => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use cos_state::Command;
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{self, World};

    #[test]
    fn a_failure_is_evaluated_once_per_job_and_only_when_it_is_news() {
        let mut world = World::new();
        world.add_node(testing::node(1));
        world.register(&testing::job("web", JobKind::Service, 3));
        world.place("web", &[(1, 1), (2, 1), (3, 1)], None);
        let report = |world: &mut World, reports: &[(u128, ClientStatus)]| {
            let updates: Vec<AllocUpdate> =
                reports.iter().map(|(id, status)| world.update(*id, *status, None)).collect();
            world.draw(|state, now, ids| for_failures(state, &updates, ids, now)).len()
        };
        let failed = ClientStatus::Failed;
        assert_eq!(report(&mut world, &[(1, ClientStatus::Running)]), 0);
        assert_eq!(report(&mut world, &[(1, ClientStatus::Complete)]), 1, "it was to run on");
        assert_eq!(report(&mut world, &[(1, failed), (2, failed)]), 1);
        world.report(1, failed, None);
        assert_eq!(report(&mut world, &[(1, failed)]), 0);
        world.apply(Command::StopJob { key: testing::key("web"), purge: false, eval: None });
        assert_eq!(report(&mut world, &[(3, failed)]), 0);
        assert_eq!(report(&mut world, &[(3, ClientStatus::Complete)]), 0);
    }

    #[track_caller]
    fn check(pattern: &str, text: &str, expected: bool) {
        assert_eq!(glob_matches(pattern, text), expected, "{pattern} against {text}");
    }

    #[test]
    fn a_star_stands_for_anything() {
        check("*", "", true);
        check("*", "leader", true);
        check("public-*", "public-services", true);
        check("public-*", "private-services", false);
        check("*-services", "private-services", true);
        check("p*-s*s", "private-services", true);
        check("leader", "leader", true);
        check("leader", "leader2", false);
        check("a*a", "a", false);
    }

    proptest! {
        /// Against a definition by recursion over characters.
        #[test]
        fn a_glob_matches_as_its_plain_definition_says(
            pattern in "[ab*]{0,6}", text in "[ab]{0,6}",
        ) {
            fn plain(pattern: &[u8], text: &[u8]) -> bool {
                match pattern.split_first() {
                    None => text.is_empty(),
                    Some((b'*', rest)) => (0..=text.len()).any(|n| plain(rest, &text[n..])),
                    Some((byte, rest)) => text.first() == Some(byte) && plain(rest, &text[1..]),
                }
            }
            prop_assert_eq!(
                glob_matches(&pattern, &text),
                plain(pattern.as_bytes(), text.as_bytes())
            );
        }
    }
}
