//! Tasks and services as JSON.

use std::collections::BTreeMap;

use cos_model::task::Hook;
use cos_model::{Artifact, ChangeMode, Check, CheckKind, Service, Task, Template, Value};
use serde_json::{Map, Value as Json, json};

use super::encode::{affinity, constraint, list, network, restart, text_map, texts, with_extras};
use super::value_to_json;
use crate::duration::to_nanos;

fn value_map(map: &BTreeMap<String, Value>) -> Json {
    Json::Object(
        map.iter().map(|(key, value)| (key.clone(), value_to_json(value))).collect::<Map<_, _>>(),
    )
}

pub(super) fn task(task: &Task) -> Json {
    let dispatch = &task.dispatch_payload_file;
    let fields = json!({
        "Name": task.name,
        "Driver": task.driver,
        "User": task.user,
        "Config": value_map(&task.config),
        "Env": text_map(&task.env),
        "Services": list(&task.services, service),
        "Vault": null,
        "Secrets": null,
        "Consul": null,
        "Templates": list(&task.templates, template),
        "Constraints": list(&task.constraints, constraint),
        "Affinities": list(&task.affinities, affinity),
        "Resources": resources(task),
        "RestartPolicy": restart(&task.restart),
        "DispatchPayload": (!dispatch.is_empty()).then(|| json!({ "File": dispatch })),
        "Lifecycle": task.lifecycle.map(|lifecycle| json!({
            "Hook": match lifecycle.hook {
                Hook::Prestart => "prestart",
                Hook::Poststart => "poststart",
                Hook::Poststop => "poststop",
            },
            "Sidecar": lifecycle.sidecar,
        })),
        "Meta": text_map(&task.meta),
        "KillTimeout": to_nanos(task.kill_timeout),
        "LogConfig": {
            "MaxFiles": task.logs.max_files,
            "MaxFileSizeMB": task.logs.max_file_size_mib,
            "Disabled": task.logs.disabled,
        },
        "Artifacts": list(&task.artifacts, artifact),
        "Leader": task.leader,
        "ShutdownDelay": to_nanos(task.shutdown_delay),
        "VolumeMounts": list(&task.volume_mounts, |mount| json!({
            "Volume": mount.volume,
            "Destination": mount.destination,
            "ReadOnly": mount.read_only,
            "PropagationMode": mount.propagation_mode,
            "SELinuxLabel": "",
        })),
        "ScalingPolicies": null,
        "KillSignal": task.kill_signal,
        "Kind": "",
        "CSIPluginConfig": null,
        "Identity": null,
        "Identities": null,
        "Actions": null,
        "Schedule": null,
    });
    with_extras(fields, &task.extras)
}

fn resources(task: &Task) -> Json {
    // The largest number stands for "no limit".
    let limit = match task.memory_max_mib {
        limit if limit == u64::from(u32::MAX) => -1,
        limit => i64::try_from(limit).unwrap_or(i64::MAX),
    };
    json!({
        "CPU": task.resources.cpu_mhz,
        "Cores": task.cores,
        "MemoryMB": task.resources.memory_mib,
        "MemoryMaxMB": limit,
        "DiskMB": task.resources.disk_mib,
        "IOPS": 0,
        "Networks": list(&task.networks, network),
        "Devices": null,
        "NUMA": null,
        "SecretsMB": 0,
    })
}

fn artifact(artifact: &Artifact) -> Json {
    json!({
        "GetterSource": artifact.source,
        "GetterOptions": text_map(&artifact.options),
        "GetterHeaders": text_map(&artifact.headers),
        "GetterMode": artifact.mode,
        "GetterInsecure": artifact.insecure,
        "RelativeDest": artifact.destination,
        "Chown": artifact.chown,
    })
}

