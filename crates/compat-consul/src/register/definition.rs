//! What a check definition says.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use cos_http::ApiError;
use cos_model::catalog::{CatalogCheck, CheckDefinition, Health, Probe};
use serde_json::Value;

use crate::decode::{Fields, Loose, wrong};

/// The shortest interval; a shorter one is raised to it, as Consul does.
const INTERVAL_MIN: Duration = Duration::from_secs(1);
/// The timeout of an HTTP or TCP check that states none.
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);
/// The timeout of a script that states none.
const SCRIPT_TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);
/// The shortest time before a critical service is deregistered; a shorter one is raised to it.
const DEREGISTER_AFTER_MIN: Duration = Duration::from_mins(1);
/// Kinds of checks that exist and are not run here.
const KINDS_REFUSED: [&str; 6] =
    ["GRPC", "UDP", "H2PING", "DockerContainerID", "AliasService", "OSService"];

/// Reads a check that the agent is to run.
pub(super) fn check(
    fields: &Fields,
    node: Arc<str>,
    owner: (Arc<str>, Arc<str>),
    default_id: &str,
    scripts_allowed: bool,
) -> Result<CatalogCheck, ApiError> {
    let definition = definition(fields, scripts_allowed)?;
    let id = match fields.text("CheckID")? {
        id if id.is_empty() => match fields.text("ID")? {
            id if id.is_empty() => default_id.to_owned(),
            id => id,
        },
        id => id,
    };
    let name = match fields.text("Name")? {
        name if name.is_empty() => format!("Service '{}' check", owner.1),
        name => name,
    };
    Ok(CatalogCheck {
        node,
        id: id.into(),
        name,
        status: status(fields)?,
        notes: fields.text("Notes")?,
        output: String::new(),
        service_id: owner.0,
        service_name: owner.1,
        definition: Some(definition),
        create_index: 0,
        modify_index: 0,
    })
}

/// Reads a check that somebody else runs and only reports.
pub(super) fn reported(fields: &Fields, node: Arc<str>) -> Result<CatalogCheck, ApiError> {
    let name = fields.text("Name")?;
    let id = match fields.text("CheckID")? {
        id if id.is_empty() => name.clone(),
        id => id,
    };
    if id.is_empty() {
        return Err(ApiError::bad_request("Must provide check name or CheckID"));
    }
    Ok(CatalogCheck {
        node,
        id: id.into(),
        name,
        status: status(fields)?,
        notes: fields.text("Notes")?,
        output: fields.text("Output")?,
        service_id: fields.text("ServiceID")?.into(),
        service_name: fields.text("ServiceName")?.into(),
        definition: None,
        create_index: 0,
        modify_index: 0,
    })
}

fn status(fields: &Fields) -> Result<Health, ApiError> {
    match fields.text("Status")?.as_str() {
        "passing" => Ok(Health::Passing),
        "warning" => Ok(Health::Warning),
        "critical" | "" => Ok(Health::Critical),
        _ => Err(wrong("Status", "passing, warning or critical")),
    }
}

fn definition(fields: &Fields, scripts_allowed: bool) -> Result<CheckDefinition, ApiError> {
    if let Some(kind) = KINDS_REFUSED.iter().find(|kind| fields.raw(kind).is_some()) {
        return Err(ApiError::bad_request(format!("cos does not support {kind} checks yet")));
    }
    let ttl = fields.duration("TTL")?;
    let (url, tcp) = (fields.text("HTTP")?, fields.text("TCP")?);
    let args = match fields.texts("Args")? {
        args if args.is_empty() => fields.texts("ScriptArgs")?,
        args => args,
    };
    let kinds = [!ttl.is_zero(), !url.is_empty(), !tcp.is_empty(), !args.is_empty()];
    if kinds.iter().filter(|given| **given).count() != 1 {
        return Err(ApiError::bad_request(
            "Invalid check: exactly one of TTL, HTTP, TCP and Args must be given",
        ));
    }
    let interval = fields.duration("Interval")?;
    if ttl.is_zero() && interval.is_zero() {
        return Err(ApiError::bad_request("Invalid check: Interval must be > 0 for this check"));
    }
    let (probe, default) = if !ttl.is_zero() {
        (Probe::Ttl(ttl), Duration::ZERO)
    } else if !url.is_empty() {
        (http(fields, url)?, TIMEOUT_DEFAULT)
    } else if !tcp.is_empty() {
        (Probe::Tcp(tcp), TIMEOUT_DEFAULT)
    } else if scripts_allowed {
        (Probe::Script { args, target: String::new() }, SCRIPT_TIMEOUT_DEFAULT)
    } else {
        return Err(ApiError::bad_request(
            "Scripts are disabled on this agent; to enable, configure 'enable_script_checks' or \
             'enable_local_script_checks' to true",
        ));
    };
    let timeout = fields.duration("Timeout")?;
    let after = fields.duration("DeregisterCriticalServiceAfter")?;
    Ok(CheckDefinition {
        probe,
        interval: if interval.is_zero() { interval } else { interval.max(INTERVAL_MIN) },
        timeout: if timeout.is_zero() { default } else { timeout },
        deregister_after: if after.is_zero() { after } else { after.max(DEREGISTER_AFTER_MIN) },
        success_before_passing: fields.number("SuccessBeforePassing")?.unwrap_or(0),
        failures_before_critical: fields.number("FailuresBeforeCritical")?.unwrap_or(0),
    })
}

fn http(fields: &Fields, url: String) -> Result<Probe, ApiError> {
    let mut header = BTreeMap::new();
    match fields.raw("Header") {
        None => {}
        Some(Value::Object(map)) => {
            for (name, values) in map {
                let values = match values {
                    Value::String(one) => Some(vec![one.clone()]),
                    Value::Array(all) => {
                        all.iter().map(|value| value.as_str().map(str::to_owned)).collect()
                    }
                    _ => None,
                };
                let values = values.ok_or_else(|| wrong("Header", "a map of lists of texts"))?;
                header.insert(name.clone(), values);
            }
        }
        Some(_) => return Err(wrong("Header", "a map of lists of texts")),
    }
    let method = match fields.text("Method")? {
        method if method.is_empty() => "GET".to_owned(),
        method => method.to_uppercase(),
    };
    Ok(Probe::Http {
        url,
        method,
        header,
        body: fields.text("Body")?,
        tls_skip_verify: fields.flag("TLSSkipVerify")?,
    })
}
