//! Commands about who may become a member of the cluster: join tokens, the certificate authority,
//! the keys of gossip.
//!
//! All of them are answered on the machine of a server only.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::client::escape;
use crate::command::{Command, Context, Failure, Flag, Running};
use crate::output::{at, list, moment, number, row, structured, table, text};

const JSON: Flag = Flag { name: "json", value: "", help: "As JSON." };
const TEMPLATE: Flag = Flag { name: "t", value: "template", help: "With a Go template." };

/// How often a rotation is looked at while it goes on.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// The bytes of a generated key.
const KEY_BYTES: usize = 32;

const fn command(
    name: &'static str,
    arguments: &'static str,
    summary: &'static str,
    flags: &'static [Flag],
    run: fn(Context) -> Running,
) -> Command {
    Command { name, aliases: &[], arguments, summary, flags, rest_is_verbatim: false, run }
}

/// Commands that only `cos` has.
pub(crate) const COMMANDS: &[Command] = &[
    command(
        "token create",
        "",
        "Makes a join token, which lets one agent become a member once",
        &[
            Flag { name: "role", value: "server|client", help: "What the agent may become." },
            Flag { name: "ttl", value: "duration", help: "How long it lasts (default 1h)." },
            JSON,
        ],
        create,
    ),
    command("token list", "", "Lists join tokens", &[JSON, TEMPLATE], tokens),
    command("token revoke", "<id>", "Removes a join token", &[], revoke),
    command("ca status", "", "Shows the certificate authority", &[JSON, TEMPLATE], status),
    command(
        "ca rotate",
        "",
        "Replaces the certificate authority, without an interruption",
        &[Flag { name: "detach", value: "", help: "Return at once instead of waiting." }],
        rotate,
    ),
];

fn create(context: Context) -> Running {
    Box::pin(async move {
        context.no_arguments()?;
        let Some(role) = context.flags.value("role") else {
            return Err(Failure::Usage("-role=server or -role=client must be given".to_owned()));
        };
        let body = json!({ "Role": role, "TTL": context.flags.value("ttl").unwrap_or("") });
        let answer = context.client.post("/v1/cos/tokens", &body).await?.body;
        if !structured(&context.flags, &answer)? {
            println!("{}", text(&answer, "Token"));
        }
        Ok(0)
    })
}

fn tokens(context: Context) -> Running {
    Box::pin(async move {
        context.no_arguments()?;
        let answer = context.client.get("/v1/cos/tokens").await?.body;
        if structured(&context.flags, &answer)? {
            return Ok(0);
        }
        let tokens = answer.as_array().cloned().unwrap_or_default();
        if tokens.is_empty() {
            println!("No join tokens found");
            return Ok(0);
        }
        let mut rows = vec![row(["ID", "Role", "Expires", "Used By"])];
        for token in &tokens {
            let expires = at(token, "ExpireTime").as_i64().unwrap_or(0);
            rows.push(vec![
                text(token, "ID"),
                text(token, "Role"),
                moment(expires),
                text(token, "UsedBy"),
            ]);
        }
        println!("{}", table(&rows));
        Ok(0)
    })
}

fn revoke(context: Context) -> Running {
    Box::pin(async move {
        let id = context.one_argument("<id>")?;
        context.client.delete(&format!("/v1/cos/token/{}", escape(id))).await?;
        println!("Join token {id} revoked");
        Ok(0)
    })
}

fn status(context: Context) -> Running {
    Box::pin(async move {
        context.no_arguments()?;
        let answer = context.client.get("/v1/cos/ca").await?.body;
        if structured(&context.flags, &answer)? {
            return Ok(0);
        }
        println!("Cluster  = {}", text(&answer, "Cluster"));
        println!("Version  = {}", number(&answer, "Version"));
        println!("Rotating = {}", at(&answer, "Rotating"));
        for (position, root) in list(&answer, "Roots").iter().enumerate() {
            let what = if position == 0 { "Root     " } else { "Old root " };
            println!("{what}= {}", root.as_str().unwrap_or(""));
        }
        for member in list(&answer, "WaitingFor") {
            println!("Waiting  = {}", member.as_str().unwrap_or(""));
        }
        Ok(0)
    })
}

