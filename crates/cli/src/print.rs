//! `println!` and its kin for this crate: they end the program in silence when the reader of its
//! output has gone, as in `… | head -1`, where those of the standard library would panic.
//!
//! Declared before all other modules, because macros by example are known only below themselves.

use std::fmt::Arguments;
use std::io::{self, Write};

macro_rules! println {
    () => { $crate::print::write(&mut std::io::stdout(), format_args!("\n")) };
    ($($text:tt)*) => {
        $crate::print::write(&mut std::io::stdout(), format_args!("{}\n", format_args!($($text)*)))
    };
}

macro_rules! eprintln {
    () => { $crate::print::write(&mut std::io::stderr(), format_args!("\n")) };
    ($($text:tt)*) => {
        $crate::print::write(&mut std::io::stderr(), format_args!("{}\n", format_args!($($text)*)))
    };
}

/// Writes text at once. What cannot be written, such as to a full disk, ends the program too.
#[expect(
    clippy::disallowed_methods,
    clippy::exit,
    reason = "nobody is left to tell, and no task here owns anything that needs an end"
)]
pub(crate) fn write(out: &mut dyn Write, text: Arguments<'_>) {
    // One piece, so that lines of two programs on one terminal do not mix.
    let text = text.to_string();
    if let Err(error) = out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        let read_enough = error.kind() == io::ErrorKind::BrokenPipe;
        std::process::exit(i32::from(!read_enough));
    }
}
