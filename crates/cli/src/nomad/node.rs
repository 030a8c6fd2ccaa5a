//! `node …`: machines, and taking them out of use.

use serde_json::{Value, json};

use super::find::{self, NODE};
use super::job;
use crate::command::{Context, Failure, Running};
use crate::output::{
    at, flag, list, moment_text, number, pairs, row, short, structured, table, text,
};

/// How long instances may take unless a flag says otherwise.
const DEADLINE_DEFAULT: &str = "1h";

pub(super) fn status(context: Context) -> Running {
    Box::pin(async move {
        let own = context.flags.on("self");
        match context.flags.arguments.as_slice() {
            [] if !own => overview(&context).await,
            [] => {
                let id = find::own_node(&context.client).await?;
                let node = context.client.get(&format!("/v1/node/{id}")).await?.body;
                show(&context, &node).await
            }
            [id] => {
                let node = find_node(&context, id).await?;
                show(&context, &node).await
            }
            _ => Err(Failure::Usage(
                "This command takes either no arguments or one: <node>".to_owned(),
            )),
        }
    })
}

/// Finds a node by the beginning of its id, or by its name.
pub(super) async fn find_node(context: &Context, id: &str) -> Result<Value, Failure> {
    let nodes = context.client.get("/v1/nodes").await?.body;
    let named = nodes.as_array().into_iter().flatten().find(|node| text(node, "Name") == id);
    match named {
        Some(node) => Ok(context.client.get(&format!("/v1/node/{}", text(node, "ID"))).await?.body),
        None => find::by_prefix(&context.client, NODE, id).await,
    }
}

async fn overview(context: &Context) -> Result<u8, Failure> {
    let filter = context.flags.value("filter");
    let filter = filter
        .map_or_else(String::new, |filter| format!("?filter={}", crate::client::escape(filter)));
    let nodes = context.client.get(&format!("/v1/nodes{filter}")).await?.body;
    if structured(&context.flags, &nodes)? {
        return Ok(0);
    }
    let verbose = context.flags.on("verbose");
    let with_allocs = context.flags.on("allocs");
    let mut header = row(["ID", "Node Pool", "DC", "Name", "Class"]);
    if verbose {
        header.extend(row(["Address", "Version"]));
    }
    header.extend(row(["Drain", "Eligibility", "Status"]));
    if with_allocs {
        header.push("Running Allocs".to_owned());
    }
    let mut rows = vec![header];
    for node in nodes.as_array().into_iter().flatten() {
        let mut cells = vec![
            short(&text(node, "ID"), verbose),
            text(node, "NodePool"),
            text(node, "Datacenter"),
            text(node, "Name"),
            text(node, "NodeClass"),
        ];
        if verbose {
            cells.extend([text(node, "Address"), text(node, "Version")]);
        }
        cells.extend([
            flag(node, "Drain").to_string(),
            text(node, "SchedulingEligibility"),
            text(node, "Status"),
        ]);
        if with_allocs {
            let path = format!("/v1/node/{}/allocations", text(node, "ID"));
            let allocs = context.client.get(&path).await?.body;
            let running = |alloc: &&Value| text(alloc, "ClientStatus") == "running";
            let count = allocs.as_array().into_iter().flatten().filter(running).count();
            cells.push(count.to_string());
        }
        rows.push(cells);
    }
    println!("{}", if rows.len() == 1 { "No nodes registered".to_owned() } else { table(&rows) });
    Ok(0)
}

