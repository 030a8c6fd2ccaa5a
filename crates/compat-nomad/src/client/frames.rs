//! Streams of pieces of files: as JSON objects one after another, or as the plain bytes.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::Body;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cos_http::local::{Frame, FrameStream};
use futures_util::{StreamExt, stream};
use serde::Serialize;
use tokio::time::{Instant, Interval, MissedTickBehavior};

/// How often a quiet stream says that it is alive.
const HEARTBEAT: Duration = Duration::from_secs(1);

#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
struct StreamFrame {
    #[serde(skip_serializing_if = "is_zero")]
    offset: u64,
    #[serde(skip_serializing_if = "String::is_empty")]
    data: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    file: String,
    #[serde(skip_serializing_if = "str::is_empty")]
    file_event: &'static str,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl From<Frame> for StreamFrame {
    fn from(frame: Frame) -> Self {
        Self {
            offset: frame.offset,
            data: STANDARD.encode(&frame.data),
            file: frame.file,
            file_event: frame.event.map_or("", |event| event.name()),
        }
    }
}

fn encode(frame: &StreamFrame) -> Vec<u8> {
    serde_json::to_vec(frame).expect("a frame has only text and a number")
}

/// Answers with frames as JSON objects and an empty object whenever nothing else was sent for a
/// while. A failure ends the stream; what was sent before stands.
pub(crate) fn framed(pieces: FrameStream) -> Response {
    let mut heartbeat = tokio::time::interval_at(Instant::now() + HEARTBEAT, HEARTBEAT);
    heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let body = stream::unfold((pieces, heartbeat), |(mut pieces, mut heartbeat)| async move {
        let bytes = next(&mut pieces, &mut heartbeat).await?;
        Some((Ok::<_, Infallible>(bytes), (pieces, heartbeat)))
    });
    let kind = [(header::CONTENT_TYPE, "application/json")];
    (kind, Body::from_stream(body)).into_response()
}

async fn next(pieces: &mut FrameStream, heartbeat: &mut Interval) -> Option<Vec<u8>> {
    // Both arms may be dropped: a stream's `next` and a tick lose nothing.
    tokio::select! {
        piece = pieces.next() => match piece? {
            Ok(frame) => {
                heartbeat.reset();
                Some(encode(&StreamFrame::from(frame)))
            }
            Err(error) => {
                tracing::debug!(%error, "a file stream ended early");
                None
            }
        },
        _ = heartbeat.tick() => Some(encode(&StreamFrame::default())),
    }
}

/// Answers with the bytes of the frames alone.
pub(crate) fn plain(pieces: FrameStream) -> Response {
    let bytes = pieces.map(|piece| piece.map(|frame| frame.data));
    let kind = [(header::CONTENT_TYPE, "text/plain; charset=utf-8")];
    (kind, Body::from_stream(bytes)).into_response()
}
