//! Small questions to the engine, and its errors in our words.

use bollard::errors::Error as EngineError;
use bollard::models::ContainerState;
use bollard::query_parameters::{KillContainerOptions, RemoveContainerOptions};

use crate::driver::{StartError, TaskError};

/// Returns the engine's HTTP status, if it answered.
pub(super) fn status_of(error: &EngineError) -> Option<u16> {
    match error {
        EngineError::DockerResponseServerError { status_code, .. } => Some(*status_code),
        _ => None,
    }
}

/// Whether the engine does not have what was asked for.
pub(super) fn is_not_found(error: &EngineError) -> bool {
    status_of(error) == Some(404)
}

/// Takes what is gone for ended.
pub(super) fn ignore_not_found(error: TaskError) -> Result<(), TaskError> {
    if matches!(error, TaskError::NotFound(_)) { Ok(()) } else { Err(error) }
}

/// What the engine says without the frame that the client library puts around it.
fn message_of(error: &EngineError) -> String {
    match error {
        EngineError::DockerResponseServerError { message, .. } => message.clone(),
        other => other.to_string(),
    }
}

/// Words an engine's error about a start.
pub(super) fn start_failed(error: &EngineError) -> StartError {
    StartError::Failed(message_of(error))
}

/// Words an engine's error about a started task.
pub(super) fn task_failed(error: &EngineError) -> TaskError {
    match status_of(error) {
        Some(404) => TaskError::NotFound(message_of(error)),
        Some(409) => TaskError::NotRunning,
        _ => TaskError::Failed(message_of(error)),
    }
}

/// Returns the state of a container.
pub(super) async fn state_of(
    engine: &bollard::Docker,
    id: &str,
) -> Result<ContainerState, EngineError> {
    Ok(engine.inspect_container(id, None).await?.state.unwrap_or_default())
}

/// The signal with which the image wants to be ended.
pub(super) async fn stop_signal(engine: &bollard::Docker, container: &str) -> String {
    let found = engine.inspect_container(container, None).await.ok();
    let wanted = found.and_then(|found| found.config?.stop_signal);
    wanted.filter(|signal| !signal.is_empty()).unwrap_or_else(|| "SIGTERM".to_owned())
}

/// Sends a signal. False means that the container does not run.
pub(super) async fn kill_container(
    engine: &bollard::Docker,
    container: &str,
    signal: &str,
) -> Result<bool, TaskError> {
    let options = KillContainerOptions { signal: signal.to_owned() };
    match engine.kill_container(container, Some(options)).await {
        Ok(()) => Ok(true),
        Err(error) if matches!(status_of(&error), Some(404 | 409)) => Ok(false),
        Err(error) => Err(task_failed(&error)),
    }
}

/// Removes a container and its anonymous volumes, killing it if it runs.
pub(super) async fn remove_container(
    engine: &bollard::Docker,
    id: &str,
) -> Result<(), EngineError> {
    let options = RemoveContainerOptions { v: true, force: true, link: false };
    match engine.remove_container(id, Some(options)).await {
        Err(error) if !is_not_found(&error) => Err(error),
        _ => Ok(()),
    }
}
