//! What happened for one node and was not told to its agent yet, so that an agent's stream wakes
//! for its own news only.
//!
//! # Invariants
//!
//! - From [`Feeds::open`] on, every event of the node is in its feed, or the feed says that it
//!   missed some.
//! - A batch is taken whole: who has been told up to its index has been told all of it.
//! - A feed that nobody takes from stays bounded.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cos_model::NodeId;
use cos_state::Event;
use tokio::sync::Notify;

/// How many events may wait in a feed until it is given up for telling everything.
const EVENTS_MAX: usize = 4096;

/// The open feeds of one server.
#[derive(Debug, Default)]
pub(crate) struct Feeds {
    /// A node has several for as long as a stream that broke is not cleaned up.
    open: Mutex<BTreeMap<NodeId, Vec<Arc<Feed>>>>,
}

/// One agent's feed.
#[derive(Debug, Default)]
struct Feed {
    news: Mutex<News>,
    more: Notify,
}

/// What came into a feed.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct News {
    /// The index after the newest batch in it; zero if it is empty.
    pub(crate) index: u64,
    /// What happened, each with its index, in order.
    pub(crate) events: Vec<(u64, Event)>,
    /// Whether some was missed, so that everything has to be told again.
    pub(crate) has_gap: bool,
}

/// The reader's end of a feed. Closes it when dropped.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    feeds: &'a Feeds,
    node: NodeId,
    feed: Arc<Feed>,
}

impl Feeds {
    /// Opens a feed. Take a state after this call and skip what it contains.
    pub(crate) fn open(&self, node: NodeId) -> Reader<'_> {
        let feed = Arc::new(Feed::default());
        lock(&self.open).entry(node).or_default().push(Arc::clone(&feed));
        Reader { feeds: self, node, feed }
    }

    /// Hands out what happened in a batch; `index` is that after it.
    pub(crate) fn add(&self, index: u64, events: &[(u64, Event)]) {
        let open = lock(&self.open);
        if open.is_empty() {
            return;
        }
        let mut by_node: BTreeMap<NodeId, Vec<&(u64, Event)>> = BTreeMap::new();
        for event in events {
            if let Some(node) = node_of(&event.1).filter(|node| open.contains_key(node)) {
                by_node.entry(node).or_default().push(event);
            }
        }
        for (node, events) in by_node {
            open.get(&node).into_iter().flatten().for_each(|feed| feed.add(index, &events));
        }
    }

    /// Has everything told again.
    pub(crate) fn reset(&self) {
        for feed in lock(&self.open).values().flatten() {
            lock(&feed.news).skip();
            feed.more.notify_one();
        }
    }
}

impl Feed {
    fn add(&self, index: u64, events: &[&(u64, Event)]) {
        let mut news = lock(&self.news);
        news.index = index;
        if news.events.len() + events.len() > EVENTS_MAX {
            news.skip();
        } else if !news.has_gap {
            news.events.extend(events.iter().map(|event| (*event).clone()));
        }
        drop(news);
        self.more.notify_one();
    }
}

impl News {
    fn skip(&mut self) {
        self.events.clear();
        self.has_gap = true;
    }
}

impl Reader<'_> {
    /// Waits for news and takes them. Dropping the wait loses nothing.
    pub(crate) async fn next(&self) -> News {
        loop {
            let news = std::mem::take(&mut *lock(&self.feed.news));
            if news != News::default() {
                return news;
            }
            self.feed.more.notified().await;
        }
    }
}

impl Drop for Reader<'_> {
    fn drop(&mut self) {
        let mut open = lock(&self.feeds.open);
        if let Some(feeds) = open.get_mut(&self.node) {
            feeds.retain(|feed| !Arc::ptr_eq(feed, &self.feed));
            if feeds.is_empty() {
                open.remove(&self.node);
            }
        }
    }
}

/// The node whose agent has to know.
fn node_of(event: &Event) -> Option<NodeId> {
    match event {
        Event::AllocPlanned(alloc) => Some(alloc.node_id),
        Event::AllocRemoved { node, .. } => Some(*node),
        _ => None,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use cos_model::AllocId;

    use super::*;

    fn removed(alloc: u128, node: u128) -> Event {
        Event::AllocRemoved { id: AllocId::from_bits(alloc), node: NodeId::from_bits(node) }
    }

    #[tokio::test]
    async fn a_node_is_fed_its_own_news_in_order_and_once() {
        let feeds = Feeds::default();
        let (own, twin) = (feeds.open(NodeId::from_bits(1)), feeds.open(NodeId::from_bits(1)));
        let other = feeds.open(NodeId::from_bits(2));
        feeds.add(7, &[(6, removed(1, 1)), (6, removed(2, 2)), (7, removed(3, 1))]);
        feeds.add(8, &[(8, Event::SchedulerConfigChanged), (8, removed(4, 1))]);
        let events = vec![(6, removed(1, 1)), (7, removed(3, 1)), (8, removed(4, 1))];
        let expected = News { index: 8, events, has_gap: false };
        assert_eq!(own.next().await, expected);
        assert_eq!(twin.next().await, expected);
        let of_other = News { index: 7, events: vec![(6, removed(2, 2))], has_gap: false };
        assert_eq!(other.next().await, of_other);
        assert!(futures_util::FutureExt::now_or_never(own.next()).is_none());
        drop(own);
        feeds.add(9, &[(9, removed(5, 1))]);
        assert_eq!(twin.next().await.index, 9);
        drop((twin, other));
        assert!(lock(&feeds.open).is_empty());
    }

    #[tokio::test]
    async fn a_feed_that_grows_too_long_tells_of_a_gap_and_begins_anew() {
        let feeds = Feeds::default();
        let reader = feeds.open(NodeId::from_bits(1));
        for index in 1..=EVENTS_MAX as u64 + 2 {
            feeds.add(index, &[(index, removed(u128::from(index), 1))]);
        }
        let news = reader.next().await;
        assert!(news.has_gap && news.events.is_empty());
        feeds.add(9000, &[(9000, removed(1, 1))]);
        assert_eq!(reader.next().await.events.len(), 1);
        feeds.reset();
        assert!(reader.next().await.has_gap);
    }
}
