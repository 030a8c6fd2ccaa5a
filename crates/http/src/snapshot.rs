//! Saving the whole state and taking a saved one back, for every dialect alike.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use base64::Engine as _;
use cos_model::RestoreId;
use cos_state::{Command, ControlPlane, Reply, RestorePart, State};
use sha2::{Digest as _, Sha256};

use crate::archive::{Archive, ArchiveError, Meta};
use crate::error::ApiError;

/// How many bytes of a state go into one entry of the log.
const PART_BYTES: usize = 4 * 1024 * 1024;

/// A state that was saved: the file, and what it says of itself.
#[derive(Clone, Debug)]
pub struct Saved {
    /// What it says of itself.
    pub meta: Meta,
    /// The file.
    pub file: Bytes,
}

/// Saves the state of this server; a fresh one unless `stale` says that what is here will do.
pub async fn save(control: &dyn ControlPlane, stale: bool) -> Result<Saved, ApiError> {
    if !stale {
        control.barrier().await?;
    }
    let (state, term) = (control.state(), control.leadership().term);
    let taken_at = Duration::from_nanos(u64::try_from(control.now().0).unwrap_or(0));
    let written = tokio::task::spawn_blocking(move || {
        let archive =
            Archive { meta: Meta::of(&state, term, taken_at), state: state.encode_snapshot() };
        Ok::<_, std::io::Error>(Saved { file: archive.write()?.into(), meta: archive.meta })
    });
    let written = written.await.map_err(|error| ApiError::internal(error.to_string()))?;
    written.map_err(|error| ApiError::internal(format!("cannot write the snapshot: {error}")))
}

/// The digest of what is in a state. Takes long, so it is computed on a thread that may block.
pub async fn content_hash(state: Arc<State>) -> Result<String, ApiError> {
    let hashed = tokio::task::spawn_blocking(move || state.content_hash());
    let hash = hashed.await.map_err(|error| ApiError::internal(error.to_string()))?;
    Ok(format!("{hash:016x}"))
}

/// The digest of a file as the header `Digest` bears it.
pub(crate) fn digest(file: &[u8]) -> String {
    base64::engine::general_purpose::STANDARD.encode(Sha256::digest(file))
}

/// Replaces the state of the whole cluster by a saved one. Returns the index at which that
/// happened. Nothing is proposed before the file was found whole and readable.
pub async fn restore(control: &dyn ControlPlane, file: Bytes) -> Result<u64, ApiError> {
    let checked = tokio::task::spawn_blocking(move || check(&file));
    let archive = checked.await.map_err(|error| ApiError::internal(error.to_string()))?;
    let archive = archive.map_err(ApiError::bad_request)?;
    let id = RestoreId::from_bits(control.new_id());
    let mut parts = archive.state.chunks(PART_BYTES).enumerate().peekable();
    while let Some((number, bytes)) = parts.next() {
        let is_last = parts.peek().is_none();
        let number = u32::try_from(number).unwrap_or(u32::MAX);
        let part = RestorePart { id, number, is_last, bytes: bytes.to_vec() };
        let committed = control.propose(Command::Restore(part)).await?;
        if let Reply::Restored { index, hash } = committed.reply {
            let hash = format!("{hash:016x}");
            tracing::info!(index, hash, id = archive.meta.id, "state restored from a saved one");
            return Ok(index);
        }
    }
    Err(ApiError::bad_request("the snapshot file holds no state"))
}

/// Reads a file, and the state in it, and gives back what can be restored.
fn check(file: &[u8]) -> Result<Archive, String> {
    let archive = Archive::read(file).map_err(|error: ArchiveError| error.to_string())?;
    let state = State::decode_snapshot(&archive.state)
        .map_err(|error| format!("the state in the snapshot file cannot be read: {error}"))?;
    let hash = format!("{:016x}", state.content_hash());
    if hash != archive.meta.state_hash {
        return Err(format!(
            "the state in the snapshot file has the hash {hash}, and the file says {}",
            archive.meta.state_hash
        ));
    }
    Ok(archive)
}
