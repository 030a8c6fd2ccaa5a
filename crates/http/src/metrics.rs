//! The program's metrics: one recorder, shown as Prometheus text or as Nomad's JSON.
//!
//! Everybody counts with the macros of the `metrics` crate. The names that operators' dashboards
//! ask for are set here from facts, each time somebody looks.

use std::fmt;
use std::sync::Arc;

use cos_model::{ClientStatus, JobStatus};
use cos_state::{ControlPlane, State};
use metrics::gauge;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use serde_json::{Value, json};

use crate::api::Api;
use crate::local::{LocalNode, NodeFigures};

mod text;

/// Connections and waiting reads that were turned away for want of room.
pub(crate) const TURNED_AWAY: &str = "cos.http.turned_away";

/// The size of a page of memory, in which the kernel counts.
const PAGE_BYTES: f64 = 4096.0;

/// Another recorder was installed before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("another metrics recorder is installed already")]
pub struct InstallError;

/// A handle to the recorder.
#[derive(Clone)]
pub struct Metrics {
    recorder: Arc<PrometheusRecorder>,
    handle: PrometheusHandle,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Metrics {
    /// Makes a recorder that only this handle records into.
    pub fn detached() -> Self {
        let recorder = PrometheusBuilder::new().build_recorder();
        let handle = recorder.handle();
        Self { recorder: Arc::new(recorder), handle }
    }

    /// Makes a recorder and lets the whole program record into it.
    pub fn install() -> Result<Self, InstallError> {
        let metrics = Self::detached();
        let shared = Arc::clone(&metrics.recorder);
        metrics::set_global_recorder(shared).map_err(|_taken| InstallError)?;
        Ok(metrics)
    }

    /// Sets the gauges that are computed when somebody looks.
    pub fn observe(&self, api: &Api) {
        metrics::with_local_recorder(&self.recorder, || {
            observe_process(api.agent.uptime().as_secs_f64());
            if let Some(local) = &api.local {
                observe_node(local.as_ref());
            }
            if let Some(control) = &api.control {
                observe_server(control.as_ref());
            }
        });
        self.handle.run_upkeep();
    }

    /// Everything in Prometheus' text format.
    pub fn render(&self) -> String {
        self.handle.render()
    }

    /// Everything in the JSON of Nomad's `/v1/metrics`.
    pub fn to_json(&self, timestamp: &str) -> Value {
        let (gauges, counters, samples) = text::read(&self.render());
        json!({
            "Timestamp": timestamp,
            "Gauges": gauges,
            "Points": [],
            "Counters": counters,
            "Samples": samples,
        })
    }
}

#[expect(clippy::cast_precision_loss, reason = "a gauge is a float; 53 bits are enough to look at")]
fn float(number: u64) -> f64 {
    number as f64
}

fn observe_process(uptime_seconds: f64) {
    gauge!("nomad_uptime").set(uptime_seconds);
    // There is no garbage collector, so nothing ever paused for it.
    gauge!("nomad_runtime_total_gc_pause_ns").set(0.0);
    gauge!("nomad_runtime_alloc_bytes").set(resident_bytes().unwrap_or(0.0));
}

/// The private resident memory of this process: the closest fact to "allocated bytes".
fn resident_bytes() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    let mut fields = text.split(' ').skip(1).map(str::parse::<f64>);
    let (resident, shared) = (fields.next()?.ok()?, fields.next()?.ok()?);
    Some((resident - shared) * PAGE_BYTES)
}

fn observe_node(local: &dyn LocalNode) {
    let NodeFigures {
        datacenter,
        capacity,
        allocated,
        allocations,
        allocations_blocked,
        memory,
        check_registrations,
    } = local.figures();
    let labels = [("datacenter", datacenter), ("node_id", local.node_id().to_string())];
    let left = capacity.saturating_sub(&allocated);
    let count = |status| float(allocations.get(&status).copied().unwrap_or(0));
    gauge!("nomad_client_allocated_cpu", &labels).set(float(allocated.cpu_mhz));
    gauge!("nomad_client_allocated_memory", &labels).set(float(allocated.memory_mib));
    gauge!("nomad_client_allocated_disk", &labels).set(float(allocated.disk_mib));
    gauge!("nomad_client_unallocated_cpu", &labels).set(float(left.cpu_mhz));
    gauge!("nomad_client_unallocated_memory", &labels).set(float(left.memory_mib));
    gauge!("nomad_client_unallocated_disk", &labels).set(float(left.disk_mib));
    gauge!("nomad_client_allocations_blocked", &labels).set(float(allocations_blocked));
    gauge!("nomad_client_allocations_pending", &labels).set(count(ClientStatus::Pending));
    gauge!("nomad_client_allocations_running", &labels).set(count(ClientStatus::Running));
    let ended = [ClientStatus::Complete, ClientStatus::Failed, ClientStatus::Lost];
    gauge!("nomad_client_allocations_terminal", &labels).set(ended.map(count).iter().sum::<f64>());
    gauge!("nomad_client_host_memory_total", &labels).set(float(memory.total));
    gauge!("nomad_client_host_memory_available", &labels).set(float(memory.available));
    gauge!("nomad_client_host_memory_used", &labels).set(float(memory.used));
    gauge!("nomad_client_host_memory_free", &labels).set(float(memory.free));
    gauge!("nomad_client_consul_check_registrations", &labels).set(float(check_registrations));
}

fn observe_server(control: &dyn ControlPlane) {
    let leadership = control.leadership();
    let state = control.state();
    gauge!("nomad_raft_appliedIndex").set(float(leadership.applied_index));
    gauge!("nomad_raft_lastIndex").set(float(leadership.last_log_index));
    gauge!("nomad_raft_is_leader").set(f64::from(u8::from(leadership.is_leader)));
    for (name, status) in [
        ("nomad_nomad_job_status_pending", JobStatus::Pending),
        ("nomad_nomad_job_status_running", JobStatus::Running),
        ("nomad_nomad_job_status_dead", JobStatus::Dead),
    ] {
        gauge!(name).set(float(jobs_with(&state, status)));
    }
}

fn jobs_with(state: &State, status: JobStatus) -> u64 {
    u64::try_from(state.jobs().filter(|job| job.status == status).count()).unwrap_or(u64::MAX)
}
