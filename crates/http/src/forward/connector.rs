//! Connections to other agents, in the clear or as one member of the cluster to another.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::http::Uri;
use cos_platform::tls::{Identity, MaybeTls};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tower::Service;

use super::CONNECT_MAX;

/// Makes connections.
#[derive(Clone, Debug)]
pub(super) struct Connector {
    /// Who we are; absent where agents speak in the clear.
    pub(super) identity: Option<Identity>,
}

/// A connection to another agent.
#[derive(Debug)]
pub(super) struct Wire(TokioIo<MaybeTls>);

impl Service<Uri> for Connector {
    type Response = Wire;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Wire>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let identity = self.identity.clone();
        Box::pin(async move {
            let connecting = tokio::time::timeout(CONNECT_MAX, connect(&uri, identity)).await;
            let too_long = |_| io::Error::new(io::ErrorKind::TimedOut, "connecting took too long");
            connecting.map_err(too_long)?
        })
    }
}

async fn connect(uri: &Uri, identity: Option<Identity>) -> io::Result<Wire> {
    let address = uri.authority().map_or("", |authority| authority.as_str());
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let stream = match identity {
        Some(identity) => identity.call_member(stream).await?,
        None => MaybeTls::Plain(stream),
    };
    Ok(Wire(TokioIo::new(stream)))
}

impl Connection for Wire {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl Read for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_read(context, buffer)
    }
}

impl Write for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().0).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().0).poll_write_vectored(context, slices)
    }
}
