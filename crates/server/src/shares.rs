//! One answer for all who ask at the same time.
//!
//! # Invariants
//!
//! - **No old answers.** An answer is shared with those only who asked before it was sought.
//! - At most one is sought at a time; who asks meanwhile shares the next one.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Mutex;

/// Answers that are sought one after the other and shared.
#[derive(Debug, Default)]
pub(crate) struct Shares<T> {
    /// How often seeking has begun.
    begun: AtomicU64,
    last: Mutex<Last<T>>,
}

/// The answer that was found last.
#[derive(Debug, Default)]
struct Last<T> {
    /// Which of the searches found it.
    number: u64,
    answer: T,
}

impl<T: Clone> Shares<T> {
    /// Seeks an answer, or waits for one that somebody else began to seek after this call. Dropping
    /// the wait loses nothing for the others.
    pub(crate) async fn share<F: Future<Output = T>>(&self, seek: impl FnOnce() -> F) -> T {
        let next = self.begun.load(Ordering::Acquire) + 1;
        let mut last = self.last.lock().await;
        if last.number >= next {
            return last.answer.clone();
        }
        let number = self.begun.fetch_add(1, Ordering::AcqRel) + 1;
        let answer = seek().await;
        *last = Last { number, answer: answer.clone() };
        answer
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use tokio::sync::Semaphore;

    use super::*;

    #[tokio::test]
    async fn those_who_ask_together_share_an_answer_that_was_sought_after_they_asked() {
        let (shares, sought, gate) = (Shares::default(), AtomicUsize::new(0), Semaphore::new(0));
        let seek = async || {
            let number = sought.fetch_add(1, Ordering::Relaxed) + 1;
            gate.acquire().await.unwrap().forget();
            number
        };
        let first = shares.share(&seek);
        let later = async {
            // The first is under way by now, and began too early for these.
            let (one, other) = tokio::join!(shares.share(&seek), shares.share(&seek));
            (one, other)
        };
        let open = async { gate.add_permits(2) };
        let (first, later, ()) = tokio::join!(first, later, open);
        assert_eq!((first, later), (1, (2, 2)));
    }

    #[tokio::test]
    async fn who_gives_up_leaves_the_search_to_the_next() {
        let shares: Shares<u32> = Shares::default();
        let mut given_up = Box::pin(shares.share(std::future::pending));
        assert!(futures_util::poll!(&mut given_up).is_pending());
        let mut next = Box::pin(shares.share(|| std::future::ready(7)));
        assert!(futures_util::poll!(&mut next).is_pending());
        drop(given_up);
        assert_eq!(next.await, 7);
    }
}
