//! Tests of the JSON form: names, leniency, mistakes, and the trip there and back.

use proptest::prelude::*;
use serde_json::json;

use super::generate::any_job;
use super::*;

fn read(body: impl std::borrow::Borrow<serde_json::Value>) -> Result<Parsed, String> {
    job_from_json(body.borrow()).map_err(|problems| problems.to_string())
}

/// Reads a job with one group and task, into which `fields` are put.
#[track_caller]
fn check(task_fields: impl std::borrow::Borrow<serde_json::Value>, expected: &str) {
    let mut task = json!({ "Name": "t", "Driver": "exec" });
    if let (Some(task), Some(more)) = (task.as_object_mut(), task_fields.borrow().as_object()) {
        task.extend(more.clone());
    }
    let body = json!({ "Job": { "ID": "j", "TaskGroups": [{ "Name": "g", "Tasks": [task] }] } });
    let found = match read(body) {
        Ok(parsed) => parsed.warnings.iter().map(|w| format!("{w}")).collect::<Vec<_>>().join("\n"),
        Err(problems) => problems,
    };
    assert_eq!(found, expected);
}

/// The keys of an object, in order.
fn keys(value: &serde_json::Value) -> Vec<&str> {
    let mut keys: Vec<&str> =
        value.as_object().map(|map| map.keys().map(String::as_str).collect()).unwrap_or_default();
    keys.sort_unstable();
    keys
}

#[track_caller]
fn check_keys(value: &serde_json::Value, expected: &str) {
    let mut expected: Vec<&str> = expected.split_whitespace().collect();
    expected.sort_unstable();
    assert_eq!(keys(value), expected);
}

#[test]
fn mistakes_name_the_field() {
    check(
        json!({ "KillTimeout": "soon" }),
        "Job.TaskGroups[0].Tasks[0].KillTimeout: the value cannot be the string `soon`; \
         expected a duration such as \"30s\"",
    );
    check(
        json!({ "Resources": { "CPU": "x" } }),
        "Job.TaskGroups[0].Tasks[0].Resources.CPU: the value cannot be the string `x`; \
         expected a whole number that is not negative",
    );
    check(
        json!({ "Templates": [{ "ChangeMode": "no" }] }),
        "Job.TaskGroups[0].Tasks[0].Templates[0].ChangeMode: `no` is not a change mode; \
         expected noop, restart, signal or script",
    );
    check(
        json!({ "Env": { "A": [1] } }),
        "Job.TaskGroups[0].Tasks[0].Env: the value cannot be the map; expected an object of texts",
    );
    assert_eq!(
        read(json!([])).err().as_deref(),
        Some("Job: a job cannot be a list; expected an object")
    );
    assert_eq!(
        read(json!({ "Job": {} })).err().as_deref(),
        Some("Job.ID: the job has no id; expected a name for the job"),
    );
}

#[test]
fn unknown_fields_are_warned_of() {
    check(
        json!({ "Colour": "red" }),
        "Job.TaskGroups[0].Tasks[0].Colour: warning: the field `Colour` is not known and has no effect",
    );
    check(json!({ "Leader": true }), "");
}

#[test]
fn keys_ignore_case_and_values_may_be_quoted() {
    let parsed = read(json!({
        "job": {
            "id": "j", "priority": "70", "type": "batch", "alLatonce": "true",
            "taskgroups": [{
                "name": "g", "count": "3", "shutdowndelay": "1m",
                "tasks": [{ "name": "t", "killtimeout": 7_000_000_000_i64, "resources": { "memorymb": 64.0 } }],
            }],
        }
    }))
    .expect("the job is valid");
    let job = parsed.job;
    assert_eq!((job.priority, job.all_at_once, job.groups[0].count), (70, true, 3));
    assert_eq!(job.groups[0].shutdown_delay.as_secs(), 60);
    assert_eq!(job.groups[0].tasks[0].kill_timeout.as_secs(), 7);
    assert_eq!(job.groups[0].tasks[0].resources.memory_mib, 64);
}

