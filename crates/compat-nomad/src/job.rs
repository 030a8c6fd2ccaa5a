//! `/v1/job/:id…`: one job.
//!
//! An id may hold slashes, and some clients do not encode them. So everything after `/v1/job/` is
//! one text, and what is asked of the job is told by its end.

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{Method, StatusCode};
use axum::response::Response;
use axum::routing::any;
use cos_http::body::RawBody;
use cos_http::{ApiError, Params, ReadOptions};
use cos_model::JobKey;

use crate::context::{Nomad, namespace};
use crate::jobs;

mod diff;
mod plan;
mod read;
mod scale;
mod write;

pub(crate) fn routes() -> Router<Nomad> {
    Router::new().route("/v1/job/{*rest}", any(route))
}

/// What can be asked of a job, by the end of the path. Longer ends first, so that `periodic/force`
/// is not taken for a job's id.
const OPERATIONS: [&str; 19] = [
    "periodic/force",
    "dispatch/payload",
    "allocations",
    "evaluations",
    "deployments",
    "deployment",
    "submission",
    "dispatch",
    "versions",
    "evaluate",
    "services",
    "actions",
    "summary",
    "action",
    "revert",
    "stable",
    "scale",
    "plan",
    "tag",
];

/// A request about one job.
struct Asked {
    key: JobKey,
    params: Params,
    body: axum::body::Bytes,
}

async fn route(
    State(nomad): State<Nomad>,
    Path(rest): Path<String>,
    method: Method,
    params: Params,
    RawBody(body): RawBody,
) -> Result<Response, ApiError> {
    let (id, operation) = split(&rest);
    let key = JobKey::new(namespace(params.text("namespace")), id);
    let asked = Asked { key, params, body };
    match method {
        Method::GET | Method::HEAD => get(&nomad, operation, &asked).await,
        Method::PUT | Method::POST => put(&nomad, operation, &asked).await,
        Method::DELETE if operation.is_empty() => write::delete(&nomad, &asked).await,
        _ => Err(wrong_method()),
    }
}

fn split(rest: &str) -> (&str, &str) {
    for operation in OPERATIONS {
        let id = rest.strip_suffix(operation).and_then(|id| id.strip_suffix('/'));
        if let Some(id) = id.filter(|id| !id.is_empty()) {
            return (id, operation);
        }
    }
    (rest, "")
}

async fn get(nomad: &Nomad, operation: &str, asked: &Asked) -> Result<Response, ApiError> {
    let options = &ReadOptions::from_params(&asked.params)?;
    match operation {
        "" => read::job(nomad, options, asked).await,
        "allocations" => read::allocations(nomad, options, asked).await,
        "evaluations" => read::evaluations(nomad, options, asked).await,
        "deployments" => read::deployments(nomad, options, asked).await,
        "deployment" => read::deployment(nomad, options, asked).await,
        "summary" => read::summary(nomad, options, asked).await,
        "versions" => read::versions(nomad, options, asked).await,
        "scale" => scale::status(nomad, options, asked).await,
        "submission" => Err(ApiError::not_found("job source not found")),
        "services" | "actions" | "action" => Err(missing(operation)),
        _ => Err(wrong_method()),
    }
}

async fn put(nomad: &Nomad, operation: &str, asked: &Asked) -> Result<Response, ApiError> {
    match operation {
        "" => jobs::register_body(nomad, &asked.params, &asked.body, Some(&asked.key.id)).await,
        "plan" => plan::plan(nomad, asked).await,
        "evaluate" => write::evaluate(nomad, asked).await,
        "revert" => write::revert(nomad, asked).await,
        "stable" => write::stable(nomad, asked).await,
        "scale" => scale::change(nomad, asked).await,
        "periodic/force" | "dispatch" | "dispatch/payload" | "tag" => Err(missing(operation)),
        _ => Err(wrong_method()),
    }
}

fn missing(operation: &str) -> ApiError {
    ApiError::unsupported(format!("cos does not support `/v1/job/:job_id/{operation}` yet"))
}

fn wrong_method() -> ApiError {
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "Invalid method")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(rest: &str, expected: (&str, &str)) {
        assert_eq!(split(rest), expected);
    }

    #[test]
    fn what_is_asked_is_told_by_the_end_of_the_path() {
        check("web", ("web", ""));
        check("web/plan", ("web", "plan"));
        check("cron/periodic-17/summary", ("cron/periodic-17", "summary"));
        check("cron/periodic-17", ("cron/periodic-17", ""));
        check("cron/periodic/force", ("cron", "periodic/force"));
        check("plan", ("plan", ""));
        check("/plan", ("/plan", ""));
    }
}
