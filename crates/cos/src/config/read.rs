//! One file's keys, put on top of what earlier files said.

use cos_jobspec::Diagnostic;
use cos_jobspec::hcl::{Body, Fields};

use super::{Settings, autopilot, client, limits, security, server};

/// Listeners whose ports the `ports` block names: Nomad's three, then our own.
const PORTS: [&str; 7] = ["http", "rpc", "serf", "consul_http", "dns", "ingress", "ingress_ui"];

/// Top-level keys of Nomad that have no effect here, because what they tune does not exist or is
/// always on.
const NO_EFFECT: [&str; 17] = [
    "disable_update_check",
    "disable_anonymous_signature",
    "enable_debug",
    "enable_syslog",
    "syslog_facility",
    "leave_on_interrupt",
    "leave_on_terminate",
    "log_include_location",
    "log_rotate_bytes",
    "log_rotate_duration",
    "log_rotate_max_files",
    "plugin_dir",
    "http_api_response_headers",
    "rpc",
    "ui",
    "reporting",
    "eventlog",
];

/// Reads a file's keys. Returns every mistake.
pub(super) fn settings(settings: &mut Settings, body: &Body) -> Vec<Diagnostic> {
    let mut fields = Fields::new(body);
    set(&mut settings.name, fields.string("name"));
    set(&mut settings.region, fields.string("region"));
    set(&mut settings.datacenter, fields.string("datacenter"));
    set(&mut settings.data_dir, fields.string("data_dir").map(Into::into));
    set(&mut settings.bind_addr, fields.string("bind_addr"));
    log(settings, &mut fields);
    settings.addresses.extend(fields.string_map("addresses"));
    settings.advertise.extend(fields.string_map("advertise"));
    fields.block("ports", |ports| {
        for name in PORTS {
            if let Some(port) = ports.integer_in(name, -1, 65_535) {
                let port = i32::try_from(port).expect("the range was just checked");
                settings.ports.insert(name.to_owned(), port);
            }
        }
    });
    fields.block("server", |fields| server::read(&mut settings.server, fields));
    fields.block("autopilot", |fields| autopilot::read(&mut settings.autopilot, fields));
    fields.block("cluster", |fields| security::cluster(&mut settings.cluster, fields));
    let warnings = &mut settings.warnings;
    fields.block("tls", |fields| security::tls(&mut settings.tls, warnings, fields));
    fields.block("client", |fields| client::read(&mut settings.client, warnings, fields));
    fields.labelled("plugin", |name, plugin| {
        plugin.accept(&["args"]);
        let config = plugin.map("config");
        settings.plugins.entry(name.to_owned()).or_default().extend(config);
    });
    if fields.boolean("enable_script_checks") == Some(true) {
        settings.enable_script_checks = true;
    }
    let warnings = &mut settings.warnings;
    fields.block("limits", |fields| limits::read(&mut settings.limits, warnings, fields));
    external(settings, &mut fields);
    for key in NO_EFFECT {
        if fields.has(key) {
            settings.warnings.push(format!("`{key}` has no effect"));
        }
    }
    // Metrics are always on and always in both formats.
    fields.accept(&["telemetry"]);
    fields.finish()
}

fn log(settings: &mut Settings, fields: &mut Fields<'_>) {
    if let Some(level) = fields.string("log_level") {
        let known = ["trace", "debug", "info", "warn", "error", "off"];
        if known.contains(&level.to_lowercase().as_str()) {
            settings.log_level = Some(level);
        } else if let Some(entry) = fields.entry("log_level") {
            let summary = format!("`{level}` is no log level");
            fields.report(entry.node.span, summary, "trace, debug, info, warn, error or off");
        }
    }
    if fields.boolean("log_json") == Some(true) {
        settings.warnings.push("`log_json` has no effect; the log is text".to_owned());
    }
    if fields.has("log_file") {
        settings.warnings.push("`log_file` has no effect; the log goes to stderr".to_owned());
    }
}

/// Blocks about other programs, and about security: what would be unsafe to ignore is refused.
fn external(settings: &mut Settings, fields: &mut Fields<'_>) {
    let mut unsafe_to_ignore = Vec::new();
    for (block, keys) in [
        ("acl", &["enabled"][..]),
        ("vault", &["enabled"][..]),
        ("sentinel", &[][..]),
        ("audit", &["enabled"][..]),
        ("keyring", &[][..]),
    ] {
        let Some(entry) = fields.entry(block) else { continue };
        for body in entry.node.bodies() {
            let on = keys.iter().find(|key| {
                body.get(key).and_then(|entry| entry.node.as_scalar()?.to_bool()).unwrap_or(false)
            });
            match on {
                Some(key) => unsafe_to_ignore.push((entry.key_span, block, *key)),
                None => settings.warnings.push(format!("`{block}` has no effect yet")),
            }
        }
    }
    for (span, block, key) in unsafe_to_ignore {
        let summary = format!("`{block} {{ {key} = true }}` is not supported yet");
        fields.report(span, summary, "no such block: starting without it would be unsafe");
    }
    if fields.has("consul") {
        let text = "`consul` has no effect: the agent is its own registry";
        settings.warnings.push(text.to_owned());
    }
}

/// Takes a value if there is one.
pub(super) fn set<T>(place: &mut Option<T>, value: Option<T>) {
    if value.is_some() {
        *place = value;
    }
}
