//! `/v1/health`: checks, and instances with the checks that decide about them.

use axum::extract::{Path, State};
use axum::response::Response;
use cos_http::{ApiError, Params};
use cos_model::catalog::{Catalog, CatalogCheck, Health};
use serde_json::Value;

use crate::catalog::{datacenter, find_node, has_meta, has_tags};
use crate::respond::from_catalog;
use crate::{Consul, shape};

pub(crate) async fn node(
    State(consul): State<Consul>,
    Path(name): Path<String>,
    params: Params,
) -> Result<Response, ApiError> {
    from_catalog(&consul, &params, Catalog::index, |catalog| {
        let Some(node) = find_node(catalog, &name) else { return Ok(Value::Array(Vec::new())) };
        Ok(catalog.checks_on(&node.name).map(|check| with_tags(catalog, check)).collect())
    })
    .await
}

pub(crate) async fn checks(
    State(consul): State<Consul>,
    Path(name): Path<String>,
    params: Params,
) -> Result<Response, ApiError> {
    from_catalog(
        &consul,
        &params,
        |catalog| catalog.service_index(&name),
        |catalog| {
            Ok(catalog
                .instances(&name)
                .iter()
                .filter(|instance| has_meta(&instance.node, &params))
                .flat_map(|instance| &instance.checks)
                .filter(|check| !check.service_id.is_empty())
                .map(|check| with_tags(catalog, check))
                .collect())
        },
    )
    .await
}

pub(crate) async fn service(
    State(consul): State<Consul>,
    Path(name): Path<String>,
    params: Params,
) -> Result<Response, ApiError> {
    let passing = wants_passing(&params)?;
    let datacenter = datacenter(&consul);
    from_catalog(
        &consul,
        &params,
        |catalog| catalog.service_index(&name),
        |catalog| {
            Ok(catalog
                .instances(&name)
                .iter()
                .filter(|instance| has_meta(&instance.node, &params))
                .filter(|instance| has_tags(&instance.service.tags, &params))
                .filter(|instance| !passing || instance.health() == Health::Passing)
                .map(|instance| shape::health_entry(instance, &datacenter))
                .collect())
        },
    )
    .await
}

/// `passing` without a value, with itself, or with a truth value.
fn wants_passing(params: &Params) -> Result<bool, ApiError> {
    if !params.has("passing") {
        return Ok(false);
    }
    match params.get("passing").unwrap_or("") {
        "" | "passing" | "1" | "true" | "t" | "T" | "TRUE" | "True" => Ok(true),
        "0" | "false" | "f" | "F" | "FALSE" | "False" => Ok(false),
        _ => Err(ApiError::bad_request("Invalid value for ?passing")),
    }
}

pub(crate) async fn state(
    State(consul): State<Consul>,
    Path(state): Path<String>,
    params: Params,
) -> Result<Response, ApiError> {
    let wanted = match state.as_str() {
        "any" => None,
        "passing" => Some(Health::Passing),
        "warning" => Some(Health::Warning),
        "critical" => Some(Health::Critical),
        _ => {
            return Err(ApiError::bad_request(
                "Invalid state; use any, passing, warning or critical",
            ));
        }
    };
    from_catalog(&consul, &params, Catalog::index, |catalog| {
        Ok(catalog
            .checks()
            .filter(|check| wanted.is_none_or(|wanted| check.status == wanted))
            .filter(|check| catalog.node(&check.node).is_some_and(|node| has_meta(node, &params)))
            .map(|check| with_tags(catalog, check))
            .collect())
    })
    .await
}

/// A check with the tags of its service, by which fabio finds its routes.
pub(crate) fn with_tags(catalog: &Catalog, check: &CatalogCheck) -> Value {
    let service = catalog.service(&check.node, &check.service_id);
    let tags = service.map_or(&[][..], |service| shape::tags_of(check, service));
    shape::check(check, tags)
}
