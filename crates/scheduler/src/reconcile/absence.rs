//! Instances out of reach, and what they and their replacements are to each other.
//!
//! Instances that replaced each other form a line. While one of a line is out of reach another may
//! do its work; when it is back there are two, and the job says which of them stays.
//!
//! # Invariants
//!
//! - Of each line one instance counts at most.
//! - An instance that does its work is never stopped in favour of one that is out of reach.
//! - Only instances of the newest version among those that are there may stay.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use cos_model::{AllocId, Allocation, ClientStatus, TaskPhase, Timestamp};

use super::Work;
use crate::presence::{Away, Presence, may_run_until, presence};
use crate::words;

/// The members of a line that are not over.
#[derive(Debug, Default)]
struct Line {
    here: Vec<Arc<Allocation>>,
    away: Vec<(Arc<Allocation>, Away)>,
    lost: Vec<Arc<Allocation>>,
    /// Whether one of the line has done the work for good.
    is_done: bool,
    /// Whether one of the line was ever out of reach.
    had_absence: bool,
}

impl Work<'_, '_> {
    /// Sorts all instances that are not over: those that count, that leave, that are waited for and
    /// that are lost.
    pub(super) fn sort_lines(&mut self) {
        let lines = self.lines();
        for line in lines.into_values() {
            self.sort_line(line);
        }
        for heap in [&mut self.counted, &mut self.migrating, &mut self.lost, &mut self.absent] {
            heap.sort_by_key(|alloc| (alloc.index, alloc.id));
        }
    }

    /// Whether an instance that was given up may still run, so that its place has to stay empty.
    pub(super) fn is_held(&self, alloc: &Allocation) -> bool {
        let lost_at = alloc.state_since(ClientStatus::Lost);
        alloc.client_status == ClientStatus::Lost
            && alloc.desired_description == words::LOST
            && lost_at
                .and_then(|at| may_run_until(alloc, at))
                .is_some_and(|until| until > self.context.problem.now)
    }

    fn lines(&self) -> BTreeMap<AllocId, Line> {
        let known: BTreeMap<AllocId, &Arc<Allocation>> =
            self.all.iter().map(|alloc| (alloc.id, alloc)).collect();
        let mut lines: BTreeMap<AllocId, Line> = BTreeMap::new();
        for alloc in &self.all {
            let line = lines.entry(root(alloc, &known)).or_default();
            line.had_absence |= alloc.was_unknown();
            if alloc.is_terminal() {
                line.is_done |= self.is_done(alloc) && alloc.was_unknown();
                continue;
            }
            match presence(self.table, alloc, self.context.problem.now) {
                Presence::Here => line.here.push(Arc::clone(alloc)),
                Presence::Away(away) => line.away.push((Arc::clone(alloc), away)),
                Presence::Lost => line.lost.push(Arc::clone(alloc)),
            }
        }
        lines
    }

    fn sort_line(&mut self, mut line: Line) {
        for alloc in &line.lost {
            self.stop(alloc, words::LOST, true);
        }
        for (alloc, away) in line.away.iter().filter(|(_, away)| away.is_new) {
            self.changes.stops.push(super::Stop {
                alloc: Arc::clone(alloc),
                words: words::UNKNOWN,
                client_status: Some(ClientStatus::Unknown),
            });
            if let Some(until) = away.until {
                self.changes.expiring.push((until, Arc::clone(alloc)));
            }
        }
        if line.had_absence && line.here.len() + usize::from(line.is_done) > 1 {
            self.stop_doubles(&mut line);
        }
        let has_worker = !line.here.is_empty() || line.is_done;
        for alloc in line.here {
            let leaves = alloc.transition.migrate;
            let heap = if leaves { &mut self.migrating } else { &mut self.counted };
            heap.push(alloc);
        }
        if has_worker {
            return;
        }
        let newest = |alloc: &Arc<Allocation>| (alloc.create_index, alloc.create_time, alloc.id);
        if let Some((alloc, away)) = line.away.into_iter().max_by_key(|(alloc, _)| newest(alloc)) {
            let heap = if away.replace { &mut self.absent } else { &mut self.counted };
            heap.push(alloc);
        } else if let Some(alloc) = line.lost.into_iter().max_by_key(newest) {
            let now = self.context.problem.now;
            match may_run_until(&alloc, now).filter(|until| *until > now) {
                Some(until) => {
                    self.changes.later.push((until, Arc::clone(&alloc)));
                    self.held.push(alloc);
                }
                None => self.lost.push(alloc),
            }
        }
    }

    /// Stops all but one of those that do the same work.
    fn stop_doubles(&mut self, line: &mut Line) {
        let keeper = (!line.is_done).then(|| keeper(&line.here, self.reconcile_word())).flatten();
        for alloc in std::mem::take(&mut line.here) {
            if Some(alloc.id) == keeper {
                line.here.push(alloc);
            } else {
                self.canaries.remove(&alloc.id);
                self.stop(&alloc, words::RECONNECTED, false);
            }
        }
    }

    fn reconcile_word(&self) -> &str {
        self.group.disconnect.as_ref().map_or("best_score", |policy| &policy.reconcile)
    }
}

