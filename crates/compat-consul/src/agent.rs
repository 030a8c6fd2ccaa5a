//! `/v1/agent`, reading: this agent, the members, and what is registered here.

use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use cos_http::{ApiError, Params};
use cos_model::catalog::{ALIVE_CHECK, Catalog, CatalogNode, Health, Instance};
use cos_model::version;
use serde_json::{Map, Value, json};

use crate::catalog::datacenter;
use crate::health::with_tags;
use crate::respond::{from_catalog, plain_json};
use crate::{Consul, shape};

/// Name and id of the service that every server registers; it tells servers from clients. Nobody
/// registered it at the agent, so only the catalog lists it.
const SERVER_SERVICE: &str = "consul";

pub(crate) async fn itself(State(consul): State<Consul>, params: Params) -> Response {
    let identity = consul.api.agent.identity();
    let catalog = consul.discovery.catalog().borrow().clone();
    let node = catalog.node(&identity.name).cloned();
    let id = node.as_ref().map_or("", |node| node.id.as_str());
    let member = node.as_ref().map_or(Value::Null, |node| member(&consul, &catalog, node));
    let mut stats = consul.api.agent.stats();
    // Who leads is the same for both dialects, which look for it under their own names.
    if let Some(leadership) = stats.remove("nomad") {
        stats.insert("consul".to_owned(), leadership);
    }
    let answer = json!({
        "Config": {
            "Datacenter": identity.region,
            "PrimaryDatacenter": identity.region,
            "NodeName": identity.name,
            "NodeID": id,
            "Revision": format!("cos {}", version::COS),
            "Server": identity.is_server,
            "Version": version::CONSUL,
            "BuildDate": "1970-01-01T00:00:01Z",
        },
        "DebugConfig": {},
        "Coord": { "Vec": [0, 0, 0, 0, 0, 0, 0, 0], "Error": 1.5, "Adjustment": 0, "Height": 0.00001 },
        "Member": member,
        "Stats": stats,
        "Meta": node.map_or_else(Default::default, |node| node.meta.clone()),
    });
    plain_json(&answer, cos_http::params::is_pretty(&params))
}

pub(crate) async fn members(State(consul): State<Consul>, params: Params) -> Response {
    let catalog = consul.discovery.catalog().borrow().clone();
    let members: Vec<Value> = catalog.nodes().map(|node| member(&consul, &catalog, node)).collect();
    plain_json(&Value::Array(members), cos_http::params::is_pretty(&params))
}

/// Status numbers of members: alive and failed.
const ALIVE: u8 = 1;
const FAILED: u8 = 4;

fn member(consul: &Consul, catalog: &Catalog, node: &CatalogNode) -> Value {
    let server = catalog.services_on(&node.name).find(|own| &*own.name == SERVER_SERVICE);
    let dead = catalog
        .check(&node.name, ALIVE_CHECK)
        .is_some_and(|check| check.status == Health::Critical);
    let mut tags = json!({
        "role": if server.is_some() { "consul" } else { "node" },
        "dc": datacenter(consul),
        "id": node.id,
        "build": version::CONSUL,
        "vsn": "2",
        "vsn_min": "2",
        "vsn_max": "3",
    });
    if let (Some(server), Value::Object(tags)) = (server, &mut tags) {
        tags.insert("port".to_owned(), json!(server.port.to_string()));
    }
    json!({
        "Name": &*node.name,
        "Addr": node.address,
        "Port": server.map_or(0, |server| server.port),
        "Tags": tags,
        "Status": if dead { FAILED } else { ALIVE },
        "ProtocolMin": 1,
        "ProtocolMax": 5,
        "ProtocolCur": 2,
        "DelegateMin": 2,
        "DelegateMax": 5,
        "DelegateCur": 4,
    })
}

