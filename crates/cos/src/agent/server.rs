//! The server part of an agent, from its settings.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use cos_model::version;
use cos_server::{Advertise, Bind, Config, HeartbeatLimits, Server, Timing};

use super::security::Secured;
use super::{Parts, with_port};
use crate::config::ServerSettings;

/// The default port of gossip, for join addresses without one.
const SERF_PORT: u16 = 4648;

/// The shortest time to live of a heartbeat.
const HEARTBEAT_TTL_MIN: Duration = Duration::from_millis(200);

/// Starts the server if the agent is one.
pub(super) async fn start(parts: &Parts<'_>, secured: &Secured) -> anyhow::Result<Option<Server>> {
    let settings = parts.settings;
    if !settings.is_server() {
        return Ok(None);
    }
    let timing = Timing { heartbeats: heartbeats(&settings.server), ..Timing::default() };
    let endpoints = parts.endpoints;
    let config = Config {
        data_dir: settings.data_dir.clone().unwrap_or_default().join("server"),
        name: parts.name.to_owned(),
        region: settings.region(),
        datacenter: settings.datacenter(),
        bind: Bind { rpc: endpoints.rpc.bind, serf: endpoints.serf.bind },
        advertise: Advertise {
            rpc: endpoints.rpc.advertise,
            serf: endpoints.serf.advertise,
            http: endpoints.http.advertise.to_string(),
            consul_http: endpoints
                .consul_http
                .map_or_else(String::new, |consul| consul.advertise.to_string()),
        },
        bootstrap_expect: settings
            .server
            .bootstrap_expect
            .unwrap_or_else(|| u32::from(settings.dev)),
        retry_join: settings
            .server
            .retry_join
            .iter()
            .map(|join| with_port(join, SERF_PORT))
            .collect(),
        retry_interval: settings.server.retry_interval.unwrap_or(Duration::from_secs(30)),
        workers: settings.server.num_schedulers.unwrap_or(0),
        timing,
        gc: thresholds(&settings.server.thresholds),
        security: secured.server.clone(),
        gossip_keys: secured.gossip_keys.clone(),
        zone: settings.server.zone.clone().unwrap_or_default(),
        never_votes: settings.server.never_votes.unwrap_or(false),
        autopilot: settings.autopilot.clone(),
        tags: BTreeMap::from([("build".to_owned(), version::NOMAD.to_owned())]),
    };
    Ok(Some(Server::start(config, Arc::clone(parts.clock), parts.tasks.clone()).await?))
}

/// How soon a node counts as dead: the defaults, and what the operator wants otherwise.
fn heartbeats(server: &ServerSettings) -> HeartbeatLimits {
    let defaults = HeartbeatLimits::default();
    let spacing = server.max_heartbeats_per_second.map(|rate| Duration::from_secs_f64(1.0 / rate));
    HeartbeatLimits {
        // Shorter than this a heartbeat is late before it has arrived.
        ttl_min: server.min_heartbeat_ttl.unwrap_or(defaults.ttl_min).max(HEARTBEAT_TTL_MIN),
        spacing: spacing.unwrap_or(defaults.spacing),
        grace: server.heartbeat_grace.unwrap_or(defaults.grace),
        closed: server.closed_heartbeat_grace.unwrap_or(defaults.closed),
        goodbye: server.goodbye_heartbeat_grace.unwrap_or(defaults.goodbye),
        failover: server.failover_heartbeat_ttl.unwrap_or(defaults.failover),
    }
}

fn thresholds(given: &BTreeMap<&'static str, Duration>) -> cos_state::garbage::Thresholds {
    let mut thresholds = cos_state::garbage::Thresholds::default();
    for (name, age) in given {
        match *name {
            "node_gc_threshold" => thresholds.nodes = *age,
            "job_gc_threshold" => thresholds.jobs = *age,
            "eval_gc_threshold" => thresholds.evals = *age,
            "batch_eval_gc_threshold" => thresholds.batch_evals = *age,
            "deployment_gc_threshold" => thresholds.deployments = *age,
            other => unreachable!("{other} is read and not used"),
        }
    }
    thresholds
}
