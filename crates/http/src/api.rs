//! The handle that every dialect's handlers get, and cos's own routes.

use std::fmt;
use std::sync::Arc;

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::response::{Redirect, Response};
use axum::routing::get;
use cos_platform::Tasks;
use cos_state::{Command, Committed, ControlPlane, ProposeError, State, Topic};
use serde::Serialize;

use crate::agent::AgentInfo;
use crate::blocking::{self, Wait};
use crate::error::ApiError;
use crate::forward::Forwarder;
use crate::local::LocalNode;
use crate::metrics::Metrics;
use crate::params::ReadOptions;
use crate::reply::{Freshness, Reply};
use crate::security::ClusterSecurity;
use crate::{middleware, security, status, ui};

/// What handlers work with. A clone is a handle to the same.
#[derive(Clone)]
pub struct Api {
    /// The control plane; absent on an agent that is no server.
    pub control: Option<Arc<dyn ControlPlane>>,
    /// The machine; absent on an agent that runs no tasks.
    pub local: Option<Arc<dyn LocalNode>>,
    /// What this agent can do about membership; absent on an agent that is no server.
    pub security: Option<Arc<dyn ClusterSecurity>>,
    /// This agent.
    pub agent: Arc<dyn AgentInfo>,
    /// Passes requests on to other agents.
    pub forwarder: Forwarder,
    /// The program's metrics.
    pub metrics: Metrics,
    /// Tasks that requests leave behind, and the sign to stop.
    pub tasks: Tasks,
}

impl fmt::Debug for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Api")
            .field("identity", &self.agent.identity())
            .field("server", &self.control.is_some())
            .field("client", &self.local.is_some())
            .finish_non_exhaustive()
    }
}

impl Api {
    /// The control plane of this agent, or the refusal of an agent that is no server.
    pub fn control(&self) -> Result<&Arc<dyn ControlPlane>, ApiError> {
        self.control.as_ref().ok_or_else(|| ApiError::unsupported("this agent is not a server"))
    }

    /// The machine of this agent, or the refusal of an agent that runs no tasks.
    pub fn local(&self) -> Result<&Arc<dyn LocalNode>, ApiError> {
        self.local.as_ref().ok_or_else(|| ApiError::unsupported("this agent is not a client"))
    }

    /// Reads, waiting for something newer if the request asks for it. See [`blocking::wait_for`].
    pub async fn read_with<T>(
        &self,
        options: &ReadOptions,
        topics: &[Topic],
        read: impl Fn(&Arc<State>) -> (u64, T) + Send,
    ) -> Result<(Freshness, T), ApiError> {
        let control = self.control()?;
        let wait = Wait { index: options.index, longest: options.wait, stale: options.stale };
        let stopping = self.tasks.stopping();
        let (index, value) =
            blocking::wait_for(control.as_ref(), &stopping, wait, topics, read).await?;
        Ok((Freshness::now(control.as_ref(), index), value))
    }

    /// Reads and answers with JSON; a failure that `read` returns is answered at once.
    pub async fn read<T: Serialize + Send>(
        &self,
        options: &ReadOptions,
        topics: &[Topic],
        read: impl Fn(&Arc<State>) -> Result<(u64, T), ApiError> + Send + Sync,
    ) -> Result<Response, ApiError> {
        let wanted = options.index;
        let (fresh, found) = self
            .read_with(options, topics, |state| match read(state) {
                Ok((index, value)) => (index, Ok(value)),
                // Nobody waits for an error: an index beyond any that was asked ends the wait.
                Err(error) => (wanted.saturating_add(1), Err(error)),
            })
            .await?;
        Ok(Reply::fresh(fresh).pretty(options.pretty).json(&found?))
    }

    /// Commits a command.
    pub async fn propose(&self, command: Command) -> Result<Committed, ApiError> {
        let outcome: Result<Committed, ProposeError> = self.control()?.propose(command).await;
        Ok(outcome?)
    }
}

/// cos's own routes: `/`, `/ui/…` and `/v1/cos/status`.
pub fn router(api: Api) -> Router {
    Router::new()
        .route("/", get(|| async { Redirect::temporary("/ui/jobs") }))
        .route("/ui", get(|| async { Redirect::temporary("/ui/jobs") }))
        .route("/ui/", get(|| async { Redirect::temporary("/ui/jobs") }))
        .route("/ui/jobs", get(ui::jobs))
        .route("/v1/cos/status", get(status::read))
        .merge(security::routes())
        .with_state(api.clone())
        .layer(from_fn_with_state(api, middleware::ask_a_server))
}
