//! The commands of the Nomad dialect, which are cos's own too.

mod alloc;
mod change;
mod deployment;
mod diff;
mod evaluation;
mod exec;
mod find;
pub(crate) mod group;
mod init;
mod job;
mod logs;
mod monitor;
mod node;
mod operator;
mod source;
mod status;
mod submit;

use crate::command::{Command, Context, Failure, Flag, Running, version_line};
use crate::{security, snapshot};

const JSON: Flag = switch("json", "Print the answer as JSON.");
const TEMPLATE: Flag = with("t", "template", "Print the answer through a Go template.");
const VERBOSE: Flag = switch("verbose", "Print whole ids and more columns.");
const DETACH: Flag = switch("detach", "Return at once instead of following what happens.");
const YES: Flag = switch("yes", "Do not ask. (Nothing is asked; kept for scripts.)");

/// Flags by which a job file gets its values.
const SOURCE: [Flag; 5] = [
    with("var", "name=value", "Value of a variable; repeatable."),
    with("var-file", "path", "File of values; repeatable."),
    switch("hcl2-strict", "Refuse values for variables that are not declared (default true)."),
    switch("hcl1", "Accepted and not needed: old files are recognised by themselves."),
    switch("json-input", "Accepted and not needed: JSON is recognised by itself."),
];

const fn switch(name: &'static str, help: &'static str) -> Flag {
    Flag { name, value: "", help }
}

const fn with(name: &'static str, value: &'static str, help: &'static str) -> Flag {
    Flag { name, value, help }
}

/// Joins flags of a job file with a command's own.
const fn source_and<const N: usize, const M: usize>(own: [Flag; N]) -> [Flag; M] {
    let mut all = [SOURCE[0]; M];
    let mut at = 0;
    while at < SOURCE.len() {
        all[at] = SOURCE[at];
        at += 1;
    }
    while at < M {
        all[at] = own[at - SOURCE.len()];
        at += 1;
    }
    all
}

const RUN_FLAGS: [Flag; 15] = source_and([
    DETACH,
    VERBOSE,
    switch("output", "Print the job as JSON and do not submit it."),
    with("check-index", "n", "Submit only if the job's modify index is n; 0 only if it is new."),
    switch("json", "The file holds JSON. (Recognised by itself.)"),
    switch("preserve-counts", "Keep the counts that the job has in the cluster."),
    switch("policy-override", "Accepted; there are no policies to override."),
    with("eval-priority", "n", "Accepted; evaluations take the job's priority."),
    with("consul-token", "token", "Accepted; the registry needs no token."),
    with("vault-token", "token", "Accepted; there is no Vault."),
]);

const PLAN_FLAGS: [Flag; 9] = source_and([
    VERBOSE,
    switch("json", "The file holds JSON. (Recognised by itself.)"),
    switch("diff", "Show what changes (default true)."),
    switch("policy-override", "Accepted; there are no policies to override."),
]);

const VALIDATE_FLAGS: [Flag; 6] =
    source_and([switch("json", "The file holds JSON. (Recognised by itself.)")]);

pub(crate) const AUTOPILOT_FLAGS: [Flag; 8] = [
    with("cleanup-dead-servers", "true|false", "Whether replaced servers that died are let go."),
    with("last-contact-threshold", "200ms", "How long a healthy server may be silent."),
    with("max-trailing-logs", "250", "How many entries a healthy server may lag behind."),
    with("min-quorum", "0", "Below so many voters none is let go for being dead."),
    with("server-stabilization-time", "10s", "How long a server must be healthy before it votes."),
    with("enable-redundancy-zones", "true|false", "Whether of each zone only one server votes."),
    with("disable-upgrade-migration", "true|false", "Refused unless false."),
    with("enable-custom-upgrades", "true|false", "Refused unless false."),
];

const SNAPSHOT_AGENT_FLAGS: [Flag; 4] = [
    with("interval", "1h", "Time between two files (default 1h)."),
    with("retain", "30", "How many files are kept (default 30)."),
    with("local-path", "directory", "Where files are kept (default: here)."),
    switch("once", "Save once and end, with an error if that failed."),
];

