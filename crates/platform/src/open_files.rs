//! How many files this process may have open.

use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What stands for "no limit".
const UNLIMITED: u64 = u64::MAX;

/// How many files this process may have open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenFiles {
    /// Before it asked for more; what programs get that it starts for others.
    pub given: u64,
    /// Now.
    pub now: u64,
}

/// Asks the kernel for as many open files as this process may have.
pub fn raise_open_files() -> io::Result<OpenFiles> {
    let limits = getrlimit(Resource::Nofile);
    let (given, most) = (limits.current.unwrap_or(UNLIMITED), limits.maximum.unwrap_or(UNLIMITED));
    if given < most {
        setrlimit(Resource::Nofile, Rlimit { current: limits.maximum, maximum: limits.maximum })?;
    }
    Ok(OpenFiles { given, now: most })
}
