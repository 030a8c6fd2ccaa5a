//! What a server can do about membership, as the HTTP routes ask for it.

use std::time::Duration;

use async_trait::async_trait;
use cos_http::{ApiError, AuthorityView, ClusterSecurity, KeyringOrder, KeyringView};
use cos_platform::tls::Role;
use cos_server::{KeyringChange, Server, TrustError};

/// A server.
pub(crate) struct Membership {
    server: Server,
}

impl Membership {
    pub(crate) fn new(server: Server) -> Self {
        Self { server }
    }
}

#[async_trait]
impl ClusterSecurity for Membership {
    async fn create_token(&self, role: &str, ttl: Duration) -> Result<String, ApiError> {
        let role =
            Role::parse(role).ok_or_else(|| ApiError::bad_request("there is no such role"))?;
        self.server.create_token(role, ttl).await.map_err(told)
    }

    async fn authority(&self) -> Result<AuthorityView, ApiError> {
        let status = self.server.authority_status().await.map_err(told)?;
        let (cluster, version) = (status.cluster, status.version);
        Ok(AuthorityView { cluster, version, roots: status.roots, waiting_for: status.waiting_for })
    }

    async fn rotate(&self) -> Result<(), ApiError> {
        self.server.rotate_authority().await.map_err(told)
    }

    async fn keyring(&self, order: KeyringOrder) -> Result<KeyringView, ApiError> {
        let change = match order {
            KeyringOrder::List => KeyringChange::List,
            KeyringOrder::Install(key) => KeyringChange::Install(key),
            KeyringOrder::Use(key) => KeyringChange::Use(key),
            KeyringOrder::Remove(key) => KeyringChange::Remove(key),
        };
        let report = self.server.change_keyring(change).await;
        Ok(KeyringView {
            servers: report.servers,
            keys: report.keys,
            primary: report.primary,
            problems: report.problems,
        })
    }
}

fn told(error: TrustError) -> ApiError {
    match error {
        TrustError::NoAuthority | TrustError::Rotating(_) => {
            ApiError::bad_request(error.to_string())
        }
        TrustError::Propose(error) => error.into(),
    }
}
