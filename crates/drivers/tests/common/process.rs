//! What the tests of drivers that start processes share.

use std::fs;

use cos_model::Value;

use crate::common::{list, text};

/// Makes the options of a shell script.
pub(crate) fn script(script: &str) -> Vec<(&'static str, Value)> {
    vec![("command", text("/bin/sh")), ("args", list(&["-c", script]))]
}

/// Whether a process of this number exists and is no zombie.
pub(crate) fn is_alive(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}
