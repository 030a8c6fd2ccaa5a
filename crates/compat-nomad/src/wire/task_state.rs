//! What happens with a task, and what happened to it.

use std::collections::BTreeMap;

use cos_model as model;
use serde::Serialize;

use super::Time;

/// What happens with a task.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct TaskState {
    state: &'static str,
    failed: bool,
    restarts: u64,
    last_restart: Time,
    started_at: Time,
    finished_at: Time,
    events: Vec<TaskEvent>,
    paused: &'static str,
}

/// Something that happened to a task. Besides `Details`, the facts that clients look up by their
/// own field are repeated there.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct TaskEvent {
    #[serde(rename = "Type")]
    kind: String,
    time: i64,
    message: String,
    display_message: String,
    details: BTreeMap<String, String>,
    fails_task: bool,
    restart_reason: String,
    setup_error: String,
    driver_error: String,
    exit_code: i64,
    signal: i64,
    kill_timeout: i64,
    kill_error: String,
    kill_reason: String,
    start_delay: i64,
    download_error: String,
    validation_error: String,
    disk_limit: i64,
    failed_sibling: String,
    vault_error: String,
    task_signal_reason: String,
    task_signal: String,
    driver_message: String,
    generic_source: String,
}

impl From<&model::TaskState> for TaskState {
    fn from(state: &model::TaskState) -> Self {
        Self {
            state: state.phase.name(),
            failed: state.failed,
            restarts: state.restarts,
            last_restart: Time(state.last_restart),
            started_at: Time(state.started_at),
            finished_at: Time(state.finished_at),
            events: state.events.iter().map(TaskEvent::from).collect(),
            paused: "",
        }
    }
}

impl From<&model::TaskEvent> for TaskEvent {
    fn from(event: &model::TaskEvent) -> Self {
        let text = |name: &str| event.details.get(name).cloned().unwrap_or_default();
        let number = |name: &str| {
            event.details.get(name).and_then(|text| text.parse::<i64>().ok()).unwrap_or(0)
        };
        Self {
            kind: event.kind.clone(),
            time: event.at.unix_nanos(),
            message: text("message"),
            display_message: event.message.clone(),
            details: event.details.clone(),
            fails_task: text("fails_task") == "true",
            restart_reason: text("restart_reason"),
            setup_error: text("setup_error"),
            driver_error: text("driver_error"),
            exit_code: number("exit_code"),
            signal: number("signal"),
            kill_timeout: number("kill_timeout"),
            kill_error: text("kill_error"),
            kill_reason: text("kill_reason"),
            start_delay: number("start_delay"),
            download_error: text("download_error"),
            validation_error: text("validation_error"),
            disk_limit: number("disk_limit"),
            failed_sibling: text("failed_sibling"),
            vault_error: String::new(),
            task_signal_reason: text("task_signal_reason"),
            task_signal: text("task_signal"),
            driver_message: text("driver_message"),
            generic_source: String::new(),
        }
    }
}
