//! `watch`: something, whenever it changes. Without a command to run, the first state is printed
//! and the program ends, as Consul does.

use std::process::Stdio;

use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::client::escape;
use crate::command::{Context, Failure, Running};

pub(super) fn run(context: Context) -> Running {
    Box::pin(async move {
        let path = path_of(&context)?;
        let separator = if path.contains('?') { '&' } else { '?' };
        let one_key = context.flags.value("type") == Some("key");
        let mut index = 0;
        loop {
            let path = format!("{path}{separator}index={index}&wait=5m");
            let answer = context.client.watch(&path).await?;
            let body = if one_key { one(answer.body) } else { answer.body };
            let changed = answer.index != index;
            // Zero would not wait, and an index that went back says that the servers began anew.
            index = if answer.index < index { 0 } else { answer.index.max(1) };
            if context.flags.arguments.is_empty() {
                println!("{}", serde_json::to_string_pretty(&body).unwrap_or_default());
                return Ok(0);
            }
            if changed {
                handle(&context.flags.arguments, &body).await?;
            }
        }
    })
}

/// The only element of a list.
fn one(body: Value) -> Value {
    match body {
        Value::Array(mut found) if found.len() == 1 => found.remove(0),
        other => other,
    }
}

fn path_of(context: &Context) -> Result<String, Failure> {
    let needed = |flag: &str| {
        context
            .flags
            .value(flag)
            .map(escape)
            .ok_or_else(|| Failure::Usage(format!("Must specify -{flag} for this type")))
    };
    match context.flags.value("type").unwrap_or("") {
        "key" => Ok(format!("/v1/kv/{}", needed("key")?.replace("%2F", "/"))),
        "keyprefix" => Ok(format!("/v1/kv/{}?recurse", needed("prefix")?.replace("%2F", "/"))),
        "services" => Ok("/v1/catalog/services".to_owned()),
        "nodes" => Ok("/v1/catalog/nodes".to_owned()),
        "service" => {
            let mut path = format!("/v1/health/service/{}?x", needed("service")?);
            if let Some(tag) = context.flags.value("tag") {
                path = format!("{path}&tag={}", escape(tag));
            }
            if context.flags.on("passingonly") {
                path.push_str("&passing=1");
            }
            Ok(path)
        }
        "checks" => match context.flags.value("service") {
            Some(service) => Ok(format!("/v1/health/checks/{}", escape(service))),
            None => Ok(format!(
                "/v1/health/state/{}",
                escape(context.flags.value("state").unwrap_or("any"))
            )),
        },
        "" => Err(Failure::Usage("Watch type must be specified".to_owned())),
        other => Err(Failure::Usage(format!(
            "Unsupported watch type \"{other}\"; use key, keyprefix, services, nodes, service or checks"
        ))),
    }
}

/// Runs the command with the new state on its standard input.
async fn handle(command: &[String], body: &Value) -> Result<(), Failure> {
    let Some((program, arguments)) = command.split_first() else { return Ok(()) };
    let failed = |error| Failure::new(format!("Error executing handler {program}: {error}"));
    let mut child =
        Command::new(program).args(arguments).stdin(Stdio::piped()).spawn().map_err(failed)?;
    if let Some(mut input) = child.stdin.take() {
        // A handler that does not read its input is free to do so.
        input.write_all(format!("{body}\n").as_bytes()).await.ok();
    }
    child.wait().await.map_err(failed)?;
    Ok(())
}