#[test]
fn a_zero_in_an_update_block_is_meant_unless_all_of_it_is_zero() {
    let healthy_time = |update: serde_json::Value| {
        let group =
            json!({ "Name": "g", "Update": update, "Tasks": [{ "Name": "t", "Driver": "exec" }] });
        let parsed = read(json!({ "ID": "j", "TaskGroups": [group] })).expect("valid");
        parsed.job.groups[0].update.as_ref().map(|update| update.min_healthy_time.as_secs())
    };
    assert_eq!(healthy_time(json!({ "MinHealthyTime": 0 })), Some(0));
    assert_eq!(healthy_time(json!({})), Some(10));
    let none = json!({
        "Stagger": 0, "MaxParallel": 0, "HealthCheck": "", "MinHealthyTime": 0, "HealthyDeadline": 0,
        "ProgressDeadline": 0, "Canary": 0, "AutoRevert": false, "AutoPromote": false,
    });
    assert_eq!(healthy_time(none), Some(10));
}

#[test]
fn a_job_may_come_without_the_key_around_it() {
    let bare = json!({ "ID": "j", "TaskGroups": [] });
    let wrapped = json!({ "Job": bare, "EnforceIndex": true });
    assert_eq!(read(bare).expect("valid").job, read(wrapped).expect("valid").job);
}

#[test]
fn what_the_cluster_sets_is_read_and_written() {
    let parsed = read(json!({
        "ID": "j", "Version": 3, "Status": "running", "SubmitTime": 5, "CreateIndex": 1,
        "ModifyIndex": 9, "JobModifyIndex": 8, "Stable": true, "Stop": true, "ParentID": "p",
    }))
    .expect("valid");
    let encoded = job_to_json(&parsed.job);
    for (key, value) in [
        ("Version", json!(3)),
        ("Status", json!("running")),
        ("SubmitTime", json!(5)),
        ("CreateIndex", json!(1)),
        ("ModifyIndex", json!(9)),
        ("JobModifyIndex", json!(8)),
        ("Stable", json!(true)),
        ("Stop", json!(true)),
        ("ParentID", json!("p")),
    ] {
        assert_eq!(encoded[key], value, "{key}");
    }
}

