//! The catalog's nouns in Consul's JSON.
//!
//! Field names and the rule that lists are never null are Consul's; nothing is decided here.

use cos_model::catalog::{
    CatalogCheck, CatalogNode, CheckDefinition, Health, Instance, Probe, ServiceInstance,
};
use serde_json::{Map, Value, json};

/// The word for a state.
pub(crate) fn status(health: Health) -> &'static str {
    match health {
        Health::Passing => "passing",
        Health::Warning => "warning",
        Health::Critical => "critical",
    }
}

/// A node as catalog and health show it.
pub(crate) fn node(node: &CatalogNode, datacenter: &str) -> Value {
    json!({
        "ID": node.id,
        "Node": &*node.name,
        "Address": node.address,
        "Datacenter": datacenter,
        "TaggedAddresses": tagged_node_addresses(node),
        "Meta": node.meta,
        "CreateIndex": node.create_index,
        "ModifyIndex": node.modify_index,
    })
}

fn tagged_node_addresses(node: &CatalogNode) -> Value {
    if !node.tagged_addresses.is_empty() {
        return json!(node.tagged_addresses);
    }
    let suffix = if node.address.contains(':') { "ipv6" } else { "ipv4" };
    let mut tagged = Map::new();
    for name in ["lan", "wan"] {
        tagged.insert(name.to_owned(), json!(node.address));
        tagged.insert(format!("{name}_{suffix}"), json!(node.address));
    }
    Value::Object(tagged)
}

/// A service as the agent and health endpoints show it.
pub(crate) fn agent_service(service: &ServiceInstance) -> Value {
    json!({
        "ID": &*service.id,
        "Service": &*service.name,
        "Tags": service.tags,
        "Meta": service.meta,
        "Port": service.port,
        "Address": service.address,
        "TaggedAddresses": tagged_service_addresses(service),
        "Weights": { "Passing": service.weight_passing, "Warning": service.weight_warning },
        "EnableTagOverride": service.enable_tag_override,
        "Proxy": { "Mode": "", "MeshGateway": {}, "Expose": {} },
        "Connect": {},
        "CreateIndex": service.create_index,
        "ModifyIndex": service.modify_index,
    })
}

fn tagged_service_addresses(service: &ServiceInstance) -> Value {
    let tagged = service
        .tagged_addresses
        .iter()
        .map(|(name, (address, port))| (name.clone(), json!({ "Address": address, "Port": port })))
        .collect();
    Value::Object(tagged)
}

/// A service instance with its node, as `/v1/catalog/service` shows it.
pub(crate) fn catalog_service(
    node: &CatalogNode,
    service: &ServiceInstance,
    datacenter: &str,
) -> Value {
    json!({
        "ID": node.id,
        "Node": &*node.name,
        "Address": node.address,
        "Datacenter": datacenter,
        "TaggedAddresses": tagged_node_addresses(node),
        "NodeMeta": node.meta,
        "ServiceKind": "",
        "ServiceID": &*service.id,
        "ServiceName": &*service.name,
        "ServiceTags": service.tags,
        "ServiceAddress": service.address,
        "ServiceTaggedAddresses": tagged_service_addresses(service),
        "ServiceWeights": {
            "Passing": service.weight_passing,
            "Warning": service.weight_warning,
        },
        "ServiceMeta": service.meta,
        "ServicePort": service.port,
        "ServiceSocketPath": "",
        "ServiceEnableTagOverride": service.enable_tag_override,
        "ServiceProxy": { "Mode": "", "MeshGateway": {}, "Expose": {} },
        "ServiceConnect": {},
        "CreateIndex": service.create_index,
        "ModifyIndex": service.modify_index,
    })
}

/// A check. `tags` are those of its service.
pub(crate) fn check(check: &CatalogCheck, tags: &[String]) -> Value {
    let (kind, interval, timeout) = match &check.definition {
        Some(definition) => (
            probe_kind(&definition.probe),
            go_duration(definition.interval),
            go_duration(definition.timeout),
        ),
        None => ("", String::new(), String::new()),
    };
    json!({
        "Node": &*check.node,
        "CheckID": &*check.id,
        "Name": check.name,
        "Status": status(check.status),
        "Notes": check.notes,
        "Output": check.output,
        "ServiceID": &*check.service_id,
        "ServiceName": &*check.service_name,
        "ServiceTags": tags,
        "Type": kind,
        "Interval": interval,
        "Timeout": timeout,
        "ExposedPort": 0,
        "Definition": check.definition.as_ref().map_or_else(|| json!({}), definition),
        "CreateIndex": check.create_index,
        "ModifyIndex": check.modify_index,
    })
}

