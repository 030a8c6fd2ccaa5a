//! Readers that wait for something newer, found by what they wait for: a change wakes those whom it
//! may concern, and nobody else.
//!
//! # Invariants
//!
//! - **No change is missed.** Whoever looks after [`Seat::calls`] sees what was published before it,
//!   and is called for what is published after it.
//! - Nothing is kept of a topic that nobody waits for.
//!
//! # Deliberately absent
//!
//! - What changed. Who is called looks at the state anew, and may wait again.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cos_state::{Event, Topic};
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

/// All waiting readers of one server.
#[derive(Debug, Default)]
pub(crate) struct Waiters {
    rooms: Mutex<BTreeMap<Topic, Room>>,
}

/// Those who wait for one topic.
#[derive(Debug, Default)]
struct Room {
    call: Arc<Notify>,
    seats: usize,
}

/// A reader's place among the waiters of its topics.
#[derive(Debug)]
pub(crate) struct Seat<'a> {
    waiters: &'a Waiters,
    topics: &'a [Topic],
    rooms: Vec<Arc<Notify>>,
}

impl Waiters {
    /// Takes a place among those who wait for any of these topics.
    pub(crate) fn enter<'a>(&'a self, topics: &'a [Topic]) -> Seat<'a> {
        let mut rooms = self.lock();
        let enter = |topic: &Topic| {
            if !rooms.contains_key(topic) {
                rooms.insert(topic.clone(), Room::default());
            }
            let room = rooms.get_mut(topic).expect("it was just made");
            room.seats += 1;
            Arc::clone(&room.call)
        };
        let entered = topics.iter().map(enter).collect();
        drop(rooms);
        Seat { waiters: self, topics, rooms: entered }
    }

    /// Calls those whom any of these events may concern. The state that shows them is published.
    pub(crate) fn call(&self, events: &[(u64, Event)]) {
        let rooms = self.lock();
        if rooms.is_empty() {
            return;
        }
        for (_, event) in events {
            if let Event::KvChanged(key) = event {
                call_for_key(&rooms, key);
            } else {
                rooms
                    .iter()
                    .filter(|(topic, _)| event.may_change(topic))
                    .for_each(|(_, room)| room.call.notify_waiters());
            }
        }
    }

    /// Calls everybody.
    pub(crate) fn call_all(&self) {
        self.lock().values().for_each(|room| room.call.notify_waiters());
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Topic, Room>> {
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Calls those who wait for any prefix of a key. Many may wait for other keys, and are passed over
/// in long steps.
fn call_for_key(rooms: &BTreeMap<Topic, Room>, key: &str) {
    let mut most = Bound::Included(Topic::Kv(key.into()));
    loop {
        let below = (Bound::Included(Topic::Kv("".into())), most);
        let Some((Topic::Kv(prefix), room)) = rooms.range(below).next_back() else { return };
        if prefix.is_empty() {
            return room.call.notify_waiters();
        }
        most = if key.starts_with(&**prefix) {
            room.call.notify_waiters();
            Bound::Excluded(Topic::Kv(Arc::clone(prefix)))
        } else {
            // Every prefix of the key that comes before this one is a prefix of what both share.
            let alike = key.bytes().zip(prefix.bytes()).take_while(|(a, b)| a == b).count();
            let shared = (0..=alike).rev().find(|end| key.is_char_boundary(*end)).unwrap_or(0);
            Bound::Included(Topic::Kv(key[..shared].into()))
        };
    }
}

impl Seat<'_> {
    /// Begins to listen. At least one of these ends when something that concerns this reader is
    /// published from now on.
    pub(crate) fn calls(&self) -> Vec<Pin<Box<Notified<'_>>>> {
        self.rooms
            .iter()
            .map(|call| {
                let mut call = Box::pin(call.notified());
                call.as_mut().enable();
                call
            })
            .collect()
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        let mut rooms = self.waiters.lock();
        for topic in self.topics {
            if let Some(room) = rooms.get_mut(topic) {
                room.seats -= 1;
                if room.seats == 0 {
                    rooms.remove(topic);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Poll, Waker};

    use proptest::prelude::*;

    use super::*;

    fn is_called(call: &mut Pin<Box<Notified<'_>>>) -> bool {
        let mut context = Context::from_waker(Waker::noop());
        matches!(call.as_mut().poll(&mut context), Poll::Ready(()))
    }

    proptest! {
        #[test]
        fn a_key_calls_exactly_those_who_wait_for_a_prefix_of_it(
            prefixes in prop::collection::vec("[aé/]{0,4}", 0..12),
            key in "[aé/]{0,6}",
        ) {
            let waiters = Waiters::default();
            let topics: Vec<[Topic; 1]> =
                prefixes.iter().map(|prefix| [Topic::Kv(prefix.as_str().into())]).collect();
            let seats: Vec<Seat<'_>> = topics.iter().map(|topic| waiters.enter(topic)).collect();
            let mut calls: Vec<_> = seats.iter().flat_map(Seat::calls).collect();
            let jobs = [Topic::Jobs];
            let other = waiters.enter(&jobs);
            let mut uncalled = other.calls();
            waiters.call(&[(1, Event::KvChanged(key.as_str().into()))]);
            for (prefix, call) in prefixes.iter().zip(&mut calls) {
                prop_assert_eq!(is_called(call), key.starts_with(prefix.as_str()), "{}", prefix);
            }
            prop_assert!(!is_called(&mut uncalled[0]));
        }
    }

    #[test]
    fn whoever_waits_for_several_topics_is_called_for_any_and_leaves_nothing_behind() {
        let waiters = Waiters::default();
        let topics = [Topic::Jobs, Topic::SchedulerConfig];
        let seat = waiters.enter(&topics);
        let second = waiters.enter(&topics[..1]);
        let mut calls = seat.calls();
        waiters.call(&[(1, Event::SchedulerConfigChanged)]);
        assert!(!is_called(&mut calls[0]) && is_called(&mut calls[1]));
        let mut again = seat.calls();
        assert!(!is_called(&mut again[1]), "a call is for those who listened before it");
        waiters.call_all();
        assert!(again.iter_mut().all(is_called));
        drop((calls, again));
        drop(seat);
        assert_eq!(waiters.lock().keys().collect::<Vec<_>>(), [&Topic::Jobs]);
        drop(second);
        assert!(waiters.lock().is_empty());
    }
}
