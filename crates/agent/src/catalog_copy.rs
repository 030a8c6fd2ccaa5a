//! The copy of the catalog on disk, so that an agent that starts while no server answers has names
//! to tell and routes to serve.
//!
//! # Invariants
//!
//! - A copy that is torn, damaged or of another form is no copy: the agent then begins with none.
//! - It is written when the servers are lost, and else at most every [`WRITE_EVERY`]; nobody waits
//!   for it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cos_model::catalog::Catalog;
use sha2::{Digest, Sha256};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// The shortest time between two writes.
const WRITE_EVERY: Duration = Duration::from_secs(5);

/// What a file begins with: the form's name and version.
const MAGIC: &[u8; 8] = b"coscat\x00\x01";

/// How long the sum after that is.
const SUM_BYTES: usize = 32;

/// How large a copy may be to be read.
const BYTES_MAX: u64 = 1024 * 1024 * 1024;

/// Reads the copy, if there is a whole one.
pub(crate) fn read(path: &Path) -> Option<Catalog> {
    if std::fs::metadata(path).ok()?.len() > BYTES_MAX {
        return None;
    }
    let bytes = std::fs::read(path).ok()?;
    let catalog = decode(&bytes);
    if catalog.is_none() {
        tracing::warn!(path = %path.display(), "the copy of the catalog is damaged and not used");
    }
    catalog
}

/// Writes what changes until the agent stops, and once more then.
pub(crate) async fn keep(
    path: PathBuf,
    mut catalog: watch::Receiver<Arc<Catalog>>,
    mut connected: watch::Receiver<bool>,
    stop: CancellationToken,
) {
    catalog.mark_unchanged();
    connected.mark_unchanged();
    loop {
        // Both arms wait for a level.
        let is_over = tokio::select! {
            () = stop.cancelled() => true,
            changed = catalog.changed() => changed.is_err(),
        };
        let current = Arc::clone(&catalog.borrow_and_update());
        // Nothing that was never heard of a server is worth keeping.
        if current.index() > 0 {
            let path = path.clone();
            let written = tokio::task::spawn_blocking(move || write(&path, &current)).await;
            if let Ok(Err(error)) = written {
                tracing::warn!(%error, "the copy of the catalog cannot be written");
            }
        }
        if is_over {
            return;
        }
        // Every arm waits for a level or the clock.
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(WRITE_EVERY) => {}
            _ = connected.changed() => {}
        }
    }
}

/// Replaces the file whole. It is not synced: a copy that is lost is fetched again.
fn write(path: &Path, catalog: &Catalog) -> io::Result<()> {
    let fresh = path.with_extension("new");
    std::fs::write(&fresh, encode(catalog))?;
    std::fs::rename(&fresh, path)
}

fn encode(catalog: &Catalog) -> Vec<u8> {
    let body = rmp_serde::to_vec_named(catalog)
        .expect("plain data with text keys always has a MessagePack form");
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&Sha256::digest(&body));
    bytes.extend_from_slice(&body);
    bytes
}

fn decode(bytes: &[u8]) -> Option<Catalog> {
    let (sum, body) = bytes.strip_prefix(MAGIC)?.split_first_chunk::<SUM_BYTES>()?;
    if Sha256::digest(body).as_slice() != sum {
        return None;
    }
    rmp_serde::from_slice(body).ok()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use cos_model::catalog::{CatalogChange, CatalogNode};

    use super::*;

    fn catalog() -> Catalog {
        let mut catalog = Catalog::default();
        let node = CatalogNode {
            name: Arc::from("n"),
            id: String::new(),
            address: "10.0.0.1".to_owned(),
            tagged_addresses: BTreeMap::new(),
            meta: BTreeMap::new(),
            create_index: 0,
            modify_index: 0,
        };
        catalog.apply(7, &CatalogChange::PutNode(node)).unwrap();
        catalog
    }

    #[test]
    fn what_was_written_is_read_and_what_is_damaged_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("catalog");
        assert_eq!(read(&path), None);
        write(&path, &catalog()).unwrap();
        assert_eq!(read(&path), Some(catalog()));
        let whole = std::fs::read(&path).unwrap();
        for length in 0..whole.len() {
            assert_eq!(decode(&whole[..length]), None, "cut at {length}");
        }
        for at in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[at] ^= 0x10;
            assert_eq!(decode(&flipped), None, "flipped at {at}");
        }
    }

    #[tokio::test]
    async fn a_change_is_on_disk_when_the_agent_has_stopped() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("catalog");
        let (sender, receiver) = watch::channel(Arc::default());
        let stop = CancellationToken::new();
        sender.send_replace(Arc::new(catalog()));
        let (_connected, follow) = watch::channel(true);
        let keeping = keep(path.clone(), receiver, follow, stop.clone());
        stop.cancel();
        keeping.await;
        assert_eq!(read(&path), Some(catalog()));
    }
}
