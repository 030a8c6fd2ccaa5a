//! The `server` block.

use cos_jobspec::hcl::Fields;

use super::ServerSettings;
use super::read::set;

/// Keys of Nomad that tune what cos does otherwise or does not have.
const NO_EFFECT: [&str; 34] = [
    "authoritative_region",
    "client_introduction",
    "data_dir",
    "protocol_version",
    "raft_protocol",
    "raft_multiplier",
    "enabled_schedulers",
    "csi_volume_claim_gc_interval",
    "csi_volume_claim_gc_threshold",
    "csi_plugin_gc_threshold",
    "acl_token_gc_threshold",
    "root_key_gc_interval",
    "root_key_gc_threshold",
    "root_key_rotation_threshold",
    "retry_max",
    "rejoin_after_leave",
    "upgrade_version",
    "default_scheduler_config",
    "plan_rejection_tracker",
    "plan_apply_pipeline",
    "enable_event_broker",
    "event_buffer_size",
    "license_path",
    "search",
    "deploy_query_rate_limit",
    "raft_logstore",
    "raft_boltdb",
    "raft_snapshot_threshold",
    "raft_snapshot_interval",
    "raft_trailing_logs",
    "job_gc_interval",
    "oidc_issuer",
    "start_timeout",
    "non_production",
];

/// Bounds of `max_heartbeats_per_second`.
const HEARTBEATS_PER_SECOND_MIN: f64 = 0.01;
const HEARTBEATS_PER_SECOND_MAX: f64 = 100_000.0;

/// Limits of job files; cos has its own, stated where a file is refused.
const JOB_LIMITS: [&str; 5] = [
    "job_default_priority",
    "job_max_priority",
    "job_max_count",
    "job_max_source_size",
    "job_tracked_versions",
];

/// Ages of garbage that can be set.
pub(crate) const THRESHOLDS: [&str; 5] = [
    "node_gc_threshold",
    "job_gc_threshold",
    "eval_gc_threshold",
    "batch_eval_gc_threshold",
    "deployment_gc_threshold",
];

/// Reads one `server` block.
pub(super) fn read(settings: &mut ServerSettings, fields: &mut Fields<'_>) {
    set(&mut settings.enabled, fields.boolean("enabled"));
    let expect = fields.integer_in("bootstrap_expect", 0, 9);
    set(&mut settings.bootstrap_expect, expect.and_then(|count| u32::try_from(count).ok()));
    for key in ["retry_join", "start_join"] {
        if let Some(addresses) = fields.strings(key) {
            settings.retry_join = addresses;
        }
    }
    set(&mut settings.retry_interval, fields.duration("retry_interval"));
    fields.block("server_join", |join| {
        join.accept(&["retry_max"]);
        for key in ["retry_join", "start_join"] {
            if let Some(addresses) = join.strings(key) {
                settings.retry_join = addresses;
            }
        }
        set(&mut settings.retry_interval, join.duration("retry_interval"));
    });
    let workers = fields.integer_in("num_schedulers", 0, 256);
    set(&mut settings.num_schedulers, workers.and_then(|count| usize::try_from(count).ok()));
    heartbeats(settings, fields);
    for key in THRESHOLDS {
        if let Some(age) = fields.duration(key) {
            settings.thresholds.insert(key, age);
        }
    }
    if let Some(key) = fields.string("encrypt") {
        if cos_server::parse_key(&key).is_ok() {
            settings.encrypt = Some(key);
        } else if let Some(entry) = fields.entry("encrypt") {
            let expected = "16, 24 or 32 bytes in base64, as `operator gossip keyring generate` \
                            prints";
            fields.report(entry.node.span, "`encrypt` is no gossip key", expected);
        }
    }
    set(&mut settings.zone, fields.string("redundancy_zone"));
    set(&mut settings.never_votes, fields.boolean("non_voting_server"));
    fields.accept(&NO_EFFECT);
    fields.accept(&JOB_LIMITS);
}

/// How soon a node counts as dead. The last two are cos's own.
fn heartbeats(settings: &mut ServerSettings, fields: &mut Fields<'_>) {
    set(&mut settings.heartbeat_grace, fields.duration("heartbeat_grace"));
    set(&mut settings.min_heartbeat_ttl, fields.duration("min_heartbeat_ttl"));
    set(&mut settings.failover_heartbeat_ttl, fields.duration("failover_heartbeat_ttl"));
    set(&mut settings.closed_heartbeat_grace, fields.duration("closed_heartbeat_grace"));
    set(&mut settings.goodbye_heartbeat_grace, fields.duration("goodbye_heartbeat_grace"));
    let rate = fields.number("max_heartbeats_per_second");
    if let (Some(rate), Some(entry)) = (rate, fields.entry("max_heartbeats_per_second")) {
        if (HEARTBEATS_PER_SECOND_MIN..=HEARTBEATS_PER_SECOND_MAX).contains(&rate) {
            settings.max_heartbeats_per_second = Some(rate);
        } else {
            let summary = format!("{rate} heartbeats per second cannot be kept");
            fields.report(entry.node.span, summary, "a number from 0.01 to 100000");
        }
    }
}
