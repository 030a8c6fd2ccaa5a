//! The table of commands, and what every command gets.

use std::future::Future;
use std::pin::Pin;

use cos_model::version;

use crate::client::Client;
use crate::flags::Parsed;
use crate::{consul, nomad, security};

/// Which program the binary was called as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// `cos`: everything.
    Cos,
    /// `nomad`, or a link of that name.
    Nomad,
    /// `consul`, or a link of that name.
    Consul,
}

/// One command.
pub(crate) struct Command {
    /// Its words, such as `job run`.
    pub(crate) name: &'static str,
    /// Other names, such as `run`.
    pub(crate) aliases: &'static [&'static str],
    /// What follows the flags, such as `<path>`.
    pub(crate) arguments: &'static str,
    /// One line.
    pub(crate) summary: &'static str,
    /// Its own flags.
    pub(crate) flags: &'static [Flag],
    /// Whether the first argument ends the flags, as where the rest is a command to run.
    pub(crate) rest_is_verbatim: bool,
    /// What it does.
    pub(crate) run: fn(Context) -> Running,
}

/// One flag.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flag {
    /// Its name without dashes.
    pub(crate) name: &'static str,
    /// What its value is called; empty for a switch.
    pub(crate) value: &'static str,
    /// What it is for.
    pub(crate) help: &'static str,
}

/// A command at work.
pub(crate) type Running = Pin<Box<dyn Future<Output = Result<u8, Failure>>>>;

/// Why a command ends without having done its work.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It was called wrongly.
    Usage(String),
    /// It did not work.
    Failed {
        /// What went wrong.
        message: String,
        /// The exit code.
        code: u8,
    },
}

impl Failure {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self::Failed { message: message.into(), code: 1 }
    }
}

/// What a command gets.
pub(crate) struct Context {
    pub(crate) program: Program,
    pub(crate) flags: Parsed,
    pub(crate) client: Client,
}

impl Context {
    pub(crate) fn new(program: Program, flags: Parsed) -> Result<Self, Failure> {
        let client = Client::new(program, &flags)?;
        Ok(Self { program, flags, client })
    }

    /// The only argument.
    pub(crate) fn one_argument(&self, what: &str) -> Result<&str, Failure> {
        match self.flags.arguments.as_slice() {
            [only] => Ok(only),
            other => Err(Failure::Usage(format!(
                "This command takes one argument: {what} ({} given)",
                other.len()
            ))),
        }
    }

    pub(crate) fn no_arguments(&self) -> Result<(), Failure> {
        match self.flags.arguments.as_slice() {
            [] => Ok(()),
            _ => Err(Failure::Usage("This command takes no arguments".to_owned())),
        }
    }
}

/// Flags that every command of the Nomad dialect takes.
pub(crate) const NOMAD_FLAGS: [Flag; 13] = [
    Flag {
        name: "address",
        value: "addr",
        help: "Address of an agent (NOMAD_ADDR, default http://127.0.0.1:4646).",
    },
    Flag {
        name: "region",
        value: "region",
        help: "Region of the servers that answer (NOMAD_REGION).",
    },
    Flag {
        name: "namespace",
        value: "name",
        help: "Namespace, * for all where that makes sense (NOMAD_NAMESPACE).",
    },
    Flag { name: "token", value: "secret", help: "ACL token (NOMAD_TOKEN)." },
    Flag {
        name: "no-color",
        value: "",
        help: "No colours; they are used only on a terminal anyway.",
    },
    Flag { name: "force-color", value: "", help: "Colours also where there is no terminal." },
    Flag { name: "ca-cert", value: "path", help: "Certificate authority to trust (NOMAD_CACERT)." },
    Flag {
        name: "ca-path",
        value: "path",
        help: "Directory of authorities to trust (NOMAD_CAPATH).",
    },
    Flag { name: "client-cert", value: "path", help: "Own certificate (NOMAD_CLIENT_CERT)." },
    Flag {
        name: "client-key",
        value: "path",
        help: "Key of the own certificate (NOMAD_CLIENT_KEY).",
    },
    Flag {
        name: "tls-server-name",
        value: "name",
        help: "Name that the server's certificate must have (NOMAD_TLS_SERVER_NAME).",
    },
    Flag {
        name: "tls-skip-verify",
        value: "",
        help: "Accept any certificate (NOMAD_SKIP_VERIFY).",
    },
    Flag { name: "insecure", value: "", help: "As -tls-skip-verify." },
];