fn rotate(context: Context) -> Running {
    Box::pin(async move {
        context.no_arguments()?;
        context.client.put("/v1/cos/ca/rotate", &Value::Null).await?;
        println!("==> A new certificate authority issues from now on");
        if context.flags.on("detach") {
            return Ok(0);
        }
        let mut told = String::new();
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let answer = context.client.get("/v1/cos/ca").await?.body;
            if at(&answer, "Rotating") == &Value::Bool(false) {
                println!("==> Every member has a certificate of it; the old one is dropped");
                return Ok(0);
            }
            let waiting: Vec<String> = list(&answer, "WaitingFor")
                .iter()
                .filter_map(|member| member.as_str().map(str::to_owned))
                .collect();
            let waiting = waiting.join(", ");
            if waiting != told && !waiting.is_empty() {
                println!("    waiting for {waiting}");
                told = waiting;
            }
        }
    })
}

/// `operator gossip keyring generate`, `keygen`.
pub(crate) fn generate(context: Context) -> Running {
    Box::pin(async move {
        context.no_arguments()?;
        let mut key = [0; KEY_BYTES];
        getrandom::fill(&mut key)
            .map_err(|error| Failure::new(format!("cannot draw a key: {error}")))?;
        println!("{}", STANDARD.encode(key));
        Ok(0)
    })
}

/// `operator gossip keyring list`.
pub(crate) fn keys(context: Context) -> Running {
    Box::pin(async move {
        context.no_arguments()?;
        println!("==> Gathering installed encryption keys...");
        let answer = context.client.get("/v1/agent/keyring/list").await?.body;
        let mut rows = vec![row(["Key"])];
        rows.extend(
            at(&answer, "Keys").as_object().into_iter().flatten().map(|(key, _)| vec![key.clone()]),
        );
        println!("\n{}", table(&rows));
        Ok(0)
    })
}

/// `operator gossip keyring install`.
pub(crate) fn install(context: Context) -> Running {
    change(context, "install", "==> Installing new gossip encryption key...")
}

/// `operator gossip keyring use`.
pub(crate) fn use_key(context: Context) -> Running {
    change(context, "use", "==> Changing primary gossip encryption key...")
}

/// `operator gossip keyring remove`.
pub(crate) fn remove(context: Context) -> Running {
    change(context, "remove", "==> Removing gossip encryption key...")
}

fn change(context: Context, what: &'static str, words: &'static str) -> Running {
    Box::pin(async move {
        let key = context.one_argument("<key>")?;
        println!("{words}");
        let path = format!("/v1/agent/keyring/{what}");
        context.client.put(&path, &json!({ "Key": key })).await?;
        println!("Done!");
        Ok(0)
    })
}

/// `keyring` of the Consul dialect, which takes what to do as a flag.
pub(crate) fn consul_keyring(context: Context) -> Running {
    Box::pin(async move {
        context.no_arguments()?;
        let orders: Vec<(&str, Option<&str>)> = ["install", "use", "remove"]
            .into_iter()
            .map(|name| (name, context.flags.value(name)))
            .filter(|(_, key)| key.is_some())
            .collect();
        match orders.as_slice() {
            [] if context.flags.on("list") => consul_list(&context).await?,
            [(order, Some(key))] if !context.flags.on("list") => {
                let body = json!({ "Key": key });
                let path = "/v1/operator/keyring";
                match *order {
                    "install" => {
                        println!("==> Installing new gossip encryption key...");
                        context.client.post(path, &body).await?;
                    }
                    "use" => {
                        println!("==> Changing primary gossip encryption key...");
                        context.client.put(path, &body).await?;
                    }
                    _ => {
                        println!("==> Removing gossip encryption key...");
                        context.client.delete_with(path, &body).await?;
                    }
                }
            }
            _ => {
                return Err(Failure::Usage(
                    "Exactly one of -list, -install, -use and -remove must be given".to_owned(),
                ));
            }
        }
        Ok(0)
    })
}

async fn consul_list(context: &Context) -> Result<(), Failure> {
    println!("==> Gathering installed encryption keys...");
    let answer = context.client.get("/v1/operator/keyring").await?.body;
    for pool in answer.as_array().into_iter().flatten() {
        let is_wan = at(pool, "WAN") == &Value::Bool(true);
        let name =
            if is_wan { "WAN".to_owned() } else { format!("{} (LAN)", text(pool, "Datacenter")) };
        println!("\n{name}:");
        for (key, count) in at(pool, "Keys").as_object().into_iter().flatten() {
            println!("  {key} [{count}/{}]", number(pool, "NumNodes"));
        }
    }
    Ok(())
}
