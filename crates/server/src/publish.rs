//! The state as this server last applied it, for everybody who reads, waits or follows.
//!
//! # Invariants
//!
//! - A reader that was woken sees a state at least as new as what woke it.
//! - Who follows the events misses none, or is told that it missed some and starts over.
//! - A change costs those whom it concerns: readers wait by topic, agents are fed by node.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use cos_model::NodeId;
use cos_model::catalog::Catalog;
use cos_state::{Event, State, Topic};
use futures_util::future::select_all;
use tokio::sync::{broadcast, watch};
use tokio_util::sync::CancellationToken;

use crate::catalog_feed::CatalogFeed;
use crate::feeds::{Feeds, Reader};
use crate::waiters::Waiters;

/// How many batches a slow follower may lag behind before it starts over.
const BATCHES_MAX: usize = 1024;

/// What one round of applying made happen.
#[derive(Debug)]
pub(crate) struct Batch {
    /// The index after it.
    pub(crate) index: u64,
    /// What happened, each with its index, in order.
    pub(crate) events: Vec<(u64, Event)>,
    /// Whether the state was replaced whole, so that followers start over.
    pub(crate) is_reset: bool,
}

impl Batch {
    /// Makes a batch of events.
    pub(crate) fn new(index: u64, events: Vec<(u64, Event)>) -> Self {
        Self { index, events, is_reset: false }
    }

    /// Makes a batch that says "start over".
    pub(crate) fn reset(index: u64) -> Self {
        Self { index, events: Vec::new(), is_reset: true }
    }
}

/// A follower's end of the events.
pub(crate) type Events = broadcast::Receiver<Arc<Batch>>;

/// The published state of one server.
#[derive(Debug)]
pub(crate) struct Published {
    state: ArcSwap<State>,
    index: watch::Sender<u64>,
    catalog: watch::Sender<Arc<Catalog>>,
    batches: broadcast::Sender<Arc<Batch>>,
    /// The catalog on its way to agents.
    catalog_feed: CatalogFeed,
    feeds: Feeds,
    waiters: Waiters,
}

impl Published {
    /// Publishes an empty state.
    pub(crate) fn new() -> Self {
        Self {
            state: ArcSwap::from_pointee(State::default()),
            index: watch::Sender::new(0),
            catalog: watch::Sender::new(Arc::default()),
            batches: broadcast::Sender::new(BATCHES_MAX),
            catalog_feed: CatalogFeed::default(),
            feeds: Feeds::default(),
            waiters: Waiters::default(),
        }
    }

    /// The newest state.
    pub(crate) fn state(&self) -> Arc<State> {
        self.state.load_full()
    }

    /// Makes a state the newest and tells everybody what happened.
    pub(crate) fn publish(&self, state: State, batch: Batch) {
        let index = state.index();
        self.catalog.send_if_modified(|known| {
            let is_new = known.index() != state.catalog().index();
            if is_new {
                *known = Arc::new(state.catalog().clone());
            }
            is_new
        });
        self.state.store(Arc::new(state));
        self.index.send_replace(index);
        if batch.is_reset {
            self.catalog_feed.reset();
            self.feeds.reset();
            self.waiters.call_all();
        } else {
            self.feeds.add(batch.index, &batch.events);
            self.waiters.call(&batch.events);
            self.catalog_feed.add(&batch.events);
        }
        // Nobody may be following.
        drop(self.batches.send(Arc::new(batch)));
    }

    /// Follows the events from now on. Take a state after this call and skip what it contains.
    pub(crate) fn follow(&self) -> Events {
        self.batches.subscribe()
    }

    /// What an agent is sent of the catalog, and where it hears of changes from now on.
    pub(crate) fn join_catalog(&self) -> (Vec<Bytes>, broadcast::Receiver<Bytes>) {
        self.catalog_feed.join(|| Arc::clone(&self.catalog.borrow()))
    }

    /// Tells agents of the catalog's changes until the server stops.
    pub(crate) async fn tell_catalog(&self, stop: CancellationToken) {
        self.catalog_feed.run(stop).await;
    }

    /// Opens the feed of a node's agent. Take a state after this call and skip what it contains.
    pub(crate) fn feed(&self, node: NodeId) -> Reader<'_> {
        self.feeds.open(node)
    }

    /// A watch on the newest catalog.
    pub(crate) fn catalog(&self) -> watch::Receiver<Arc<Catalog>> {
        self.catalog.subscribe()
    }

    /// A watch on the index of the newest state.
    pub(crate) fn index(&self) -> watch::Receiver<u64> {
        self.index.subscribe()
    }

    /// Returns once anything in one of the topics changed after `index`, or `wait` passed.
    pub(crate) async fn changed(&self, topics: &[Topic], index: u64, wait: Duration) {
        let seat = self.waiters.enter(topics);
        let wait_for_change = async {
            loop {
                let calls = seat.calls();
                let state = self.state();
                if calls.is_empty() || topics.iter().any(|topic| state.topic_index(topic) > index) {
                    return;
                }
                drop(state);
                select_all(calls).await;
            }
        };
        // Dropping the wait loses nothing: the caller reads the state anew either way.
        drop(tokio::time::timeout(wait, wait_for_change).await);
    }
}

#[cfg(test)]
mod tests {
    use cos_model::kv::KvOp;
    use cos_state::Command;

    use super::*;
    use crate::testing::World;

    const LONG: Duration = Duration::from_secs(20);
    const PATIENCE: Duration = Duration::from_millis(200);

    fn set(published: &Published, world: &mut World, key: &str) {
        let op = KvOp::Set { key: key.to_owned(), value: Vec::new(), flags: 0 };
        world.apply(Command::Kv { ops: vec![op] });
        let index = world.state.index();
        let events = vec![(index, Event::KvChanged(key.into()))];
        published.publish(world.state.clone(), Batch::new(index, events));
    }

    #[tokio::test]
    async fn a_wait_ends_with_a_change_of_its_topic_and_no_other() {
        let (published, mut world) = (Published::new(), World::new());
        set(&published, &mut world, "a/1");
        let topics = [Topic::Kv("a/".into()), Topic::Jobs];
        let wait = |index| {
            let change = published.changed(&topics, index, LONG);
            tokio::time::timeout(PATIENCE, change)
        };
        // What changed before the wait ends it at once.
        wait(0).await.unwrap();
        let other = async {
            set(&published, &mut world, "b/1");
            std::future::pending::<()>().await;
        };
        tokio::select! {
            done = wait(1) => assert!(done.is_err(), "another key ended the wait"),
            () = other => {}
        }
        let own = async { set(&published, &mut world, "a/2") };
        let (done, ()) = tokio::join!(wait(2), own);
        done.unwrap();
    }
}
