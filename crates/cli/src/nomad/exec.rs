//! `alloc exec`: a command in a task, over a WebSocket, with the terminal passed through.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use crossterm::{terminal, tty::IsTty};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use tokio_tungstenite::tungstenite::Message;

use super::find::{self, ALLOCATION};
use crate::client::escape;
use crate::command::{Context, Failure, Running};
use crate::output::text;

/// Something went wrong before or beside the command.
const CODE_FAILED: u8 = 1;

pub(super) fn run(context: Context) -> Running {
    Box::pin(async move {
        let mut arguments = context.flags.arguments.clone();
        let id = match context.flags.value("job") {
            Some(job) => find::alloc_of_job(&context.client, job).await?,
            None if arguments.is_empty() => {
                return Err(Failure::Usage("An allocation ID is required".to_owned()));
            }
            None => arguments.remove(0),
        };
        if arguments.is_empty() {
            return Err(Failure::Usage("A command is required".to_owned()));
        }
        let alloc = find::by_prefix(&context.client, ALLOCATION, &id).await?;
        let task = find::task(&alloc, context.flags.value("task"))?;
        let is_on = |name: &str, default: bool| match context.flags.value(name) {
            None => default,
            Some(value) => !matches!(value, "false" | "0"),
        };
        let pass_input = is_on("i", true);
        let is_terminal = std::io::stdin().is_tty() && std::io::stdout().is_tty();
        let tty = is_on("t", is_terminal);
        let command = serde_json::to_string(&arguments).unwrap_or_default();
        let path = format!(
            "/v1/client/allocation/{}/exec?task={}&tty={tty}&ws_handshake=true&command={}",
            text(&alloc, "ID"),
            escape(&task),
            escape(&command)
        );
        let url = context.client.url(&path).replacen("http", "ws", 1);
        let raw = Raw::enter(tty && is_terminal);
        let outcome = talk(&url, pass_input, tty).await;
        drop(raw);
        outcome
    })
}

/// Puts the terminal into raw mode and back when dropped.
struct Raw(bool);

impl Raw {
    fn enter(wanted: bool) -> Self {
        Self(wanted && terminal::enable_raw_mode().is_ok())
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        if self.0 {
            // There is nothing left to do if the terminal is gone.
            terminal::disable_raw_mode().ok();
        }
    }
}

async fn talk(url: &str, pass_input: bool, tty: bool) -> Result<u8, Failure> {
    let (socket, _) = tokio_tungstenite::connect_async(url)
        .await
        .map_err(|error| Failure::new(format!("failed to exec into task: {}", refused(&error))))?;
    let (mut send, mut receive) = socket.split();
    let lost = |error| Failure::new(format!("connection lost: {error}"));
    // The handshake: an empty first message carries the token, of which there is none.
    send.send(Message::text(json!({ "version": 1 }).to_string())).await.map_err(lost)?;
    if tty && let Ok((width, height)) = terminal::size() {
        let size = json!({ "tty_size": { "height": height, "width": width } });
        send.send(Message::text(size.to_string())).await.map_err(lost)?;
    }
    let mut input = tokio::io::stdin();
    let mut buffer = vec![0; 4096];
    let mut open = pass_input;
    if !open {
        send.send(closing()).await.map_err(lost)?;
    }
    loop {
        tokio::select! {
            // Both arms may be dropped: a read of nothing loses nothing, a frame stays queued.
            read = input.read(&mut buffer), if open => {
                let count = read.unwrap_or(0);
                let message = if count == 0 {
                    open = false;
                    closing()
                } else {
                    let data = STANDARD.encode(&buffer[..count]);
                    Message::text(json!({ "stdin": { "data": data } }).to_string())
                };
                send.send(message).await.map_err(lost)?;
            }
            frame = receive.next() => match frame {
                Some(Ok(Message::Text(text))) => {
                    if let Some(code) = show(&text)? {
                        return Ok(code);
                    }
                }
                Some(Ok(Message::Close(frame))) => {
                    let reason = frame.map_or_else(String::new, |frame| frame.reason.to_string());
                    return if reason.is_empty() { Ok(0) } else { Err(Failure::new(reason)) };
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(lost(error)),
                None => return Ok(CODE_FAILED),
            },
        }
    }
}

fn closing() -> Message {
    Message::text(json!({ "stdin": { "close": true } }).to_string())
}

/// Prints a frame's output. Returns the exit code when the command has ended.
fn show(text: &str) -> Result<Option<u8>, Failure> {
    use std::io::Write;
    let frame: Value = serde_json::from_str(text)
        .map_err(|error| Failure::new(format!("the answer is not JSON: {error}")))?;
    for (name, is_error) in [("stdout", false), ("stderr", true)] {
        let Some(data) = frame.get(name).and_then(|part| part.get("data")?.as_str()) else {
            continue;
        };
        let bytes = STANDARD
            .decode(data)
            .map_err(|error| Failure::new(format!("the answer is not base64: {error}")))?;
        let written = if is_error {
            std::io::stderr().write_all(&bytes)
        } else {
            let mut out = std::io::stdout().lock();
            out.write_all(&bytes).and_then(|()| out.flush())
        };
        if written.is_err() {
            return Ok(Some(CODE_FAILED));
        }
    }
    if frame.get("exited").and_then(Value::as_bool) == Some(true) {
        let code =
            frame.get("result").map_or(0, |result| crate::output::number(result, "exit_code"));
        return Ok(Some(u8::try_from(code).unwrap_or(CODE_FAILED)));
    }
    Ok(None)
}

/// What the agent said instead of opening the socket.
fn refused(error: &tokio_tungstenite::tungstenite::Error) -> String {
    use tokio_tungstenite::tungstenite::Error;
    match error {
        Error::Http(response) => {
            let body = response
                .body()
                .as_ref()
                .map_or_else(String::new, |body| String::from_utf8_lossy(body).into_owned());
            format!("{} ({})", response.status(), body.trim())
        }
        other => other.to_string(),
    }
}
