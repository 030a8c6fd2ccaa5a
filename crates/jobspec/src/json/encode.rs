//! Jobs and groups as JSON.

use cos_model::job::Scaling;
use cos_model::{
    Affinity, Constraint, DelayFunction, Disconnect, Extras, HealthCheckKind, Job, Migrate,
    Network, Periodic, Port, Reschedule, Restart, RestartMode, Spread, TaskGroup, Update,
};
use serde_json::{Map, Value as Json, json};

use super::encode_task::{service, task};
use super::value_to_json;
use crate::duration::to_nanos;

/// Writes a job as Nomad's API shows it: every field, empty lists and maps as null, durations in
/// nanoseconds.
pub fn job_to_json(job: &Job) -> Json {
    let fields = json!({
        "Stop": job.stop,
        "Region": job.region,
        "Namespace": job.key.namespace,
        "ID": job.key.id,
        "ParentID": job.parent_id,
        "Name": job.name,
        "Type": job.kind.name(),
        "Priority": job.priority,
        "AllAtOnce": job.all_at_once,
        "Datacenters": job.datacenters,
        "NodePool": job.node_pool,
        "Constraints": list(&job.constraints, constraint),
        "Affinities": list(&job.affinities, affinity),
        "Spreads": list(&job.spreads, spread),
        "TaskGroups": list(&job.groups, |group| task_group(job, group)),
        "Update": job.update.as_ref().map_or_else(no_update, update),
        "Multiregion": null,
        "Periodic": job.periodic.as_ref().map(periodic),
        "ParameterizedJob": null,
        "Dispatched": false,
        "DispatchIdempotencyToken": "",
        "Payload": null,
        "Meta": text_map(&job.meta),
        "ConsulNamespace": "",
        "VaultNamespace": "",
        "NomadTokenID": "",
        "Status": job.status.name(),
        "StatusDescription": "",
        "Stable": job.stable,
        "Version": job.version,
        "SubmitTime": job.submit_time.unix_nanos(),
        "CreateIndex": job.create_index,
        "ModifyIndex": job.modify_index,
        "JobModifyIndex": job.job_modify_index,
        "UI": null,
        "VersionTag": null,
    });
    with_extras(fields, &job.extras)
}

/// A list, or null if it is empty.
pub(super) fn list<T>(items: &[T], encode: impl Fn(&T) -> Json) -> Json {
    if items.is_empty() { Json::Null } else { items.iter().map(encode).collect() }
}

/// A map of texts, or null if it is empty.
pub(super) fn text_map(map: &std::collections::BTreeMap<String, String>) -> Json {
    if map.is_empty() { Json::Null } else { json!(map) }
}

/// A list of texts, or null if it is empty.
pub(super) fn texts(items: &[String]) -> Json {
    if items.is_empty() { Json::Null } else { json!(items) }
}

/// Puts what was kept over what was written. A kept map joins a written one.
pub(super) fn with_extras(mut fields: Json, extras: &Extras) -> Json {
    if let Json::Object(map) = &mut fields {
        for (key, value) in extras {
            let kept = value_to_json(value);
            match (map.get_mut(key), kept) {
                (Some(Json::Object(written)), Json::Object(kept)) => written.extend(kept),
                (_, kept) => {
                    map.insert(key.clone(), kept);
                }
            }
        }
    }
    fields
}

/// Drops empty fields, as Nomad does for networks and ports.
fn without_empty(fields: Json) -> Json {
    let Json::Object(map) = fields else { return fields };
    let empty = |value: &Json| match value {
        Json::Null => true,
        Json::Bool(truth) => !truth,
        Json::Number(number) => number.as_i64() == Some(0),
        Json::String(text) => text.is_empty(),
        Json::Array(items) => items.is_empty(),
        Json::Object(map) => map.is_empty(),
    };
    Json::Object(map.into_iter().filter(|(_, value)| !empty(value)).collect::<Map<_, _>>())
}