/// Shows one node.
pub(super) async fn show(context: &Context, node: &Value) -> Result<u8, Failure> {
    if structured(&context.flags, node)? {
        return Ok(0);
    }
    let verbose = context.flags.on("verbose");
    let healthy: Vec<String> = at(node, "Drivers")
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(_, driver)| flag(driver, "Detected"))
        .map(
            |(name, driver)| {
                if flag(driver, "Healthy") { name.clone() } else { format!("{name} (unhealthy)") }
            },
        )
        .collect();
    println!(
        "{}",
        pairs(&[
            ("ID", text(node, "ID")),
            ("Name", text(node, "Name")),
            ("Node Pool", text(node, "NodePool")),
            ("Class", text(node, "NodeClass")),
            ("DC", text(node, "Datacenter")),
            ("Drain", flag(node, "Drain").to_string()),
            ("Eligibility", text(node, "SchedulingEligibility")),
            ("Status", text(node, "Status")),
            ("Address", text(node, "HTTPAddr")),
            ("Driver Status", healthy.join(",")),
        ])
    );
    if context.flags.on("short") {
        return Ok(0);
    }
    println!("\nNode Events\n{}", events(node));
    let path = format!("/v1/node/{}/allocations", text(node, "ID"));
    let allocs = context.client.get(&path).await?.body;
    println!("\nAllocated Resources\n{}", allocated(node, &allocs));
    println!("\nAllocations\n{}", job::allocations(&allocs, verbose));
    if verbose {
        println!("\nDrivers\n{}", drivers(node));
        for (title, field) in [("Attributes", "Attributes"), ("Meta", "Meta")] {
            let all: Vec<(&str, String)> = at(node, field)
                .as_object()
                .into_iter()
                .flatten()
                .map(|(key, value)| (key.as_str(), value.as_str().unwrap_or("").to_owned()))
                .collect();
            println!("\n{title}\n{}", pairs(&all));
        }
    }
    Ok(0)
}

fn events(node: &Value) -> String {
    let mut rows = vec![row(["Time", "Subsystem", "Message"])];
    for event in list(node, "Events").iter().rev() {
        rows.push(vec![
            moment_text(&text(event, "Timestamp")),
            text(event, "Subsystem"),
            text(event, "Message"),
        ]);
    }
    table(&rows)
}

fn drivers(node: &Value) -> String {
    let mut rows = vec![row(["Driver", "Detected", "Healthy", "Message"])];
    for (name, driver) in at(node, "Drivers").as_object().into_iter().flatten() {
        rows.push(vec![
            name.clone(),
            flag(driver, "Detected").to_string(),
            flag(driver, "Healthy").to_string(),
            text(driver, "HealthDescription"),
        ]);
    }
    table(&rows)
}

fn allocated(node: &Value, allocs: &Value) -> String {
    let running = |alloc: &&Value| {
        !["complete", "failed", "lost"].contains(&text(alloc, "ClientStatus").as_str())
    };
    let (mut cpu, mut memory, mut disk, mut count) = (0, 0, 0, 0);
    for alloc in allocs.as_array().into_iter().flatten().filter(running) {
        count += 1;
        disk += number(alloc, "AllocatedResources.Shared.DiskMB");
        let tasks = at(alloc, "AllocatedResources.Tasks").as_object();
        for (_, task) in tasks.into_iter().flatten() {
            cpu += number(task, "Cpu.CpuShares");
            memory += number(task, "Memory.MemoryMB");
        }
    }
    let total = |path: &str, reserved: &str| number(node, path) - number(node, reserved);
    table(&[
        row(["CPU", "Memory", "Disk", "Alloc Count"]),
        vec![
            format!(
                "{cpu}/{} MHz",
                total("NodeResources.Cpu.CpuShares", "ReservedResources.Cpu.CpuShares")
            ),
            format!(
                "{memory}/{} MiB",
                total("NodeResources.Memory.MemoryMB", "ReservedResources.Memory.MemoryMB")
            ),
            format!(
                "{disk}/{} MiB",
                total("NodeResources.Disk.DiskMB", "ReservedResources.Disk.DiskMB")
            ),
            count.to_string(),
        ],
    ])
}

/// The node that is meant: `-self`, or the argument.
async fn meant(context: &Context) -> Result<String, Failure> {
    if context.flags.on("self") {
        context.no_arguments()?;
        return find::own_node(&context.client).await;
    }
    let node = find_node(context, context.one_argument("<node>")?).await?;
    Ok(text(&node, "ID"))
}

