//! `/v1/search`: ids by their beginning, which is how clients take short ids.

use std::collections::BTreeMap;

use axum::Router;
use axum::extract::State;
use axum::response::Response;
use cos_http::body::RawBody;
use cos_http::{ApiError, Body, Freshness, Params, Reply, params};
use serde_json::json;

use crate::context::{Nomad, namespace, newest};
use crate::write;

pub(crate) fn routes() -> Router<Nomad> {
    Router::new().route("/v1/search", write(search))
}

/// How many matches one context has at most.
const MATCHES_MAX: usize = 20;

/// What can be searched. Those that cos does not have yet never match.
const CONTEXTS: [&str; 12] = [
    "allocs",
    "deployment",
    "evals",
    "host_volumes",
    "jobs",
    "namespaces",
    "node_pools",
    "nodes",
    "plugins",
    "scaling_policy",
    "vars",
    "volumes",
];

async fn search(
    State(nomad): State<Nomad>,
    query: Params,
    RawBody(bytes): RawBody,
) -> Result<Response, ApiError> {
    let body = Body::parse(&bytes)?;
    let prefix = body.text("Prefix")?;
    let wanted: Vec<&str> = match body.text("Context")? {
        "" | "all" => CONTEXTS.to_vec(),
        one => match CONTEXTS.iter().find(|known| **known == one) {
            Some(known) => vec![known],
            None => {
                return Err(ApiError::bad_request(format!("{one:?} is not a search context")));
            }
        },
    };
    let own = match query.text("namespace") {
        Some("*") => None,
        named => Some(namespace(named)),
    };
    let control = nomad.api.control()?;
    if !query.flag("stale")? {
        control.barrier().await?;
    }
    let state = control.state();
    let (mut matches, mut truncations) = (BTreeMap::new(), BTreeMap::new());
    for context in wanted {
        let mut found = matching(&state, context, prefix, own);
        truncations.insert(context, found.len() > MATCHES_MAX);
        found.truncate(MATCHES_MAX);
        matches.insert(context, found);
    }
    let index = newest(
        &state,
        &[
            cos_state::Topic::Jobs,
            cos_state::Topic::Nodes,
            cos_state::Topic::Allocs,
            cos_state::Topic::Evals,
            cos_state::Topic::Deployments,
        ],
    );
    let fresh = Freshness::now(control.as_ref(), index.max(1));
    let answer = json!({"Matches": matches, "Truncations": truncations, "Index": index});
    Ok(Reply::fresh(fresh).pretty(params::is_pretty(&query)).json(&answer))
}

/// At most one more than are shown, so that the caller sees that there are more.
fn matching(
    state: &cos_state::State,
    context: &str,
    prefix: &str,
    namespace: Option<&str>,
) -> Vec<String> {
    let own = |named: &str| namespace.is_none_or(|wanted| wanted == named);
    let begins = |id: &String| id.starts_with(prefix);
    let most = MATCHES_MAX + 1;
    match context {
        "jobs" => {
            let jobs = state.jobs().filter(|job| own(&job.key.namespace));
            jobs.map(|job| job.key.id.to_string()).filter(begins).take(most).collect()
        }
        "nodes" => state.nodes().map(|n| n.id.to_string()).filter(begins).take(most).collect(),
        "allocs" => {
            let allocs = state.allocs().filter(|alloc| own(&alloc.job.key.namespace));
            allocs.map(|alloc| alloc.id.to_string()).filter(begins).take(most).collect()
        }
        "evals" => {
            let evals = state.evals().filter(|eval| own(&eval.job.namespace));
            evals.map(|eval| eval.id.to_string()).filter(begins).take(most).collect()
        }
        "deployment" => {
            let deployments = state.deployments().filter(|d| own(&d.job.namespace));
            deployments.map(|d| d.id.to_string()).filter(begins).take(most).collect()
        }
        "namespaces" => Some("default".to_owned()).filter(begins).into_iter().collect(),
        _ => Vec::new(),
    }
}
