//! A command in a task, over a WebSocket that carries JSON texts.

use std::sync::Arc;

use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::extract::{Path, State};
use axum::response::Response;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use cos_http::local::{ExecInput, ExecInputs, ExecOutput, ExecOutputs, ExecRequest};
use cos_http::{ApiError, Body, LocalError, LocalNode, Params};
use cos_model::AllocId;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt, stream};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::alloc_id;
use crate::context::Nomad;

/// How large one message of a client may be.
const MESSAGE_BYTES_MAX: usize = 1024 * 1024;

/// How long the reason in a close frame may be; the protocol allows 123 bytes.
const REASON_BYTES_MAX: usize = 120;

pub(super) async fn exec(
    State(nomad): State<Nomad>,
    Path(alloc): Path<String>,
    params: Params,
    upgrade: Result<WebSocketUpgrade, axum::extract::ws::rejection::WebSocketUpgradeRejection>,
) -> Result<Response, ApiError> {
    let upgrade = upgrade.map_err(|error| ApiError::bad_request(error.body_text()))?;
    let alloc = alloc_id(&alloc)?;
    let request = request(&params)?;
    let handshake = params.flag("ws_handshake")?;
    let local = Arc::clone(nomad.api.local()?);
    let stopping = nomad.api.tasks.stopping();
    Ok(upgrade.max_message_size(MESSAGE_BYTES_MAX).on_upgrade(move |socket| async move {
        let session = Session { local, alloc, request, handshake, stopping };
        session.run(socket).await;
    }))
}

fn request(params: &Params) -> Result<ExecRequest, ApiError> {
    let bad = || ApiError::bad_request("command must be a JSON list of strings");
    let command: Vec<String> =
        serde_json::from_str(params.text("command").unwrap_or("[]")).map_err(|_error| bad())?;
    if command.is_empty() {
        return Err(ApiError::bad_request("command is not present"));
    }
    let task = params.text("task").unwrap_or_default().to_owned();
    Ok(ExecRequest { task, command, tty: params.flag("tty")? })
}

struct Session {
    local: Arc<dyn LocalNode>,
    alloc: AllocId,
    request: ExecRequest,
    handshake: bool,
    stopping: CancellationToken,
}

impl Session {
    async fn run(self, mut socket: WebSocket) {
        if self.handshake && socket.recv().await.is_none() {
            return;
        }
        let (mut sink, source) = socket.split();
        let gone = self.stopping.child_token();
        let inputs = inputs(source, gone.clone());
        let outcome = match self.local.exec(self.alloc, self.request, inputs).await {
            Ok(outputs) => forward(outputs, &mut sink, &gone).await,
            Err(error) => Err(error),
        };
        let frame = match outcome {
            Ok(()) => CloseFrame { code: close_code::NORMAL, reason: "".into() },
            Err(error) => closing(&error),
        };
        // A client that has gone already does not need to be told.
        drop(sink.send(Message::Close(Some(frame))).await);
    }
}

/// What the client sends; its end, or its being gone, cancels `gone`.
fn inputs(source: SplitStream<WebSocket>, gone: CancellationToken) -> ExecInputs {
    let ended = gone.drop_guard();
    let messages = stream::unfold((source, ended), |(mut source, ended)| async move {
        match source.next().await {
            Some(Ok(Message::Close(_)) | Err(_)) | None => None,
            Some(Ok(message)) => Some((message, (source, ended))),
        }
    });
    messages
        .flat_map(|message| {
            stream::iter(match message {
                Message::Text(text) => decode(text.as_bytes()),
                Message::Binary(bytes) => decode(&bytes),
                Message::Ping(_) | Message::Pong(_) | Message::Close(_) => Vec::new(),
            })
        })
        .boxed()
}

/// Reads one message. What cannot be read is taken for a heartbeat.
fn decode(text: &[u8]) -> Vec<ExecInput> {
    let Ok(message) = Body::parse(text) else { return Vec::new() };
    let mut found = Vec::new();
    if let Ok(Some(stdin)) = message.object("stdin") {
        let data = stdin.text("data").ok().and_then(|data| STANDARD.decode(data).ok());
        if let Some(data) = data.filter(|data| !data.is_empty()) {
            found.push(ExecInput::Stdin(Bytes::from(data)));
        }
        if stdin.flag("close").unwrap_or(false) {
            found.push(ExecInput::StdinClosed);
        }
    }
    if let Ok(Some(size)) = message.object("tty_size") {
        let side = |name| size.unsigned(name).ok().flatten().and_then(|n| u16::try_from(n).ok());
        if let (Some(height), Some(width)) = (side("height"), side("width")) {
            found.push(ExecInput::Resize { height, width });
        }
    }
    found
}

/// Sends what the command says until it exits or the client is gone; then drops the outputs, which
/// kills a command that still runs.
async fn forward(
    mut outputs: ExecOutputs,
    sink: &mut SplitSink<WebSocket, Message>,
    gone: &CancellationToken,
) -> Result<(), LocalError> {
    loop {
        // Dropping `next` loses nothing; after `gone` nobody reads any more. Output first: whoever
        // ran the command stops reading input when it has told the exit, which looks like `gone`.
        let output = tokio::select! {
            biased;
            output = outputs.next() => output,
            () = gone.cancelled() => return Ok(()),
        };
        let Some(output) = output else { return Ok(()) };
        let output = output?;
        let text = encode(&output).to_string();
        if sink.send(Message::Text(text.into())).await.is_err() {
            return Ok(());
        }
        if matches!(output, ExecOutput::Exited(_)) {
            return Ok(());
        }
    }
}

fn encode(output: &ExecOutput) -> Value {
    match output {
        ExecOutput::Stdout(data) => json!({"stdout": {"data": STANDARD.encode(data)}}),
        ExecOutput::StdoutClosed => json!({"stdout": {"close": true}}),
        ExecOutput::Stderr(data) => json!({"stderr": {"data": STANDARD.encode(data)}}),
        ExecOutput::StderrClosed => json!({"stderr": {"close": true}}),
        ExecOutput::Exited(code) => json!({"exited": true, "result": {"exit_code": code}}),
    }
}

fn closing(error: &LocalError) -> CloseFrame {
    let code = match error {
        LocalError::Failed(_) => close_code::ERROR,
        _ => close_code::POLICY,
    };
    let mut reason = error.to_string();
    let mut end = reason.len().min(REASON_BYTES_MAX);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    reason.truncate(end);
    CloseFrame { code, reason: reason.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_a_client_are_read() {
        let stdin = br#"{"stdin":{"data":"aGk=","close":true}}"#;
        assert_eq!(
            decode(stdin),
            [ExecInput::Stdin(Bytes::from_static(b"hi")), ExecInput::StdinClosed]
        );
        let size = br#"{"tty_size":{"height":24,"width":80}}"#;
        assert_eq!(decode(size), [ExecInput::Resize { height: 24, width: 80 }]);
        for heartbeat in [&b"{}"[..], b"", b"x", br#"{"stdin":5}"#] {
            assert_eq!(decode(heartbeat), []);
        }
    }
}
