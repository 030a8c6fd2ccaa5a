//! Tests of the JSON form: names, leniency, mistakes, and the trip there and back.

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn read(body: serde_json::Value) -> Result<Parsed, String> {
    job_from_json(&body).map_err(|problems| problems.to_string())
}

/// Reads a job with one group and task, into which `fields` are put.
#[track_caller]
fn check(task_fields: serde_json::Value, expected: &str) {
    let mut task = json!({ "Name": "t", "Driver": "exec" });
    if let (Some(task), Some(more)) = (task.as_object_mut(), task_fields.as_object()) {
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
            "Networks": [{ "Mode": "host", "DynamicPorts": [{ "Label": "p" }] }],
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
    // Nomad drops what is empty in networks and ports.
    assert_eq!(
        group["Networks"],
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

type Field = (&'static str, BoxedStrategy<serde_json::Value>);

/// An object with a random choice of the given fields.
fn object(fields: Vec<Field>) -> BoxedStrategy<serde_json::Value> {
    let fields: Vec<_> = fields
        .into_iter()
        .map(|(key, value)| {
            (any::<bool>(), value).prop_map(move |(there, v)| there.then_some((key, v)))
        })
        .collect();
    fields
        .prop_map(|found| {
            found.into_iter().flatten().map(|(key, value)| (key.to_owned(), value)).collect()
        })
        .boxed()
}

/// An object with one field that is always there.
fn named(
    key: &'static str,
    rest: BoxedStrategy<serde_json::Value>,
) -> BoxedStrategy<serde_json::Value> {
    ("[a-z]{1,6}", rest)
        .prop_map(move |(name, mut object)| {
            object[key] = name.into();
            object
        })
        .boxed()
}

fn several(item: BoxedStrategy<serde_json::Value>) -> BoxedStrategy<serde_json::Value> {
    prop::collection::vec(item, 0..3).prop_map(Into::into).boxed()
}

fn text() -> BoxedStrategy<serde_json::Value> {
    "[a-z${}./]{0,8}".prop_map(Into::into).boxed()
}

fn one_of(words: &'static [&'static str]) -> BoxedStrategy<serde_json::Value> {
    prop::sample::select(words).prop_map(Into::into).boxed()
}

fn small() -> BoxedStrategy<serde_json::Value> {
    (0_i64..100).prop_map(Into::into).boxed()
}

fn truth() -> BoxedStrategy<serde_json::Value> {
    any::<bool>().prop_map(Into::into).boxed()
}

fn time() -> BoxedStrategy<serde_json::Value> {
    prop_oneof![
        (0_i64..1_000_000_000_000).prop_map(Into::into),
        (0_u32..100).prop_map(|s| format!("{s}s").into()),
    ]
    .boxed()
}

fn texts() -> BoxedStrategy<serde_json::Value> {
    several(text())
}

fn map() -> BoxedStrategy<serde_json::Value> {
    prop::collection::btree_map("[a-z]{1,3}", "[a-z]{0,3}", 0..3)
        .prop_map(|map| serde_json::to_value(map).expect("texts are JSON"))
        .boxed()
}

fn rules(weighted: bool) -> BoxedStrategy<serde_json::Value> {
    let operand = one_of(&["=", "is", "!=", "regexp", "set_contains_all", "distinct_hosts", ""]);
    let mut fields = vec![("LTarget", text()), ("RTarget", text()), ("Operand", operand)];
    if weighted {
        fields.push(("Weight", small()));
    }
    several(object(fields))
}

fn any_check() -> BoxedStrategy<serde_json::Value> {
    let restart = object(vec![("Limit", small()), ("Grace", time()), ("IgnoreWarnings", truth())]);
    let header =
        prop::collection::btree_map("[A-Z]{1,3}", prop::collection::vec("[a-z]{0,3}", 0..2), 0..2)
            .prop_map(|map| serde_json::to_value(map).expect("texts are JSON"));
    let kinds = prop::sample::select(vec!["http", "tcp", "script", "grpc"]);
    let rest = object(vec![
        ("Name", text()),
        ("Path", text()),
        ("Protocol", text()),
        ("Method", text()),
        ("Command", text()),
        ("Args", texts()),
        ("PortLabel", text()),
        ("Interval", time()),
        ("Timeout", time()),
        ("CheckRestart", restart),
        ("Header", header.boxed()),
        ("GRPCService", text()),
        ("GRPCUseTLS", truth()),
        ("TaskName", text()),
        ("Notes", text()),
        ("SuccessBeforePassing", small()),
        ("Body", text()),
        ("OnUpdate", text()),
    ]);
    (kinds, rest)
        .prop_map(|(kind, mut check)| {
            check["Type"] = kind.into();
            check
        })
        .boxed()
}

fn any_service() -> BoxedStrategy<serde_json::Value> {
    object(vec![
        ("Name", text()),
        ("Tags", texts()),
        ("CanaryTags", texts()),
        ("PortLabel", text()),
        ("Checks", several(any_check())),
        ("Meta", map()),
        ("Provider", one_of(&["nomad", ""])),
        ("TaskName", text()),
        ("OnUpdate", text()),
        ("Cluster", text()),
        ("Connect", map()),
        ("CheckRestart", object(vec![("Limit", small())])),
        ("Weights", object(vec![("Passing", small()), ("Warning", small())])),
    ])
}

fn any_network() -> BoxedStrategy<serde_json::Value> {
    let port = |fixed: BoxedStrategy<serde_json::Value>| {
        let rest =
            object(vec![("To", small()), ("HostNetwork", text()), ("IgnoreCollision", truth())]);
        (named("Label", rest), fixed)
            .prop_map(|(mut port, value)| {
                port["Value"] = value;
                port
            })
            .boxed()
    };
    object(vec![
        ("Mode", one_of(&["host", "bridge", "none"])),
        ("MBits", (1_i64..9).prop_map(Into::into).boxed()),
        ("Hostname", text()),
        ("DNS", object(vec![("Servers", texts()), ("Searches", texts()), ("Options", texts())])),
        ("ReservedPorts", several(port((1_i64..99).prop_map(Into::into).boxed()))),
        ("DynamicPorts", several(port(Just(json!(0)).boxed()))),
        ("CNI", object(vec![("Args", map())])),
    ])
}

fn any_task() -> BoxedStrategy<serde_json::Value> {
    let resources = object(vec![
        ("CPU", small()),
        ("Cores", small()),
        ("MemoryMB", small()),
        ("MemoryMaxMB", small()),
        ("DiskMB", small()),
        ("Networks", several(any_network())),
        ("SecretsMB", small()),
        ("Devices", several(map())),
    ]);
    let template = object(vec![
        ("EmbeddedTmpl", text()),
        ("DestPath", text()),
        ("ChangeSignal", text()),
        ("Splay", time()),
        ("ChangeMode", one_of(&["noop", "restart", "signal"])),
        ("Envvars", truth()),
        ("Uid", small()),
        ("Wait", object(vec![("Min", time())])),
        ("Perms", text()),
        ("LeftDelim", text()),
    ]);
    let artifact = object(vec![
        ("GetterMode", one_of(&["any", "file", "dir"])),
        ("GetterOptions", map()),
        ("RelativeDest", text()),
    ]);
    let rest = object(vec![
        ("Driver", text()),
        ("User", text()),
        ("Config", map()),
        ("Env", map()),
        ("Meta", map()),
        ("Services", several(any_service())),
        ("Templates", several(template)),
        ("Artifacts", several(named("GetterSource", artifact))),
        ("Constraints", rules(false)),
        ("Affinities", rules(true)),
        ("Resources", resources),
        (
            "RestartPolicy",
            object(vec![("Attempts", small()), ("Mode", one_of(&["delay", "fail"]))]),
        ),
        ("KillTimeout", time()),
        ("KillSignal", text()),
        ("ShutdownDelay", time()),
        ("Leader", truth()),
        ("LogConfig", object(vec![("MaxFiles", small()), ("Enabled", truth())])),
        (
            "Lifecycle",
            one_of(&["prestart", "poststop"]).prop_map(|hook| json!({ "Hook": hook })).boxed(),
        ),
        ("VolumeMounts", several(object(vec![("Volume", text()), ("ReadOnly", truth())]))),
        ("DispatchPayload", object(vec![("File", text())])),
        ("Vault", map()),
        ("Kind", text()),
    ]);
    named("Name", rest)
}

fn any_job() -> BoxedStrategy<serde_json::Value> {
    let update = || {
        object(vec![
            ("Stagger", time()),
            ("MaxParallel", small()),
            ("Canary", small()),
            ("AutoRevert", truth()),
            ("HealthCheck", one_of(&["checks", "task_states", "manual", ""])),
            ("MinHealthyTime", time()),
        ])
    };
    let reschedule = || {
        object(vec![
            ("Attempts", small()),
            ("Delay", time()),
            ("Unlimited", truth()),
            ("DelayFunction", one_of(&["constant", "fibonacci"])),
        ])
    };
    let group = object(vec![
        ("Count", small()),
        ("Update", update()),
        ("Networks", several(any_network())),
        ("Services", several(any_service())),
        ("Tasks", several(any_task())),
        ("Constraints", rules(false)),
        ("ReschedulePolicy", reschedule()),
        ("Meta", map()),
        ("RestartPolicy", object(vec![("Delay", time()), ("RenderTemplates", truth())])),
        ("Migrate", object(vec![("MaxParallel", small())])),
        ("ShutdownDelay", time()),
        ("Disconnect", object(vec![("LostAfter", time()), ("Replace", truth())])),
        ("EphemeralDisk", object(vec![("SizeMB", small()), ("Sticky", truth())])),
        (
            "Scaling",
            small().prop_map(|max| json!({ "Max": max, "Policy": { "a": [1.5] } })).boxed(),
        ),
        (
            "Volumes",
            text().prop_map(|source| json!({ "v": { "Type": "host", "Source": source } })).boxed(),
        ),
        ("MaxRunDuration", time()),
    ]);
    let rest = object(vec![
        ("Type", one_of(&["service", "batch", "system", "sysbatch"])),
        ("Priority", small()),
        ("Datacenters", texts()),
        ("NodePool", text()),
        ("Meta", map()),
        ("Update", update()),
        ("Reschedule", reschedule()),
        ("Constraints", rules(false)),
        ("Affinities", rules(true)),
        ("Spreads", several(object(vec![("Attribute", text()), ("Weight", small())]))),
        ("TaskGroups", several(named("Name", group))),
        ("Name", text()),
        ("Namespace", text()),
        ("Periodic", text().prop_map(|spec| json!({ "Spec": format!("x{spec}") })).boxed()),
        ("ParameterizedJob", map()),
        ("UI", map()),
        ("Version", small()),
        ("Stop", truth()),
        ("Status", one_of(&["pending", "running", "dead"])),
        ("SubmitTime", any::<i64>().prop_map(Into::into).boxed()),
    ]);
    named("ID", rest)
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
