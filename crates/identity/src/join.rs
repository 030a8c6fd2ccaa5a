//! Asking to become a member, with a join token or a shared key.
//!
//! # Invariants
//!
//! - A token's secret is sent only to who proved to be of the authority that the token names.

use std::time::Duration;

use bytes::Bytes;
use cos_platform::rpc::{Client, RpcError, Security};
use cos_platform::tls::{Credentials, Identity, Protocol, Role, TlsError, Trust};
use rustls::pki_types::CertificateDer;
use serde::{Deserialize, Serialize};

use crate::authority::{Authority, Request};
use crate::certificate::Key;
use crate::keeper;
use crate::token::Token;
use crate::wire::{self, JoinRequest, Joined, KeyProof};

/// How long a server may take to answer; it commits the use of the token first.
const ANSWER_WAIT: Duration = Duration::from_secs(15);

/// What entitles to join.
#[derive(Clone, Debug)]
pub enum Proof {
    /// A token, once.
    Token(Token),
    /// The authority that all derive who know the shared key.
    Shared(Authority),
}

/// Who wants to join.
#[derive(Debug)]
pub struct Joiner {
    /// As what.
    pub role: Role,
    /// The id of the node or server.
    pub id: String,
    /// Its name, for people.
    pub name: String,
    /// The key that is to be certified.
    pub key: Key,
    /// What entitles it.
    pub proof: Proof,
}

/// A server's answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// Welcome.
    Joined(Box<Joined>),
    /// No; the words say why and what helps.
    Denied {
        /// Why.
        why: String,
        /// Whether the same request may succeed later.
        may_retry: bool,
    },
}

/// Why an agent is no member.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// A server said no, for good.
    #[error("the cluster refused this agent: {0}")]
    Denied(String),
    /// No server could say yes or no.
    #[error("no server could be asked to join: {0}")]
    NotNow(String),
    /// The token or key cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// Asks each of these servers in turn, once. `now` is in seconds since 1970.
pub async fn join(addresses: &[String], joiner: &Joiner, now: u64) -> Result<Joined, JoinError> {
    let identity = Identity::new(&credentials(joiner, now))?;
    let client = Client::secured(Security::Tls { identity, upgrading: false }, Protocol::Agents);
    let token = match &joiner.proof {
        Proof::Token(token) => Some((token.id, token.secret.to_vec())),
        Proof::Shared(_) => None,
    };
    let body = wire::encode(&JoinRequest {
        role: joiner.role.name().to_owned(),
        id: joiner.id.clone(),
        name: joiner.name.clone(),
        token,
        key: KeyProof::new(&joiner.key, joiner.role, &joiner.id),
    });
    let mut failure = "no address of a server is configured".to_owned();
    for address in addresses {
        let reply = client.call(address, wire::JOIN, Bytes::from(body.clone()), ANSWER_WAIT).await;
        match read(reply) {
            Ok(Answer::Joined(joined)) => return Ok(*joined),
            Ok(Answer::Denied { why, may_retry: false }) => return Err(JoinError::Denied(why)),
            Ok(Answer::Denied { why, .. }) => failure = format!("{address}: {why}"),
            Err(why) => failure = format!("{address}: {why}"),
        }
    }
    Err(JoinError::NotNow(failure))
}

fn read(reply: Result<Bytes, RpcError>) -> Result<Answer, String> {
    let bytes = reply.map_err(|error| error.to_string())?;
    rmp_serde::from_slice(&bytes).map_err(|error| format!("its answer cannot be read: {error}"))
}

fn credentials(joiner: &Joiner, now: u64) -> Credentials {
    match &joiner.proof {
        Proof::Token(token) => Credentials {
            own: None,
            trust: Trust::Fingerprint(token.authority),
            introduction: None,
        },
        Proof::Shared(authority) => {
            let request = Request {
                public: joiner.key.public(),
                role: joiner.role,
                id: joiner.id.clone(),
                region: String::new(),
                addresses: Vec::new(),
            };
            let (own, root) = keeper::introduced(authority, &joiner.key, &request, now);
            let root: CertificateDer<'static> = root;
            Credentials { own: Some(own), trust: Trust::Introduction(root), introduction: None }
        }
    }
}
