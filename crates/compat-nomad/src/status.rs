//! `/v1/status/…` and `/v1/regions`: who leads, who votes, which regions there are.

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use cos_http::params::is_pretty;
use cos_http::{Api, ApiError, Params, Reply};

use crate::context::Nomad;

pub(crate) fn routes() -> Router<Nomad> {
    Router::new()
        .route("/v1/status/leader", get(leader))
        .route("/v1/status/peers", get(peers))
        .route("/v1/regions", get(regions))
}

/// Refuses a request for a region that is not this one, whatever it asks.
pub(crate) async fn check_region(State(api): State<Api>, request: Request, next: Next) -> Response {
    let params = Params::parse(request.uri().query().unwrap_or_default());
    match params.text("region") {
        Some(region) if region != api.agent.identity().region => {
            ApiError::internal("No path to region").into_response()
        }
        _ => next.run(request).await,
    }
}

async fn leader(State(nomad): State<Nomad>, params: Params) -> Result<Response, ApiError> {
    let leader = nomad.api.control()?.leadership().leader;
    let leader = leader.ok_or_else(|| ApiError::internal("No cluster leader"))?;
    Ok(Reply::default().pretty(is_pretty(&params)).json(&leader.rpc))
}

async fn peers(State(nomad): State<Nomad>, params: Params) -> Result<Response, ApiError> {
    let mut peers: Vec<String> =
        nomad.api.control()?.peers().into_iter().map(|(_, address, _)| address).collect();
    peers.sort();
    Ok(Reply::default().pretty(is_pretty(&params)).json(&peers))
}

async fn regions(State(nomad): State<Nomad>, params: Params) -> Result<Response, ApiError> {
    let members = nomad.api.control()?.members();
    let named = members.iter().filter_map(|member| member.tags.get("region").cloned());
    let mut regions: Vec<String> = named.chain([nomad.api.agent.identity().region]).collect();
    regions.sort();
    regions.dedup();
    Ok(Reply::default().pretty(is_pretty(&params)).json(&regions))
}
