//! The `limits` block: Nomad's and Consul's keys, and two of cos's own.

use cos_jobspec::hcl::Fields;

use super::LimitSettings;
use super::read::set;

/// The largest number that makes sense.
const COUNT_MAX: i64 = 1_000_000;

/// Keys of the cluster's own port and of what does not exist here; using one is told.
const NO_EFFECT: [&str; 8] = [
    "rpc_handshake_timeout",
    "rpc_max_conns_per_client",
    "rpc_client_timeout",
    "rpc_max_burst",
    "rpc_rate",
    "kv_max_value_size",
    "txn_max_req_len",
    "request_limits",
];

/// Reads one `limits` block.
pub(super) fn read(
    settings: &mut LimitSettings,
    warnings: &mut Vec<String>,
    fields: &mut Fields<'_>,
) {
    set(&mut settings.http_max_conns_per_client, count(fields, "http_max_conns_per_client"));
    set(&mut settings.http_max_conns, count(fields, "http_max_conns"));
    set(&mut settings.http_max_blocking_per_client, count(fields, "http_max_blocking_per_client"));
    set(&mut settings.http_max_blocking, count(fields, "http_max_blocking"));
    set(&mut settings.https_handshake_timeout, fields.duration("https_handshake_timeout"));
    for key in NO_EFFECT {
        if fields.has(key) {
            warnings.push(format!("`limits {{ {key} }}` has no effect"));
        }
    }
}

fn count(fields: &mut Fields<'_>, key: &str) -> Option<usize> {
    fields.integer_in(key, 0, COUNT_MAX).and_then(|count| usize::try_from(count).ok())
}