/// All commands.
pub(crate) const COMMANDS: &[Command] = &[
    command(
        "alloc exec",
        &["exec", "alloc-exec"],
        "<alloc> <command>",
        "Runs a command in a task",
        EXEC,
        exec::run,
    )
    .verbatim(),
    command(
        "alloc logs",
        &["logs", "alloc-logs"],
        "<alloc> [task]",
        "Prints a task's output",
        LOGS,
        logs::run,
    ),
    command(
        "alloc restart",
        &[],
        "<alloc> [task]",
        "Restarts the tasks of an allocation",
        &[
            with("task", "name", "Only this task."),
            switch("all-tasks", "All tasks, also those that ended."),
            VERBOSE,
        ],
        alloc::restart,
    ),
    command(
        "alloc signal",
        &[],
        "<alloc> [task]",
        "Sends a signal to the tasks of an allocation",
        &[
            with("s", "signal", "The signal (default SIGKILL)."),
            with("task", "name", "Only this task."),
            VERBOSE,
        ],
        alloc::signal,
    ),
    command(
        "alloc status",
        &["alloc-status"],
        "<alloc>",
        "Shows an allocation",
        &[
            JSON,
            TEMPLATE,
            VERBOSE,
            switch("short", "Leave out events."),
            switch("stats", "Accepted; use alloc stats over the API."),
        ],
        alloc::status,
    ),
    command(
        "alloc stop",
        &[],
        "<alloc>",
        "Stops an allocation, which is then replaced",
        &[DETACH, VERBOSE, switch("no-shutdown-delay", "Do not wait before the signal.")],
        alloc::stop,
    ),
    command(
        "deployment fail",
        &[],
        "<deployment>",
        "Gives a deployment up",
        &[DETACH, VERBOSE],
        deployment::fail,
    ),
    command(
        "deployment list",
        &[],
        "",
        "Lists deployments",
        &[JSON, TEMPLATE, VERBOSE],
        deployment::list,
    ),
    command(
        "deployment pause",
        &[],
        "<deployment>",
        "Holds a deployment",
        &[VERBOSE],
        deployment::pause,
    ),
    command(
        "deployment promote",
        &[],
        "<deployment>",
        "Replaces old instances by the healthy canaries' version",
        &[DETACH, VERBOSE, with("group", "name", "Only this group; repeatable.")],
        deployment::promote,
    ),
    command(
        "deployment resume",
        &[],
        "<deployment>",
        "Goes on with a held deployment",
        &[DETACH, VERBOSE],
        deployment::resume,
    ),
    command(
        "deployment status",
        &[],
        "<deployment>",
        "Shows a deployment",
        &[JSON, TEMPLATE, VERBOSE, switch("monitor", "Follow it to its end.")],
        deployment::status,
    ),
    command(
        "eval list",
        &[],
        "",
        "Lists evaluations",
        &[JSON, TEMPLATE, VERBOSE],
        evaluation::list,
    ),
    command(
        "eval status",
        &["eval-status"],
        "<evaluation>",
        "Shows an evaluation",
        &[JSON, TEMPLATE, VERBOSE, switch("monitor", "Follow it to its end.")],
        evaluation::status,
    ),
    command(
        "job deployments",
        &[],
        "<job>",
        "Lists a job's deployments",
        &[
            JSON,
            TEMPLATE,
            VERBOSE,
            switch("latest", "Only the latest."),
            switch("all", "Also of earlier jobs of the name."),
        ],
        job::deployments,
    ),
    command(
        "job eval",
        &[],
        "<job>",
        "Looks at a job again",
        &[DETACH, VERBOSE, switch("force-reschedule", "Replace failed instances at once.")],
        change::evaluate,
    ),
    command(
        "job history",
        &[],
        "<job>",
        "Lists a job's versions",
        &[
            JSON,
            TEMPLATE,
            with("version", "n", "Only this version."),
            switch("p", "Show what changed."),
        ],
        job::history,
    ),
    command(
        "job init",
        &["init"],
        "[path]",
        "Writes an example job file",
        &[switch("short", "Without comments.")],
        init::run,
    ),
    command(
        "job inspect",
        &["inspect"],
        "<job>",
        "Prints a job as JSON",
        &[TEMPLATE, JSON, with("version", "n", "This version.")],
        job::inspect,
    ),
    command(
        "job plan",
        &["plan"],
        "<path>",
        "Shows what submitting a job would change",
        &PLAN_FLAGS,
        submit::plan,
    ),
    command(
        "job promote",
        &[],
        "<job>",
        "Promotes the canaries of a job's latest deployment",
        &[DETACH, VERBOSE, with("group", "name", "Only this group; repeatable.")],
        change::promote,
    ),
    command(
        "job revert",
        &[],
        "<job> <version>",
        "Brings an earlier version back",
        &[
            DETACH,
            VERBOSE,
            with("consul-token", "token", "Accepted."),
            with("vault-token", "token", "Accepted."),
        ],
        change::revert,
    ),
    command(
        "job run",
        &["run"],
        "<path>",
        "Submits a job and follows its deployment",
        &RUN_FLAGS,
        submit::run,
    ),
    command(
        "job scale",
        &[],
        "<job> [group] <count>",
        "Changes a group's count",
        &[DETACH, VERBOSE],
        change::scale,
    ),
    command(
        "job status",
        &[],
        "[job]",
        "Lists jobs, or shows one",
        &[
            JSON,
            TEMPLATE,
            VERBOSE,
            switch("short", "Only the head."),
            switch("evals", "Also evaluations."),
            switch("all-allocs", "Also of earlier jobs of the name."),
        ],
        job::status,
    ),
    command(
        "job stop",
        &["stop"],
        "<job>",
        "Stops a job",
        &[
            DETACH,
            VERBOSE,
            YES,
            switch("purge", "Also remove it and its history."),
            switch("global", "Accepted; jobs live in one region."),
            with("eval-priority", "n", "Accepted."),
            switch("no-shutdown-delay", "Accepted."),
        ],
        change::stop,
    ),
    command(
        "job validate",
        &["validate"],
        "<path>",
        "Checks a job file; no agent is needed",
        &VALIDATE_FLAGS,
        submit::validate,
    ),
    command(
        "monitor",
        &[],
        "",
        "Follows an agent's log",
        &[
            with("log-level", "level", "The level to show (default info)."),
            with("node-id", "id", "The client whose log is wanted."),
            with("server-id", "id", "The server whose log is wanted, or leader."),
            switch("json", "Lines as JSON."),
        ],
        operator::monitor,
    ),
    command(
        "node drain",
        &["node-drain"],
        "<node>",
        "Empties a node, or ends that",
        &[
            switch("enable", "Begin."),
            switch("disable", "End."),
            with("deadline", "duration", "How long instances may take (default 1h)."),
            switch("force", "Stop everything at once."),
            switch("no-deadline", "Take as long as it takes."),
            switch("ignore-system", "Leave system jobs."),
            switch("keep-ineligible", "Take no work after -disable."),
            switch("self", "The node of the asked agent."),
            switch("monitor", "Follow a drain that is under way."),
            DETACH,
            YES,
            with("m", "message", "Accepted."),
            with("meta", "key=value", "Accepted."),
            VERBOSE,
        ],
        node::drain,
    ),
    command(
        "node eligibility",
        &[],
        "<node>",
        "Says whether a node takes work",
        &[
            switch("enable", "It does."),
            switch("disable", "It does not."),
            switch("self", "The node of the asked agent."),
        ],
        node::eligibility,
    ),
    command(
        "node status",
        &["node-status"],
        "[node]",
        "Lists nodes, or shows one",
        &[
            JSON,
            TEMPLATE,
            VERBOSE,
            switch("self", "The node of the asked agent."),
            switch("short", "Only the head."),
            switch("allocs", "Count running allocations."),
            switch("stats", "Accepted."),
            with("filter", "expression", "Only nodes that match."),
        ],
        node::status,
    ),
    command(
        "operator autopilot get-config",
        &[],
        "",
        "Shows how the consensus group is looked after",
        &[JSON, TEMPLATE],
        group::autopilot_config,
    ),
    command(
        "operator autopilot health",
        &["operator autopilot state"],
        "",
        "Shows how the servers do, as their leader sees them",
        &[JSON, TEMPLATE],
        group::health,
    ),
    command(
        "operator autopilot set-config",
        &[],
        "",
        "Changes how the consensus group is looked after",
        &AUTOPILOT_FLAGS,
        group::set_autopilot_config,
    ),
    command(
        "operator gossip keyring generate",
        &[],
        "",
        "Makes a key for gossip",
        &[],
        security::generate,
    ),
    command(
        "operator gossip keyring install",
        &[],
        "<key>",
        "Adds a gossip key on all servers",
        &[],
        security::install,
    ),
    command(
        "operator gossip keyring list",
        &[],
        "",
        "Lists the gossip keys of the servers",
        &[],
        security::keys,
    ),
    command(
        "operator gossip keyring remove",
        &[],
        "<key>",
        "Forgets a gossip key on all servers",
        &[],
        security::remove,
    ),
    command(
        "operator gossip keyring use",
        &[],
        "<key>",
        "Encrypts gossip with a key that was installed",
        &[],
        security::use_key,
    ),
    command(
        "operator raft list-peers",
        &[],
        "",
        "Lists the servers of the consensus group",
        &[switch("stale", "Any server may answer."), JSON, TEMPLATE],
        operator::list_peers,
    ),
    command(
        "operator raft remove-peer",
        &[],
        "",
        "Takes a server out of the consensus group",
        &[
            with("peer-id", "id", "The server's id, as `operator raft list-peers` shows it."),
            with("peer-address", "ip:port", "The server's address, instead."),
        ],
        group::remove_peer,
    ),
    command(
        "operator raft transfer-leadership",
        &["operator raft transfer-leader"],
        "",
        "Hands the leadership over",
        &[
            with("peer-id", "id", "To this server (default: the one whose log is longest)."),
            with("peer-address", "ip:port", "To the server at this address."),
        ],
        group::transfer_leadership,
    ),
    command(
        "operator scheduler get-config",
        &[],
        "",
        "Shows how the scheduler works",
        &[JSON, TEMPLATE],
        operator::scheduler,
    ),
    command(
        "operator snapshot agent",
        &[],
        "",
        "Saves the state at intervals, until it is stopped",
        &SNAPSHOT_AGENT_FLAGS,
        snapshot::agent,
    ),
    command(
        "operator snapshot hash",
        &[],
        "",
        "Shows the digest of what a server holds",
        &[switch("stale", "What the asked server has will do."), JSON, TEMPLATE],
        snapshot::hash,
    ),
    command(
        "operator snapshot inspect",
        &[],
        "<file>",
        "Checks a saved state and shows what is in it",
        &[JSON, TEMPLATE],
        snapshot::inspect,
    ),
    command(
        "operator snapshot restore",
        &[],
        "<file>",
        "Replaces the cluster's state by a saved one",
        &[],
        snapshot::restore,
    ),
    command(
        "operator snapshot save",
        &[],
        "[file]",
        "Saves the cluster's state to a file",
        &[switch("stale", "What the asked server has will do.")],
        snapshot::save,
    ),
    command(
        "server force-leave",
        &["server-force-leave"],
        "<name>",
        "Says that a server that does not answer has left for good",
        &[switch("prune", "Do not even list it any more.")],
        group::force_leave,
    ),
    command(
        "server join",
        &["server-join"],
        "<address>...",
        "Makes a server join others",
        &[],
        operator::join,
    ),
    command(
        "server members",
        &["server-members"],
        "",
        "Lists servers",
        &[JSON, TEMPLATE, VERBOSE, switch("detailed", "All tags.")],
        operator::members,
    ),
    command(
        "status",
        &[],
        "[id]",
        "Shows whatever has this id; without one, lists jobs",
        &[JSON, TEMPLATE, VERBOSE],
        status::run,
    ),
    command("system gc", &[], "", "Removes what is over, now", &[], operator::collect),
    command(
        "agent-info",
        &[],
        "",
        "Shows figures about the asked agent",
        &[JSON, TEMPLATE],
        operator::agent_info,
    ),
    command("ui", &[], "", "Prints the address of the web page", &[], operator::ui),
    command("version", &[], "", "Prints the version", &[], version),
];

