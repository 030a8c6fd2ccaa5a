//! Tables of the job, its groups, tasks, services and networks.

use super::Kind::{
    Bool, ByLabel, Duration, Free, Int, Labelled, Many, One, Text, TextListMap, TextMap, Texts,
};
use super::connect::{CONNECT, CONSUL};
use super::extra::{
    ACTION, CSI_PLUGIN, DEVICE, IDENTITY, MULTIREGION, NUMA, SCHEDULE, SECRET, TASK_SCALING, UI,
    VAULT,
};
use super::{Hook, Schema, field, schema};

pub(super) static JOB: Schema = schema(
    "job",
    &[
        field("region", "Region", Text),
        field("namespace", "Namespace", Text),
        field("id", "ID", Text),
        field("name", "Name", Text),
        field("type", "Type", Text),
        field("priority", "Priority", Int),
        field("all_at_once", "AllAtOnce", Bool),
        field("datacenters", "Datacenters", Texts),
        field("node_pool", "NodePool", Text),
        field("constraint", "Constraints", Many(&CONSTRAINT)),
        field("affinity", "Affinities", Many(&AFFINITY)),
        field("spread", "Spreads", Many(&SPREAD)),
        field("group", "TaskGroups", Labelled(&GROUP, "Name")),
        field("update", "Update", One(&UPDATE)),
        field("reschedule", "Reschedule", One(&RESCHEDULE)),
        field("migrate", "Migrate", One(&MIGRATE)),
        field("periodic", "Periodic", One(&PERIODIC)),
        field("parameterized", "ParameterizedJob", One(&PARAMETERIZED)),
        field("multiregion", "Multiregion", One(&MULTIREGION)),
        field("meta", "Meta", TextMap),
        field("ui", "UI", One(&UI)),
        field("consul_token", "ConsulToken", Text),
        field("vault_token", "VaultToken", Text),
    ],
);

static GROUP: Schema = schema(
    "group",
    &[
        field("count", "Count", Int),
        field("constraint", "Constraints", Many(&CONSTRAINT)),
        field("affinity", "Affinities", Many(&AFFINITY)),
        field("spread", "Spreads", Many(&SPREAD)),
        field("task", "Tasks", Labelled(&TASK, "Name")),
        field("volume", "Volumes", ByLabel(&VOLUME, "Name")),
        field("restart", "RestartPolicy", One(&RESTART)),
        field("disconnect", "Disconnect", One(&DISCONNECT)),
        field("reschedule", "ReschedulePolicy", One(&RESCHEDULE)),
        field("ephemeral_disk", "EphemeralDisk", One(&EPHEMERAL_DISK)),
        field("update", "Update", One(&UPDATE)),
        field("migrate", "Migrate", One(&MIGRATE)),
        field("network", "Networks", Many(&NETWORK)),
        field("meta", "Meta", TextMap),
        field("service", "Services", Many(&SERVICE)),
        field("shutdown_delay", "ShutdownDelay", Duration),
        field("max_run_duration", "MaxRunDuration", Duration),
        field("stop_after_client_disconnect", "StopAfterClientDisconnect", Duration),
        field("max_client_disconnect", "MaxClientDisconnect", Duration),
        field("prevent_reschedule_on_lost", "PreventRescheduleOnLost", Bool),
        field("scaling", "Scaling", One(&SCALING)),
        field("consul", "Consul", One(&CONSUL)),
        field("vault", "Vault", One(&VAULT)),
    ],
);

static TASK: Schema = Schema {
    name: "task",
    fields: &[
        field("driver", "Driver", Text),
        field("user", "User", Text),
        field("lifecycle", "Lifecycle", One(&LIFECYCLE)),
        field("config", "Config", Free),
        field("constraint", "Constraints", Many(&CONSTRAINT)),
        field("affinity", "Affinities", Many(&AFFINITY)),
        field("env", "Env", TextMap),
        field("service", "Services", Many(&SERVICE)),
        field("resources", "Resources", One(&RESOURCES)),
        field("restart", "RestartPolicy", One(&RESTART)),
        field("meta", "Meta", TextMap),
        field("kill_timeout", "KillTimeout", Duration),
        field("kill_signal", "KillSignal", Text),
        field("logs", "LogConfig", One(&LOGS)),
        field("artifact", "Artifacts", Many(&ARTIFACT)),
        field("vault", "Vault", One(&VAULT)),
        field("consul", "Consul", One(&CONSUL)),
        field("template", "Templates", Many(&TEMPLATE)),
        field("dispatch_payload", "DispatchPayload", One(&DISPATCH_PAYLOAD)),
        field("volume_mount", "VolumeMounts", Many(&VOLUME_MOUNT)),
        field("csi_plugin", "CSIPluginConfig", One(&CSI_PLUGIN)),
        field("leader", "Leader", Bool),
        field("shutdown_delay", "ShutdownDelay", Duration),
        field("kind", "Kind", Text),
        field("scaling", "ScalingPolicies", Labelled(&TASK_SCALING, "Type")),
        field("secret", "Secrets", Labelled(&SECRET, "Name")),
        field("identity", "Identities", Many(&IDENTITY)),
        field("action", "Actions", Labelled(&ACTION, "Name")),
        field("schedule", "Schedule", One(&SCHEDULE)),
    ],
    hook: Hook::Task,
};

