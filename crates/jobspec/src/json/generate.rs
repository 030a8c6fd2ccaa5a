//! Random jobs as the API would send them, for property tests.

use proptest::prelude::*;
use serde_json::{Value as Json, json};

type Field = (&'static str, BoxedStrategy<Json>);

/// An object with a random choice of the given fields.
fn object(fields: Vec<Field>) -> BoxedStrategy<Json> {
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
fn named(key: &'static str, rest: BoxedStrategy<Json>) -> BoxedStrategy<Json> {
    ("[a-z]{1,6}", rest)
        .prop_map(move |(name, mut object)| {
            object[key] = name.into();
            object
        })
        .boxed()
}

fn several(item: BoxedStrategy<Json>) -> BoxedStrategy<Json> {
    prop::collection::vec(item, 0..3).prop_map(Into::into).boxed()
}

fn text() -> BoxedStrategy<Json> {
    "[a-z${}./]{0,8}".prop_map(Into::into).boxed()
}

fn one_of(words: &'static [&'static str]) -> BoxedStrategy<Json> {
    prop::sample::select(words).prop_map(Into::into).boxed()
}

fn small() -> BoxedStrategy<Json> {
    (0_i64..100).prop_map(Into::into).boxed()
}

fn truth() -> BoxedStrategy<Json> {
    any::<bool>().prop_map(Into::into).boxed()
}

fn time() -> BoxedStrategy<Json> {
    prop_oneof![
        (0_i64..1_000_000_000_000).prop_map(Into::into),
        (0_u32..100).prop_map(|s| format!("{s}s").into()),
    ]
    .boxed()
}

fn texts() -> BoxedStrategy<Json> {
    several(text())
}

fn map() -> BoxedStrategy<Json> {
    prop::collection::btree_map("[a-z]{1,3}", "[a-z]{0,3}", 0..3)
        .prop_map(|map| serde_json::to_value(map).expect("texts are JSON"))
        .boxed()
}

fn rules(weighted: bool) -> BoxedStrategy<Json> {
    let operand = one_of(&["=", "is", "!=", "regexp", "set_contains_all", "distinct_hosts", ""]);
    let mut fields = vec![("LTarget", text()), ("RTarget", text()), ("Operand", operand)];
    if weighted {
        fields.push(("Weight", small()));
    }
    several(object(fields))
}

fn any_check() -> BoxedStrategy<Json> {
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

fn any_service() -> BoxedStrategy<Json> {
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

fn any_network() -> BoxedStrategy<Json> {
    let port = |fixed: BoxedStrategy<Json>| {
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

fn any_task() -> BoxedStrategy<Json> {
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

/// A job of the API with random fields.
pub(super) fn any_job() -> BoxedStrategy<Json> {
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
