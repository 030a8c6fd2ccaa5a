//! From a fresh connection to a peer that is known, or turned away.
//!
//! # Invariants
//!
//! - Whoever has not proved anything yet holds no more than a socket and a handshake, for no longer
//!   than [`ADMISSION_TIME_MAX`], and such connections are bounded in number by the caller.
//! - Who is turned away hears it in its own protocol where that has words: as an alert of TLS, or as
//!   an answer of HTTP.
//! - Over TLS a caller names the [`Protocol`] that it speaks, and may show the certificate that
//!   this takes. Which method it may call is decided later, by the service, once more.

use std::sync::Arc;
use std::time::Duration;

use rustls::AlertDescription;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::{Peer, Security, Who};
use crate::tls::{self, Configs, Identity, MaybeTls, Member, Protocol};

/// How long a connection may take until its peer is known.
pub(super) const ADMISSION_TIME_MAX: Duration = Duration::from_secs(5);

/// What the protocol begins with in the clear.
const PREFACE_FIRST_BYTE: u8 = b'P';

/// What a caller in the clear is told where that is not spoken. Our own know it by these words.
pub(super) const SPEAKS_TLS: &str = "this cluster speaks TLS";

/// How much of what a stranger offers is written to the log.
const OFFERS_TOLD_MAX: usize = 4;
const OFFER_TOLD_BYTES_MAX: usize = 32;

/// What whoever came to the wrong port is told; browsers and `curl` show it.
const WRONG_PORT: &[u8] = b"HTTP/1.0 400 Bad Request\r\nContent-Type: text/plain\r\n\
    Connection: close\r\n\r\nThis port speaks the protocol that agents of a cluster speak among \
    themselves. The HTTP API is at another one, 4646 unless configured otherwise.\n";

/// What to do with a connection, by its first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Course {
    Plain,
    Handshake,
    Refuse(Goodbye, &'static str),
}

/// How a caller is told that it is not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Goodbye {
    /// By an alert of TLS.
    Alert,
    /// In the words of HTTP.
    Http,
    /// In the words of HTTP/2.
    GoAway,
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
        (Course::Refuse(goodbye, why), _) => {
            say(stream, goodbye).await;
            Err(why.to_owned())
        }
        (Course::Handshake, Security::Plain) => unreachable!("`course` refuses it"),
    }
}

async fn say(mut stream: TcpStream, goodbye: Goodbye) {
    match goodbye {
        Goodbye::Alert => tls::alert(stream, AlertDescription::ProtocolVersion).await,
        Goodbye::Http => {
            // Who has gone already does not read it.
            drop(stream.write_all(WRONG_PORT).await);
            tls::linger(stream).await;
        }
        Goodbye::GoAway => {
            drop(stream.write_all(&go_away()).await);
            tls::linger(stream).await;
        }
    }
}

/// What HTTP/2 says to a caller whose connection is not secure enough: empty settings, which come
/// first, and that it may go.
fn go_away() -> Vec<u8> {
    const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    const GO_AWAY: u8 = 7;
    const LAST_STREAM: [u8; 4] = [0; 4];
    const INADEQUATE_SECURITY: [u8; 4] = [0, 0, 0, 0xc];
    let length = LAST_STREAM.len() + INADEQUATE_SECURITY.len() + SPEAKS_TLS.len();
    let [.., high, middle, low] = length.to_be_bytes();
    let mut frames = SETTINGS.to_vec();
    frames.extend([high, middle, low, GO_AWAY, 0, 0, 0, 0, 0]);
    frames.extend(LAST_STREAM.into_iter().chain(INADEQUATE_SECURITY));
    frames.extend(SPEAKS_TLS.as_bytes());
    frames
}

fn course(first: u8, security: &Security) -> Course {
    let is_tls = tls::is_tls(first);
    match security {
        Security::Plain if is_tls => Course::Refuse(
            Goodbye::Alert,
            "it speaks TLS, and this server does not: `cluster { tls }` differs between them",
        ),
        Security::Tls { .. } if is_tls => Course::Handshake,
        Security::Tls { upgrading: false, .. } if first == PREFACE_FIRST_BYTE => Course::Refuse(
            Goodbye::GoAway,
            "it speaks in the clear, and this cluster speaks TLS: `cluster { tls }` differs \
             between them",
        ),
        Security::Plain | Security::Tls { upgrading: true, .. } if first == PREFACE_FIRST_BYTE => {
            Course::Plain
        }
        _ => Course::Refuse(Goodbye::Http, "it sent bytes that are not of this protocol"),
    }
}

async fn handshake(stream: TcpStream, identity: &Identity) -> Result<(MaybeTls, Who), String> {
    let begun = tls::hello(stream).await.map_err(|error| tls::handshake_failure(&error))?;
    let offered: Vec<Vec<u8>> = begun
        .client_hello()
        .alpn()
        .map_or_else(Vec::new, |names| names.map(<[u8]>::to_vec).collect());
    let Some(protocol) = Protocol::chosen(offered.iter().map(Vec::as_slice)) else {
        tls::alert(begun.io, AlertDescription::NoApplicationProtocol).await;
        return Err(unknown_protocol(&offered));
    };
    let configs = identity.configs();
    let ready = configs.as_ref().and_then(|configs| configs.called(protocol));
    let (Some(configs), Some(config)) = (configs, ready) else {
        return Err("this server has no certificate yet".to_owned());
    };
    match begun.into_stream(config).into_fallible().await {
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

/// What the log says of a caller that speaks nothing of ours.
fn unknown_protocol(offered: &[Vec<u8>]) -> String {
    let names: Vec<String> = offered
        .iter()
        .take(OFFERS_TOLD_MAX)
        .map(|name| format!("`{}`", name[..name.len().min(OFFER_TOLD_BYTES_MAX)].escape_ascii()))
        .collect();
    let offered = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    format!("it does not speak this cluster's protocol: by ALPN it offers {offered}")
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
            Course::Refuse(..) => "no",
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
