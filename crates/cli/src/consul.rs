//! The commands of the Consul dialect.

mod catalog;
mod kv;
mod members;
mod watch;

use crate::command::{Command, Context, Failure, Flag, Program, Running, version_line};
use crate::nomad::{AUTOPILOT_FLAGS, group};
use crate::{security, snapshot};

const fn switch(name: &'static str, help: &'static str) -> Flag {
    Flag { name, value: "", help }
}

const fn with(name: &'static str, value: &'static str, help: &'static str) -> Flag {
    Flag { name, value, help }
}

const fn command(
    name: &'static str,
    arguments: &'static str,
    summary: &'static str,
    flags: &'static [Flag],
    run: fn(Context) -> Running,
) -> Command {
    Command { name, aliases: &[], arguments, summary, flags, rest_is_verbatim: false, run }
}

/// All commands.
pub(crate) const COMMANDS: &[Command] = &[
    command("catalog datacenters", "", "Lists datacenters", &[], catalog::datacenters),
    command(
        "catalog nodes",
        "",
        "Lists nodes",
        &[
            switch("detailed", "Also tagged addresses and facts."),
            with("service", "name", "Only nodes with this service."),
            with("node-meta", "key=value", "Only nodes with this fact; repeatable."),
            with("filter", "expression", "Only what matches."),
        ],
        catalog::nodes,
    ),
    command(
        "catalog services",
        "",
        "Lists services",
        &[
            with("node", "name", "Only those on this node."),
            with("node-meta", "key=value", "Only on nodes with this fact; repeatable."),
            switch("tags", "Also tags."),
        ],
        catalog::services,
    ),
    command("info", "", "Shows figures about the asked agent", &[], members::info),
    command(
        "join",
        "<address>...",
        "Makes a server join others by their gossip addresses",
        &[switch("wan", "Accepted; there is one pool.")],
        members::join,
    ),
    command("keygen", "", "Makes a key for gossip", &[], security::generate),
    command(
        "keyring",
        "",
        "Lists or changes the gossip keys of the servers",
        &[
            switch("list", "List them."),
            with("install", "key", "Add one."),
            with("use", "key", "Encrypt with one that was added."),
            with("remove", "key", "Forget one."),
        ],
        security::consul_keyring,
    ),
    command(
        "kv delete",
        "<key>",
        "Deletes a key",
        &[
            switch("recurse", "All keys that begin so."),
            switch("cas", "Only if unchanged since -modify-index."),
            with("modify-index", "n", "The index to compare with."),
        ],
        kv::delete,
    ),
    command("kv export", "[prefix]", "Prints keys as JSON", &[], kv::export),
    command(
        "kv get",
        "[key]",
        "Prints a key",
        &[
            switch("recurse", "All keys that begin so."),
            switch("keys", "Only names."),
            switch("detailed", "Also indexes and flags."),
            switch("base64", "The value in base64."),
            with("separator", "text", "Cut names after it (default /)."),
        ],
        kv::get,
    ),
    command(
        "kv import",
        "<JSON, @file or ->",
        "Writes keys that `kv export` printed",
        &[with("prefix", "text", "Put before every key.")],
        kv::import,
    ),
    command(
        "kv put",
        "<key> [value, @file or -]",
        "Writes a key",
        &[
            with("flags", "n", "A number to attach."),
            switch("cas", "Only if unchanged since -modify-index; 0 is only if absent."),
            with("modify-index", "n", "The index to compare with."),
            switch("base64", "The value is given in base64."),
        ],
        kv::put,
    ),
    command(
        "members",
        "",
        "Lists agents",
        &[
            switch("detailed", "All tags."),
            with("status", "pattern", "Only members whose status matches."),
            switch("wan", "Accepted; there is one pool."),
            with("segment", "name", "Accepted; there are no segments."),
        ],
        members::list,
    ),
    command(
        "force-leave",
        "<name>",
        "Says that a server that does not answer has left for good",
        &[
            switch("prune", "Do not even list it any more."),
            switch("wan", "Accepted; there is one pool."),
        ],
        group::force_leave,
    ),
    command(
        "operator autopilot get-config",
        "",
        "Shows how the consensus group is looked after",
        &[],
        group::autopilot_config,
    ),
    command(
        "operator autopilot set-config",
        "",
        "Changes how the consensus group is looked after",
        &AUTOPILOT_FLAGS,
        group::set_autopilot_config,
    ),
    command(
        "operator autopilot state",
        "",
        "Shows how the servers do, as their leader sees them",
        &[],
        group::health,
    ),
    command(
        "operator raft remove-peer",
        "",
        "Takes a server out of the consensus group",
        &[
            with("id", "id", "The server's id."),
            with("address", "ip:port", "Its address, instead."),
        ],
        group::remove_peer,
    ),
    command(
        "operator raft transfer-leader",
        "",
        "Hands the leadership over",
        &[with("id", "id", "To this server (default: the one whose log is longest).")],
        group::transfer_leadership,
    ),
    command(
        "snapshot inspect",
        "<file>",
        "Checks a saved state and shows what is in it",
        &[],
        snapshot::inspect,
    ),
    command(
        "snapshot restore",
        "<file>",
        "Replaces the cluster's state by a saved one",
        &[],
        snapshot::restore,
    ),
    command("snapshot save", "<file>", "Saves the cluster's state to a file", &[], snapshot::save),
    command(
        "operator raft list-peers",
        "",
        "Lists the servers of the consensus group",
        &[],
        members::peers,
    ),
    command(
        "version",
        "",
        "Prints the version",
        &[with("format", "pretty|json", "How (default pretty).")],
        version,
    ),
    command(
        "watch",
        "[command]",
        "Prints something whenever it changes",
        &[
            with("type", "what", "key, keyprefix, services, nodes, service or checks."),
            with("key", "name", "For key."),
            with("prefix", "text", "For keyprefix."),
            with("service", "name", "For service and checks."),
            with("tag", "name", "For service."),
            switch("passingonly", "For service: only healthy instances."),
            with("state", "name", "For checks."),
        ],
        watch::run,
    )
    .verbatim(),
];

fn version(context: Context) -> Running {
    Box::pin(async move {
        match context.flags.value("format").unwrap_or("pretty") {
            "pretty" => println!("{}", version_line(Program::Consul)),
            "json" => println!(
                "{}",
                serde_json::json!({
                    "Version": cos_model::version::CONSUL,
                    "Revision": format!("cos {}", cos_model::version::COS),
                    "Prerelease": "",
                })
            ),
            other => return Err(Failure::Usage(format!("Invalid format \"{other}\""))),
        }
        Ok(0)
    })
}
