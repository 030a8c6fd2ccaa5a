//! Policies: update, restart, reschedule, migrate, disconnect, with the defaults of each kind of
//! job.

use std::collections::BTreeMap;
use std::time::Duration;

use cos_model::{
    DelayFunction, Disconnect, HealthCheckKind, JobKind, Migrate, Reschedule, Restart, RestartMode,
    Update, Value,
};

use super::reader::{Log, Reader, is_empty};

type Fields = BTreeMap<String, Value>;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_mins(1);
const HOUR: Duration = Duration::from_hours(1);

/// How many fields an update block has at least that a program wrote out in full.
const UPDATE_FIELDS_MIN: usize = 8;

/// Whether an update block says anything. Nomad writes one of zeros, with every field, for "none";
/// a person who writes a zero means it.
pub(super) fn says_something(fields: &Fields) -> bool {
    let written_in_full = fields.len() >= UPDATE_FIELDS_MIN;
    !fields.is_empty() && (!written_in_full || fields.values().any(|value| !is_empty(value)))
}

/// Reads a complete update policy from what is left after merging.
pub(super) fn update(fields: &Fields, path: &str, log: &Log) -> Update {
    let mut reader = Reader::new(fields, path.to_owned(), log);
    let default = Update::default();
    let update = Update {
        stagger: reader.duration("Stagger").unwrap_or(default.stagger),
        max_parallel: reader.u32("MaxParallel").unwrap_or(default.max_parallel),
        health_check: health_check(&mut reader),
        min_healthy_time: reader.duration("MinHealthyTime").unwrap_or(default.min_healthy_time),
        healthy_deadline: reader.duration("HealthyDeadline").unwrap_or(default.healthy_deadline),
        progress_deadline: reader.duration("ProgressDeadline").unwrap_or(default.progress_deadline),
        canary: reader.u32("Canary").unwrap_or(default.canary),
        auto_revert: reader.flag("AutoRevert"),
        auto_promote: reader.flag("AutoPromote"),
    };
    reader.finish();
    update
}

fn health_check(reader: &mut Reader<'_>) -> HealthCheckKind {
    match reader.text("HealthCheck").as_str() {
        "" | "checks" => HealthCheckKind::Checks,
        "task_states" => HealthCheckKind::TaskStates,
        "manual" => HealthCheckKind::Manual,
        other => {
            let summary = format!("`{other}` is not a health check of deployments");
            reader.error("HealthCheck", summary, "checks, task_states or manual");
            HealthCheckKind::Checks
        }
    }
}

/// Reads a complete restart policy.
pub(super) fn restart(fields: Option<&Fields>, kind: JobKind, path: &str, log: &Log) -> Restart {
    let (attempts, interval) = match kind {
        JobKind::Service | JobKind::System => (2, 30 * MINUTE),
        JobKind::Batch | JobKind::SysBatch => (3, 24 * HOUR),
    };
    let none = Fields::new();
    let mut reader = Reader::new(fields.unwrap_or(&none), path.to_owned(), log);
    let restart = Restart {
        attempts: reader.u32("Attempts").unwrap_or(attempts),
        interval: reader.duration("Interval").unwrap_or(interval),
        delay: reader.duration("Delay").unwrap_or(15 * SECOND),
        mode: match reader.text("Mode").as_str() {
            "" | "fail" => RestartMode::Fail,
            "delay" => RestartMode::Delay,
            other => {
                let summary = format!("`{other}` is not a restart mode");
                reader.error("Mode", summary, "fail or delay");
                RestartMode::Fail
            }
        },
        render_templates: reader.flag("RenderTemplates"),
    };
    reader.finish();
    restart
}

/// Reads a complete reschedule policy; jobs that live on every node have none by default.
pub(super) fn reschedule(
    fields: Option<&Fields>,
    kind: JobKind,
    path: &str,
    log: &Log,
) -> Option<Reschedule> {
    let default = match kind {
        JobKind::Service => Reschedule {
            attempts: 0,
            interval: Duration::ZERO,
            delay: 30 * SECOND,
            delay_function: DelayFunction::Exponential,
            max_delay: HOUR,
            unlimited: true,
        },
        JobKind::Batch => Reschedule {
            attempts: 1,
            interval: 24 * HOUR,
            delay: 5 * SECOND,
            delay_function: DelayFunction::Constant,
            max_delay: Duration::ZERO,
            unlimited: false,
        },
        JobKind::System | JobKind::SysBatch => {
            // Given all the same, it is kept, so that validation can refuse it by name.
            fields.filter(|fields| says_something(fields))?;
            Reschedule {
                attempts: 0,
                interval: Duration::ZERO,
                delay: Duration::ZERO,
                delay_function: DelayFunction::Constant,
                max_delay: Duration::ZERO,
                unlimited: false,
            }
        }
    };
    let Some(fields) = fields else { return Some(default) };
    let mut reader = Reader::new(fields, path.to_owned(), log);
    let reschedule = Reschedule {
        attempts: reader.u32("Attempts").unwrap_or(default.attempts),
        interval: reader.duration("Interval").unwrap_or(default.interval),
        delay: reader.duration("Delay").unwrap_or(default.delay),
        delay_function: match reader.text("DelayFunction").as_str() {
            "" => default.delay_function,
            "constant" => DelayFunction::Constant,
            "exponential" => DelayFunction::Exponential,
            "fibonacci" => DelayFunction::Fibonacci,
            other => {
                let summary = format!("`{other}` is not a delay function");
                reader.error("DelayFunction", summary, "constant, exponential or fibonacci");
                default.delay_function
            }
        },
        max_delay: reader.duration("MaxDelay").unwrap_or(default.max_delay),
        unlimited: reader.boolean("Unlimited").unwrap_or(default.unlimited),
    };
    reader.finish();
    Some(reschedule)
}

/// Reads a complete migrate policy; only services have one by default.
pub(super) fn migrate(
    fields: Option<&Fields>,
    kind: JobKind,
    path: &str,
    log: &Log,
) -> Option<Migrate> {
    let default = Migrate::default();
    let Some(fields) = fields else { return (kind == JobKind::Service).then_some(default) };
    let mut reader = Reader::new(fields, path.to_owned(), log);
    let migrate = Migrate {
        max_parallel: reader.u32("MaxParallel").unwrap_or(default.max_parallel),
        health_check: health_check(&mut reader),
        min_healthy_time: reader.duration("MinHealthyTime").unwrap_or(default.min_healthy_time),
        healthy_deadline: reader.duration("HealthyDeadline").unwrap_or(default.healthy_deadline),
    };
    reader.finish();
    Some(migrate)
}

/// Reads a disconnect block.
pub(super) fn disconnect(mut reader: Reader<'_>) -> Disconnect {
    let disconnect = Disconnect {
        lost_after: reader.duration("LostAfter").filter(|time| !time.is_zero()),
        stop_on_client_after: reader.duration("StopOnClientAfter").filter(|time| !time.is_zero()),
        replace: reader.boolean("Replace").unwrap_or(true),
        reconcile: reader.text_or("Reconcile", "best_score").replace('-', "_"),
    };
    let known = ["best_score", "longest_running", "keep_original", "keep_replacement"];
    if !known.contains(&disconnect.reconcile.as_str()) {
        let summary = format!("`{}` is not a way to reconcile", disconnect.reconcile);
        reader.error(
            "Reconcile",
            summary,
            "best_score, longest_running, keep_original or keep_replacement",
        );
    }
    reader.finish();
    disconnect
}
