//! Registering: services, checks and nodes, from the agent's and from the catalog's side.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use cos_http::body::RawBody;
use cos_http::{ApiError, Params};
use cos_model::catalog::{
    Catalog, CatalogChange, CatalogCheck, CatalogNode, Health, ServiceInstance,
};
use serde_json::{Value, json};

use crate::Consul;
use crate::decode::{Fields, Loose, wrong};
use crate::respond::plain_json;

mod definition;

/// Pairs of facts that one service may have.
const META_PAIRS_MAX: usize = 64;
/// Bytes of one fact's key.
const META_KEY_BYTES_MAX: usize = 128;
/// Bytes of one fact's value.
const META_VALUE_BYTES_MAX: usize = 512;

pub(crate) async fn service(
    State(consul): State<Consul>,
    params: Params,
    body: RawBody,
) -> Result<StatusCode, ApiError> {
    let fields = Fields::parse(&body.0)?;
    let node: Arc<str> = consul.api.agent.identity().name.into();
    let catalog = consul.discovery.catalog().borrow().clone();
    let name = fields.text("Name")?;
    if name.is_empty() {
        return Err(ApiError::bad_request("Missing service name"));
    }
    let service = instance(&fields, Arc::clone(&node), &name)?;
    let mut definitions = fields.objects("Checks")?;
    definitions.extend(fields.object("Check")?);
    let mut checks = Vec::new();
    let count = definitions.len();
    for (number, definition) in (1..).zip(&definitions) {
        let default_id = if count == 1 {
            format!("service:{}", service.id)
        } else {
            format!("service:{}:{number}", service.id)
        };
        let owner = (Arc::clone(&service.id), Arc::clone(&service.name));
        let allowed = consul.discovery.allows_scripts();
        let mut check =
            definition::check(definition, Arc::clone(&node), owner, &default_id, allowed)?;
        keep_state(&catalog, &mut check);
        checks.push(check);
    }
    let mut changes = Vec::new();
    if params.has("replace-existing-checks") {
        let kept = |id: &str| checks.iter().any(|check| *check.id == *id);
        changes.extend(
            catalog.checks_of_service(&node, &service.id).filter(|check| !kept(&check.id)).map(
                |check| CatalogChange::RemoveCheck {
                    node: Arc::clone(&node),
                    id: Arc::clone(&check.id),
                },
            ),
        );
    }
    changes.push(CatalogChange::PutService(service));
    changes.extend(checks.into_iter().map(CatalogChange::PutCheck));
    apply(&consul, changes).await?;
    Ok(StatusCode::OK)
}

/// Registering again keeps what the check found so far, so that a service that registers itself
/// every second does not flap.
fn keep_state(catalog: &Catalog, check: &mut CatalogCheck) {
    if let Some(old) = catalog.check(&check.node, &check.id)
        && old.definition == check.definition
    {
        check.status = old.status;
        check.output.clone_from(&old.output);
    }
}

fn instance(fields: &Fields, node: Arc<str>, name: &str) -> Result<ServiceInstance, ApiError> {
    let id = fields.text("ID")?;
    let address = fields.text("Address")?;
    if matches!(address.as_str(), "0.0.0.0" | "::" | "[::]") {
        return Err(ApiError::bad_request("Invalid service address"));
    }
    let meta = fields.text_map("Meta")?;
    check_meta(&meta)?;
    let weights = fields.object("Weights")?.unwrap_or_default();
    let mut tagged = BTreeMap::new();
    if let Some(Value::Object(map)) = fields.raw("TaggedAddresses") {
        for (name, place) in map {
            let bytes = place.to_string();
            let place = Fields::parse(bytes.as_bytes())?;
            let port = place.number("Port")?.unwrap_or(0);
            tagged.insert(name.clone(), (place.text("Address")?, port));
        }
    }
    Ok(ServiceInstance {
        node,
        id: if id.is_empty() { name.into() } else { id.into() },
        name: name.into(),
        tags: fields.texts("Tags")?,
        address,
        port: fields.number("Port")?.unwrap_or(0),
        meta,
        tagged_addresses: tagged,
        weight_passing: weights.number("Passing")?.unwrap_or(1),
        weight_warning: weights.number("Warning")?.unwrap_or(1),
        enable_tag_override: fields.flag("EnableTagOverride")?,
        create_index: 0,
        modify_index: 0,
    })
}