const EXEC: &[Flag] = &[
    with("task", "name", "The task; needed where there are several."),
    with("job", "id", "Any running allocation of this job instead of one by id."),
    with("i", "bool", "Pass standard input on (default true)."),
    with("t", "bool", "Give it a terminal (default: if this is one)."),
    with("e", "character", "Escape character (default ~)."),
];

const LOGS: &[Flag] = &[
    switch("f", "Go on as more is written."),
    switch("stderr", "The error output."),
    switch("stdout", "The standard output (default)."),
    switch("tail", "Only the end."),
    with("n", "lines", "Lines of the end (default 10)."),
    with("c", "bytes", "Bytes of the end."),
    with("task", "name", "The task; needed where there are several."),
    switch("job", "The argument is a job: any of its allocations."),
    VERBOSE,
];

const fn command(
    name: &'static str,
    aliases: &'static [&'static str],
    arguments: &'static str,
    summary: &'static str,
    flags: &'static [Flag],
    run: fn(Context) -> Running,
) -> Command {
    Command { name, aliases, arguments, summary, flags, rest_is_verbatim: false, run }
}

impl Command {
    pub(crate) const fn verbatim(self) -> Self {
        Self { rest_is_verbatim: true, ..self }
    }
}

fn version(context: Context) -> Running {
    let line = version_line(context.program);
    drop(context);
    Box::pin(async move {
        println!("{line}");
        Ok::<u8, Failure>(0)
    })
}
