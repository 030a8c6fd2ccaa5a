//! Commands about servers, agents and the cluster as a whole.

use std::io::Write;

use futures_util::StreamExt;
use serde_json::Value;

use super::node::find_node;
use crate::client::escape;
use crate::command::{Context, Failure, Running};
use crate::output::{at, list, number, pairs, row, structured, table, text};

pub(super) fn members(context: Context) -> Running {
    Box::pin(async move {
        context.no_arguments()?;
        let mut answer = context.client.get("/v1/agent/members").await?.body;
        let leader = context.client.get("/v1/status/leader").await.ok();
        let leader = leader.and_then(|answer| answer.body.as_str().map(str::to_owned));
        let members = answer.get_mut("Members").and_then(Value::as_array_mut);
        for member in members.into_iter().flatten() {
            let leads = is_leader(member, leader.as_deref());
            if let Some(tags) = member.get_mut("Tags").and_then(Value::as_object_mut) {
                tags.insert("Leader".to_owned(), leads.to_string().into());
            }
        }
        if structured(&context.flags, at(&answer, "Members"))? {
            return Ok(0);
        }
        let detailed = context.flags.on("detailed") || context.flags.on("verbose");
        let mut header = row(["Name", "Address", "Port", "Status", "Leader"]);
        header.push(if detailed { "Protocol" } else { "Raft Version" }.to_owned());
        header.extend(row(["Build", "Datacenter", "Region"]));
        if detailed {
            header.push("Tags".to_owned());
        }
        let mut rows = vec![header];
        for member in list(&answer, "Members") {
            let mut cells = vec![
                text(member, "Name"),
                text(member, "Addr"),
                text(member, "Port"),
                text(member, "Status"),
                text(member, "Tags.Leader"),
            ];
            cells.push(if detailed { text(member, "ProtocolCur") } else { "3".to_owned() });
            cells.extend([
                text(member, "Tags.build"),
                text(member, "Tags.dc"),
                text(member, "Tags.region"),
            ]);
            if detailed {
                let tags: Vec<String> = at(member, "Tags")
                    .as_object()
                    .into_iter()
                    .flatten()
                    .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or("")))
                    .collect();
                cells.push(tags.join(","));
            }
            rows.push(cells);
        }
        println!("{}", table(&rows));
        if leader.is_none_or(|leader| leader.is_empty()) {
            eprintln!("\nError determining leaders: No cluster leader");
        }
        Ok(0)
    })
}

fn is_leader(member: &Value, leader: Option<&str>) -> bool {
    let rpc = format!("{}:{}", tag(member, "rpc_addr", "Addr"), text(member, "Tags.port"));
    let stated = text(member, "Tags.rpc_addr");
    leader.is_some_and(|leader| leader == rpc || leader == stated)
}

fn tag(member: &Value, tag: &str, field: &str) -> String {
    match at(member, "Tags").get(tag).and_then(Value::as_str) {
        Some(value) if !value.contains(':') => value.to_owned(),
        _ => text(member, field),
    }
}

pub(super) fn join(context: Context) -> Running {
    Box::pin(async move {
        if context.flags.arguments.is_empty() {
            return Err(Failure::Usage(
                "One or more server addresses must be given as arguments".to_owned(),
            ));
        }
        let addresses: Vec<String> = context
            .flags
            .arguments
            .iter()
            .map(|address| format!("address={}", escape(address)))
            .collect();
        let path = format!("/v1/agent/join?{}", addresses.join("&"));
        let answer = context.client.put(&path, &Value::Null).await?.body;
        let problem = text(&answer, "error");
        if !problem.is_empty() {
            return Err(Failure::new(format!("Error joining: {problem}")));
        }
        println!("Joined {} servers successfully", number(&answer, "num_joined"));
        Ok(0)
    })
}

pub(super) fn list_peers(context: Context) -> Running {
    Box::pin(async move {
        let stale = if context.flags.on("stale") { "?stale=true" } else { "" };
        let path = format!("/v1/operator/raft/configuration{stale}");
        let answer = context.client.get(&path).await?.body;
        if structured(&context.flags, &answer)? {
            return Ok(0);
        }
        let mut rows = vec![row(["Node", "ID", "Address", "State", "Voter", "RaftProtocol"])];
        for server in list(&answer, "Servers") {
            let leads = at(server, "Leader").as_bool().unwrap_or(false);
            let protocol = match text(server, "RaftProtocol") {
                protocol if protocol.is_empty() => text(server, "ProtocolVersion"),
                protocol => protocol,
            };
            rows.push(vec![
                text(server, "Node"),
                text(server, "ID"),
                text(server, "Address"),
                if leads { "leader" } else { "follower" }.to_owned(),
                text(server, "Voter"),
                protocol,
            ]);
        }
        println!("{}", table(&rows));
        Ok(0)
    })
}

pub(super) fn scheduler(context: Context) -> Running {
    Box::pin(async move {
        let answer = context.client.get("/v1/operator/scheduler/configuration").await?.body;
        if structured(&context.flags, &answer)? {
            return Ok(0);
        }
        let config = at(&answer, "SchedulerConfig");
        println!(
            "{}",
            pairs(&[
                ("Scheduler Algorithm", text(config, "SchedulerAlgorithm")),
                ("Memory Oversubscription", text(config, "MemoryOversubscriptionEnabled")),
                ("Reject Job Registration", text(config, "RejectJobRegistration")),
                ("Modify Index", text(config, "ModifyIndex")),
            ])
        );
        Ok(0)
    })
}

pub(super) fn monitor(context: Context) -> Running {
    Box::pin(async move {
        context.no_arguments()?;
        let level = context.flags.value("log-level").unwrap_or("info");
        let json = context.flags.on("json");
        let mut path = format!(
            "/v1/agent/monitor?log_level={}&log_json={json}&plain=true",
            escape(&level.to_lowercase())
        );
        if let Some(id) = context.flags.value("node-id") {
            let node = find_node(&context, id).await?;
            path = format!("{path}&node_id={}", escape(&text(&node, "ID")));
        }
        if let Some(id) = context.flags.value("server-id") {
            path = format!("{path}&server_id={}", escape(id));
        }
        let mut stream = context.client.stream(&path).await?.bytes_stream();
        while let Some(part) = stream.next().await {
            let part = part.map_err(|error| Failure::new(crate::client::causes(&error)))?;
            let mut out = std::io::stdout().lock();
            // A reader that closed the pipe has seen enough.
            if out.write_all(&part).and_then(|()| out.flush()).is_err() {
                return Ok(0);
            }
        }
        Ok(0)
    })
}

pub(super) fn agent_info(context: Context) -> Running {
    Box::pin(async move {
        let answer = context.client.get("/v1/agent/self").await?.body;
        if structured(&context.flags, &answer)? {
            return Ok(0);
        }
        for (group, figures) in at(&answer, "stats").as_object().into_iter().flatten() {
            println!("{group}");
            for (name, value) in figures.as_object().into_iter().flatten() {
                println!("  {name} = {}", value.as_str().unwrap_or(""));
            }
        }
        Ok(0)
    })
}

pub(super) fn collect(context: Context) -> Running {
    Box::pin(async move {
        context.no_arguments()?;
        context.client.put("/v1/system/gc", &Value::Null).await?;
        Ok(0)
    })
}

pub(super) fn ui(context: Context) -> Running {
    Box::pin(async move {
        println!("{}/ui/jobs", context.client.address());
        Ok(0)
    })
}
