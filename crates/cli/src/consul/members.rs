//! `members` and what else concerns the agents themselves.

use serde_json::Value;

use crate::client::escape;
use crate::command::{Context, Failure, Running};
use crate::output::{at, flag, list as items, number, row, table, text};

/// No member was found.
const CODE_NONE: u8 = 2;

pub(super) fn list(context: Context) -> Running {
    Box::pin(async move {
        let answer = context.client.get("/v1/agent/members").await?.body;
        let detailed = context.flags.on("detailed");
        let wanted = context.flags.value("status");
        let mut rows = vec![if detailed {
            row(["Node", "Address", "Status", "Tags"])
        } else {
            row([
                "Node",
                "Address",
                "Status",
                "Type",
                "Build",
                "Protocol",
                "DC",
                "Partition",
                "Segment",
            ])
        }];
        for member in answer.as_array().into_iter().flatten() {
            let status = match number(member, "Status") {
                1 => "alive",
                2 => "leaving",
                3 => "left",
                4 => "failed",
                _ => "none",
            };
            if wanted.is_some_and(|wanted| !status.contains(wanted.trim_matches(['^', '$']))) {
                continue;
            }
            let address = format!("{}:{}", text(member, "Addr"), text(member, "Port"));
            let mut cells = vec![text(member, "Name"), address, status.to_owned()];
            if detailed {
                cells.push(tags(member));
            } else {
                let server = text(member, "Tags.role") == "consul";
                cells.push(if server { "server" } else { "client" }.to_owned());
                cells.extend([
                    text(member, "Tags.build"),
                    text(member, "ProtocolCur"),
                    text(member, "Tags.dc"),
                    "default".to_owned(),
                    "<default>".to_owned(),
                ]);
            }
            rows.push(cells);
        }
        if rows.len() == 1 {
            return Err(Failure::Failed {
                message: "No members found".to_owned(),
                code: CODE_NONE,
            });
        }
        println!("{}", table(&rows));
        Ok(0)
    })
}

fn tags(member: &Value) -> String {
    let pairs: Vec<String> = at(member, "Tags")
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or("")))
        .collect();
    pairs.join(",")
}

pub(super) fn peers(context: Context) -> Running {
    Box::pin(async move {
        let answer = context.client.get("/v1/operator/raft/configuration").await?.body;
        let mut rows = vec![row(["Node", "ID", "Address", "State", "Voter", "RaftProtocol"])];
        for server in items(&answer, "Servers") {
            rows.push(vec![
                text(server, "Node"),
                text(server, "ID"),
                text(server, "Address"),
                if flag(server, "Leader") { "leader" } else { "follower" }.to_owned(),
                flag(server, "Voter").to_string(),
                text(server, "ProtocolVersion"),
            ]);
        }
        println!("{}", table(&rows));
        Ok(0)
    })
}

pub(super) fn info(context: Context) -> Running {
    Box::pin(async move {
        let answer = context.client.get("/v1/agent/self").await?.body;
        for (group, figures) in at(&answer, "Stats").as_object().into_iter().flatten() {
            println!("{group}:");
            for (name, value) in figures.as_object().into_iter().flatten() {
                println!("\t{name} = {}", value.as_str().unwrap_or(""));
            }
        }
        Ok(0)
    })
}

pub(super) fn join(context: Context) -> Running {
    Box::pin(async move {
        if context.flags.arguments.is_empty() {
            return Err(Failure::Usage(
                "At least one address to join must be specified.".to_owned(),
            ));
        }
        for address in &context.flags.arguments {
            let path = format!("/v1/agent/join/{}", escape(address));
            context.client.put(&path, &Value::Null).await?;
        }
        let count = context.flags.arguments.len();
        println!("Successfully joined cluster by contacting {count} nodes.");
        Ok(0)
    })
}