pub(crate) async fn services(
    State(consul): State<Consul>,
    params: Params,
) -> Result<Response, ApiError> {
    let identity = consul.api.agent.identity();
    from_catalog(&consul, &params, Catalog::index, |catalog| {
        let services: Map<String, Value> = catalog
            .services_on(&identity.name)
            .filter(|service| &*service.id != SERVER_SERVICE)
            .map(|service| {
                let mut shown = shape::agent_service(service);
                shown["Datacenter"] = json!(identity.region);
                (service.id.to_string(), shown)
            })
            .collect();
        Ok(Value::Object(services))
    })
    .await
}

pub(crate) async fn service(
    State(consul): State<Consul>,
    Path(id): Path<String>,
    params: Params,
) -> Result<Response, ApiError> {
    let identity = consul.api.agent.identity();
    from_catalog(&consul, &params, Catalog::index, |catalog| {
        let service = catalog
            .service(&identity.name, &id)
            .ok_or_else(|| ApiError::not_found(format!("unknown service ID: {id}")))?;
        let mut shown = shape::agent_service(service);
        shown["Datacenter"] = json!(identity.region);
        shown["ContentHash"] = json!(format!("{:016x}", service.modify_index));
        Ok(shown)
    })
    .await
}

pub(crate) async fn checks(
    State(consul): State<Consul>,
    params: Params,
) -> Result<Response, ApiError> {
    let identity = consul.api.agent.identity();
    from_catalog(&consul, &params, Catalog::index, |catalog| {
        let checks: Map<String, Value> = catalog
            .checks_on(&identity.name)
            .map(|check| (check.id.to_string(), with_tags(catalog, check)))
            .collect();
        Ok(Value::Object(checks))
    })
    .await
}

pub(crate) async fn health_by_id(
    State(consul): State<Consul>,
    Path(id): Path<String>,
    params: Params,
    headers: HeaderMap,
) -> Response {
    let catalog = consul.discovery.catalog().borrow().clone();
    let name = consul.api.agent.identity().name;
    let Some(instance) = catalog.instance(&name, &id) else {
        return (StatusCode::NOT_FOUND, format!("ServiceId {id} not found")).into_response();
    };
    let body = aggregated(&catalog, &instance);
    in_words(instance.health(), &body, &params, &headers)
}

pub(crate) async fn health_by_name(
    State(consul): State<Consul>,
    Path(name): Path<String>,
    params: Params,
    headers: HeaderMap,
) -> Response {
    let catalog = consul.discovery.catalog().borrow().clone();
    let own = consul.api.agent.identity().name;
    let instances: Vec<Instance> = catalog
        .instances(&name)
        .into_iter()
        .filter(|instance| *instance.node.name == *own)
        .collect();
    let Some(worst) = instances.iter().map(Instance::health).max() else {
        return (StatusCode::NOT_FOUND, format!("ServiceName {name} Not Found")).into_response();
    };
    let body: Value = instances.iter().map(|instance| aggregated(&catalog, instance)).collect();
    in_words(worst, &body, &params, &headers)
}

fn aggregated(catalog: &Catalog, instance: &Instance) -> Value {
    let checks: Vec<Value> =
        instance.checks.iter().map(|check| with_tags(catalog, check)).collect();
    json!({
        "AggregatedStatus": shape::status(instance.health()),
        "Service": shape::agent_service(&instance.service),
        "Checks": checks,
    })
}

/// The status code says how the service is; the body may be the bare word.
fn in_words(health: Health, body: &Value, params: &Params, headers: &HeaderMap) -> Response {
    let code = match health {
        Health::Passing => StatusCode::OK,
        Health::Warning => StatusCode::TOO_MANY_REQUESTS,
        Health::Critical => StatusCode::SERVICE_UNAVAILABLE,
    };
    let accepts_text = headers
        .get(header::ACCEPT)
        .is_some_and(|accept| accept.as_bytes().starts_with(b"text/plain"));
    if params.text("format") == Some("text") || accepts_text {
        return (code, shape::status(health)).into_response();
    }
    let mut response = plain_json(body, cos_http::params::is_pretty(params));
    *response.status_mut() = code;
    response
}
