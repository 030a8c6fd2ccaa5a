//! Asking for instances: replacements of what failed or is lost, and what is missing altogether.

use std::sync::Arc;

use cos_model::{Allocation, Job};

use super::{Cause, Wanted, Work, unfinished};

impl Work<'_, '_> {
    /// Asks for whatever is missing up to the count, as far as the deployment allows.
    pub(super) fn want_missing(&mut self) {
        let canarying = self.is_canarying();
        let count = self.group.count as usize;
        let is_beside = |alloc: &&Arc<Allocation>| canarying && self.canaries.contains(&alloc.id);
        let beside = self.counted.iter().chain(&self.due).filter(is_beside).count();
        let mut existing =
            self.counted.len() + self.migrating.len() + self.due.len() + self.held.len() - beside;
        let mut wanted: Vec<Wanted> =
            self.due.iter().map(|alloc| self.replacement(alloc, Cause::Rescheduled)).collect();
        let lost = self.lost.iter().map(|alloc| (alloc, Cause::Lost));
        let absent = self.absent.iter().map(|alloc| (alloc, Cause::Disconnected));
        let room = count.saturating_sub(existing);
        wanted.extend(
            lost.chain(absent).take(room).map(|(alloc, cause)| self.replacement(alloc, cause)),
        );
        existing += room.min(self.lost.len() + self.absent.len());
        self.needless_absent = (self.lost.len() + self.absent.len()).saturating_sub(room);
        let mut waiting = unfinished(&self.all, &self.context.replaced);
        for _ in existing..count {
            let index = self.names.take_lowest();
            let earlier = waiting.remove(&index);
            wanted.push(match earlier {
                Some((alloc, cause)) => self.replacement(&alloc, cause),
                None => self.fresh(index, Cause::Missing),
            });
        }
        let may_roll = self.may_roll();
        let old_count = self
            .stable_job()
            .and_then(|job| job.group(&self.group.name).map(|group| group.count))
            .filter(|_| canarying)
            .unwrap_or(0);
        self.changes.place.extend(wanted.into_iter().filter(|wanted| match wanted.cause {
            // What was there before is brought back whatever the deployment does; what is new has
            // to wait for it, except that old instances beside canaries are kept complete.
            Cause::Missing => may_roll || wanted.index < old_count,
            _ => true,
        }));
    }

    /// Gives up instances that are out of reach and would not be missed.
    pub(super) fn drop_unneeded_absent(&mut self) {
        let needless = self.needless_absent.min(self.absent.len());
        let kept = self.absent.len() - needless;
        for alloc in self.absent.split_off(kept) {
            self.changes.stops.retain(|stop| stop.alloc.id != alloc.id);
            self.changes.expiring.retain(|(_, expiring)| expiring.id != alloc.id);
            self.stop(&alloc, crate::words::NOT_NEEDED, true);
        }
    }

    /// Asks for a new instance under a number.
    pub(super) fn fresh(&self, index: u32, cause: Cause) -> Wanted {
        let canary = cause == Cause::Canary;
        let group = Arc::clone(&self.name);
        Wanted { job: self.version_for(None, canary), group, index, previous: None, cause, canary }
    }

    /// Asks for a replacement.
    pub(super) fn replacement(&self, alloc: &Arc<Allocation>, cause: Cause) -> Wanted {
        let canary = self.is_canarying() && self.canaries.contains(&alloc.id);
        Wanted {
            job: self.version_for(Some(alloc), canary),
            group: Arc::clone(&self.name),
            index: alloc.index,
            previous: Some(Arc::clone(alloc)),
            cause,
            canary,
        }
    }

    /// While canaries are tried, everything else stays at the version that is known to work.
    fn version_for(&self, previous: Option<&Arc<Allocation>>, canary: bool) -> Arc<Job> {
        if canary || !self.is_canarying() {
            return Arc::clone(self.context.job);
        }
        let own = previous.map(|alloc| &alloc.job).filter(|job| self.is_older(job)).cloned();
        own.or_else(|| self.stable_job()).unwrap_or_else(|| Arc::clone(self.context.job))
    }

    /// The newest older version among the instances that count.
    fn stable_job(&self) -> Option<Arc<Job>> {
        let lines = [&self.counted, &self.migrating, &self.lost];
        let jobs = lines.into_iter().flatten().filter(|a| !a.canary).map(|alloc| &alloc.job);
        jobs.filter(|job| self.is_older(job)).max_by_key(|job| job.version).cloned()
    }

    fn is_older(&self, job: &Job) -> bool {
        job.version < self.context.job.version && job.group(&self.group.name).is_some()
    }
}
