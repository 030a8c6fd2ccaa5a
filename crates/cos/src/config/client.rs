//! The `client` block.

use std::path::PathBuf;

use cos_jobspec::hcl::Fields;

use super::ClientSettings;
use super::read::set;

/// Keys of Nomad that tune what cos does otherwise or does not have.
const NO_EFFECT: [&str; 30] = [
    "gc_interval",
    "state_dir",
    "alloc_dir",
    "alloc_mounts_dir",
    "host_volumes_dir",
    "host_volume_plugin_dir",
    "common_plugin_dir",
    "preferred_address_family",
    "network_speed",
    "cpu_disable_dmidecode",
    "disk_free_mb",
    "reservable_cores",
    "client_max_port",
    "client_min_port",
    "gc_parallel_destroys",
    "gc_disk_usage_threshold",
    "gc_inode_usage_threshold",
    "gc_volumes_on_node_gc",
    "no_host_uuid",
    "disable_remote_exec",
    "template",
    "cni_path",
    "cni_config_dir",
    "bridge_network_name",
    "bridge_network_subnet",
    "bridge_network_subnet_ipv6",
    "bridge_network_hairpin_mode",
    "bind_wildcard_default_host_network",
    "cgroup_parent",
    "nomad_service_discovery",
];

/// Keys that change what a user may rely on; using one is told.
const NO_EFFECT_TOLD: [&str; 7] = [
    "host_network",
    "artifact",
    "drain_on_shutdown",
    "users",
    "node_max_allocs",
    "fingerprint",
    "default_ineligible",
];

/// Reads one `client` block.
pub(super) fn read(
    settings: &mut ClientSettings,
    warnings: &mut Vec<String>,
    fields: &mut Fields<'_>,
) {
    set(&mut settings.enabled, fields.boolean("enabled"));
    if let Some(servers) = fields.strings("servers") {
        settings.servers = servers;
    }
    fields.block("server_join", |join| {
        join.accept(&["retry_max", "retry_interval"]);
        for key in ["retry_join", "start_join"] {
            if let Some(addresses) = join.strings(key) {
                settings.retry_join = addresses;
            }
        }
    });
    set(&mut settings.node_class, fields.string("node_class"));
    set(&mut settings.node_pool, fields.string("node_pool"));
    set(&mut settings.network_interface, fields.string("network_interface"));
    settings.options.extend(fields.string_map("options"));
    settings.meta.extend(fields.string_map("meta"));
    settings.chroot_env.extend(fields.string_map("chroot_env"));
    fields.block("reserved", |reserved| {
        set(&mut settings.reserved_cpu, amount(reserved, "cpu"));
        set(&mut settings.reserved_memory, amount(reserved, "memory"));
        set(&mut settings.reserved_disk, amount(reserved, "disk"));
        set(&mut settings.reserved_ports, reserved.string("reserved_ports"));
        reserved.accept(&["cores"]);
    });
    fields.labelled("host_volume", |name, volume| {
        let path = volume.string("path");
        let read_only = volume.boolean("read_only").unwrap_or(false);
        if let Some(path) = path {
            settings.host_volumes.insert(name.to_owned(), (PathBuf::from(path), read_only));
        } else {
            let span = volume.body().span;
            volume.report(span, format!("host volume `{name}` has no path"), "path = \"/…\"");
        }
    });
    set(&mut settings.min_dynamic_port, port(fields, "min_dynamic_port"));
    set(&mut settings.max_dynamic_port, port(fields, "max_dynamic_port"));
    set(&mut settings.cpu_total_compute, amount(fields, "cpu_total_compute"));
    set(&mut settings.memory_total_mb, amount(fields, "memory_total_mb"));
    set(&mut settings.disk_total_mb, amount(fields, "disk_total_mb"));
    let allocs = fields.integer_in("gc_max_allocs", 0, i64::from(u32::MAX));
    set(&mut settings.gc_max_allocs, allocs.and_then(|count| u32::try_from(count).ok()));
    set(&mut settings.max_kill_timeout, fields.duration("max_kill_timeout"));
    for key in NO_EFFECT_TOLD {
        if fields.has(key) {
            warnings.push(format!("`client.{key}` has no effect yet"));
        }
    }
    fields.accept(&NO_EFFECT);
    fields.accept(&["log_file"]);
}

fn amount(fields: &mut Fields<'_>, key: &str) -> Option<u64> {
    fields.integer_in(key, 0, i64::MAX).and_then(|amount| u64::try_from(amount).ok())
}

fn port(fields: &mut Fields<'_>, key: &str) -> Option<u16> {
    fields.integer_in(key, 1, 65_535).and_then(|port| u16::try_from(port).ok())
}