fn task_group(job: &Job, group: &TaskGroup) -> Json {
    let volumes: Map<String, Json> = group
        .volumes
        .iter()
        .map(|(name, volume)| {
            let fields = json!({
                "Name": name,
                "Type": volume.kind,
                "Source": volume.source,
                "ReadOnly": volume.read_only,
                "Sticky": false,
                "AccessMode": volume.access_mode,
                "AttachmentMode": volume.attachment_mode,
                "MountOptions": null,
                "PerAlloc": volume.per_alloc,
            });
            (name.clone(), fields)
        })
        .collect();
    let fields = json!({
        "Name": group.name,
        "Count": group.count,
        "Update": group.update.as_ref().map(update),
        "Migrate": group.migrate.as_ref().map(migrate),
        "Constraints": list(&group.constraints, constraint),
        "Scaling": group.scaling.as_ref().map(|s| scaling(job, group, s)),
        "RestartPolicy": restart(&group.restart),
        "Disconnect": group.disconnect.as_ref().filter(|_| !is_old_disconnect(group)).map(disconnect),
        "Tasks": list(&group.tasks, task),
        "EphemeralDisk": {
            "Sticky": group.sticky_disk,
            "Migrate": group.migrate_disk,
            "SizeMB": group.ephemeral_disk_mib,
        },
        "Meta": text_map(&group.meta),
        "ReschedulePolicy": group.reschedule.as_ref().map(reschedule),
        "Affinities": list(&group.affinities, affinity),
        "Spreads": list(&group.spreads, spread),
        "Networks": list(&group.networks, network),
        "Consul": null,
        "Services": list(&group.services, service),
        "Volumes": if volumes.is_empty() { Json::Null } else { Json::Object(volumes) },
        "ShutdownDelay": to_nanos(group.shutdown_delay),
        "MaxRunDuration": null,
        "StopAfterClientDisconnect": null,
        "MaxClientDisconnect": null,
        "PreventRescheduleOnLost": false,
    });
    with_extras(fields, &group.extras)
}

pub(super) fn constraint(constraint: &Constraint) -> Json {
    json!({
        "LTarget": constraint.attribute,
        "RTarget": constraint.value,
        "Operand": constraint.operator.name(),
    })
}

pub(super) fn affinity(affinity: &Affinity) -> Json {
    json!({
        "LTarget": affinity.attribute,
        "RTarget": affinity.value,
        "Operand": affinity.operator.name(),
        "Weight": affinity.weight,
    })
}

fn spread(spread: &Spread) -> Json {
    json!({
        "Attribute": spread.attribute,
        "Weight": spread.weight,
        "SpreadTarget": list(&spread.targets, |target| {
            json!({ "Value": target.value, "Percent": target.percent })
        }),
    })
}

fn health_check(kind: HealthCheckKind) -> &'static str {
    match kind {
        HealthCheckKind::Checks => "checks",
        HealthCheckKind::TaskStates => "task_states",
        HealthCheckKind::Manual => "manual",
    }
}

fn update(update: &Update) -> Json {
    json!({
        "Stagger": to_nanos(update.stagger),
        "MaxParallel": update.max_parallel,
        "HealthCheck": health_check(update.health_check),
        "MinHealthyTime": to_nanos(update.min_healthy_time),
        "HealthyDeadline": to_nanos(update.healthy_deadline),
        "ProgressDeadline": to_nanos(update.progress_deadline),
        "Canary": update.canary,
        "AutoRevert": update.auto_revert,
        "AutoPromote": update.auto_promote,
    })
}

/// How Nomad writes that a job has no update block of its own.
fn no_update() -> Json {
    json!({
        "Stagger": 0,
        "MaxParallel": 0,
        "HealthCheck": "",
        "MinHealthyTime": 0,
        "HealthyDeadline": 0,
        "ProgressDeadline": 0,
        "Canary": 0,
        "AutoRevert": false,
        "AutoPromote": false,
    })
}

