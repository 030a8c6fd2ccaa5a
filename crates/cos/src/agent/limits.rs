//! How much the machine gives this agent, and how much of it clients of its HTTP APIs may take.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use cos_http::Limits;
use cos_http::limits::{IsAgent, Settings};
use cos_model::catalog::Catalog;
use cos_platform::OpenFiles;
use tokio::sync::watch;

use crate::config::LimitSettings;

/// File handles that connections of clients leave to everything else: the log, the state, tasks,
/// the cluster's own connections.
const FILES_RESERVED: u64 = 256;

/// Which part of the others the connections of one listener may take. The ingress needs two for
/// each request.
const FILES_PART: u64 = 4;

/// Connections that a listener holds in any case, and at most if nothing is configured.
const CONNECTIONS_MIN: usize = 16;
const CONNECTIONS_MAX: usize = 8192;

/// Connections of one client to the Consul dialect, as Consul has it.
const CONSUL_PER_CLIENT: usize = 200;

/// The limits of the listener of Nomad's API and of that of Consul's.
pub(crate) fn of_listeners(
    wanted: &LimitSettings,
    files: OpenFiles,
    catalog: &watch::Receiver<Arc<Catalog>>,
) -> [Limits; 2] {
    let settings = settings(wanted, files);
    let consul = Settings {
        connections_per_client: wanted.http_max_conns_per_client.unwrap_or(CONSUL_PER_CLIENT),
        ..settings
    };
    [settings, consul].map(|settings| Limits::new(settings, agents_of(catalog)))
}

fn settings(wanted: &LimitSettings, files: OpenFiles) -> Settings {
    let defaults = Settings::default();
    let spare = files.now.saturating_sub(FILES_RESERVED) / FILES_PART;
    let total = usize::try_from(spare).unwrap_or(usize::MAX);
    Settings {
        connections_per_client: wanted
            .http_max_conns_per_client
            .unwrap_or(defaults.connections_per_client),
        connections_total: wanted
            .http_max_conns
            .filter(|count| *count > 0)
            .unwrap_or_else(|| total.clamp(CONNECTIONS_MIN, CONNECTIONS_MAX)),
        waits_per_client: wanted.http_max_blocking_per_client.unwrap_or(defaults.waits_per_client),
        waits_total: wanted
            .http_max_blocking
            .filter(|count| *count > 0)
            .unwrap_or(defaults.waits_total),
        // The same patience for whoever says nothing, whether before TLS or after it.
        first_head: wanted
            .https_handshake_timeout
            .filter(|time| !time.is_zero())
            .unwrap_or(defaults.first_head)
            .max(Duration::from_secs(1)),
        ..defaults
    }
}

/// Agents pass on the requests of many clients. Asked only about clients that have their share.
fn agents_of(catalog: &watch::Receiver<Arc<Catalog>>) -> IsAgent {
    let catalog = catalog.clone();
    Arc::new(move |address: IpAddr| {
        let catalog = Arc::clone(&catalog.borrow());
        let address = address.to_string();
        // On loopback everybody has the agents' address.
        !address.starts_with("127.") && catalog.nodes().any(|node| node.address == address)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_files_to_everything_else() {
        let total = |now| {
            let files = OpenFiles { given: now, now };
            settings(&LimitSettings::default(), files).connections_total
        };
        assert_eq!(total(64), CONNECTIONS_MIN);
        assert_eq!(total(1_024), 192);
        assert_eq!(total(1_000_000), CONNECTIONS_MAX);
        let wanted = LimitSettings { http_max_conns: Some(7), ..LimitSettings::default() };
        let files = OpenFiles { given: 1_024, now: 1_024 };
        assert_eq!(settings(&wanted, files).connections_total, 7);
    }
}
