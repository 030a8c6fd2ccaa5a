//! Streams of the agent as streams of the API.

use bytes::Bytes;
use cos_agent::{Chunk, FileError};
use cos_drivers::{ExecInput as DriverInput, ExecOutput as DriverOutput, ExecSession};
use cos_http::local::{
    ExecInput, ExecInputs, ExecOutput, ExecOutputs, FileEvent, Frame, FrameStream, LocalError,
};
use cos_platform::{Fate, Tasks};
use futures_util::StreamExt;
use futures_util::stream::unfold;
use tokio::sync::mpsc;

/// Pieces of a file.
pub(super) fn frames(chunks: mpsc::Receiver<Chunk>) -> FrameStream {
    unfold(chunks, |mut chunks| async move {
        let chunk = chunks.recv().await?;
        let event = match chunk.event {
            "file truncated" => Some(FileEvent::Truncated),
            "file deleted" => Some(FileEvent::Deleted),
            _ => None,
        };
        let frame = Frame { file: chunk.file, offset: chunk.offset, data: chunk.data, event };
        Some((Ok(frame), chunks))
    })
    .boxed()
}

/// A running command: inputs are passed on by a task that ends with the command.
pub(super) fn exec(session: ExecSession, mut inputs: ExecInputs, tasks: &Tasks) -> ExecOutputs {
    let ExecSession { input, output } = session;
    tasks.spawn("exec input", Fate::Ends, async move {
        while let Some(next) = inputs.next().await {
            let next = match next {
                ExecInput::Stdin(bytes) => DriverInput::Stdin(bytes),
                ExecInput::StdinClosed => DriverInput::CloseStdin,
                ExecInput::Resize { height, width } => DriverInput::Resize { width, height },
            };
            if !input.send(next).await {
                return;
            }
        }
    });
    unfold(Some(output), |output| async move {
        let mut output = output?;
        let next = output.next().await?;
        Some(match next {
            DriverOutput::Stdout(bytes) => (Ok(ExecOutput::Stdout(bytes)), Some(output)),
            DriverOutput::Stderr(bytes) => (Ok(ExecOutput::Stderr(bytes)), Some(output)),
            DriverOutput::Exit(code) => (Ok(ExecOutput::Exited(code)), None),
            DriverOutput::Failed(why) => (Err(LocalError::Failed(why)), None),
        })
    })
    .boxed()
}

/// A file's problem in the words of the API.
#[expect(clippy::needless_pass_by_value, reason = "passed to map_err by name")]
pub(super) fn file_error(error: FileError) -> LocalError {
    match error {
        FileError::NotFound(_) => LocalError::NotFound(error.to_string()),
        FileError::IsDirectory(_) | FileError::NotDirectory(_) => {
            LocalError::Invalid(error.to_string())
        }
        FileError::Failed { .. } => LocalError::Failed(error.to_string()),
    }
}

/// A mode as `ls` writes it.
pub(super) fn mode_text(mode: u32) -> String {
    let kind = match mode & 0o170_000 {
        0o040_000 => 'd',
        0o120_000 => 'L',
        0o010_000 => 'p',
        _ => '-',
    };
    let bits = "rwxrwxrwx".chars().enumerate();
    let shown = bits.map(|(at, letter)| if mode & (0o400 >> at) == 0 { '-' } else { letter });
    std::iter::once(kind).chain(shown).collect()
}

/// What bytes at the beginning of a file seem to be.
pub(super) fn content_type(beginning: &Bytes) -> String {
    let is_text = !beginning.contains(&0)
        && match std::str::from_utf8(beginning) {
            Ok(_) => true,
            // The cut may have split the last character.
            Err(error) => error.error_len().is_none(),
        };
    if is_text { "text/plain; charset=utf-8" } else { "application/octet-stream" }.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_and_types_are_written_as_clients_expect() {
        assert_eq!(mode_text(0o100_644), "-rw-r--r--");
        assert_eq!(mode_text(0o040_777), "drwxrwxrwx");
        assert_eq!(content_type(&Bytes::from_static(b"text")), "text/plain; charset=utf-8");
        assert_eq!(content_type(&Bytes::from_static(b"\x7fELF\0")), "application/octet-stream");
    }
}
