//! A command that runs in a task to its end, within a time.

use std::sync::Arc;
use std::time::Duration;

use cos_drivers::{Driver, ExecInput, ExecOutput, ExecRequest, TaskHandle};

/// How much of what a script writes is kept.
const OUTPUT_BYTES_MAX: usize = 64 * 1024;

/// Runs a command where a task runs. Returns its exit code and what it wrote.
pub(crate) async fn run_in_task(
    driver: &Arc<dyn Driver>,
    handle: &TaskHandle,
    command: &[String],
    timeout: Duration,
) -> Result<(i32, String), String> {
    let request = ExecRequest { command: command.to_vec(), tty: false };
    let work = async {
        let mut session = driver.exec(handle, &request).await.map_err(|error| error.to_string())?;
        session.input.send(ExecInput::CloseStdin).await;
        let mut output = Vec::new();
        while let Some(part) = session.output.next().await {
            match part {
                ExecOutput::Stdout(bytes) | ExecOutput::Stderr(bytes) => {
                    let room = OUTPUT_BYTES_MAX.saturating_sub(output.len());
                    output.extend_from_slice(&bytes[..bytes.len().min(room)]);
                }
                ExecOutput::Exit(code) => {
                    return Ok((code, String::from_utf8_lossy(&output).into_owned()));
                }
                ExecOutput::Failed(why) => return Err(why),
            }
        }
        Err("the command's end was not observed".to_owned())
    };
    match tokio::time::timeout(timeout, work).await {
        Ok(result) => result,
        Err(_) => Err(format!("timed out ({})", crate::words::go_duration(timeout))),
    }
}