pub(super) static CONSTRAINT: Schema = Schema {
    name: "constraint",
    fields: &[
        field("attribute", "LTarget", Text),
        field("value", "RTarget", Text),
        field("operator", "Operand", Text),
        field("version", "~version", Text),
        field("semver", "~semver", Text),
        field("regexp", "~regexp", Text),
        field("set_contains", "~set_contains", Text),
        field("set_contains_all", "~set_contains_all", Text),
        field("set_contains_any", "~set_contains_any", Text),
        field("distinct_hosts", "~distinct_hosts", Bool),
        field("distinct_property", "~distinct_property", Text),
    ],
    hook: Hook::Constraint,
};

pub(super) static AFFINITY: Schema = Schema {
    name: "affinity",
    fields: &[
        field("attribute", "LTarget", Text),
        field("value", "RTarget", Text),
        field("operator", "Operand", Text),
        field("weight", "Weight", Int),
        field("version", "~version", Text),
        field("semver", "~semver", Text),
        field("regexp", "~regexp", Text),
        field("set_contains", "~set_contains", Text),
        field("set_contains_all", "~set_contains_all", Text),
        field("set_contains_any", "~set_contains_any", Text),
    ],
    hook: Hook::Constraint,
};

static SPREAD: Schema = schema(
    "spread",
    &[
        field("attribute", "Attribute", Text),
        field("weight", "Weight", Int),
        field("target", "SpreadTarget", Labelled(&SPREAD_TARGET, "Value")),
    ],
);

static SPREAD_TARGET: Schema =
    schema("target", &[field("value", "Value", Text), field("percent", "Percent", Int)]);

static UPDATE: Schema = schema(
    "update block",
    &[
        field("stagger", "Stagger", Duration),
        field("max_parallel", "MaxParallel", Int),
        field("health_check", "HealthCheck", Text),
        field("min_healthy_time", "MinHealthyTime", Duration),
        field("healthy_deadline", "HealthyDeadline", Duration),
        field("progress_deadline", "ProgressDeadline", Duration),
        field("canary", "Canary", Int),
        field("auto_revert", "AutoRevert", Bool),
        field("auto_promote", "AutoPromote", Bool),
    ],
);

static MIGRATE: Schema = schema(
    "migrate block",
    &[
        field("max_parallel", "MaxParallel", Int),
        field("health_check", "HealthCheck", Text),
        field("min_healthy_time", "MinHealthyTime", Duration),
        field("healthy_deadline", "HealthyDeadline", Duration),
    ],
);

static RESCHEDULE: Schema = schema(
    "reschedule block",
    &[
        field("attempts", "Attempts", Int),
        field("interval", "Interval", Duration),
        field("delay", "Delay", Duration),
        field("delay_function", "DelayFunction", Text),
        field("max_delay", "MaxDelay", Duration),
        field("unlimited", "Unlimited", Bool),
    ],
);

static RESTART: Schema = schema(
    "restart block",
    &[
        field("attempts", "Attempts", Int),
        field("interval", "Interval", Duration),
        field("delay", "Delay", Duration),
        field("mode", "Mode", Text),
        field("render_templates", "RenderTemplates", Bool),
    ],
);

static DISCONNECT: Schema = schema(
    "disconnect block",
    &[
        field("lost_after", "LostAfter", Duration),
        field("stop_on_client_after", "StopOnClientAfter", Duration),
        field("replace", "Replace", Bool),
        field("reconcile", "Reconcile", Text),
    ],
);

