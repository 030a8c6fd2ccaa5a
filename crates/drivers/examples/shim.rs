//! A program that is nothing but the shim, for the tests of the drivers and for measuring it.
//!
//! It takes the same arguments as `cos`: `shim run DIR` or `shim enter DIR …`.

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let code = match arguments.next() {
        Some(word) if word == "shim" => cos_drivers::shim::main(arguments),
        _ => 2,
    };
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}
