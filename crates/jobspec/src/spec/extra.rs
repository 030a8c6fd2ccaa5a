//! Tables of blocks that are kept in a job's extras.

use super::Kind::{Bool, Duration, Free, Int, Labelled, Many, One, Text, TextMap, Texts};
use super::tables::{AFFINITY, CONSTRAINT};
use super::{Schema, field, schema};

pub(super) static MULTIREGION: Schema = schema(
    "multiregion block",
    &[
        field("strategy", "Strategy", One(&STRATEGY)),
        field("region", "Regions", Labelled(&REGION, "Name")),
    ],
);

static STRATEGY: Schema = schema(
    "strategy block",
    &[field("max_parallel", "MaxParallel", Int), field("on_failure", "OnFailure", Text)],
);

static REGION: Schema = schema(
    "region block",
    &[
        field("count", "Count", Int),
        field("datacenters", "Datacenters", Texts),
        field("node_pool", "NodePool", Text),
        field("meta", "Meta", TextMap),
    ],
);

pub(super) static UI: Schema = schema(
    "ui block",
    &[field("description", "Description", Text), field("link", "Links", Many(&LINK))],
);

static LINK: Schema =
    schema("link block", &[field("label", "Label", Text), field("url", "URL", Text)]);

pub(super) static DEVICE: Schema = schema(
    "device",
    &[
        field("count", "Count", Int),
        field("constraint", "Constraints", Many(&CONSTRAINT)),
        field("affinity", "Affinities", Many(&AFFINITY)),
    ],
);

pub(super) static NUMA: Schema = schema(
    "numa block",
    &[field("affinity", "Affinity", Text), field("devices", "Devices", Texts)],
);

pub(super) static VAULT: Schema = schema(
    "vault block",
    &[
        field("policies", "Policies", Texts),
        field("role", "Role", Text),
        field("namespace", "Namespace", Text),
        field("cluster", "Cluster", Text),
        field("env", "Env", Bool),
        field("disable_file", "DisableFile", Bool),
        field("change_mode", "ChangeMode", Text),
        field("change_signal", "ChangeSignal", Text),
        field("allow_token_expiration", "AllowTokenExpiration", Bool),
    ],
);

pub(super) static SECRET: Schema = schema(
    "secret",
    &[
        field("provider", "Provider", Text),
        field("path", "Path", Text),
        field("config", "Config", Free),
        field("env", "Env", TextMap),
    ],
);

pub(super) static IDENTITY: Schema = schema(
    "identity block",
    &[
        field("name", "Name", Text),
        field("aud", "Audience", Texts),
        field("change_mode", "ChangeMode", Text),
        field("change_signal", "ChangeSignal", Text),
        field("env", "Env", Bool),
        field("file", "File", Bool),
        field("filepath", "Filepath", Text),
        field("service_name", "ServiceName", Text),
        field("ttl", "TTL", Duration),
        field("extra_claims", "ExtraClaims", Texts),
    ],
);

pub(super) static CSI_PLUGIN: Schema = schema(
    "csi_plugin block",
    &[
        field("id", "ID", Text),
        field("type", "Type", Text),
        field("mount_dir", "MountDir", Text),
        field("stage_publish_base_dir", "StagePublishBaseDir", Text),
        field("health_timeout", "HealthTimeout", Duration),
    ],
);

pub(super) static ACTION: Schema =
    schema("action", &[field("command", "Command", Text), field("args", "Args", Texts)]);

pub(super) static SCHEDULE: Schema = schema("schedule block", &[field("cron", "Cron", One(&CRON))]);

static CRON: Schema = schema(
    "cron block",
    &[
        field("start", "Start", Text),
        field("end", "End", Text),
        field("timezone", "Timezone", Text),
    ],
);

pub(super) static TASK_SCALING: Schema = schema(
    "scaling block",
    &[
        field("enabled", "Enabled", Bool),
        field("min", "Min", Int),
        field("max", "Max", Int),
        field("policy", "Policy", Free),
    ],
);
