//! Taking over a whole state from a saved snapshot.
//!
//! It comes through the log in parts, because an entry is bounded, and replaces the tables with the
//! last one; so all servers do it at the same place of the log, and none has half of it.
//!
//! # Invariants
//!
//! - Nothing changes before the whole of it was read without error.
//! - Indexes go up: what comes after is later than what was here and than what was restored.

use std::sync::Arc;

use cos_model::RestoreId;
use serde::{Deserialize, Serialize};

use super::Step;
use crate::command::{Refused, Reply, RestorePart};
use crate::event::Event;
use crate::state::State;

/// The largest state that can be restored, in bytes.
pub const RESTORE_BYTES_MAX: usize = 2 * 1024 * 1024 * 1024;

/// How far indexes jump with a restore. Agents have seen what happened after the snapshot was
/// taken, and take nothing that seems older than what they saw.
pub const RESTORE_GAP: u64 = 1 << 20;

/// The parts of a state that have come so far.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(in crate::state) struct Restoring {
    id: RestoreId,
    parts: Vec<Arc<Part>>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Part(#[serde(with = "cos_model::kv::bytes")] Vec<u8>);

impl Step<'_> {
    pub(super) fn restore(&mut self, part: &RestorePart) -> Result<Reply, Refused> {
        if part.number == 0 {
            self.state.restoring = Some(Restoring { id: part.id, parts: Vec::new() });
        }
        let restoring = self.state.restoring.as_mut();
        let restoring = restoring.filter(|restoring| {
            restoring.id == part.id && restoring.parts.len() as u64 == u64::from(part.number)
        });
        let Some(restoring) = restoring else {
            return Err(Refused::Invalid("another restore has taken the place of this one".into()));
        };
        restoring.parts.push(Arc::new(Part(part.bytes.clone())));
        let length: usize = restoring.parts.iter().map(|part| part.0.len()).sum();
        if length > RESTORE_BYTES_MAX {
            self.state.restoring = None;
            return Err(Refused::Invalid(format!(
                "the snapshot is larger than {RESTORE_BYTES_MAX} bytes"
            )));
        }
        if !part.is_last {
            return Ok(Reply::Done);
        }
        let whole =
            restoring.parts.iter().map(|part| part.0.as_slice()).collect::<Vec<_>>().concat();
        self.state.restoring = None;
        let restored = State::decode_snapshot(&whole)
            .map_err(|error| Refused::Invalid(format!("the snapshot cannot be read: {error}")))?;
        Ok(self.take_over(restored))
    }

    fn take_over(&mut self, mut restored: State) -> Reply {
        let hash = restored.content_hash();
        let log_index = self.state.index - self.state.base;
        let index = self.state.index.max(restored.index) + RESTORE_GAP;
        restored.index = index;
        restored.base = index - log_index;
        restored.floor = index;
        restored.hash = self.state.hash;
        // Who asked before the restore may ask again after it.
        restored.proposers = self.state.proposers.clone();
        // Who may belong to this cluster is not what another one's snapshot says.
        restored.trust = Arc::clone(&self.state.trust);
        restored.restoring = None;
        restored.catalog.raise(index);
        *self.state = restored;
        self.index = index;
        self.jobs.clear();
        self.deployments.clear();
        self.events = vec![Event::Restored];
        Reply::Restored { index, hash }
    }
}