/// The first of an instance's line that is still known.
fn root(alloc: &Allocation, known: &BTreeMap<AllocId, &Arc<Allocation>>) -> AllocId {
    let mut id = alloc.id;
    let mut seen = BTreeSet::from([id]);
    while let Some(previous) = known.get(&id).and_then(|alloc| alloc.previous)
        && known.contains_key(&previous)
        && seen.insert(previous)
    {
        id = previous;
    }
    id
}

/// Which of several instances of one line stays, in the words of the job file.
fn keeper(here: &[Arc<Allocation>], word: &str) -> Option<AllocId> {
    let version = |alloc: &Arc<Allocation>| (alloc.job.create_index, alloc.job.version);
    let newest = here.iter().map(version).max()?;
    let stays = |alloc: &&Arc<Allocation>| version(alloc) == newest;
    let settled = |alloc: &&Arc<Allocation>| stays(alloc) && !alloc.transition.migrate;
    let mut candidates: Vec<&Arc<Allocation>> = here.iter().filter(settled).collect();
    if candidates.is_empty() {
        candidates = here.iter().filter(stays).collect();
    }
    candidates.sort_by_key(|alloc| (alloc.create_index, alloc.create_time, alloc.id));
    let first = candidates.first().copied();
    let best = match word {
        "keep_original" => first,
        "keep_replacement" => candidates.last().copied(),
        "longest_running" => {
            let running = candidates.iter().copied().filter(|a| running_since(a).is_some());
            running.min_by_key(|alloc| running_since(alloc)).or(first)
        }
        _ => {
            let mut best = first;
            for alloc in candidates {
                if best.is_some_and(|best| score(alloc) > score(best)) {
                    best = Some(alloc);
                }
            }
            best
        }
    };
    best.map(|alloc| alloc.id)
}

/// Since when all that an instance runs has been running.
fn running_since(alloc: &Allocation) -> Option<Timestamp> {
    let running = alloc.task_states.values().filter(|state| state.phase == TaskPhase::Running);
    running.map(|state| state.started_at).max()
}

/// How well an instance's node suited when it was placed.
fn score(alloc: &Allocation) -> f64 {
    let own = alloc.metric.scores.iter().find(|score| score.node_id == alloc.node_id);
    own.map_or(0.0, |score| score.normalized)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use cos_model::{AllocMetric, NodeId, TaskState};

    use super::*;
    use crate::testing;

    /// Makes instances of one line, oldest first, from `score` or `score@started`, and says by
    /// position which one stays.
    #[track_caller]
    fn check(word: &str, line: &str, expected: usize) {
        let job = testing::job("web");
        let allocs: Vec<Arc<Allocation>> = (1_u64..)
            .zip(line.split_whitespace())
            .map(|(number, text)| {
                let (text, version) = text.split_once('v').unwrap_or((text, "0"));
                let (text, migrate) =
                    text.split_once('m').map_or((text, false), |(t, _)| (t, true));
                let (own, started) = text.split_once('@').unwrap_or((text, ""));
                let mut job = (*job).clone();
                job.version = version.parse().unwrap();
                let id = u128::from(number);
                let mut alloc = testing::alloc(&Arc::new(job), id, id, 0);
                alloc.create_index = number;
                alloc.transition.migrate = migrate;
                let scores = vec![cos_model::metric::NodeScore {
                    node_id: NodeId::from_bits(id),
                    scores: BTreeMap::new(),
                    normalized: own.parse().unwrap(),
                }];
                alloc.metric = Arc::new(AllocMetric { scores, ..AllocMetric::default() });
                if let Ok(at) = started.parse() {
                    let phase = TaskPhase::Running;
                    let state =
                        TaskState { phase, started_at: Timestamp(at), ..TaskState::default() };
                    alloc.task_states.insert("web".to_owned(), state);
                }
                Arc::new(alloc)
            })
            .collect();
        let kept = keeper(&allocs, word).unwrap();
        assert_eq!(
            allocs.iter().position(|alloc| alloc.id == kept),
            Some(expected),
            "{word} {line}"
        );
    }

    #[test]
    fn the_job_says_which_of_two_stays() {
        check("keep_original", "0.1 0.9", 0);
        check("keep_replacement", "0.9 0.1", 1);
        check("best_score", "0.1 0.9", 1);
        check("best_score", "0.9 0.1", 0);
        check("best_score", "0.5 0.5", 0);
        check("longest_running", "0@7 0@3", 1);
        check("longest_running", "0@3 0@7", 0);
        check("longest_running", "0 0@7", 1);
        check("longest_running", "0 0", 0);
        check("best_score", "0.1 0.9 0.4", 1);
        check("keep_original", "0.1 0.9 0.4", 0);
    }

    #[test]
    fn an_older_version_and_one_that_leaves_do_not_stay() {
        check("keep_original", "0.9v0 0.1v1", 1);
        check("best_score", "0.9v1 0.1v2 0.3v2", 2);
        check("keep_original", "0.9m 0.1", 1);
        check("keep_replacement", "0.9 0.1m", 0);
        check("keep_replacement", "0.9m 0.1m", 1);
    }
}
