//! The command line: what `cos`, `nomad` and `consul` answer besides running an agent.
//!
//! One table defines every command; parser, help and completion read it. Commands speak only the
//! public HTTP API, so they work against any agent, here or elsewhere.
//!
//! # Invariants
//!
//! - Answers go to stdout, problems to stderr.
//! - Exit codes are stable: 0 done, 1 failed or used wrongly, 2 not everything was placed, 127
//!   unknown command; `job plan` and `alloc exec` document their own.
//!
//! # Deliberately absent
//!
//! - Starting agents. The program does that.

#[macro_use]
mod print;

mod client;
mod command;
mod completion;
mod consul;
mod flags;
mod nomad;
mod output;
mod security;
mod snapshot;
mod suggest;

use std::process::ExitCode;

pub use command::Program;

use command::{Context, Failure};

/// Runs a command line. `arguments` are those after the program's name.
pub fn run(program: Program, arguments: &[String]) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    let code = runtime.block_on(dispatch(program, arguments));
    // A reader of standard input cannot be cancelled; it must not keep the program alive.
    runtime.shutdown_background();
    ExitCode::from(code)
}

/// How many words a command's name has at most.
const NAME_WORDS_MAX: usize = 4;

async fn dispatch(program: Program, arguments: &[String]) -> u8 {
    let first = arguments.first().map_or("", String::as_str);
    match first {
        "" | "-h" | "-help" | "--help" | "help" => {
            println!("{}", command::overview(program));
            return u8::from(first.is_empty() && program != Program::Cos);
        }
        "-v" | "-version" | "--version" => {
            println!("{}", command::version_line(program));
            return 0;
        }
        "completion" => return completion::run(program, &arguments[1..]),
        _ => {}
    }
    let words = arguments.iter().take_while(|word| !word.starts_with('-')).count();
    for count in (1..=words.min(NAME_WORDS_MAX)).rev() {
        let name = arguments[..count].join(" ");
        if let Some(found) = command::find(program, &name) {
            return execute(program, found, &arguments[count..]).await;
        }
    }
    unknown(program, &arguments[..words.clamp(1, NAME_WORDS_MAX)])
}

async fn execute(program: Program, found: &'static command::Command, rest: &[String]) -> u8 {
    let parsed = match flags::parse(found, rest) {
        Ok(parsed) => parsed,
        Err(problem) => {
            eprintln!("{problem}\n\n{}", command::usage(program, found));
            return 1;
        }
    };
    if parsed.help {
        println!("{}", command::usage(program, found));
        return 0;
    }
    let context = match Context::new(program, parsed) {
        Ok(context) => context,
        Err(failure) => return tell(program, found, &failure),
    };
    match (found.run)(context).await {
        Ok(code) => code,
        Err(failure) => tell(program, found, &failure),
    }
}

fn tell(program: Program, found: &command::Command, failure: &Failure) -> u8 {
    match failure {
        Failure::Usage(problem) => {
            eprintln!(
                "{problem}\nFor additional help try '{} {} -help'",
                program.name(),
                found.name
            );
            1
        }
        Failure::Failed { message, code } => {
            eprintln!("{message}");
            *code
        }
    }
}

fn unknown(program: Program, words: &[String]) -> u8 {
    let name = words.join(" ");
    let group = format!("{} ", words[0]);
    let inside: Vec<&str> = command::all(program)
        .map(|command| command.name)
        .filter(|command| command.starts_with(&group))
        .collect();
    if !inside.is_empty() {
        eprintln!("Usage: {} {} <subcommand> [options] [args]\n", program.name(), words[0]);
        for command in command::all(program).filter(|c| c.name.starts_with(&group)) {
            eprintln!("    {:<28} {}", command.name, command.summary);
        }
        return 1;
    }
    eprintln!("{}: unknown command \"{name}\"", program.name());
    let known = command::all(program).flat_map(|c| c.aliases.iter().chain([&c.name]).copied());
    if let Some(near) = suggest::nearest(&name, known) {
        eprintln!("Did you mean \"{near}\"?");
    }
    eprintln!("Run '{} -help' for the list of commands.", program.name());
    127
}
