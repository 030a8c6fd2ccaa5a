//! `/v1/catalog`: what exists, healthy or not.

use std::collections::{BTreeMap, BTreeSet};

use axum::extract::{Path, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use cos_http::{ApiError, Filter, Params};
use cos_model::catalog::{Catalog, CatalogNode};
use serde_json::{Value, json};

use crate::respond::{
    Read, filter, filtered, from_catalog, from_catalog_whole, index_headers, newer, plain_json,
};
use crate::{Consul, shape};

/// The one datacenter of this dialect is the region.
pub(crate) fn datacenter(consul: &Consul) -> String {
    consul.api.agent.identity().region
}

pub(crate) async fn datacenters(State(consul): State<Consul>) -> Response {
    plain_json(&json!([datacenter(&consul)]), false)
}

pub(crate) async fn nodes(
    State(consul): State<Consul>,
    params: Params,
) -> Result<Response, ApiError> {
    let datacenter = datacenter(&consul);
    from_catalog(&consul, &params, Catalog::nodes_index, |catalog| {
        let wanted = catalog.nodes().filter(|node| has_meta(node, &params));
        Ok(wanted.map(|node| shape::node(node, &datacenter)).collect())
    })
    .await
}

pub(crate) async fn services(
    State(consul): State<Consul>,
    params: Params,
) -> Result<Response, ApiError> {
    let datacenter = datacenter(&consul);
    let filter = filter(&params)?;
    // A filter may ask for any field of an instance, so any change of one may matter to it.
    let index_of = if filter.is_some() { Catalog::index } else { Catalog::names_index };
    from_catalog_whole(&consul, &params, index_of, |catalog| {
        let mut tags: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for service in catalog.services() {
            let Some(node) = catalog.node(&service.node) else { continue };
            let is_wanted = |filter: &Filter| {
                filter.matches(&shape::catalog_service(node, service, &datacenter))
            };
            if has_meta(node, &params) && filter.as_ref().is_none_or(is_wanted) {
                let all = tags.entry(&service.name).or_default();
                all.extend(service.tags.iter().map(String::as_str));
            }
        }
        Ok(json!(tags))
    })
    .await
}

pub(crate) async fn missing_service() -> ApiError {
    ApiError::bad_request("Missing service name")
}

pub(crate) async fn service(
    State(consul): State<Consul>,
    Path(name): Path<String>,
    params: Params,
) -> Result<Response, ApiError> {
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
                .map(|found| shape::catalog_service(&found.node, &found.service, &datacenter))
                .collect())
        },
    )
    .await
}

pub(crate) async fn node(
    State(consul): State<Consul>,
    Path(name): Path<String>,
    params: Params,
) -> Result<Response, ApiError> {
    let datacenter = datacenter(&consul);
    let filter = filter(&params)?;
    from_catalog_whole(&consul, &params, Catalog::index, |catalog| {
        let Some(node) = find_node(catalog, &name) else { return Ok(Value::Null) };
        let services = catalog
            .services_on(&node.name)
            .map(|service| (service.id.to_string(), shape::agent_service(service)))
            .collect();
        let services = filtered(filter.as_ref(), Value::Object(services));
        Ok(json!({ "Node": shape::node(node, &datacenter), "Services": services }))
    })
    .await
}

pub(crate) async fn node_services(
    State(consul): State<Consul>,
    Path(name): Path<String>,
    params: Params,
) -> Result<Response, ApiError> {
    let datacenter = datacenter(&consul);
    let filter = filter(&params)?;
    from_catalog_whole(&consul, &params, Catalog::index, |catalog| {
        let Some(node) = find_node(catalog, &name) else { return Ok(Value::Null) };
        let services =
            catalog.services_on(&node.name).map(|service| shape::agent_service(service)).collect();
        let services = filtered(filter.as_ref(), Value::Array(services));
        Ok(json!({ "Node": shape::node(node, &datacenter), "Services": services }))
    })
    .await
}

/// cos's own: the whole catalog in the form that agents exchange, for an ingress that runs as a job.
pub(crate) async fn whole(
    State(consul): State<Consul>,
    params: Params,
) -> Result<Response, ApiError> {
    let options = Read::from_params(&params)?;
    let (index, catalog) = newer(&consul, &options, Catalog::index).await;
    let body = rmp_serde::to_vec_named(&*catalog)
        .map_err(|error| ApiError::internal(format!("cannot encode the catalog: {error}")))?;
    let kind = [(header::CONTENT_TYPE, "application/octet-stream")];
    Ok((kind, index_headers(index), body).into_response())
}

/// A node by its name, or by its id.
pub(crate) fn find_node<'a>(
    catalog: &'a Catalog,
    name: &str,
) -> Option<&'a std::sync::Arc<CatalogNode>> {
    catalog.node(name).or_else(|| catalog.nodes().find(|node| node.id == name))
}

/// Whether a node has every `node-meta=key:value` of the request.
pub(crate) fn has_meta(node: &CatalogNode, params: &Params) -> bool {
    params.all("node-meta").all(|pair| {
        let (key, value) = pair.split_once(':').unwrap_or((pair, ""));
        node.meta.get(key).is_some_and(|own| own == value)
    })
}

/// Whether a service has every `tag` of the request.
pub(crate) fn has_tags(tags: &[String], params: &Params) -> bool {
    params
        .all("tag")
        .filter(|wanted| !wanted.is_empty())
        .all(|wanted| tags.iter().any(|tag| tag.eq_ignore_ascii_case(wanted)))
}