static PERIODIC: Schema = schema(
    "periodic block",
    &[
        field("enabled", "Enabled", Bool),
        field("cron", "Spec", Text),
        field("crons", "Specs", Texts),
        field("prohibit_overlap", "ProhibitOverlap", Bool),
        field("time_zone", "TimeZone", Text),
    ],
);

static PARAMETERIZED: Schema = schema(
    "parameterized block",
    &[
        field("payload", "Payload", Text),
        field("meta_required", "MetaRequired", Texts),
        field("meta_optional", "MetaOptional", Texts),
    ],
);

static EPHEMERAL_DISK: Schema = schema(
    "ephemeral_disk block",
    &[
        field("sticky", "Sticky", Bool),
        field("migrate", "Migrate", Bool),
        field("size", "SizeMB", Int),
    ],
);

static SCALING: Schema = schema(
    "scaling block",
    &[
        field("enabled", "Enabled", Bool),
        field("min", "Min", Int),
        field("max", "Max", Int),
        field("policy", "Policy", Free),
        field("type", "Type", Text),
    ],
);

static VOLUME: Schema = schema(
    "volume",
    &[
        field("type", "Type", Text),
        field("source", "Source", Text),
        field("read_only", "ReadOnly", Bool),
        field("sticky", "Sticky", Bool),
        field("access_mode", "AccessMode", Text),
        field("attachment_mode", "AttachmentMode", Text),
        field("mount_options", "MountOptions", One(&MOUNT_OPTIONS)),
        field("per_alloc", "PerAlloc", Bool),
    ],
);

static MOUNT_OPTIONS: Schema = schema(
    "mount_options block",
    &[field("fs_type", "FSType", Text), field("mount_flags", "MountFlags", Texts)],
);

static VOLUME_MOUNT: Schema = schema(
    "volume_mount block",
    &[
        field("volume", "Volume", Text),
        field("destination", "Destination", Text),
        field("read_only", "ReadOnly", Bool),
        field("propagation_mode", "PropagationMode", Text),
        field("selinux_label", "SELinuxLabel", Text),
    ],
);

static NETWORK: Schema = Schema {
    name: "network",
    fields: &[
        field("mode", "Mode", Text),
        field("device", "Device", Text),
        field("cidr", "CIDR", Text),
        field("ip", "IP", Text),
        field("hostname", "Hostname", Text),
        field("mbits", "MBits", Int),
        field("port", "~ports", Labelled(&PORT, "Label")),
        field("dns", "DNS", One(&DNS)),
        field("cni", "CNI", One(&CNI)),
    ],
    hook: Hook::Network,
};

static PORT: Schema = schema(
    "port",
    &[
        field("static", "Value", Int),
        field("to", "To", Int),
        field("host_network", "HostNetwork", Text),
        field("ignore_collision", "IgnoreCollision", Bool),
    ],
);

static DNS: Schema = schema(
    "dns block",
    &[
        field("servers", "Servers", Texts),
        field("searches", "Searches", Texts),
        field("options", "Options", Texts),
    ],
);

static CNI: Schema = schema("cni block", &[field("args", "Args", TextMap)]);

static LIFECYCLE: Schema =
    schema("lifecycle block", &[field("hook", "Hook", Text), field("sidecar", "Sidecar", Bool)]);

pub(super) static RESOURCES: Schema = schema(
    "resources block",
    &[
        field("cpu", "CPU", Int),
        field("cores", "Cores", Int),
        field("memory", "MemoryMB", Int),
        field("memory_max", "MemoryMaxMB", Int),
        field("disk", "DiskMB", Int),
        field("iops", "IOPS", Int),
        field("network", "Networks", Many(&NETWORK)),
        field("device", "Devices", Labelled(&DEVICE, "Name")),
        field("numa", "NUMA", One(&NUMA)),
        field("secrets", "SecretsMB", Int),
    ],
);

pub(super) static LOGS: Schema = schema(
    "logs block",
    &[
        field("max_files", "MaxFiles", Int),
        field("max_file_size", "MaxFileSizeMB", Int),
        field("enabled", "Enabled", Bool),
        field("disabled", "Disabled", Bool),
    ],
);

static ARTIFACT: Schema = schema(
    "artifact",
    &[
        field("source", "GetterSource", Text),
        field("options", "GetterOptions", TextMap),
        field("headers", "GetterHeaders", TextMap),
        field("mode", "GetterMode", Text),
        field("insecure", "GetterInsecure", Bool),
        field("destination", "RelativeDest", Text),
        field("chown", "Chown", Bool),
    ],
);