fn probe_kind(probe: &Probe) -> &'static str {
    match probe {
        Probe::Ttl(_) => "ttl",
        Probe::Http { .. } => "http",
        Probe::Tcp(_) => "tcp",
        Probe::Script { .. } => "script",
    }
}

fn definition(definition: &CheckDefinition) -> Value {
    let mut shown = json!({
        "Interval": go_duration(definition.interval),
        "Timeout": go_duration(definition.timeout),
        "DeregisterCriticalServiceAfter": go_duration(definition.deregister_after),
    });
    let specific = match &definition.probe {
        Probe::Ttl(ttl) => json!({ "TTL": go_duration(*ttl) }),
        Probe::Http { url, method, header, body, tls_skip_verify } => json!({
            "HTTP": url,
            "Method": method,
            "Header": header,
            "Body": body,
            "TLSSkipVerify": tls_skip_verify,
        }),
        Probe::Tcp(address) => json!({ "TCP": address }),
        Probe::Script { args, .. } => json!({ "ScriptArgs": args }),
    };
    if let (Value::Object(shown), Value::Object(specific)) = (&mut shown, specific) {
        shown.extend(specific);
    }
    shown
}

/// An instance as `/v1/health/service` shows it.
pub(crate) fn health_entry(instance: &Instance, datacenter: &str) -> Value {
    let checks: Vec<Value> =
        instance.checks.iter().map(|own| check(own, tags_of(own, &instance.service))).collect();
    json!({
        "Node": node(&instance.node, datacenter),
        "Service": agent_service(&instance.service),
        "Checks": checks,
    })
}

/// A node check carries no tags; a service check carries those of its service.
pub(crate) fn tags_of<'a>(check: &CatalogCheck, service: &'a ServiceInstance) -> &'a [String] {
    if check.service_id.is_empty() { &[] } else { &service.tags }
}

/// Writes a duration as Go does: `1h0m0s`, `10s`, `1.5s`, `250ms`, `0s`.
pub(crate) fn go_duration(duration: std::time::Duration) -> String {
    let nanos = duration.as_nanos();
    if nanos == 0 {
        return "0s".to_owned();
    }
    if nanos < 1_000_000_000 {
        let (unit, size) = match nanos {
            0..1_000 => ("ns", 1),
            1_000..1_000_000 => ("µs", 1_000),
            _ => ("ms", 1_000_000),
        };
        return format!("{}{unit}", decimal(nanos, size));
    }
    let minutes = nanos / 60_000_000_000;
    let seconds = format!("{}s", decimal(nanos % 60_000_000_000, 1_000_000_000));
    match (minutes / 60, minutes % 60) {
        (0, 0) => seconds,
        (0, minutes) => format!("{minutes}m{seconds}"),
        (hours, minutes) => format!("{hours}h{minutes}m{seconds}"),
    }
}

/// Writes `value / size` without trailing zeros. `size` is a power of ten.
fn decimal(value: u128, size: u128) -> String {
    let digits = size.ilog10() as usize;
    let fraction = format!("{:0digits$}", value % size);
    let fraction = fraction.trim_end_matches('0');
    if fraction.is_empty() || size == 1 {
        (value / size).to_string()
    } else {
        format!("{}.{fraction}", value / size)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn durations_are_written_as_go_writes_them() {
        for (nanos, expected) in [
            (0, "0s"),
            (1, "1ns"),
            (1_500, "1.5µs"),
            (250_000_000, "250ms"),
            (1_500_000_000, "1.5s"),
            (10_000_000_000, "10s"),
            (90_000_000_000, "1m30s"),
            (5_400_000_000_000, "1h30m0s"),
        ] {
            assert_eq!(go_duration(Duration::from_nanos(nanos)), expected);
        }
    }
}
