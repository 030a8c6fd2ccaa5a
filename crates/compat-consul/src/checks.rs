//! Reports on TTL checks.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use cos_http::{ApiError, Params};
use cos_model::catalog::Health;

use crate::Consul;
use crate::decode::{Fields, Loose};

/// How much of a report's words is kept.
const OUTPUT_BYTES_MAX: usize = 4096;

pub(crate) async fn update(
    State(consul): State<Consul>,
    Path(id): Path<String>,
    body: cos_http::body::RawBody,
) -> Result<StatusCode, ApiError> {
    let fields = Fields::parse(&body.0)?;
    let status = match fields.text("Status")?.as_str() {
        "passing" => Health::Passing,
        "warning" => Health::Warning,
        "critical" => Health::Critical,
        other => {
            return Err(ApiError::bad_request(format!("Invalid check status: '{other}'")));
        }
    };
    report(&consul, &id, status, &fields.text("Output")?).await
}

pub(crate) async fn pass(
    State(consul): State<Consul>,
    Path(id): Path<String>,
    params: Params,
) -> Result<StatusCode, ApiError> {
    report(&consul, &id, Health::Passing, params.text("note").unwrap_or("")).await
}

pub(crate) async fn warn(
    State(consul): State<Consul>,
    Path(id): Path<String>,
    params: Params,
) -> Result<StatusCode, ApiError> {
    report(&consul, &id, Health::Warning, params.text("note").unwrap_or("")).await
}

pub(crate) async fn fail(
    State(consul): State<Consul>,
    Path(id): Path<String>,
    params: Params,
) -> Result<StatusCode, ApiError> {
    report(&consul, &id, Health::Critical, params.text("note").unwrap_or("")).await
}

async fn report(
    consul: &Consul,
    id: &str,
    status: Health,
    output: &str,
) -> Result<StatusCode, ApiError> {
    let name = consul.api.agent.identity().name;
    let known = consul.discovery.catalog().borrow().check(&name, id).is_some();
    if !known {
        return Err(ApiError::not_found(format!(
            "Unknown check ID \"{id}\". Ensure that the check ID is passed, not the check name."
        )));
    }
    let mut end = output.len().min(OUTPUT_BYTES_MAX);
    while !output.is_char_boundary(end) {
        end -= 1;
    }
    consul.discovery.report(id, status, &output[..end]).await?;
    Ok(StatusCode::OK)
}
