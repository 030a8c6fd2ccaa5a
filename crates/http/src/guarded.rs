//! Bodies and sockets that give up on clients that are too slow, or keep count of what is under
//! way.
//!
//! # Invariants
//!
//! - A request's body never pauses longer than it may, and is not slower than
//!   [`BYTES_PER_SECOND_MIN`] over all, once [`SLOW_START`] is over.
//! - A client that takes nothing of an answer for too long loses the connection.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::BoxError;
use axum::body::{Body, Bytes, HttpBody};
use hyper::body::{Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use crate::limits::UnderWay;

/// The slowest that a request's body may be over all.
const BYTES_PER_SECOND_MIN: f64 = 512.0;

/// How long a request's body may be slower than that.
const SLOW_START: Duration = Duration::from_secs(30);

/// The body of a request came too slowly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the request's body came too slowly")]
pub(crate) struct TooSlow;

/// A request's body that may not be too slow.
pub(crate) struct TimedBody<B> {
    inner: B,
    /// Made when there is something to wait for: most bodies come with their head.
    pause: Option<Pin<Box<Sleep>>>,
    pause_max: Duration,
    began: Instant,
    bytes: u64,
}

impl<B> TimedBody<B> {
    pub(crate) fn new(inner: B, pause_max: Duration) -> Self {
        Self { inner, pause: None, pause_max, began: Instant::now(), bytes: 0 }
    }
}

impl<B> HttpBody for TimedBody<B>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        match Pin::new(&mut this.inner).poll_frame(context) {
            Poll::Ready(Some(Ok(frame))) => {
                let now = Instant::now();
                let length = frame.data_ref().map_or(0, Bytes::len);
                this.bytes += u64::try_from(length).unwrap_or(u64::MAX);
                let took = now.saturating_duration_since(this.began);
                if is_too_slow(this.bytes, took) {
                    return Poll::Ready(Some(Err(TooSlow.into())));
                }
                this.pause = None;
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(error.into()))),
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => {
                let pause_max = this.pause_max;
                let pause =
                    this.pause.get_or_insert_with(|| Box::pin(tokio::time::sleep(pause_max)));
                ready!(pause.as_mut().poll(context));
                Poll::Ready(Some(Err(TooSlow.into())))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

fn is_too_slow(bytes: u64, took: Duration) -> bool {
    let bytes = f64::from(u32::try_from(bytes).unwrap_or(u32::MAX));
    took > SLOW_START && bytes < BYTES_PER_SECOND_MIN * took.as_secs_f64()
}

/// An answer's body during which the request counts as under way.
pub(crate) struct CountedBody {
    inner: Body,
    under_way: Option<UnderWay>,
}

impl CountedBody {
    pub(crate) fn new(inner: Body, under_way: UnderWay) -> Self {
        Self { inner, under_way: Some(under_way) }
    }
}

impl HttpBody for CountedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = self.get_mut();
        let frame = ready!(Pin::new(&mut this.inner).poll_frame(context));
        if frame.is_none() {
            this.under_way = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// A socket whose other side has to take what is written.
pub(crate) struct TimedStream<S> {
    inner: S,
    /// Whether the other side sent anything.
    pub(crate) heard: Arc<AtomicBool>,
    patience: Patience,
}

/// Counts the time in which nothing was taken.
struct Patience {
    pause_max: Duration,
    waiting: Option<Pin<Box<Sleep>>>,
}

impl<S> TimedStream<S> {
    pub(crate) fn new(inner: S, pause_max: Duration) -> Self {
        let patience = Patience { pause_max, waiting: None };
        Self { inner, heard: Arc::default(), patience }
    }
}

impl Patience {
    /// Passes on what a write came to.
    fn judge<T>(
        &mut self,
        outcome: Poll<io::Result<T>>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            self.waiting = None;
            return outcome;
        }
        let pause_max = self.pause_max;
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(tokio::time::sleep(pause_max)));
        ready!(waiting.as_mut().poll(context));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client takes nothing")))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for TimedStream<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let outcome = Pin::new(&mut this.inner).poll_write(context, bytes);
        this.patience.judge(outcome, context)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let outcome = Pin::new(&mut this.inner).poll_flush(context);
        this.patience.judge(outcome, context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let outcome = Pin::new(&mut this.inner).poll_shutdown(context);
        this.patience.judge(outcome, context)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let outcome = Pin::new(&mut this.inner).poll_write_vectored(context, parts);
        this.patience.judge(outcome, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for TimedStream<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let outcome = Pin::new(&mut this.inner).poll_read(context, buffer);
        if buffer.filled().len() > before {
            this.heard.store(true, Ordering::Relaxed);
        }
        outcome
    }
}

#[cfg(test)]
mod tests {
    use axum::body::to_bytes;
    use futures_util::stream;
    use tokio::io::AsyncWriteExt;

    use super::*;

    const SHORT: Duration = Duration::from_millis(50);

    #[tokio::test]
    async fn a_body_that_pauses_is_given_up_and_any_other_is_read() {
        let parts = || stream::iter([Ok::<_, io::Error>(Bytes::from_static(b"part"))]);
        let whole = TimedBody::new(Body::from_stream(parts()), SHORT);
        assert_eq!(to_bytes(Body::new(whole), 10).await.unwrap(), "part");
        let endless = futures_util::StreamExt::chain(parts(), stream::pending());
        let stuck = TimedBody::new(Body::from_stream(endless), SHORT);
        let error = to_bytes(Body::new(stuck), 10).await.unwrap_err();
        assert!(error.to_string().contains("too slowly"), "{error}");
    }

    #[test]
    fn a_body_may_start_slowly_and_not_trickle() {
        let seconds = Duration::from_secs;
        for (bytes, took, expected) in [
            (0, seconds(30), false),
            (1, seconds(31), true),
            (512 * 31 - 1, seconds(31), true),
            (512 * 31, seconds(31), false),
            (16 << 20, seconds(600), false),
            (u64::MAX, seconds(600), false),
        ] {
            assert_eq!(is_too_slow(bytes, took), expected, "{bytes} in {took:?}");
        }
    }

    #[tokio::test]
    async fn a_client_that_takes_nothing_loses_the_connection() {
        let (ours, theirs) = tokio::io::duplex(10);
        let mut ours = TimedStream::new(ours, SHORT);
        ours.write_all(b"0123456789").await.unwrap();
        let error = ours.write_all(b"more").await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        drop(theirs);
    }
}