/// Flags that every command of the Consul dialect takes.
pub(crate) const CONSUL_FLAGS: [Flag; 10] = [
    Flag {
        name: "http-addr",
        value: "addr",
        help: "Address of an agent (CONSUL_HTTP_ADDR, default http://127.0.0.1:8500).",
    },
    Flag { name: "token", value: "secret", help: "ACL token (CONSUL_HTTP_TOKEN)." },
    Flag { name: "datacenter", value: "name", help: "Datacenter to ask." },
    Flag { name: "namespace", value: "name", help: "Namespace; there is only default." },
    Flag { name: "stale", value: "", help: "Any server may answer from what it has." },
    Flag {
        name: "ca-file",
        value: "path",
        help: "Certificate authority to trust (CONSUL_CACERT).",
    },
    Flag {
        name: "ca-path",
        value: "path",
        help: "Directory of authorities to trust (CONSUL_CAPATH).",
    },
    Flag { name: "client-cert", value: "path", help: "Own certificate (CONSUL_CLIENT_CERT)." },
    Flag {
        name: "client-key",
        value: "path",
        help: "Key of the own certificate (CONSUL_CLIENT_KEY).",
    },
    Flag {
        name: "tls-server-name",
        value: "name",
        help: "Name that the server's certificate must have (CONSUL_TLS_SERVER_NAME).",
    },
];

impl Program {
    /// The word at the beginning of the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cos => "cos",
            Self::Nomad => "nomad",
            Self::Consul => "consul",
        }
    }

    /// The program that a path such as `/usr/bin/nomad` names.
    pub fn from_path(path: &str) -> Self {
        let name = path.rsplit('/').next().unwrap_or(path);
        match name {
            "nomad" => Self::Nomad,
            "consul" => Self::Consul,
            _ => Self::Cos,
        }
    }
}

/// All commands of a program, in order of name.
pub(crate) fn all(program: Program) -> impl Iterator<Item = &'static Command> {
    let nomad = (program != Program::Consul).then_some(nomad::COMMANDS);
    let consul = (program == Program::Consul).then_some(consul::COMMANDS);
    let own = (program == Program::Cos).then_some(security::COMMANDS);
    nomad.into_iter().chain(consul).chain(own).flatten()
}

/// Finds a command by any of its names. `cos consul kv get` reaches the other dialect.
pub(crate) fn find(program: Program, name: &str) -> Option<&'static Command> {
    let matches = |command: &&Command| command.name == name || command.aliases.contains(&name);
    all(program).find(matches)
}

/// The line that says which program this is.
pub(crate) fn version_line(program: Program) -> String {
    match program {
        Program::Cos => format!("cos {}", version::COS),
        Program::Nomad => format!("Nomad v{}", version::NOMAD),
        Program::Consul => format!("Consul v{}", version::CONSUL),
    }
}

/// What the program is and which commands it has.
pub(crate) fn overview(program: Program) -> String {
    let what = match program {
        Program::Cos => {
            "cos runs services on machines: it schedules, names, routes and heals them.\n\n\
             Start one server and client here:   cos agent -dev\n\
             Run something on it:                cos job init && cos job run example.nomad.hcl\n\
             See what runs:                      cos job status\n\n\
             Linked as `nomad` or `consul` it is that program.\n\n"
        }
        Program::Nomad | Program::Consul => "",
    };
    let mut text =
        format!("{what}Usage: {} [-version] [-help] <command> [args]\n\n", program.name());
    let agent = ("agent", "Runs an agent: a server, a client or both");
    let ingress = ("ingress", "Runs an ingress that follows an agent's catalog");
    let bench = ("bench", "Measures failover, writes, restarts and watchers on this machine");
    let completion = ("completion", "Prints completion for bash, zsh or fish");
    let mut rows: Vec<(&str, &str)> =
        all(program).map(|command| (command.name, command.summary)).collect();
    match program {
        Program::Cos => rows.extend([agent, bench, ingress, completion]),
        Program::Nomad => rows.extend([agent, completion]),
        Program::Consul => rows.push(completion),
    }
    rows.sort_unstable();
    for (name, summary) in rows {
        text = format!("{text}    {name:<28} {summary}\n");
    }
    text.trim_end().to_owned()
}

/// A command's help.
pub(crate) fn usage(program: Program, command: &Command) -> String {
    let general: &[Flag] = if program == Program::Consul { &CONSUL_FLAGS } else { &NOMAD_FLAGS };
    let mut text =
        format!("Usage: {} {} [options] {}\n", program.name(), command.name, command.arguments);
    if !command.aliases.is_empty() {
        text = format!("{text}Alias: {}\n", command.aliases.join(", "));
    }
    text = format!("{text}\n  {}\n", command.summary);
    for (title, flags) in [("Options", command.flags), ("General options", general)] {
        if flags.is_empty() {
            continue;
        }
        text = format!("{text}\n{title}:\n");
        for flag in flags {
            let form = if flag.value.is_empty() {
                format!("-{}", flag.name)
            } else {
                format!("-{}=<{}>", flag.name, flag.value)
            };
            text = format!("{text}\n  {form}\n    {}\n", flag.help);
        }
    }
    text.trim_end().to_owned()
}