pub(super) fn drain(context: Context) -> Running {
    Box::pin(async move {
        let (enable, disable) = (context.flags.on("enable"), context.flags.on("disable"));
        let only_follow = context.flags.on("monitor") && !enable && !disable;
        if enable == disable && !only_follow {
            return Err(Failure::Usage(
                "Either the '-enable' or '-disable' flag must be set".to_owned(),
            ));
        }
        let id = meant(&context).await?;
        if only_follow {
            return follow(&context, &id).await;
        }
        let request = if enable {
            let nanos = deadline(&context)?;
            let ignore = context.flags.on("ignore-system");
            json!({ "DrainSpec": { "Deadline": nanos, "IgnoreSystemJobs": ignore }, "MarkEligible": false })
        } else {
            json!({ "DrainSpec": Value::Null, "MarkEligible": !context.flags.on("keep-ineligible") })
        };
        context.client.put(&format!("/v1/node/{id}/drain"), &request).await?;
        if disable {
            println!("Node \"{id}\" drain strategy unset");
            return Ok(0);
        }
        println!("Node \"{id}\" drain strategy set");
        if context.flags.on("detach") { Ok(0) } else { follow(&context, &id).await }
    })
}

/// The deadline in nanoseconds; -1 stops everything at once, 0 has no limit.
fn deadline(context: &Context) -> Result<i64, Failure> {
    if context.flags.on("force") {
        return Ok(-1);
    }
    if context.flags.on("no-deadline") {
        return Ok(0);
    }
    let text = context.flags.value("deadline").unwrap_or(DEADLINE_DEFAULT);
    let parsed = cos_jobspec::duration::parse(text);
    parsed
        .and_then(|deadline| i64::try_from(deadline.as_nanos()).ok())
        .filter(|nanos| *nanos > 0)
        .ok_or_else(|| Failure::Usage(format!("Failed to parse deadline duration \"{text}\"")))
}

/// Tells what leaves the node until the drain is done.
async fn follow(context: &Context, id: &str) -> Result<u8, Failure> {
    println!("==> Monitoring node \"{id}\": Ctrl-C to detach monitoring");
    let mut told = std::collections::BTreeMap::new();
    let mut index = 0;
    loop {
        let path = format!("/v1/node/{id}/allocations?index={index}&wait=2s");
        let answer = context.client.get(&path).await?;
        index = answer.index;
        for alloc in answer.body.as_array().into_iter().flatten() {
            let now = format!("{} ({})", text(alloc, "ClientStatus"), text(alloc, "DesiredStatus"));
            let before = told.insert(text(alloc, "ID"), now.clone());
            let leaving = text(alloc, "DesiredStatus") != "run";
            if leaving && before.is_some_and(|before| before != now) {
                println!("Alloc \"{}\" status {now}", text(alloc, "ID"));
            }
        }
        let node = context.client.get(&format!("/v1/node/{id}")).await?.body;
        if !flag(&node, "Drain") {
            println!("==> All allocations on node \"{id}\" have stopped; drain complete");
            return Ok(0);
        }
    }
}

pub(super) fn eligibility(context: Context) -> Running {
    Box::pin(async move {
        let (enable, disable) = (context.flags.on("enable"), context.flags.on("disable"));
        if enable == disable {
            return Err(Failure::Usage(
                "Either the '-enable' or '-disable' flag must be set".to_owned(),
            ));
        }
        let id = meant(&context).await?;
        let word = if enable { "eligible" } else { "ineligible" };
        let request = json!({ "NodeID": id, "Eligibility": word });
        context.client.put(&format!("/v1/node/{id}/eligibility"), &request).await?;
        println!("Node \"{id}\" scheduling eligibility set: {word} for scheduling");
        Ok(0)
    })
}
