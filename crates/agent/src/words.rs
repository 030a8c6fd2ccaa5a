//! Task events in the words that clients of Nomad know and match on.
//!
//! Each function makes one kind of event: its type, the sentence that is shown, and the facts
//! behind it by name. Nothing else in the agent spells these words.

use std::collections::BTreeMap;
use std::time::Duration;

use cos_drivers::ExitResult;
use cos_model::{TaskEvent, Timestamp};

/// The reason of a restart within the policy; it is not repeated in the sentence.
pub const WITHIN_POLICY: &str = "Restart within policy";

/// The reason of a restart that a user asked for.
pub const USER_RESTART: &str = "User requested task to restart";

/// The reason of a restart because of a template.
pub const TEMPLATE_RESTART: &str = "Template with change_mode restart re-rendered";

/// The reason of a signal because of a template.
pub const TEMPLATE_SIGNAL: &str = "Template re-rendered";

/// The allocation reached this node.
pub fn received(at: Timestamp) -> TaskEvent {
    event(at, "Received", "Task received by client")
}

/// Its directories are being made.
pub fn task_setup(at: Timestamp) -> TaskEvent {
    event(at, "Task Setup", "Building Task Directory")
}

/// Something before the start failed.
pub fn setup_failure(at: Timestamp, why: &str) -> TaskEvent {
    event(at, "Setup Failure", why).with("setup_error", why)
}

/// Artifacts are being fetched.
pub fn downloading_artifacts(at: Timestamp) -> TaskEvent {
    event(at, "Downloading Artifacts", "Client is downloading artifacts")
}

/// An artifact could not be fetched.
pub fn artifact_failed(at: Timestamp, why: &str) -> TaskEvent {
    event(at, "Failed Artifact Download", why).with("download_error", why)
}

/// A part of the preparation, such as the templates, has something to say.
pub fn hook_message(at: Timestamp, message: &str) -> TaskEvent {
    event(at, "Task hook message", message)
}

/// A part of the preparation failed.
pub fn hook_failed(at: Timestamp, message: &str) -> TaskEvent {
    event(at, "Task hook failed", message)
}

/// A template waits for data, or could not be rendered.
pub fn template(at: Timestamp, message: &str) -> TaskEvent {
    event(at, "Template", message)
}

/// It runs.
pub fn started(at: Timestamp) -> TaskEvent {
    event(at, "Started", "Task started by client")
}

/// The driver could not start it.
pub fn driver_failure(at: Timestamp, why: &str) -> TaskEvent {
    event(at, "Driver Failure", why).with("driver_error", why)
}

/// It ended, by itself or not.
pub fn terminated(at: Timestamp, exit: &ExitResult) -> TaskEvent {
    let mut parts = vec![format!("Exit Code: {}", exit.exit_code)];
    if exit.signal != 0 {
        parts.push(format!("Signal: {}", exit.signal));
    }
    let why = match &exit.error {
        Some(error) => Some(error.clone()),
        None if exit.oom_killed => Some("OOM Killed".to_owned()),
        None => None,
    };
    if let Some(why) = &why {
        parts.push(format!("Exit Message: {why:?}"));
    }
    let terminated = event(at, "Terminated", &parts.join(", "))
        .with("exit_code", exit.exit_code)
        .with("signal", exit.signal)
        .with("oom_killed", exit.oom_killed);
    match why {
        Some(why) => terminated.with("exit_message", why),
        None => terminated,
    }
}

/// It will be started again.
pub fn restarting(at: Timestamp, reason: &str, delay: Duration) -> TaskEvent {
    let when = format!("Task restarting in {}", go_duration(delay));
    let message = if reason.is_empty() || reason == WITHIN_POLICY {
        when
    } else {
        format!("{reason} - {when}")
    };
    event(at, "Restarting", &message)
        .with("restart_reason", reason)
        .with("start_delay", delay.as_nanos())
}

/// It will not be started again.
pub fn not_restarting(at: Timestamp, reason: &str) -> TaskEvent {
    event(at, "Not Restarting", reason).with("restart_reason", reason).with("fails_task", true)
}

/// Somebody asked for a restart.
pub fn restart_signaled(at: Timestamp, reason: &str) -> TaskEvent {
    event(at, "Restart Signaled", reason).with("restart_reason", reason)
}

/// The kill signal goes out.
pub fn killing(at: Timestamp, timeout: Duration) -> TaskEvent {
    let timeout = go_duration(timeout);
    let message = format!("Sent interrupt. Waiting {timeout} before force killing");
    event(at, "Killing", &message).with("kill_timeout", timeout)
}

/// It was killed.
pub fn killed(at: Timestamp) -> TaskEvent {
    event(at, "Killed", "Task successfully killed")
}

