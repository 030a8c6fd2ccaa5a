//! The project's own tools: `cargo xtask tidy` checks the rules that no other tool knows.
//!
//! Deliberately absent: anything that writes to the tree. `make fix` does that.

#![expect(clippy::print_stdout, reason = "a tool tells its user")]

use std::process::ExitCode;

mod tidy;

fn main() -> anyhow::Result<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().map(String::as_str) != Some("tidy") {
        println!("Usage: cargo xtask tidy");
        return Ok(ExitCode::from(2));
    }
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
