//! The project's own tools: `cargo xtask tidy` checks the rules that no other tool knows, and
//! `cargo xtask sim` runs the simulator.
//!
//! Deliberately absent: anything that writes to the tree. `make fix` does that.

#![expect(clippy::print_stdout, reason = "a tool tells its user")]

use std::process::ExitCode;

mod sim;
mod tidy;

const USAGE: &str = "\
Usage: cargo xtask tidy
       cargo xtask sim --seeds N [--from S] [--jobs J] | --seed S [--trace] | --mutations [NAME...]";

fn main() -> anyhow::Result<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some("tidy") => tidy(),
        Some("sim") => sim::run(&root()?, &arguments[1..]),
        _ => {
            println!("{USAGE}");
            Ok(ExitCode::from(2))
        }
    }
}

fn tidy() -> anyhow::Result<ExitCode> {
    let problems = tidy::check(&root()?)?;
    for problem in &problems {
        println!("{problem}");
    }
    if problems.is_empty() {
        println!("tidy");
        return Ok(ExitCode::SUCCESS);
    }
    println!("{} problems", problems.len());
    Ok(ExitCode::FAILURE)
}

/// The workspace's root: the parent of this crate's directory.
fn root() -> anyhow::Result<std::path::PathBuf> {
    let own = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let parent = own.parent();
    parent.map(Into::into).ok_or_else(|| anyhow::anyhow!("xtask has no parent directory"))
}
