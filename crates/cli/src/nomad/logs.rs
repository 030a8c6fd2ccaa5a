//! `alloc logs`: a task's output, once or followed.

use std::io::Write;

use futures_util::StreamExt;

use super::find::{self, ALLOCATION};
use crate::client::escape;
use crate::command::{Context, Failure, Running};
use crate::output::text;

/// Lines that `-tail` shows unless `-n` says otherwise.
const TAIL_LINES: usize = 10;
/// Bytes from the end that are looked at for each line of `-tail`.
const BYTES_PER_LINE: usize = 120;

pub(super) fn run(context: Context) -> Running {
    Box::pin(async move {
        let (id, named) = match context.flags.arguments.as_slice() {
            [id] => (id.clone(), context.flags.value("task").map(str::to_owned)),
            [id, task] => (id.clone(), Some(task.clone())),
            _ => {
                return Err(Failure::Usage(
                    "This command takes one or two arguments: <alloc> [<task>]".to_owned(),
                ));
            }
        };
        let id = if context.flags.on("job") {
            find::alloc_of_job(&context.client, &id).await?
        } else {
            id
        };
        let alloc = find::by_prefix(&context.client, ALLOCATION, &id).await?;
        let task = find::task(&alloc, named.as_deref())?;
        let kind = if context.flags.on("stderr") { "stderr" } else { "stdout" };
        let follow = context.flags.on("f");
        let mut path = format!(
            "/v1/client/fs/logs/{}?task={}&type={kind}&follow={follow}&plain=true",
            text(&alloc, "ID"),
            escape(&task)
        );
        let tail = context.flags.on("tail")
            || context.flags.value("n").is_some()
            || context.flags.value("c").is_some();
        let mut lines = None;
        if tail {
            let number = |name: &str| context.flags.value(name).and_then(|n| n.parse().ok());
            let wanted = number("n").unwrap_or(TAIL_LINES);
            let bytes = number("c").unwrap_or_else(|| {
                lines = Some(wanted);
                wanted * BYTES_PER_LINE
            });
            path = format!("{path}&origin=end&offset={bytes}");
        }
        let response = context.client.stream(&path).await?;
        print(response, lines.filter(|_| !follow)).await
    })
}

/// Prints a stream; of a stream that ends, only the last lines if so wanted.
async fn print(response: reqwest::Response, lines: Option<usize>) -> Result<u8, Failure> {
    let mut stream = response.bytes_stream();
    let mut kept = Vec::new();
    while let Some(part) = stream.next().await {
        let part = part.map_err(|error| Failure::new(crate::client::causes(&error)))?;
        if lines.is_some() {
            kept.extend_from_slice(&part);
            continue;
        }
        let mut out = std::io::stdout().lock();
        // A reader that closed the pipe has seen enough.
        if out.write_all(&part).and_then(|()| out.flush()).is_err() {
            return Ok(0);
        }
    }
    if let Some(count) = lines {
        let text = String::from_utf8_lossy(&kept);
        let all: Vec<&str> = text.lines().collect();
        for line in &all[all.len().saturating_sub(count)..] {
            println!("{line}");
        }
    }
    Ok(0)
}
