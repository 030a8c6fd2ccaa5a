//! `cos bench`: runs a measurement and prints what it found.

use std::process::ExitCode;

use crate::error::fail;
use crate::runtime;

/// Runs the command.
pub(crate) fn main(arguments: &[String]) -> ExitCode {
    match runtime::block_on(cos_bench::run(arguments)) {
        Ok(Ok(text)) => {
            print(&text);
            ExitCode::SUCCESS
        }
        Ok(Err(error)) => fail(&format!("{:#}", anyhow::Error::new(error))),
        Err(error) => fail(&format!("cannot start: {error}")),
    }
}

#[expect(clippy::print_stdout, reason = "the answer goes to the user")]
fn print(text: &str) {
    println!("{text}");
}
