//! The state machine as consensus drives it: entries in, replies out, the result published.
//!
//! # Invariants
//!
//! - Applied and published are one step: when a proposer has its reply, every reader sees it.
//! - What a newer version wrote is not applied by halves: this server stops before it.

use std::sync::Arc;

use bytes::Bytes;
use cos_platform::Clock;
use cos_raft::StateMachine;
use cos_state::{DecodeError, Event, Refused, State, decode_request};

use crate::publish::{Batch, Published};
use crate::wire::{self, Answer};

/// The replicated state of one server.
#[derive(Debug)]
pub(crate) struct Machine {
    state: State,
    published: Arc<Published>,
    clock: Arc<dyn Clock>,
}

impl Machine {
    /// Starts empty; consensus restores and replays.
    pub(crate) fn new(published: Arc<Published>, clock: Arc<dyn Clock>) -> Self {
        Self { state: State::default(), published, clock }
    }
}

impl StateMachine for Machine {
    fn apply(&mut self, entries: Vec<(u64, Bytes)>) -> Vec<Bytes> {
        let started = self.clock.monotonic();
        let mut events = Vec::new();
        let mut replies = Vec::with_capacity(entries.len());
        for (index, entry) in entries {
            let answer = match decode_request(&entry) {
                Ok(request) => {
                    let applied = self.state.apply(index, &request);
                    let at = self.state.index();
                    events.extend(applied.events.into_iter().map(|event| (at, event)));
                    Answer { index: applied.index, reply: applied.reply }
                }
                // Servers that know it apply it, so going on without it would be another state.
                // Fewer replies than entries end consensus, and with it the server.
                Err(error @ DecodeError::Newer(_)) => {
                    tracing::error!(index, %error, "an entry of the log cannot be applied");
                    break;
                }
                // Every server reads the same bytes with the same answer, so they stay equal.
                Err(error) => {
                    let reply = Err(Refused::Invalid(format!("unreadable request: {error}")));
                    Answer { index, reply }
                }
            };
            replies.push(wire::encode(&answer));
        }
        let is_replaced = events.iter().any(|(_, event)| matches!(event, Event::Restored));
        let batch = if is_replaced {
            Batch::reset(self.state.index())
        } else {
            Batch::new(self.state.index(), events)
        };
        self.published.publish(self.state.clone(), batch);
        let took = self.clock.monotonic().saturating_sub(started);
        metrics::histogram!(crate::metrics::FSM_APPLY).record(took.as_secs_f64());
        replies
    }

    fn snapshot(&self) -> Box<dyn FnOnce() -> Vec<u8> + Send> {
        let state = self.state.clone();
        Box::new(move || state.encode_snapshot())
    }

    fn restore(&mut self, index: u64, bytes: &[u8]) -> Result<(), String> {
        self.state = State::decode_snapshot(bytes).map_err(|error| error.to_string())?;
        tracing::info!(index, state_index = self.state.index(), "state restored from snapshot");
        self.published.publish(self.state.clone(), Batch::reset(self.state.index()));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use cos_model::Timestamp;
    use cos_model::kv::KvOp;
    use cos_platform::SystemClock;
    use cos_state::{Command, Request, encode_request};

    use super::*;

    #[test]
    fn what_a_newer_version_wrote_stops_the_server_before_it() {
        let published = Arc::new(Published::new());
        let mut machine = Machine::new(Arc::clone(&published), Arc::new(SystemClock::new()));
        let set = |key: &str| {
            let op = KvOp::Set { key: key.to_owned(), value: Vec::new(), flags: 0 };
            encode_request(&Request::new(Timestamp(1), Command::Kv { ops: vec![op] }))
        };
        let mut newer = set("b");
        newer[0] = cos_state::FORMAT + 1;
        let mut damaged = set("c");
        damaged.truncate(3);
        let entries = [set("a"), damaged, newer, set("d")];
        let replies = machine.apply((1..).zip(entries.map(Bytes::from)).collect());
        assert_eq!(replies.len(), 2, "the damaged one is refused by all servers alike");
        let state = published.state();
        assert!(state.kv_get("a").is_some() && state.kv_get("d").is_none());
    }
}
