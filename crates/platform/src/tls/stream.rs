//! A connection that is encrypted or is not, and how the two are told apart before anything is read.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::AlertDescription;
use rustls::server::Acceptor;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::{LazyConfigAcceptor, StartHandshake, TlsStream};

/// The first byte of every handshake.
const HANDSHAKE: u8 = 0x16;

/// How much is read from a peer that was turned away, so that it hears why…
const LINGER_BYTES_MAX: u64 = 64 * 1024;
/// …and for how long.
const LINGER_TIME_MAX: Duration = Duration::from_secs(1);

/// A connection, encrypted or not.
#[derive(Debug)]
pub enum MaybeTls {
    /// In the clear.
    Plain(TcpStream),
    /// Encrypted.
    Tls(Box<TlsStream<TcpStream>>),
}

/// Looks at the first byte that a peer sends without taking it; `None` if it sends nothing.
pub(crate) async fn first_byte(stream: &TcpStream) -> io::Result<Option<u8>> {
    let mut byte = [0; 1];
    let read = stream.peek(&mut byte).await?;
    Ok((read > 0).then_some(byte[0]))
}

/// Whether a peer whose first byte this is speaks TLS.
pub(crate) fn is_tls(first: u8) -> bool {
    first == HANDSHAKE
}

/// Reads what a caller begins its handshake with. One that does not is told so.
pub(crate) async fn hello(stream: TcpStream) -> io::Result<StartHandshake<TcpStream>> {
    let mut acceptor = LazyConfigAcceptor::new(Acceptor::default(), stream);
    let error = match (&mut acceptor).await {
        Ok(begun) => return Ok(begun),
        Err(error) => error,
    };
    match acceptor.take_io() {
        // For bytes that are no messages at all the library says nothing itself.
        Some(stream) if is_no_message(&error) => alert(stream, AlertDescription::DecodeError).await,
        Some(stream) => linger(stream).await,
        None => {}
    }
    Err(error)
}

fn is_no_message(error: &io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    matches!(inner, Some(rustls::Error::InvalidMessage(_)))
}

/// Ends a connection with an alert of TLS, before anything is encrypted on it.
pub(crate) async fn alert(mut stream: TcpStream, why: AlertDescription) {
    const ALERT: u8 = 0x15;
    const VERSION: [u8; 2] = [3, 3];
    const LENGTH: [u8; 2] = [0, 2];
    const FATAL: u8 = 2;
    let [major, minor] = VERSION;
    let [high, low] = LENGTH;
    let record = [ALERT, major, minor, high, low, FATAL, u8::from(why)];
    // Who has gone already does not read it.
    drop(stream.write_all(&record).await);
    linger(stream).await;
}

/// Ends a connection so that the peer can still read what was written to it last: closing with
/// unread bytes would take that from it.
pub(crate) async fn linger(mut stream: TcpStream) {
    let goodbye = async {
        stream.shutdown().await?;
        tokio::io::copy(&mut (&mut stream).take(LINGER_BYTES_MAX), &mut tokio::io::sink()).await
    };
    // Whatever comes of it, the connection ends here.
    drop(tokio::time::timeout(LINGER_TIME_MAX, goodbye).await);
}

impl AsyncRead for MaybeTls {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for MaybeTls {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(context, slices),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(context, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
            Self::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
