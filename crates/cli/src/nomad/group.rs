//! Commands about the consensus group: who is in it, who leads it, and how it is looked after.

use serde_json::{Value, json};

use crate::client::escape;
use crate::command::{Context, Failure, Program, Running};
use crate::output::{at, list, pairs, row, structured, table, text};

/// What is shown of each server's health: the names of the fields, which are the headings as well.
const HEALTH_COLUMNS: [&str; 12] = [
    "ID",
    "Name",
    "Address",
    "SerfStatus",
    "Version",
    "Leader",
    "Voter",
    "Healthy",
    "LastContact",
    "LastTerm",
    "LastIndex",
    "StableSince",
];

/// The settings of autopilot as the API and the commands call them.
const SETTINGS: [(&str, &str); 8] = [
    ("CleanupDeadServers", "cleanup-dead-servers"),
    ("LastContactThreshold", "last-contact-threshold"),
    ("MaxTrailingLogs", "max-trailing-logs"),
    ("MinQuorum", "min-quorum"),
    ("ServerStabilizationTime", "server-stabilization-time"),
    ("EnableRedundancyZones", "enable-redundancy-zones"),
    ("DisableUpgradeMigration", "disable-upgrade-migration"),
    ("EnableCustomUpgrades", "enable-custom-upgrades"),
];

const AUTOPILOT: &str = "/v1/operator/autopilot/configuration";

pub(crate) fn remove_peer(context: Context) -> Running {
    Box::pin(async move {
        context.no_arguments()?;
        let id = given(&context, &["peer-id", "id"]);
        let address = given(&context, &["peer-address", "address"]);
        let (query, shown) = match (id, address) {
            (Some(id), None) => (format!("id={}", escape(&id)), format!("id \"{id}\"")),
            (None, Some(address)) => {
                (format!("address={}", escape(&address)), format!("address \"{address}\""))
            }
            _ => {
                let text = "Give either an address or an id of the server to remove";
                return Err(Failure::Usage(text.to_owned()));
            }
        };
        context.client.delete(&format!("/v1/operator/raft/peer?{query}")).await?;
        println!("Removed peer with {shown}");
        Ok(0)
    })
}

/// In the Consul dialect `-address` is the peer's; `-http-addr` is the agent's.
fn given(context: &Context, names: &[&str]) -> Option<String> {
    let consul = context.program == Program::Consul;
    let names = names.iter().filter(|name| consul || **name != "address");
    names.filter_map(|name| context.flags.value(name)).map(str::to_owned).next()
}

pub(crate) fn transfer_leadership(context: Context) -> Running {
    Box::pin(async move {
        context.no_arguments()?;
        let id = given(&context, &["peer-id", "id"]);
        let address = given(&context, &["peer-address"]);
        let query = match (id, address) {
            (Some(id), None) => format!("?id={}", escape(&id)),
            (None, Some(address)) => format!("?address={}", escape(&address)),
            (None, None) => String::new(),
            _ => return Err(Failure::Usage("Give an address or an id, not both".to_owned())),
        };
        let path = if context.program == Program::Consul {
            format!("/v1/operator/raft/transfer-leader{query}")
        } else {
            format!("/v1/operator/raft/transfer-leadership{query}")
        };
        let answer = context.client.put(&path, &Value::Null).await?.body;
        let to = text(&answer, "To.ID");
        if to.is_empty() {
            println!("Success");
        } else {
            println!("Transferred leadership to {to}");
        }
        Ok(0)
    })
}

pub(crate) fn force_leave(context: Context) -> Running {
    Box::pin(async move {
        let name = context.one_argument("<name>")?;
        let prune = if context.flags.on("prune") { "prune=true" } else { "" };
        let path = if context.program == Program::Consul {
            format!("/v1/agent/force-leave/{}?{prune}", escape(name))
        } else {
            format!("/v1/agent/force-leave?node={}&{prune}", escape(name))
        };
        context.client.put(path.trim_end_matches(['?', '&']), &Value::Null).await?;
        Ok(0)
    })
}

pub(crate) fn autopilot_config(context: Context) -> Running {
    Box::pin(async move {
        context.no_arguments()?;
        let answer = context.client.get(AUTOPILOT).await?.body;
        if structured(&context.flags, &answer)? {
            return Ok(0);
        }
        for (name, _) in SETTINGS {
            let value = text(&answer, name);
            if !value.is_empty() {
                println!("{name} = {value}");
            }
        }
        Ok(0)
    })
}

pub(crate) fn set_autopilot_config(context: Context) -> Running {
    Box::pin(async move {
        context.no_arguments()?;
        let mut config = context.client.get(AUTOPILOT).await?.body;
        let cas = text(&config, "ModifyIndex");
        let fields =
            config.as_object_mut().ok_or_else(|| Failure::new("the answer is no object"))?;
        for (name, flag) in SETTINGS {
            let Some(value) = context.flags.value(flag) else { continue };
            let value =
                match fields.get(name) {
                    Some(Value::Bool(_)) => json!(context.flags.on(flag)),
                    Some(Value::Number(_)) => json!(value.parse::<u64>().map_err(|_odd| {
                        Failure::Usage(format!("-{flag}={value} is no number"))
                    })?),
                    _ => json!(value),
                };
            fields.insert(name.to_owned(), value);
        }
        let answer = context.client.put(&format!("{AUTOPILOT}?cas={cas}"), &config).await?.body;
        if answer.as_bool() == Some(false) {
            return Err(Failure::new("Someone else changed the configuration; try again"));
        }
        println!("Configuration updated!");
        Ok(0)
    })
}

pub(crate) fn health(context: Context) -> Running {
    Box::pin(async move {
        context.no_arguments()?;
        // An unhealthy group is answered with 429 and the same body.
        let answer = context.client.read_even_if("/v1/operator/autopilot/health", 429).await?;
        if structured(&context.flags, &answer)? {
            return Ok(0);
        }
        println!(
            "{}",
            pairs(&[
                ("Healthy", text(&answer, "Healthy")),
                ("FailureTolerance", text(&answer, "FailureTolerance")),
                ("Leader", text(&answer, "Leader")),
            ])
        );
        let mut rows = vec![row(HEALTH_COLUMNS)];
        for server in list(&answer, "Servers") {
            rows.push(HEALTH_COLUMNS.map(|name| shown(at(server, name))).into());
        }
        println!("\n{}", table(&rows));
        Ok(0)
    })
}

fn shown(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
