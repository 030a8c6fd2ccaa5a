//! Laws that hold for every log, each checked against a definition of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use cos_model::catalog::{Catalog, Health};
use cos_model::{
    AllocId, Allocation, ClientStatus, DesiredStatus, EvalStatus, Job, JobKind, JobStatus, Node,
    NodeStatus, Plan, Resources, SessionId,
};
use cos_state::{
    Applied, Command, Event, GroupSummary, Reply, Request, State, Topic, decode_request,
    encode_request,
};
use proptest::prelude::*;

use crate::strategies;

/// Applies a log and shows each step: the state before, what was applied, the state after.
fn replay(log: &[Request], mut step: impl FnMut(&State, &Request, &Applied, &State)) -> State {
    let mut state = State::default();
    for (index, request) in (1..).zip(log) {
        let before = state.clone();
        let applied = state.apply(index, request);
        step(&before, request, &applied, &state);
    }
    state
}

proptest! {
    /// A replica that reads the log from disk, and one that starts from a snapshot in the middle,
    /// are equal to one that saw everything.
    #[test]
    fn replicas_agree(log in strategies::log(), at in any::<prop::sample::Index>()) {
        let middle = at.index(log.len());
        let mut restored = State::default();
        let mut from_disk = State::default();
        let last = replay(&log, |_, request, applied, after| {
            let index = after.index();
            let read = decode_request(&encode_request(request)).unwrap();
            assert_eq!(&from_disk.apply(index, &read), applied);
            if index == middle as u64 + 1 {
                restored = State::decode_snapshot(&after.encode_snapshot()).unwrap();
            } else if index > middle as u64 {
                restored.apply(index, request);
            }
            assert_eq!(from_disk.hash(), after.hash());
        });
        prop_assert_eq!(&from_disk, &last);
        prop_assert_eq!(&restored, &last);
    }

    #[test]
    fn different_entries_give_different_hashes(log in strategies::log()) {
        let mut hashes = BTreeSet::new();
        let last = replay(&log, |_, _, _, after| {
            assert!(hashes.insert(after.hash()), "a hash came twice");
        });
        prop_assert_eq!(last.index(), log.len() as u64);
    }

    #[test]
    fn an_entry_is_not_applied_again(log in strategies::log()) {
        let mut last = replay(&log, |_, _, _, _| {});
        let same = last.clone();
        for (index, request) in (1..).zip(&log) {
            prop_assert!(last.apply(index, request).reply.is_err());
        }
        prop_assert_eq!(last, same);
    }

    #[test]
    fn what_is_refused_changes_nothing(log in strategies::log()) {
        replay(&log, |before, request, applied, after| {
            if applied.reply.is_err() {
                assert!(applied.events.is_empty(), "{request:?}");
                assert_eq!(Contents::of(before), Contents::of(after), "{request:?}");
            }
        });
    }

    #[test]
    fn indexes_equal_a_full_scan(log in strategies::log()) {
        let last = replay(&log, |_, _, _, _| {});
        check_indexes(&last);
    }

    /// Whoever waits on an object or a table is woken by exactly what changed it.
    #[test]
    fn every_change_carries_its_index(log in strategies::log()) {
        replay(&log, |before, _, applied, after| {
            check_changes(before, after);
            check_events(before, applied, after);
        });
    }

    #[test]
    fn a_plan_never_over_commits_a_node(log in strategies::log()) {
        replay(&log, |before, request, applied, after| {
            if let (Command::ApplyPlan { plan }, Ok(Reply::Plan(_))) =
                (&request.command, &applied.reply)
            {
                check_commitments(before, plan, after);
            }
        });
    }

    #[test]
    fn allocations_go_forward(log in strategies::log()) {
        replay(&log, |before, _, _, after| {
            for alloc in after.allocs() {
                if let Some(old) = before.alloc(alloc.id) {
                    check_forward(old, alloc);
                }
            }
        });
    }

    #[test]
    fn a_jobs_status_says_what_there_is(log in strategies::log()) {
        // Without collecting: a job that lost its history is dead, which a scan cannot know.
        let log: Vec<Request> = log.into_iter().filter(|request| {
            !matches!(request.command, Command::Collect { .. })
        }).collect();
        let last = replay(&log, |_, _, _, _| {});
        for job in last.jobs() {
            prop_assert_eq!(job.status, plain_status(&last, job), "{}", job.key);
        }
    }

    #[test]
    fn a_job_has_one_blocked_evaluation_at_most(log in strategies::log()) {
        let last = replay(&log, |_, _, _, _| {});
        let blocked = last.evals().filter(|eval| eval.status == EvalStatus::Blocked);
        let jobs: Vec<_> = blocked.map(|eval| &eval.job).collect();
        prop_assert_eq!(jobs.iter().collect::<BTreeSet<_>>().len(), jobs.len());
    }

    /// What agents do: they get the changes and apply them to a copy.
    #[test]
    fn the_catalogs_changes_make_an_equal_copy(log in strategies::log()) {
        let mut copy = Catalog::default();
        let last = replay(&log, |_, _, applied, after| {
            for event in &applied.events {
                if let Event::CatalogChanged(change) = event {
                    assert_eq!(copy.apply(after.index(), change), Ok(true));
                }
            }
        });
        prop_assert_eq!(&copy, last.catalog());
    }

    #[test]
    fn the_index_of_a_prefix_is_that_of_its_last_change(log in strategies::log()) {
        let mut changes: BTreeMap<Arc<str>, u64> = BTreeMap::new();
        replay(&log, |_, _, applied, after| {
            for event in &applied.events {
                if let Event::KvChanged(key) = event {
                    changes.insert(Arc::clone(key), after.index());
                }
            }
            for prefix in ["", "a", "a/", "a/b", "a/b/", "a/b/c", "b/", "c"] {
                let below = changes.iter().filter(|(key, _)| key.starts_with(prefix));
                let last = below.map(|(_, index)| *index).max().unwrap_or(0);
                assert_eq!(after.topic_index(&Topic::Kv(Arc::from(prefix))), last, "{prefix}");
            }
        });
    }

    #[test]
    fn a_request_survives_storage(request in strategies::request()) {
        let stored = encode_request(&request);
        prop_assert_eq!(decode_request(&stored).unwrap(), request);
    }

    #[test]
    fn damaged_bytes_are_an_error_or_another_request(
        request in strategies::request(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut stored = encode_request(&request);
        for (at, byte) in damage {
            let at = at.index(stored.len());
            stored[at] = byte;
        }
        drop(decode_request(&stored));
        drop(decode_request(&stored[..cut.index(stored.len())]));
    }
}

/// Everything but the index and the hash of the last entry.
#[derive(Debug, PartialEq)]
struct Contents {
    nodes: Vec<Arc<Node>>,
    jobs: Vec<Arc<Job>>,
    evals: Vec<Arc<cos_model::Evaluation>>,
    allocs: Vec<Arc<Allocation>>,
    deployments: Vec<Arc<cos_model::Deployment>>,
    catalog: Catalog,
    keys: Vec<Arc<cos_model::kv::KvEntry>>,
    sessions: Vec<Arc<cos_model::session::Session>>,
    delays: Vec<cos_model::session::LockDelay>,
    tables: Vec<u64>,
}

impl Contents {
    fn of(state: &State) -> Self {
        let versions = state.jobs().flat_map(|job| state.job_versions(&job.key));
        Self {
            nodes: state.nodes().cloned().collect(),
            jobs: state.jobs().chain(versions).cloned().collect(),
            evals: state.evals().cloned().collect(),
            allocs: state.allocs().cloned().collect(),
            deployments: state.deployments().cloned().collect(),
            catalog: state.catalog().clone(),
            keys: state.kv_list("").cloned().collect(),
            sessions: state.sessions().cloned().collect(),
            delays: state.lock_delays().collect(),
            tables: tables().map(|topic| state.topic_index(&topic)).into(),
        }
    }
}

fn tables() -> [Topic; 9] {
    [
        Topic::Nodes,
        Topic::Jobs,
        Topic::Evals,
        Topic::Allocs,
        Topic::Deployments,
        Topic::Catalog,
        Topic::Kv(Arc::from("")),
        Topic::Sessions,
        Topic::SchedulerConfig,
    ]
}

fn check_indexes(state: &State) {
    let ids = |allocs: Vec<&Arc<Allocation>>| -> Vec<AllocId> {
        allocs.into_iter().map(|alloc| alloc.id).collect()
    };
    for alloc in state.allocs() {
        let on_node = state.allocs().filter(|other| other.node_id == alloc.node_id);
        let of_job = state.allocs().filter(|other| other.job.key == alloc.job.key);
        let of_eval = state.allocs().filter(|other| other.eval_id == alloc.eval_id);
        let found = state.allocs_on_node(alloc.node_id);
        assert_eq!(ids(found.collect()), ids(on_node.collect()));
        assert_eq!(ids(state.allocs_of_job(&alloc.job.key).collect()), ids(of_job.collect()));
        assert_eq!(ids(state.allocs_of_eval(alloc.eval_id).collect()), ids(of_eval.collect()));
    }
    for eval in state.evals() {
        let scan: Vec<_> = state.evals().filter(|other| other.job == eval.job).collect();
        assert_eq!(state.evals_of_job(&eval.job).collect::<Vec<_>>(), scan);
    }
    for deployment in state.deployments() {
        let job = &deployment.job;
        let scan: Vec<_> = state.deployments().filter(|other| other.job == *job).collect();
        assert_eq!(state.deployments_of_job(job).collect::<Vec<_>>(), scan);
    }
    check_sessions(state);
    for job in state.jobs() {
        check_summary(state, job);
        assert!(state.job_version(&job.key, job.version).is_some(), "the current one is kept");
    }
}

fn session_ids(state: &State) -> Vec<(SessionId, u64)> {
    state.sessions().map(|session| (session.id, session.modify_index)).collect()
}

/// Who holds what, by a scan, and whether every session has what it stands on.
fn check_sessions(state: &State) {
    for entry in state.kv_list("").filter(|entry| entry.session.is_some()) {
        assert!(entry.lock_index > 0, "{entry:?}");
        assert!(state.session(entry.session.unwrap()).is_some(), "held by nobody: {entry:?}");
    }
    for session in state.sessions() {
        let scan: Vec<&str> = state
            .kv_list("")
            .filter(|entry| entry.session == Some(session.id))
            .map(|entry| entry.key.as_str())
            .collect();
        assert_eq!(state.keys_held_by(session.id).map(|key| &**key).collect::<Vec<_>>(), scan);
        let on_node: Vec<_> = state.sessions().filter(|other| other.node == session.node).collect();
        assert_eq!(state.sessions_on_node(&session.node).collect::<Vec<_>>(), on_node);
        assert!(state.catalog().node(&session.node).is_some());
        for id in &session.node_checks {
            let check = state.catalog().check(&session.node, id).expect("the check is there");
            assert_ne!(check.status, Health::Critical);
        }
    }
}

fn check_summary(state: &State, job: &Job) {
    for (group, counts) in state.job_summary(&job.key) {
        let count = |is: &dyn Fn(&Allocation) -> bool| {
            let found = state.allocs().filter(|a| a.job.key == job.key && a.group == group);
            u32::try_from(found.filter(|alloc| is(alloc)).count()).unwrap()
        };
        let has = |status: ClientStatus| count(&|alloc| alloc.client_status == status);
        let stopped_early = count(&|alloc| {
            alloc.client_status == ClientStatus::Pending && alloc.desired != DesiredStatus::Run
        });
        let scan = GroupSummary {
            queued: counts.queued,
            complete: has(ClientStatus::Complete) + stopped_early,
            failed: has(ClientStatus::Failed),
            running: has(ClientStatus::Running),
            starting: has(ClientStatus::Pending) - stopped_early,
            lost: has(ClientStatus::Lost),
            unknown: has(ClientStatus::Unknown),
        };
        assert_eq!(counts, scan);
    }
}

/// Compares each table before and after: what differs has the new index, and so has its table.
fn check_changes(before: &State, after: &State) {
    let index = after.index();
    let mut changed = BTreeSet::new();
    for node in after.nodes().filter(|new| before.node(new.id) != Some(*new)) {
        assert_eq!(node.modify_index, index);
        changed.insert(Topic::Nodes);
    }
    for job in after.jobs().filter(|new| before.job(&new.key) != Some(*new)) {
        assert_eq!(job.modify_index, index);
        changed.insert(Topic::Jobs);
    }
    for eval in after.evals().filter(|new| before.eval(new.id) != Some(*new)) {
        assert_eq!(eval.modify_index, index);
        changed.insert(Topic::Evals);
    }
    for alloc in after.allocs().filter(|new| before.alloc(new.id) != Some(*new)) {
        assert_eq!(alloc.modify_index, index);
        changed.insert(Topic::Allocs);
    }
    for deployment in after.deployments().filter(|new| before.deployment(new.id) != Some(*new)) {
        assert_eq!(deployment.modify_index, index);
        changed.insert(Topic::Deployments);
    }
    let gone = [
        (Topic::Nodes, before.nodes().any(|old| after.node(old.id).is_none())),
        (Topic::Jobs, before.jobs().any(|old| after.job(&old.key).is_none())),
        (Topic::Evals, before.evals().any(|old| after.eval(old.id).is_none())),
        (Topic::Allocs, before.allocs().any(|old| after.alloc(old.id).is_none())),
        (Topic::Deployments, before.deployments().any(|old| after.deployment(old.id).is_none())),
        (Topic::Catalog, before.catalog() != after.catalog()),
        (Topic::Kv(Arc::from("")), before.kv_list("").ne(after.kv_list(""))),
        (Topic::Sessions, session_ids(before) != session_ids(after)),
        (Topic::SchedulerConfig, before.scheduler_config() != after.scheduler_config()),
    ];
    changed.extend(gone.into_iter().filter(|(_, is)| *is).map(|(topic, _)| topic));
    for topic in changed {
        assert_eq!(after.topic_index(&topic), index, "{topic:?}");
    }
}

/// Whoever waits for a topic is called by the events that may change it: none may change without.
fn check_events(before: &State, applied: &Applied, after: &State) {
    let keys = ["a", "a/b", "k"].map(|prefix| Topic::Kv(Arc::from(prefix)));
    for topic in tables().into_iter().chain(keys).chain([Topic::AutopilotConfig]) {
        let has_moved = before.topic_index(&topic) != after.topic_index(&topic);
        let is_told = applied.events.iter().any(|event| event.may_change(&topic));
        assert!(is_told || !has_moved, "{topic:?} changed, and nobody is told");
    }
}

/// Counts anew what each node has to give, in every amount of which it has to give more than
/// before. A node that shrank may be over-committed, but no plan adds to that.
fn check_commitments(before: &State, plan: &Plan, after: &State) {
    for node in after.nodes() {
        let there: Vec<_> =
            after.allocs_on_node(node.id).filter(|a| !a.client_status.is_terminal()).collect();
        let amounts: [fn(&Resources) -> u64; 3] = [|r| r.cpu_mhz, |r| r.memory_mib, |r| r.disk_mib];
        for amount in amounts {
            let earlier = |id| before.alloc(id).map_or(0, |alloc| amount(&alloc.resources));
            let grows = there.iter().any(|a| amount(&a.resources) > earlier(a.id));
            let sum: u64 = there.iter().map(|alloc| amount(&alloc.resources)).sum();
            assert!(!grows || sum <= amount(&node.capacity), "{plan:?}");
        }
        check_ports(node, &there);
        if there.iter().any(|alloc| before.alloc(alloc.id).is_none()) {
            assert!(node.status == NodeStatus::Ready && node.eligible && node.drain.is_none());
        }
    }
    let homeless = after
        .allocs()
        .find(|alloc| before.alloc(alloc.id).is_none() && after.node(alloc.node_id).is_none());
    assert_eq!(homeless, None, "nothing is placed on a node that does not exist");
}

fn check_ports(node: &Node, there: &[&Arc<Allocation>]) {
    for (at, alloc) in there.iter().enumerate() {
        for port in &alloc.ports {
            assert!(!node.reserved_ports.contains(&port.host_port));
            let others = there.iter().enumerate().filter(|(other, _)| *other != at);
            for other in others.flat_map(|(_, other)| &other.ports) {
                let apart = !port.host_ip.is_empty()
                    && !other.host_ip.is_empty()
                    && port.host_ip != other.host_ip;
                assert!(apart || port.host_port != other.host_port, "a port is held twice");
            }
        }
    }
}

fn check_forward(old: &Allocation, new: &Allocation) {
    assert_eq!(
        (old.node_id, &old.job.key, old.create_index),
        (new.node_id, &new.job.key, new.create_index)
    );
    let (from, to) = (old.client_status, new.client_status);
    let forward = match from {
        ClientStatus::Pending => true,
        ClientStatus::Running => to != ClientStatus::Pending,
        ClientStatus::Unknown => true,
        ClientStatus::Complete | ClientStatus::Failed | ClientStatus::Lost => to == from,
    };
    assert!(forward, "from {from:?} to {to:?}");
}

/// The definition in the words of the API, by a scan.
fn plain_status(state: &State, job: &Job) -> JobStatus {
    let allocs: Vec<_> = state.allocs().filter(|alloc| alloc.job.key == job.key).collect();
    let evals: Vec<_> = state.evals().filter(|eval| eval.job == job.key).collect();
    let waits_for_nodes = job.kind == JobKind::System;
    if waits_for_nodes {
        if job.stop { JobStatus::Dead } else { JobStatus::Running }
    } else if allocs.iter().any(|alloc| !alloc.is_terminal()) {
        JobStatus::Running
    } else if evals.iter().any(|eval| !eval.is_terminal()) {
        JobStatus::Pending
    } else if job.stop || !allocs.is_empty() || !evals.is_empty() {
        JobStatus::Dead
    } else {
        JobStatus::Pending
    }
}
