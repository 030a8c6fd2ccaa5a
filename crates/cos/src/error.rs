//! How the program says that it cannot go on.

#![expect(clippy::print_stderr, reason = "this is where the program speaks to its user")]

use std::process::ExitCode;

/// Prints a problem and gives the code that says so.
pub(crate) fn fail(message: &str) -> ExitCode {
    eprintln!("==> {message}");
    ExitCode::FAILURE
}

/// An error with its causes in one line, each once.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}