/// Killing it failed and is tried again.
pub fn kill_failed(at: Timestamp, why: &str) -> TaskEvent {
    event(at, "Killing", &format!("Failed to kill task: {why}")).with("kill_error", why)
}

/// It left discovery and gets its signal later.
pub fn shutdown_delay(at: Timestamp, delay: Duration) -> TaskEvent {
    let message =
        format!("Waiting for shutdown_delay of {} before killing the task.", go_duration(delay));
    event(at, "Waiting for shutdown delay", &message)
}

/// A signal is being sent.
pub fn signaling(at: Timestamp, signal: &str, reason: &str) -> TaskEvent {
    let message = if reason.is_empty() {
        format!("Task being sent signal {signal}")
    } else {
        format!("Task being sent signal {signal}: {reason}")
    };
    event(at, "Signaling", &message).with("task_signal", signal).with("task_signal_reason", reason)
}

/// Another task of the group failed for good.
pub fn sibling_failed(at: Timestamp, sibling: &str) -> TaskEvent {
    let message = format!("Task's sibling {sibling:?} failed");
    event(at, "Sibling Task Failed", &message).with("failed_sibling", sibling)
}

/// The group's leader ended.
pub fn leader_dead(at: Timestamp) -> TaskEvent {
    event(at, "Leader Task Dead", "Leader Task in Group dead")
}

/// All main tasks of the group ended.
pub fn main_dead(at: Timestamp) -> TaskEvent {
    event(at, "Main Tasks Dead", "Main tasks in the group died")
}

/// After a restart of the agent the task could not be found again.
pub fn restore_failed(at: Timestamp, why: &str) -> TaskEvent {
    event(at, "Failed Restoring Task", &format!("failed to restore task; will not run: {why}"))
}

/// Writes a duration as Go does: `15.2s`, `10m0s`, `1h0m0s`, `250ms`.
pub fn go_duration(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    if nanos == 0 {
        return "0s".to_owned();
    }
    if nanos < 1_000 {
        return format!("{nanos}ns");
    }
    if nanos < 1_000_000 {
        return format!("{}µs", fraction(nanos, 1_000));
    }
    if nanos < 1_000_000_000 {
        return format!("{}ms", fraction(nanos, 1_000_000));
    }
    let hours = nanos / 3_600_000_000_000;
    let minutes = nanos / 60_000_000_000 % 60;
    let seconds = fraction(nanos % 60_000_000_000, 1_000_000_000);
    match (hours, minutes) {
        (0, 0) => format!("{seconds}s"),
        (0, _) => format!("{minutes}m{seconds}s"),
        _ => format!("{hours}h{minutes}m{seconds}s"),
    }
}

fn fraction(nanos: u128, unit: u128) -> String {
    let digits = unit.ilog10() as usize;
    let text = format!("{}.{:0digits$}", nanos / unit, nanos % unit);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn event(at: Timestamp, kind: &str, message: &str) -> TaskEvent {
    TaskEvent { at, kind: kind.to_owned(), message: message.to_owned(), details: BTreeMap::new() }
}

trait With {
    fn with(self, name: &str, value: impl ToString) -> Self;
}

impl With for TaskEvent {
    fn with(mut self, name: &str, value: impl ToString) -> Self {
        self.details.insert(name.to_owned(), value.to_string());
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_as_go_writes_them() {
        let rows: [(u64, &str); 9] = [
            (0, "0s"),
            (15_200_000_000, "15.2s"),
            (600_000_000_000, "10m0s"),
            (3_600_000_000_000, "1h0m0s"),
            (5_000_000_000, "5s"),
            (250_000_000, "250ms"),
            (1_500_000, "1.5ms"),
            (90_000_000_000, "1m30s"),
            (1_100, "1.1µs"),
        ];
        for (nanos, text) in rows {
            assert_eq!(go_duration(Duration::from_nanos(nanos)), text);
        }
    }

    #[test]
    fn an_exit_is_told_with_code_and_signal() {
        let rows = [
            (ExitResult { exit_code: 1, ..ExitResult::default() }, "Exit Code: 1"),
            (
                ExitResult { exit_code: 137, signal: 9, oom_killed: true, ..ExitResult::default() },
                "Exit Code: 137, Signal: 9, Exit Message: \"OOM Killed\"",
            ),
        ];
        for (exit, text) in rows {
            assert_eq!(terminated(Timestamp(1), &exit).message, text);
        }
    }

    #[test]
    fn a_restart_beyond_the_policy_tells_why() {
        let delay = Duration::from_millis(15_200);
        assert_eq!(
            restarting(Timestamp(1), WITHIN_POLICY, delay).message,
            "Task restarting in 15.2s"
        );
        assert_eq!(
            restarting(Timestamp(1), "why", delay).message,
            "why - Task restarting in 15.2s"
        );
    }
}