#[test]
fn every_object_has_the_names_of_the_api() {
    let parsed = read(json!({
        "ID": "j",
        "TaskGroups": [{
            "Name": "g",
            "Volumes": { "v": { "Type": "host", "Source": "s" } },
            "Scaling": { "Max": 3 },
            "Tasks": [{
                "Name": "t",
                "Templates": [{ "EmbeddedTmpl": "x", "DestPath": "y" }],
                "Artifacts": [{ "GetterSource": "http://x/y" }],
                "Services": [{ "Checks": [{ "Type": "http" }] }],
            }],
        }],
    }))
    .expect("valid");
    let job = job_to_json(&parsed.job);
    check_keys(
        &job,
        "Stop Region Namespace ID ParentID Name Type Priority AllAtOnce Datacenters NodePool \
         Constraints Affinities Spreads TaskGroups Update Multiregion Periodic ParameterizedJob \
         Dispatched DispatchIdempotencyToken Payload Meta ConsulNamespace VaultNamespace \
         NomadTokenID Status StatusDescription Stable Version SubmitTime CreateIndex ModifyIndex \
         JobModifyIndex UI VersionTag",
    );
    let group = &job["TaskGroups"][0];
    check_keys(
        group,
        "Name Count Update Migrate Constraints Scaling RestartPolicy Disconnect Tasks \
         EphemeralDisk Meta ReschedulePolicy Affinities Spreads Networks Consul Services Volumes \
         ShutdownDelay MaxRunDuration StopAfterClientDisconnect MaxClientDisconnect \
         PreventRescheduleOnLost",
    );
    let task = &group["Tasks"][0];
    check_keys(
        task,
        "Name Driver User Config Env Services Vault Secrets Templates Constraints Affinities \
         Resources RestartPolicy DispatchPayload Lifecycle Meta KillTimeout LogConfig Artifacts \
         Leader ShutdownDelay VolumeMounts ScalingPolicies KillSignal Kind CSIPluginConfig Consul \
         Identity Identities Actions Schedule",
    );
    check_keys(
        &task["Resources"],
        "CPU Cores MemoryMB MemoryMaxMB DiskMB IOPS Networks Devices NUMA SecretsMB",
    );
    check_keys(
        &task["Services"][0],
        "Name Tags CanaryTags EnableTagOverride PortLabel AddressMode Address Checks CheckRestart \
         Connect Meta CanaryMeta TaggedAddresses TaskName OnUpdate Identity Weights Provider \
         Cluster Kind",
    );
    check_keys(
        &task["Services"][0]["Checks"][0],
        "Name Type Command Args Path Protocol PortLabel Expose AddressMode Advertise Interval \
         Timeout InitialStatus Notes TLSServerName TLSSkipVerify Header Method CheckRestart \
         GRPCService GRPCUseTLS TaskName SuccessBeforePassing FailuresBeforeCritical \
         FailuresBeforeWarning Body OnUpdate",
    );
    check_keys(
        &task["Templates"][0],
        "SourcePath DestPath EmbeddedTmpl ChangeMode ChangeScript ChangeSignal Once Splay Perms \
         Uid Gid LeftDelim RightDelim Envvars VaultGrace Wait ErrMissingKey",
    );
    check_keys(
        &task["Artifacts"][0],
        "GetterSource GetterOptions GetterHeaders GetterMode GetterInsecure RelativeDest Chown",
    );
}

#[test]
fn networks_and_ports_are_written_without_what_is_empty() {
    let network = json!({ "Mode": "host", "DynamicPorts": [{ "Label": "p" }], "CIDR": "" });
    let parsed = read(json!({ "ID": "j", "TaskGroups": [{ "Name": "g", "Networks": [network] }] }))
        .expect("valid");
    assert_eq!(
        job_to_json(&parsed.job)["TaskGroups"][0]["Networks"],
        json!([{ "Mode": "host", "DynamicPorts": [{ "Label": "p", "HostNetwork": "default" }] }])
    );
}

#[test]
fn driver_options_that_exist_once_are_maps() {
    let config = json!({
        "image": "x",
        "port_map": [{ "a": 1 }, { "b": 2 }],
        "mounts": [{ "type": "bind", "bind_options": [{ "propagation": "shared" }] }],
        "logging": [{ "type": "fluentd", "config": [{ "tag": "t" }] }],
    });
    let parsed =
        read(json!({ "ID": "j", "TaskGroups": [{ "Name": "g", "Tasks": [{ "Name": "t", "Config": config }] }] }))
            .expect("valid");
    assert_eq!(
        value_to_json(&Value::Map(parsed.job.groups[0].tasks[0].config.clone())),
        json!({
            "image": "x",
            "port_map": { "a": 1, "b": 2 },
            "mounts": [{ "type": "bind", "bind_options": { "propagation": "shared" } }],
            "logging": { "type": "fluentd", "config": { "tag": "t" } },
        })
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_job_survives_the_trip_to_json_and_back(body in any_job()) {
        let first = job_from_json(&body).unwrap_or_else(|problems| panic!("{problems}"));
        let encoded = job_to_json(&first.job);
        let second = job_from_json(&encoded).unwrap_or_else(|problems| panic!("{problems}"));
        prop_assert_eq!(&second.job, &first.job);
        prop_assert_eq!(job_to_json(&second.job), encoded);
        prop_assert!(second.warnings.is_empty(), "{:?}", second.warnings);
    }
}
