//! The catalog as all agents are told it: everything once, then every change, each encoded once for
//! all of them.
//!
//! # Invariants
//!
//! - Who joins is given messages that together hold everything up to then, and hears of everything
//!   after it. Some may come twice; agents ignore what their copy contains.
//! - **Many agents are told more at a time.** A change that comes alone is told at once; those that
//!   follow wait until what was told before is paid for, which takes longer the more agents there
//!   are.
//! - What a newcomer is sent is encoded anew only when enough has changed, however many come.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use cos_model::catalog::{Catalog, CatalogChange};
use cos_model::link::ToAgent;
use cos_state::Event;
use tokio::sync::{Notify, broadcast};
use tokio_util::sync::CancellationToken;

use crate::{dialogue, wire};

/// How many messages an agent may lag behind before it is told everything again.
const MESSAGES_MAX: usize = 1024;

/// The rest after a message, per agent: a few times of what it costs to tell one agent, so that
/// changes take a part of this server's time and no more.
const REST_PER_AGENT: Duration = Duration::from_micros(100);

/// Changes since the last full message that may be sent to newcomers one by one: this part of it.
const STALE_PART: usize = 8;

/// And no fewer bytes than these.
const STALE_BYTES_MIN: usize = 64 * 1024;

/// The catalog's changes on their way to agents.
#[derive(Debug)]
pub(crate) struct CatalogFeed {
    told: Mutex<Told>,
    /// Changes that were not told yet, in order.
    pending: Mutex<Vec<(u64, CatalogChange)>>,
    more: Notify,
    messages: broadcast::Sender<Bytes>,
}

/// What newcomers are sent.
#[derive(Debug, Default)]
struct Told {
    everything: Option<Bytes>,
    since: Vec<Bytes>,
    since_bytes: usize,
}

impl Default for CatalogFeed {
    fn default() -> Self {
        Self {
            told: Mutex::default(),
            pending: Mutex::default(),
            more: Notify::new(),
            messages: broadcast::Sender::new(MESSAGES_MAX),
        }
    }
}

impl CatalogFeed {
    /// Takes what changed the catalog out of a batch whose state is published.
    pub(crate) fn add(&self, events: &[(u64, Event)]) {
        // Without agents there is nobody to tell, and whoever comes is told everything.
        if self.messages.receiver_count() == 0 {
            return self.reset();
        }
        let changes = dialogue::catalog_changes(events);
        if !changes.is_empty() {
            lock(&self.pending).extend(changes);
            self.more.notify_one();
        }
    }

    /// Forgets what was told: the catalog is another one.
    pub(crate) fn reset(&self) {
        let mut told = lock(&self.told);
        lock(&self.pending).clear();
        *told = Told::default();
    }

    /// What a newcomer is sent, and where it hears of the rest. `catalog` is the published one.
    pub(crate) fn join(
        &self,
        catalog: impl FnOnce() -> Arc<Catalog>,
    ) -> (Vec<Bytes>, broadcast::Receiver<Bytes>) {
        let mut told = lock(&self.told);
        let messages = self.messages.subscribe();
        let bytes = told.everything.as_ref().map_or(0, Bytes::len);
        if bytes == 0 || told.since_bytes > STALE_BYTES_MIN.max(bytes / STALE_PART) {
            let everything = ToAgent::CatalogAll(Box::new(Catalog::clone(&catalog())));
            let everything = Some(wire::encode(&everything));
            *told = Told { everything, ..Told::default() };
        }
        (told.everything.iter().chain(&told.since).cloned().collect(), messages)
    }

    /// Tells agents of changes until the server stops.
    pub(crate) async fn run(&self, stop: CancellationToken) {
        loop {
            // Either arm may be dropped: changes stay where they are.
            tokio::select! {
                () = self.more.notified() => {}
                () = stop.cancelled() => return,
            }
            let agents = self.tell();
            let rest = REST_PER_AGENT.saturating_mul(u32::try_from(agents).unwrap_or(u32::MAX));
            tokio::select! {
                () = tokio::time::sleep(rest) => {}
                () = stop.cancelled() => return,
            }
        }
    }