fn template(template: &Template) -> Json {
    let (mode, signal, script) = match &template.change_mode {
        ChangeMode::Noop => ("noop", "", Json::Null),
        ChangeMode::Restart => ("restart", "", Json::Null),
        ChangeMode::Signal(signal) => ("signal", signal.as_str(), Json::Null),
        ChangeMode::Script { command, args, timeout, fail_on_error } => {
            let script = json!({
                "Command": command,
                "Args": texts(args),
                "Timeout": to_nanos(*timeout),
                "FailOnError": fail_on_error,
                "RunOnFirstRender": false,
            });
            ("script", "", script)
        }
    };
    let fields = json!({
        "SourcePath": template.source,
        "DestPath": template.destination,
        "EmbeddedTmpl": template.data,
        "ChangeMode": mode,
        "ChangeSignal": signal,
        "ChangeScript": script,
        "Once": template.once,
        "Splay": to_nanos(template.splay),
        "Perms": template.perms,
        "Uid": template.uid,
        "Gid": template.gid,
        "LeftDelim": template.left_delimiter,
        "RightDelim": template.right_delimiter,
        "Envvars": template.env,
        "VaultGrace": 0,
        "Wait": null,
        "ErrMissingKey": template.error_on_missing_key,
    });
    with_extras(fields, &template.extras)
}

pub(super) fn service(service: &Service) -> Json {
    let fields = json!({
        "Name": service.name,
        "Tags": texts(&service.tags),
        "CanaryTags": texts(&service.canary_tags),
        "EnableTagOverride": service.enable_tag_override,
        "PortLabel": service.port,
        "AddressMode": service.address_mode,
        "Address": service.address,
        "Checks": list(&service.checks, check),
        "CheckRestart": null,
        "Connect": null,
        "Meta": text_map(&service.meta),
        "CanaryMeta": text_map(&service.canary_meta),
        "TaggedAddresses": text_map(&service.tagged_addresses),
        "TaskName": service.task,
        "OnUpdate": service.on_update,
        "Identity": null,
        "Weights": { "Passing": service.weight_passing, "Warning": service.weight_warning },
        "Provider": service.provider,
        "Cluster": "default",
        "Kind": "",
    });
    with_extras(fields, &service.extras)
}

fn check(check: &Check) -> Json {
    let restart = check.restart.as_ref().map(|restart| {
        json!({
            "Limit": restart.limit,
            "Grace": to_nanos(restart.grace),
            "IgnoreWarnings": restart.ignore_warnings,
        })
    });
    let mut fields = json!({
        "Name": check.name,
        "Type": "tcp",
        "Command": "",
        "Args": null,
        "Path": "",
        "Protocol": "",
        "PortLabel": check.port,
        "Expose": false,
        "AddressMode": check.address_mode,
        "Advertise": "",
        "Interval": to_nanos(check.interval),
        "Timeout": to_nanos(check.timeout),
        "InitialStatus": check.initial_status,
        "Notes": "",
        "TLSServerName": "",
        "TLSSkipVerify": false,
        "Header": null,
        "Method": "",
        "CheckRestart": restart,
        "GRPCService": "",
        "GRPCUseTLS": false,
        "TaskName": "",
        "SuccessBeforePassing": check.success_before_passing,
        "FailuresBeforeCritical": check.failures_before_critical,
        "FailuresBeforeWarning": 0,
        "Body": "",
        "OnUpdate": check.on_update,
    });
    let own = match &check.kind {
        CheckKind::Tcp => json!({}),
        CheckKind::Http { protocol, method, path, header, body, tls_skip_verify } => json!({
            "Type": "http",
            "Protocol": protocol,
            "Method": method,
            "Path": path,
            "Header": if header.is_empty() { Json::Null } else { json!(header) },
            "Body": body,
            "TLSSkipVerify": tls_skip_verify,
        }),
        CheckKind::Script { command, args, task } => json!({
            "Type": "script",
            "Command": command,
            "Args": texts(args),
            "TaskName": task,
        }),
        CheckKind::Grpc { service, tls } => json!({
            "Type": "grpc",
            "GRPCService": service,
            "GRPCUseTLS": tls,
        }),
    };
    if let (Json::Object(fields), Json::Object(own)) = (&mut fields, own) {
        fields.extend(own);
    }
    with_extras(fields, &check.extras)
}