static TEMPLATE: Schema = schema(
    "template",
    &[
        field("source", "SourcePath", Text),
        field("destination", "DestPath", Text),
        field("data", "EmbeddedTmpl", Text),
        field("change_mode", "ChangeMode", Text),
        field("change_script", "ChangeScript", One(&CHANGE_SCRIPT)),
        field("change_signal", "ChangeSignal", Text),
        field("once", "Once", Bool),
        field("splay", "Splay", Duration),
        field("perms", "Perms", Text),
        field("uid", "Uid", Int),
        field("gid", "Gid", Int),
        field("left_delimiter", "LeftDelim", Text),
        field("right_delimiter", "RightDelim", Text),
        field("env", "Envvars", Bool),
        field("vault_grace", "VaultGrace", Duration),
        field("wait", "Wait", One(&WAIT)),
        field("error_on_missing_key", "ErrMissingKey", Bool),
    ],
);

static CHANGE_SCRIPT: Schema = schema(
    "change_script block",
    &[
        field("command", "Command", Text),
        field("args", "Args", Texts),
        field("timeout", "Timeout", Duration),
        field("fail_on_error", "FailOnError", Bool),
        field("run_on_first_render", "RunOnFirstRender", Bool),
    ],
);

static WAIT: Schema =
    schema("wait block", &[field("min", "Min", Duration), field("max", "Max", Duration)]);

static DISPATCH_PAYLOAD: Schema = schema("dispatch_payload block", &[field("file", "File", Text)]);

static SERVICE: Schema = schema(
    "service",
    &[
        field("name", "Name", Text),
        field("tags", "Tags", Texts),
        field("canary_tags", "CanaryTags", Texts),
        field("enable_tag_override", "EnableTagOverride", Bool),
        field("port", "PortLabel", Text),
        field("address_mode", "AddressMode", Text),
        field("address", "Address", Text),
        field("check", "Checks", Many(&CHECK)),
        field("check_restart", "CheckRestart", One(&CHECK_RESTART)),
        field("connect", "Connect", One(&CONNECT)),
        field("meta", "Meta", TextMap),
        field("canary_meta", "CanaryMeta", TextMap),
        field("tagged_addresses", "TaggedAddresses", TextMap),
        field("task", "TaskName", Text),
        field("on_update", "OnUpdate", Text),
        field("identity", "Identity", One(&IDENTITY)),
        field("weights", "Weights", One(&WEIGHTS)),
        field("provider", "Provider", Text),
        field("cluster", "Cluster", Text),
        field("kind", "Kind", Text),
    ],
);

static WEIGHTS: Schema =
    schema("weights block", &[field("passing", "Passing", Int), field("warning", "Warning", Int)]);

static CHECK: Schema = schema(
    "check",
    &[
        field("name", "Name", Text),
        field("type", "Type", Text),
        field("command", "Command", Text),
        field("args", "Args", Texts),
        field("path", "Path", Text),
        field("protocol", "Protocol", Text),
        field("port", "PortLabel", Text),
        field("expose", "Expose", Bool),
        field("address_mode", "AddressMode", Text),
        field("advertise", "Advertise", Text),
        field("interval", "Interval", Duration),
        field("timeout", "Timeout", Duration),
        field("initial_status", "InitialStatus", Text),
        field("notes", "Notes", Text),
        field("tls_server_name", "TLSServerName", Text),
        field("tls_skip_verify", "TLSSkipVerify", Bool),
        field("header", "Header", TextListMap),
        field("method", "Method", Text),
        field("check_restart", "CheckRestart", One(&CHECK_RESTART)),
        field("grpc_service", "GRPCService", Text),
        field("grpc_use_tls", "GRPCUseTLS", Bool),
        field("task", "TaskName", Text),
        field("success_before_passing", "SuccessBeforePassing", Int),
        field("failures_before_critical", "FailuresBeforeCritical", Int),
        field("failures_before_warning", "FailuresBeforeWarning", Int),
        field("body", "Body", Text),
        field("on_update", "OnUpdate", Text),
    ],
);

static CHECK_RESTART: Schema = schema(
    "check_restart block",
    &[
        field("limit", "Limit", Int),
        field("grace", "Grace", Duration),
        field("ignore_warnings", "IgnoreWarnings", Bool),
    ],
);