fn check_meta(meta: &BTreeMap<String, String>) -> Result<(), ApiError> {
    if meta.len() > META_PAIRS_MAX {
        return Err(ApiError::bad_request(format!(
            "Invalid Service Meta: Node metadata cannot contain more than {META_PAIRS_MAX} key/value pairs"
        )));
    }
    let plain = |key: &str| {
        key.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    for (key, value) in meta {
        let fits = key.len() <= META_KEY_BYTES_MAX && value.len() <= META_VALUE_BYTES_MAX;
        if !fits || !plain(key) || key.is_empty() {
            return Err(wrong(
                &format!("Meta[{key}]"),
                "a key of letters, digits, - and _ up to 128 bytes, a value up to 512 bytes",
            ));
        }
    }
    Ok(())
}

pub(crate) async fn remove_service(
    State(consul): State<Consul>,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    let node: Arc<str> = consul.api.agent.identity().name.into();
    let known = consul.discovery.catalog().borrow().service(&node, &id).is_some();
    if !known {
        return Err(ApiError::not_found(format!(
            "Unknown service ID \"{id}\". Ensure that the service ID is passed, not the service name."
        )));
    }
    apply(&consul, vec![CatalogChange::RemoveService { node, id: id.into() }]).await?;
    Ok(StatusCode::OK)
}

pub(crate) async fn check(
    State(consul): State<Consul>,
    body: RawBody,
) -> Result<StatusCode, ApiError> {
    let fields = Fields::parse(&body.0)?;
    let node: Arc<str> = consul.api.agent.identity().name.into();
    let catalog = consul.discovery.catalog().borrow().clone();
    let name = fields.text("Name")?;
    if name.is_empty() {
        return Err(ApiError::bad_request("Missing check name"));
    }
    let service_id: Arc<str> = fields.text("ServiceID")?.into();
    let service_name = match catalog.service(&node, &service_id) {
        Some(service) => Arc::clone(&service.name),
        None if service_id.is_empty() => Arc::from(""),
        None => {
            return Err(ApiError::not_found(format!("ServiceID \"{service_id}\" does not exist")));
        }
    };
    let allowed = consul.discovery.allows_scripts();
    let owner = (service_id, service_name);
    let mut check = definition::check(&fields, node, owner, &name, allowed)?;
    keep_state(&catalog, &mut check);
    apply(&consul, vec![CatalogChange::PutCheck(check)]).await?;
    Ok(StatusCode::OK)
}

pub(crate) async fn remove_check(
    State(consul): State<Consul>,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    let node: Arc<str> = consul.api.agent.identity().name.into();
    let known = consul.discovery.catalog().borrow().check(&node, &id).is_some();
    if !known {
        return Err(ApiError::not_found(format!(
            "Unknown check ID \"{id}\". Ensure that the check ID is passed, not the check name."
        )));
    }
    apply(&consul, vec![CatalogChange::RemoveCheck { node, id: id.into() }]).await?;
    Ok(StatusCode::OK)
}

pub(crate) async fn service_maintenance(
    State(consul): State<Consul>,
    Path(id): Path<String>,
    params: Params,
) -> Result<StatusCode, ApiError> {
    let node: Arc<str> = consul.api.agent.identity().name.into();
    let catalog = consul.discovery.catalog().borrow().clone();
    let Some(service) = catalog.service(&node, &id).cloned() else {
        return Err(ApiError::not_found(format!(
            "Unknown service ID \"{id}\". Ensure that the service ID is passed, not the service name."
        )));
    };
    let check = format!("_service_maintenance:{id}");
    let owner = (Arc::clone(&service.id), Arc::clone(&service.name));
    maintain(&consul, &params, node, &check, owner, "Service Maintenance Mode").await
}

pub(crate) async fn node_maintenance(
    State(consul): State<Consul>,
    params: Params,
) -> Result<StatusCode, ApiError> {
    let node: Arc<str> = consul.api.agent.identity().name.into();
    let owner = (Arc::from(""), Arc::from(""));
    maintain(&consul, &params, node, "_node_maintenance", owner, "Node Maintenance Mode").await
}

/// Maintenance is a check that stays critical until it is ended.
async fn maintain(
    consul: &Consul,
    params: &Params,
    node: Arc<str>,
    id: &str,
    owner: (Arc<str>, Arc<str>),
    name: &str,
) -> Result<StatusCode, ApiError> {
    let enable = match params.text("enable") {
        Some("true" | "1") => true,
        Some("false" | "0") => false,
        Some(other) => {
            return Err(ApiError::bad_request(format!("Invalid value for enable: {other:?}")));
        }
        None => return Err(ApiError::bad_request("Missing value for enable")),
    };
    let change = if enable {
        let reason = params.text("reason").unwrap_or("Maintenance mode is enabled for this node");
        CatalogChange::PutCheck(CatalogCheck {
            node,
            id: id.into(),
            name: name.to_owned(),
            status: Health::Critical,
            notes: reason.to_owned(),
            output: String::new(),
            service_id: owner.0,
            service_name: owner.1,
            definition: None,
            create_index: 0,
            modify_index: 0,
        })
    } else {
        if consul.discovery.catalog().borrow().check(&node, id).is_none() {
            return Ok(StatusCode::OK);
        }
        CatalogChange::RemoveCheck { node, id: id.into() }
    };
    apply(consul, vec![change]).await?;
    Ok(StatusCode::OK)
}

pub(crate) async fn catalog_register(
    State(consul): State<Consul>,
    body: RawBody,
) -> Result<Response, ApiError> {
    let fields = Fields::parse(&body.0)?;
    let node: Arc<str> = fields.text("Node")?.into();
    let address = fields.text("Address")?;
    let skip_node = fields.flag("SkipNodeUpdate")?;
    if node.is_empty() || (address.is_empty() && !skip_node) {
        return Err(ApiError::bad_request("Must provide node and address"));
    }
    let mut changes = Vec::new();
    if !skip_node {
        changes.push(CatalogChange::PutNode(CatalogNode {
            name: Arc::clone(&node),
            id: fields.text("ID")?,
            address,
            tagged_addresses: fields.text_map("TaggedAddresses")?,
            meta: fields.text_map("NodeMeta")?,
            create_index: 0,
            modify_index: 0,
        }));
    }
    if let Some(service) = fields.object("Service")? {
        let name = service.text("Service")?;
        if name.is_empty() {
            return Err(ApiError::bad_request("Must provide service name with ID"));
        }
        let instance = instance(&service, Arc::clone(&node), &name)?;
        changes.push(CatalogChange::PutService(instance));
    }
    let mut checks = fields.objects("Checks")?;
    checks.extend(fields.object("Check")?);
    for check in &checks {
        changes.push(CatalogChange::PutCheck(definition::reported(check, Arc::clone(&node))?));
    }
    apply(&consul, changes).await?;
    Ok(plain_json(&json!(true), false))
}

pub(crate) async fn catalog_deregister(
    State(consul): State<Consul>,
    body: RawBody,
) -> Result<Response, ApiError> {
    let fields = Fields::parse(&body.0)?;
    let node: Arc<str> = fields.text("Node")?.into();
    if node.is_empty() {
        return Err(ApiError::bad_request("Must provide node"));
    }
    let (service, check) = (fields.text("ServiceID")?, fields.text("CheckID")?);
    let change = if !service.is_empty() {
        CatalogChange::RemoveService { node, id: service.into() }
    } else if !check.is_empty() {
        CatalogChange::RemoveCheck { node, id: check.into() }
    } else {
        CatalogChange::RemoveNode { node }
    };
    // What is not there needs no removing: the wish is fulfilled either way.
    consul.discovery.change(vec![change]).await?;
    Ok(plain_json(&json!(true), false))
}

/// Makes the changes; the first refusal is the answer.
async fn apply(consul: &Consul, changes: Vec<CatalogChange>) -> Result<(), ApiError> {
    let refused = consul.discovery.change(changes).await?;
    match refused.into_values().next() {
        None => Ok(()),
        Some(reason) => Err(ApiError::internal(reason)),
    }
}
