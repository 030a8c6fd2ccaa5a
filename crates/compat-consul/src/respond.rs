//! Answers with Consul's headers, and reads of the catalog that wait for something newer.

use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use cos_http::{ApiError, Filter, Params};
use cos_model::catalog::Catalog;
use cos_state::Leadership;
use serde_json::Value;

use crate::Consul;

/// How long a read waits if it does not say.
const WAIT_DEFAULT: Duration = Duration::from_mins(5);
/// How long a read waits at most.
const WAIT_MAX: Duration = Duration::from_mins(10);

/// What every read of this dialect may say.
#[derive(Clone, Debug)]
pub(crate) struct Read {
    /// Answer only with something newer than this; zero answers at once.
    pub(crate) index: u64,
    /// How long to wait for something newer.
    pub(crate) wait: Duration,
    pretty: bool,
}

impl Read {
    pub(crate) fn from_params(params: &Params) -> Result<Self, ApiError> {
        if params.has("stale") && params.has("consistent") {
            return Err(ApiError::bad_request(
                "Cannot specify ?stale with ?consistent, conflicting semantics.",
            ));
        }
        let index = params
            .number("index")
            .map_err(|_bad| ApiError::bad_request("Invalid index"))?
            .unwrap_or(0);
        let wait = params
            .duration("wait")
            .map_err(|_bad| ApiError::bad_request("Invalid wait time"))?
            .filter(|wait| !wait.is_zero())
            .unwrap_or(WAIT_DEFAULT);
        Ok(Self { index, wait: wait.min(WAIT_MAX), pretty: cos_http::params::is_pretty(params) })
    }
}

/// Refuses a request for another datacenter or namespace than the one there is.
pub(crate) fn check_place(consul: &Consul, params: &Params) -> Result<(), ApiError> {
    let here = consul.api.agent.identity().region;
    if let Some(datacenter) = params.text("dc")
        && datacenter != here
    {
        return Err(ApiError::internal("No path to datacenter"));
    }
    if let Some(namespace) = params.text("ns")
        && namespace != "default"
    {
        return Err(ApiError::bad_request(
            "Invalid query parameter: \"ns\" - Namespaces are a Consul Enterprise feature",
        ));
    }
    Ok(())
}

/// Reads the catalog until `index_of` exceeds what the request knows, and answers with JSON.
pub(crate) async fn from_catalog(
    consul: &Consul,
    params: &Params,
    index_of: impl Fn(&Catalog) -> u64,
    read: impl Fn(&Catalog) -> Result<Value, ApiError>,
) -> Result<Response, ApiError> {
    let filter = filter(params)?;
    from_catalog_whole(consul, params, index_of, |catalog| {
        Ok(filtered(filter.as_ref(), read(catalog)?))
    })
    .await
}

/// As [`from_catalog`], for an answer whose `filter` is about something else than its items.
pub(crate) async fn from_catalog_whole(
    consul: &Consul,
    params: &Params,
    index_of: impl Fn(&Catalog) -> u64,
    read: impl Fn(&Catalog) -> Result<Value, ApiError>,
) -> Result<Response, ApiError> {
    check_place(consul, params)?;
    let options = Read::from_params(params)?;
    let (index, catalog) = newer(consul, &options, index_of).await;
    Ok(json(&read(&catalog)?, index, options.pretty))
}

/// Waits for something newer than the request knows. Returns the index, never zero, and the catalog.
pub(crate) async fn newer(
    consul: &Consul,
    options: &Read,
    index_of: impl Fn(&Catalog) -> u64,
) -> (u64, Arc<Catalog>) {
    let mut watching = consul.discovery.catalog();
    let stopping = consul.api.tasks.stopping();
    let deadline = tokio::time::sleep(options.wait);
    tokio::pin!(deadline);
    let mut over = options.index == 0;
    loop {
        let catalog = Arc::clone(&watching.borrow_and_update());
        let index = index_of(&catalog).max(1);
        if over || index > options.index {
            return (index, catalog);
        }
        // Every arm may be dropped: the watch keeps the newest value, and the loop reads anew.
        tokio::select! {
            changed = watching.changed() => over = changed.is_err(),
            () = &mut deadline => over = true,
            () = stopping.cancelled() => over = true,
        }
    }
}

/// Reads the `filter` parameter, if there is one.
pub(crate) fn filter(params: &Params) -> Result<Option<Filter>, ApiError> {
    let parse = |text| {
        Filter::parse(text).map_err(|error| {
            ApiError::bad_request(format!("Failed to create boolean expression evaluator: {error}"))
        })
    };
    params.text("filter").map(parse).transpose()
}

/// Keeps what a filter wants of a list or of a map's values.
pub(crate) fn filtered(filter: Option<&Filter>, value: Value) -> Value {
    let Some(filter) = filter else { return value };
    match value {
        Value::Array(items) => {
            Value::Array(items.into_iter().filter(|item| filter.matches(item)).collect())
        }
        Value::Object(items) => {
            Value::Object(items.into_iter().filter(|(_, item)| filter.matches(item)).collect())
        }
        other => other,
    }
}

/// Answers with JSON at an index.
pub(crate) fn json(value: &Value, index: u64, pretty: bool) -> Response {
    let mut response = plain_json(value, pretty);
    response.headers_mut().extend(index_headers(index));
    response
}

/// Answers with JSON that has no index.
pub(crate) fn plain_json(value: &Value, pretty: bool) -> Response {
    let body = if pretty {
        let mut bytes = Vec::new();
        let indent = serde_json::ser::PrettyFormatter::with_indent(b"    ");
        let mut writer = serde_json::Serializer::with_formatter(&mut bytes, indent);
        serde::Serialize::serialize(value, &mut writer)
            .expect("a JSON value can be written to memory");
        bytes.push(b'\n');
        bytes
    } else {
        value.to_string().into_bytes()
    };
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

/// The headers of a read of this agent's own copy, which says nothing about servers.
pub(crate) fn index_headers(index: u64) -> HeaderMap {
    headers(index, true, Duration::ZERO)
}

/// The headers of a read that a server answers: how old it may be if it is stale.
pub(crate) fn server_headers(index: u64, leadership: &Leadership) -> HeaderMap {
    headers(index, leadership.leader_id.is_some(), leadership.last_contact)
}

fn headers(index: u64, known_leader: bool, last_contact: Duration) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let number = |number: u64| HeaderValue::from(number.max(1));
    headers.insert(HeaderName::from_static("x-consul-index"), number(index));
    headers.insert(
        HeaderName::from_static("x-consul-knownleader"),
        HeaderValue::from_static(if known_leader { "true" } else { "false" }),
    );
    let contact = u64::try_from(last_contact.as_millis()).unwrap_or(u64::MAX);
    headers.insert(HeaderName::from_static("x-consul-lastcontact"), HeaderValue::from(contact));
    headers
}
