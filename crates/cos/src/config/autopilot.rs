//! The `autopilot` block: how the consensus group is looked after until somebody sets it otherwise.

use cos_jobspec::hcl::Fields;
use cos_state::AutopilotConfig;

/// The largest number of a setting.
const MOST: i64 = 4_294_967_295;

/// Reads one `autopilot` block.
pub(super) fn read(settings: &mut AutopilotConfig, fields: &mut Fields<'_>) {
    if let Some(cleanup) = fields.boolean("cleanup_dead_servers") {
        settings.cleanup_dead_servers = cleanup;
    }
    if let Some(time) = fields.duration("server_stabilization_time") {
        settings.server_stabilization_time = time;
    }
    if let Some(time) = fields.duration("last_contact_threshold") {
        settings.last_contact_threshold = time;
    }
    if let Some(count) = fields.integer_in("max_trailing_logs", 0, MOST) {
        settings.max_trailing_logs = count.unsigned_abs();
    }
    let quorum =
        fields.integer_in("min_quorum", 0, MOST).and_then(|count| u32::try_from(count).ok());
    if let Some(count) = quorum {
        settings.min_quorum = count;
    }
    if let Some(zones) = fields.boolean("enable_redundancy_zones") {
        settings.enable_redundancy_zones = zones;
    }
    for key in ["disable_upgrade_migration", "enable_custom_upgrades"] {
        let span = fields.entry(key).map(|entry| entry.key_span);
        if fields.boolean(key) == Some(true)
            && let Some(span) = span
        {
            fields.report(span, format!("`{key}` is not supported yet"), "set it to false");
        }
    }
}
