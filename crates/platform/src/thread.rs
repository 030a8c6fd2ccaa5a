//! Threads that block, for work that must not hold up the runtime's own threads.

use std::io;
use std::thread::{Builder, JoinHandle};

use rustix::process::setpriority_process;

/// How much more urgent than others a thread is whose latency everybody waits for.
const URGENT_NICENESS: i32 = -10;

/// Starts a named thread. Where the process may, the thread goes before others: who waits for
/// an fsync waits for the thread that issued it as well.
pub fn spawn_urgent<F>(name: &str, work: F) -> io::Result<JoinHandle<()>>
where
    F: FnOnce() + Send + 'static,
{
    Builder::new().name(name.to_owned()).spawn(move || {
        // Without an id this is the calling thread. An ordinary user may not do it, and then
        // the thread works as well, only less promptly.
        let _ = setpriority_process(None, URGENT_NICENESS);
        work();
    })
}
