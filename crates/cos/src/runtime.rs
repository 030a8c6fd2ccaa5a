//! The runtime that agents share, sized for what an agent does: it waits.

use std::future::Future;

/// More threads than this only cost memory; work that computes is on threads of its own.
const WORKERS_MAX: usize = 4;
/// File work that blocks; threads above this number wait their turn.
const BLOCKING_MAX: usize = 32;

/// Runs a future to its end.
pub(crate) fn block_on<F: Future>(future: F) -> std::io::Result<F::Output> {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(cores.clamp(1, WORKERS_MAX))
        .max_blocking_threads(BLOCKING_MAX)
        .thread_name("cos")
        .enable_all()
        .build()?;
    let output = runtime.block_on(future);
    // Whatever still blocks has had its time to end.
    runtime.shutdown_background();
    Ok(output)
}
