//! Supervised tasks: each has a name and a fate, and all of them end together.

use std::future::Future;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// What the end of a task means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It may end at any time; nothing follows.
    Ends,
    /// It runs as long as the program; if it ends or panics before, the program stops.
    Vital,
}

/// A group of tasks that end together. Clones are handles to the same group.
#[derive(Clone, Debug, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    stop: CancellationToken,
}

impl Tasks {
    /// Makes an empty group.
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts a task. It must watch [`Tasks::stopping`] if it does not end by itself.
    #[expect(clippy::disallowed_methods, reason = "this is the seam that others take instead")]
    pub fn spawn<F>(&self, name: &'static str, fate: Fate, future: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let stop = self.stop.clone();
        // The inner task catches a panic; the outer one decides what it means.
        let inner = tokio::spawn(self.tracker.track_future(future));
        tokio::spawn(async move {
            let outcome = inner.await;
            if let Err(error) = &outcome {
                tracing::error!(task = name, %error, "task panicked");
            }
            if fate == Fate::Vital && !stop.is_cancelled() {
                tracing::error!(task = name, "vital task ended, stopping");
                stop.cancel();
            }
        });
    }

    /// Asks all tasks to end.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// A token that is cancelled when the tasks are asked to end.
    pub fn stopping(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Waits until all tasks have ended. Call [`Tasks::stop`] first.
    pub async fn ended(&self) {
        self.tracker.close();
        self.tracker.wait().await;
    }
}
