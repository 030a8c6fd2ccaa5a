//! Reading on while a file grows, is cut, is replaced by the next, or goes away.
//!
//! Each reader is one blocking thread of the runtime's pool that ends when nobody listens.

use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::{AllocFiles, CHUNK_BYTES_MAX, Chunk, FOLLOW_EVERY, FileError, Origin, Span};

/// Where a log stream begins: the number of the file and the offset in it.
pub(super) fn start_of(files: &[(u64, u64)], span: Span) -> (u64, u64) {
    let first = files.first().map_or(0, |(number, _)| *number);
    match span.origin {
        Origin::Start => {
            let mut rest = span.offset;
            for (number, size) in files {
                if rest <= *size {
                    return (*number, rest);
                }
                rest -= size;
            }
            files.last().map_or((first, 0), |(number, size)| (*number, *size))
        }
        Origin::End => {
            let mut rest = span.offset;
            for (number, size) in files.iter().rev() {
                if rest <= *size {
                    return (*number, size - rest);
                }
                rest -= size;
            }
            (first, 0)
        }
    }
}

/// Hands out one file.
pub(super) fn file(
    files: AllocFiles,
    path: String,
    mut offset: u64,
    follow: bool,
    sender: mpsc::Sender<Chunk>,
) {
    let work = async move {
        loop {
            match read_on(&files, &path, offset).await {
                Ok(data) if !data.is_empty() => {
                    offset += data.len() as u64;
                    if !give(&sender, &path, offset, data, "").await {
                        return;
                    }
                    continue;
                }
                Ok(_) if size(&files, &path).await.is_some_and(|size| size < offset) => {
                    offset = 0;
                    if !give(&sender, &path, 0, Bytes::new(), "file truncated").await {
                        return;
                    }
                    continue;
                }
                Ok(_) if follow => {}
                Ok(_) => return,
                Err(_) => {
                    give(&sender, &path, offset, Bytes::new(), "file deleted").await;
                    return;
                }
            }
            if pause(&sender).await {
                return;
            }
        }
    };
    spawn(work);
}

/// Hands out a log over its rotated files.
pub(super) fn logs(
    files: AllocFiles,
    prefix: String,
    mut number: u64,
    mut offset: u64,
    follow: bool,
    sender: mpsc::Sender<Chunk>,
) {
    let work = async move {
        loop {
            let path = format!("alloc/logs/{prefix}{number}");
            let data = read_on(&files, &path, offset).await.unwrap_or_default();
            if !data.is_empty() {
                offset += data.len() as u64;
                if !give(&sender, &path, offset, data, "").await {
                    return;
                }
                continue;
            }
            // A newer file exists only once this one is full, so nothing more comes to this one;
            // what was written between the read and this look is read first.
            if let Some(next) = next_file(&files, &prefix, number).await {
                if size(&files, &path).await.is_none_or(|size| size <= offset) {
                    (number, offset) = (next, 0);
                }
                continue;
            }
            if !follow || pause(&sender).await {
                return;
            }
        }
    };
    spawn(work);
}

#[expect(
    clippy::disallowed_methods,
    reason = "a reader ends with its listener, not with the agent"
)]
fn spawn(work: impl Future<Output = ()> + Send + 'static) {
    drop(tokio::spawn(work));
}

async fn read_on(files: &AllocFiles, path: &str, offset: u64) -> Result<Bytes, FileError> {
    let (files, path) = (files.clone(), path.to_owned());
    let limit = CHUNK_BYTES_MAX as u64;
    blocking(move || files.read(&path, offset, limit).map(Bytes::from)).await
}

async fn size(files: &AllocFiles, path: &str) -> Option<u64> {
    let (files, path) = (files.clone(), path.to_owned());
    blocking(move || files.stat(&path)).await.ok().map(|info| info.size)
}

async fn next_file(files: &AllocFiles, prefix: &str, number: u64) -> Option<u64> {
    let (files, prefix) = (files.clone(), prefix.to_owned());
    let list = blocking(move || files.log_files(&prefix)).await.ok()?;
    list.into_iter().map(|(next, _)| next).find(|next| *next > number)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, FileError> + Send + 'static,
) -> Result<T, FileError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(FileError::Failed { path: String::new(), why: error.to_string() }),
    }
}

async fn give(
    sender: &mpsc::Sender<Chunk>,
    file: &str,
    offset: u64,
    data: Bytes,
    event: &'static str,
) -> bool {
    sender.send(Chunk { file: file.to_owned(), offset, data, event }).await.is_ok()
}

/// Waits a moment. Returns whether the listener has gone.
async fn pause(sender: &mpsc::Sender<Chunk>) -> bool {
    let moment: Duration = FOLLOW_EVERY;
    // Either arm may be cancelled: nothing is taken.
    tokio::select! {
        () = sender.closed() => true,
        () = tokio::time::sleep(moment) => false,
    }
}
