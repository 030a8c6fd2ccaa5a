//! From a fresh connection to a peer that is known, or turned away.
//!
//! # Invariants
//!
//! - Whoever has not proved anything yet holds no more than a socket and a handshake, for no longer
//!   than [`ADMISSION_TIME_MAX`], and such connections are bounded in number by the caller.
//! - Who is turned away hears it as an alert where the protocol has one.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use super::{Peer, Security, Who};
use crate::tls::{self, Configs, Identity, MaybeTls, Member};

/// How long a connection may take until its peer is known.
pub(super) const ADMISSION_TIME_MAX: Duration = Duration::from_secs(5);

/// What the protocol begins with in the clear.
const PREFACE_FIRST_BYTE: u8 = b'P';

/// What to do with a connection, by its first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Course {
    Plain,
    Handshake,
    Refuse(&'static str),
}

/// Finds out who calls. An error says why it is turned away.
pub(super) async fn admit(
    stream: TcpStream,
    security: &Security,
) -> Result<(MaybeTls, Peer), String> {
    let address = stream.peer_addr().map_err(|error| error.to_string())?;
    let first = tls::first_byte(&stream).await.map_err(|error| error.to_string())?;
    let first = first.ok_or("it hung up without a word")?;
    match (course(first, security), security) {
        (Course::Handshake, Security::Tls { identity, .. }) => {
            let (stream, who) = handshake(stream, identity).await?;
            Ok((stream, Peer { address, who }))
        }
        (Course::Plain, _) => Ok((MaybeTls::Plain(stream), Peer::trusted(address))),
        (Course::Refuse(why), _) => {
            tls::linger(stream).await;
            Err(why.to_owned())
        }
        (Course::Handshake, Security::Plain) => unreachable!("`course` refuses it"),
    }
}

fn course(first: u8, security: &Security) -> Course {
    let is_tls = tls::is_tls(first);
    match security {
        Security::Plain if is_tls => Course::Refuse(
            "it speaks TLS, and this server does not: `cluster { tls }` differs between them",
        ),
        Security::Tls { .. } if is_tls => Course::Handshake,
        Security::Tls { upgrading: false, .. } if first == PREFACE_FIRST_BYTE => Course::Refuse(
            "it speaks in the clear, and this cluster speaks TLS: `cluster { tls }` differs \
             between them",
        ),
        Security::Plain | Security::Tls { upgrading: true, .. } if first == PREFACE_FIRST_BYTE => {
            Course::Plain
        }
        _ => Course::Refuse("it sent bytes that are not of this protocol"),
    }
}

async fn handshake(stream: TcpStream, identity: &Identity) -> Result<(MaybeTls, Who), String> {
    let configs = identity.configs();
    let ready = configs.as_ref().and_then(|configs| configs.server.clone());
    let (Some(configs), Some(config)) = (configs, ready) else {
        return Err("this server has no certificate yet".to_owned());
    };
    match TlsAcceptor::from(config).accept(stream).into_fallible().await {
        Ok(stream) => {
            let who = who(stream.get_ref().1, &configs)?;
            Ok((MaybeTls::Tls(Box::new(stream.into())), who))
        }
        Err((error, stream)) => {
            tls::linger(stream).await;
            Err(tls::handshake_failure(&error))
        }
    }
}

fn who(connection: &rustls::ServerConnection, configs: &Arc<Configs>) -> Result<Who, String> {
    let Some(chain) = connection.peer_certificates() else { return Ok(Who::Stranger) };
    if !configs.is_members(chain) {
        return Ok(Who::Introduced);
    }
    let member = chain.first().and_then(Member::of);
    member.map(Who::Member).ok_or_else(|| {
        "its certificate names neither a member of this cluster nor `server.<region>.nomad` or \
         `client.<region>.nomad`"
            .to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_byte_decides() {
        let tls = |upgrading| Security::Tls { identity: Identity::vacant(), upgrading };
        let is = |first, security: &Security| match course(first, security) {
            Course::Plain => "plain",
            Course::Handshake => "tls",
            Course::Refuse(_) => "no",
        };
        for (first, plain, upgrading, strict) in
            [(b'P', "plain", "plain", "no"), (0x16, "no", "tls", "tls"), (b'G', "no", "no", "no")]
        {
            assert_eq!(is(first, &Security::Plain), plain, "{first}");
            assert_eq!(is(first, &tls(true)), upgrading, "{first}");
            assert_eq!(is(first, &tls(false)), strict, "{first}");
        }
    }
}