    /// Tells what is to be told. Returns how many agents there are.
    fn tell(&self) -> usize {
        let mut told = lock(&self.told);
        let changes = std::mem::take(&mut *lock(&self.pending));
        if !changes.is_empty() {
            let message = wire::encode(&ToAgent::CatalogChanged(changes));
            if told.everything.is_some() {
                told.since_bytes += message.len();
                told.since.push(message.clone());
            }
            // The last agent may have left.
            drop(self.messages.send(message));
        }
        self.messages.receiver_count()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use cos_model::catalog::CatalogNode;
    use cos_platform::{Fate, Tasks};
    use proptest::prelude::*;

    use super::*;

    /// What one step of the script below does.
    #[derive(Clone, Copy, Debug)]
    enum Step {
        Change,
        Tell,
        Join,
        Reset,
    }

    fn node(number: u64) -> CatalogNode {
        CatalogNode {
            name: format!("node-{number}").as_str().into(),
            id: String::new(),
            address: "127.0.0.1".to_owned(),
            tagged_addresses: BTreeMap::new(),
            // So long that a few of them are worth a new full message.
            meta: [("filler".to_owned(), "x".repeat(30_000))].into(),
            create_index: 0,
            modify_index: 0,
        }
    }

    fn hear(copy: &mut Catalog, message: &Bytes) {
        match wire::decode(message).unwrap() {
            ToAgent::CatalogAll(all) => *copy = *all,
            ToAgent::CatalogChanged(changes) => {
                let known = copy.index();
                for (index, change) in changes.into_iter().filter(|(at, _)| *at > known) {
                    copy.apply(index, &change).unwrap();
                }
            }
            other => panic!("{other:?}"),
        }
    }

    proptest! {
        #[test]
        fn whoever_joins_whenever_has_the_same_catalog_in_the_end(
            steps in prop::collection::vec(
                prop_oneof![
                    4 => Just(Step::Change), 2 => Just(Step::Tell), 2 => Just(Step::Join),
                    1 => Just(Step::Reset),
                ],
                0..40,
            ),
        ) {
            let (feed, mut catalog) = (CatalogFeed::default(), Catalog::default());
            let mut agents: Vec<(Catalog, broadcast::Receiver<Bytes>)> = Vec::new();
            for (number, step) in (1_u64..).zip(steps) {
                match step {
                    Step::Change => {
                        let change = CatalogChange::PutNode(node(number));
                        catalog.apply(number, &change).unwrap();
                        feed.add(&[(number, Event::CatalogChanged(Arc::new(change)))]);
                    }
                    Step::Tell => {
                        feed.tell();
                    }
                    Step::Join => {
                        let (messages, more) = feed.join(|| Arc::new(catalog.clone()));
                        let mut copy = Catalog::default();
                        for message in &messages {
                            hear(&mut copy, message);
                        }
                        agents.push((copy, more));
                    }
                    // Agents are told everything anew then, which is to join again.
                    Step::Reset => {
                        feed.reset();
                        agents.clear();
                    }
                }
            }
            feed.tell();
            for (mut copy, mut more) in agents {
                while let Ok(message) = more.try_recv() {
                    hear(&mut copy, &message);
                }
                prop_assert_eq!(&copy, &catalog);
            }
        }
    }

    #[tokio::test]
    async fn what_comes_alone_is_told_at_once_and_a_storm_together() {
        const AGENTS: u32 = 1000;
        let (feed, stop) = (Arc::new(CatalogFeed::default()), CancellationToken::new());
        let mut agents: Vec<_> = (0..AGENTS).map(|_| feed.join(Arc::default).1).collect();
        let (teller, stopped, tasks) = (Arc::clone(&feed), stop.clone(), Tasks::new());
        tasks.spawn("telling", Fate::Ends, async move { teller.run(stopped).await });
        let change = |number| {
            let change = Arc::new(CatalogChange::PutNode(node(number)));
            feed.add(&[(number, Event::CatalogChanged(change))]);
        };
        let begun = tokio::time::Instant::now();
        change(1);
        agents[0].recv().await.unwrap();
        (2..=9).for_each(change);
        let message = agents[0].recv().await.unwrap();
        assert!(begun.elapsed() >= REST_PER_AGENT * AGENTS, "{:?}", begun.elapsed());
        let ToAgent::CatalogChanged(changes) = wire::decode(&message).unwrap() else { panic!() };
        assert_eq!(changes.len(), 8);
        stop.cancel();
    }
}
