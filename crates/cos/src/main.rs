//! The program: which of its faces is wanted, and the assembly of an agent.
//!
//! `cos agent` runs an agent, `cos ingress` an ingress of its own, `cos bench` measures, `cos shim`
//! is started by agents beside each task, and everything else is a command of the command line. Linked as `nomad` or
//! `consul` it is that command line.
//!
//! # Invariants
//!
//! - The shim is reached before anything else is set up: it must stay small.
//!
//! # Deliberately absent
//!
//! - Decisions. This crate connects parts and passes configuration down.

mod adapters;
mod agent;
mod bench;
mod bridge;
mod config;
mod error;
mod ingress;
mod replacement;
mod runtime;

use std::ffi::OsString;
use std::process::ExitCode;

use cos_cli::Program;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os();
    let path = arguments.next().unwrap_or_default();
    let arguments: Vec<OsString> = arguments.collect();
    if arguments.first().is_some_and(|first| first == "shim") {
        let code = cos_drivers::shim::main(arguments.into_iter().skip(1));
        return ExitCode::from(u8::try_from(code).unwrap_or(1));
    }
    let program = Program::from_path(&path.to_string_lossy());
    let arguments: Vec<String> =
        arguments.iter().map(|argument| argument.to_string_lossy().into_owned()).collect();
    // One provider of cryptography for everything that speaks TLS. Only a second call could fail.
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    match (program, arguments.first().map(String::as_str)) {
        (Program::Cos | Program::Nomad, Some("agent")) => agent::main(&arguments[1..]),
        (Program::Cos, Some("ingress")) => ingress::main(&arguments[1..]),
        (Program::Cos, Some("bench")) => bench::main(&arguments[1..]),
        (Program::Consul, Some("agent")) => error::fail(
            "this program has no Consul agent of its own: every `cos agent` serves the catalog, \
             keys and DNS. Start `cos agent -dev`, or see `cos agent -help`",
        ),
        _ => cos_cli::run(program, &arguments),
    }
}
