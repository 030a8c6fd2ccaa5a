//! What the machine uses now, for the node's statistics.

use std::sync::Arc;

use cos_model::Timestamp;
use sysinfo::{CpuRefreshKind, MemoryRefreshKind, RefreshKind, System};

use crate::config::Config;
use crate::fingerprint;

/// What the machine uses.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HostStats {
    /// When it was looked at.
    pub at: Timestamp,
    /// Seconds since the machine started.
    pub uptime_seconds: u64,
    /// Memory in bytes.
    pub memory_total: u64,
    /// What tasks could get of it.
    pub memory_available: u64,
    /// What is used.
    pub memory_used: u64,
    /// What is not used for anything.
    pub memory_free: u64,
    /// Each core's name and how busy it is, in percent.
    pub cpus: Vec<(String, f32)>,
    /// The folder of allocations.
    pub alloc_dir: String,
    /// Size of its file system in bytes.
    pub disk_total: u64,
    /// What is free of it.
    pub disk_available: u64,
}

/// Looks at the machine. It takes a moment, because being busy is a difference of two looks.
pub async fn look(config: &Arc<Config>, now: i64) -> Result<HostStats, sysinfo::Error> {
    let data_dir = config.data_dir.clone();
    let alloc_dir = config.alloc_root().display().to_string();
    let kind = RefreshKind::nothing()
        .with_cpu(CpuRefreshKind::nothing().with_usage())
        .with_memory(MemoryRefreshKind::everything());
    let mut system = System::new_with_specifics(kind)?;
    tokio::time::sleep(sysinfo::MINIMUM_CPU_UPDATE_INTERVAL).await;
    system.refresh_cpu_usage();
    let (disk_total, disk_available) = fingerprint::disk_of(&data_dir);
    Ok(HostStats {
        at: Timestamp(now),
        uptime_seconds: System::uptime()?,
        memory_total: system.total_memory(),
        memory_available: system.available_memory(),
        memory_used: system.used_memory(),
        memory_free: system.free_memory(),
        cpus: system.cpus().iter().map(|cpu| (cpu.name().to_owned(), cpu.usage())).collect(),
        alloc_dir,
        disk_total,
        disk_available,
    })
}