fn migrate(migrate: &Migrate) -> Json {
    json!({
        "MaxParallel": migrate.max_parallel,
        "HealthCheck": health_check(migrate.health_check),
        "MinHealthyTime": to_nanos(migrate.min_healthy_time),
        "HealthyDeadline": to_nanos(migrate.healthy_deadline),
    })
}

pub(super) fn restart(restart: &Restart) -> Json {
    json!({
        "Attempts": restart.attempts,
        "Interval": to_nanos(restart.interval),
        "Delay": to_nanos(restart.delay),
        "Mode": match restart.mode {
            RestartMode::Fail => "fail",
            RestartMode::Delay => "delay",
        },
        "RenderTemplates": restart.render_templates,
    })
}

fn reschedule(reschedule: &Reschedule) -> Json {
    json!({
        "Attempts": reschedule.attempts,
        "Interval": to_nanos(reschedule.interval),
        "Delay": to_nanos(reschedule.delay),
        "DelayFunction": match reschedule.delay_function {
            DelayFunction::Constant => "constant",
            DelayFunction::Exponential => "exponential",
            DelayFunction::Fibonacci => "fibonacci",
        },
        "MaxDelay": to_nanos(reschedule.max_delay),
        "Unlimited": reschedule.unlimited,
    })
}

/// Whether the group says by older keys, which are kept as they were given, what happens when its
/// node is lost.
fn is_old_disconnect(group: &TaskGroup) -> bool {
    ["MaxClientDisconnect", "StopAfterClientDisconnect", "PreventRescheduleOnLost"]
        .iter()
        .any(|name| group.extras.contains_key(*name))
}

fn disconnect(disconnect: &Disconnect) -> Json {
    json!({
        "LostAfter": disconnect.lost_after.map_or(0, to_nanos),
        "StopOnClientAfter": disconnect.stop_on_client_after.map(to_nanos),
        "Replace": disconnect.replace,
        "Reconcile": disconnect.reconcile,
    })
}

fn periodic(periodic: &Periodic) -> Json {
    // One expression is `Spec`, several are `Specs`, as in the file.
    let (spec, specs) = match periodic.specs.as_slice() {
        [only] => (only.as_str(), Json::Null),
        several => ("", json!(several)),
    };
    json!({
        "Enabled": periodic.enabled,
        "Spec": spec,
        "Specs": specs,
        "SpecType": "cron",
        "ProhibitOverlap": periodic.prohibit_overlap,
        "TimeZone": periodic.time_zone,
    })
}

fn scaling(job: &Job, group: &TaskGroup, scaling: &Scaling) -> Json {
    let policy: Map<String, Json> =
        scaling.policy.iter().map(|(key, value)| (key.clone(), value_to_json(value))).collect();
    json!({
        "ID": "",
        "Type": "horizontal",
        "Namespace": job.key.namespace,
        "Target": { "Namespace": job.key.namespace, "Job": job.key.id, "Group": group.name },
        "Policy": policy,
        "Min": scaling.min,
        "Max": scaling.max,
        "Enabled": scaling.enabled,
        "CreateIndex": job.create_index,
        "ModifyIndex": job.modify_index,
    })
}

pub(super) fn network(network: &Network) -> Json {
    let ports = |fixed: bool| -> Vec<Json> {
        network.ports.iter().filter(|port| (port.host_port > 0) == fixed).map(port_fields).collect()
    };
    without_empty(json!({
        "Mode": network.mode,
        "Hostname": network.hostname,
        "MBits": network.mbits,
        "DNS": network.dns.as_ref().map(|dns| json!({
            "Servers": dns.servers,
            "Searches": dns.searches,
            "Options": dns.options,
        })),
        "ReservedPorts": ports(true),
        "DynamicPorts": ports(false),
        "CNI": if network.cni_args.is_empty() {
            Json::Null
        } else {
            json!({ "Args": network.cni_args })
        },
    }))
}

fn port_fields(port: &Port) -> Json {
    without_empty(json!({
        "Label": port.label,
        "Value": port.host_port,
        "To": port.to,
        "HostNetwork": port.host_network,
        "IgnoreCollision": port.ignore_collision,
    }))
}
