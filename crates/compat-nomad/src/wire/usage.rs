//! What machines, allocations and tasks use, and files: the answers of node-local routes.

use std::collections::BTreeMap;

use cos_http::local;
use serde::Serialize;

use super::Time;

/// What an allocation uses.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct AllocUsage {
    resource_usage: ResourceUsage,
    tasks: BTreeMap<String, TaskUsage>,
    timestamp: i64,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct TaskUsage {
    resource_usage: ResourceUsage,
    timestamp: i64,
    pids: Option<BTreeMap<String, ResourceUsage>>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
#[expect(clippy::struct_field_names, reason = "the names are Nomad's")]
struct ResourceUsage {
    memory_stats: MemoryStats,
    cpu_stats: CpuStats,
    device_stats: Option<()>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct MemoryStats {
    #[serde(rename = "RSS")]
    rss: u64,
    cache: u64,
    swap: u64,
    usage: u64,
    max_usage: u64,
    kernel_usage: u64,
    kernel_max_usage: u64,
    measured: [&'static str; 4],
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct CpuStats {
    system_mode: f64,
    user_mode: f64,
    total_ticks: f64,
    throttled_periods: u64,
    throttled_time: u64,
    percent: f64,
    measured: [&'static str; 6],
}

impl From<&local::Usage> for ResourceUsage {
    fn from(usage: &local::Usage) -> Self {
        Self {
            memory_stats: MemoryStats {
                rss: usage.memory_rss,
                cache: usage.memory_cache,
                swap: usage.memory_swap,
                usage: usage.memory_rss.saturating_add(usage.memory_cache),
                max_usage: usage.memory_max,
                kernel_usage: 0,
                kernel_max_usage: 0,
                measured: ["RSS", "Cache", "Swap", "Max Usage"],
            },
            cpu_stats: CpuStats {
                system_mode: usage.cpu_system_percent,
                user_mode: usage.cpu_user_percent,
                total_ticks: usage.cpu_mhz,
                throttled_periods: usage.throttled_periods,
                throttled_time: usage.throttled_nanos,
                percent: usage.cpu_percent,
                measured: [
                    "System Mode",
                    "User Mode",
                    "Total Ticks",
                    "Throttled Periods",
                    "Throttled Time",
                    "Percent",
                ],
            },
            device_stats: None,
        }
    }
}

impl From<&local::AllocUsage> for AllocUsage {
    fn from(usage: &local::AllocUsage) -> Self {
        let timestamp = usage.at.unix_nanos();
        let pids = |task: &local::TaskUsage| {
            let shown = task.processes.iter().map(|(pid, one)| (pid.to_string(), one.into()));
            (!task.processes.is_empty()).then(|| shown.collect())
        };
        let shown = |task: &local::TaskUsage| TaskUsage {
            resource_usage: ResourceUsage::from(&task.total),
            timestamp,
            pids: pids(task),
        };
        let total =
            usage.tasks.values().fold(local::Usage::default(), |sum, task| add(&sum, &task.total));
        Self {
            resource_usage: ResourceUsage::from(&total),
            tasks: usage.tasks.iter().map(|(name, task)| (name.clone(), shown(task))).collect(),
            timestamp,
        }
    }
}

fn add(left: &local::Usage, right: &local::Usage) -> local::Usage {
    local::Usage {
        memory_rss: left.memory_rss.saturating_add(right.memory_rss),
        memory_cache: left.memory_cache.saturating_add(right.memory_cache),
        memory_swap: left.memory_swap.saturating_add(right.memory_swap),
        memory_max: left.memory_max.saturating_add(right.memory_max),
        cpu_percent: left.cpu_percent + right.cpu_percent,
        cpu_mhz: left.cpu_mhz + right.cpu_mhz,
        cpu_system_percent: left.cpu_system_percent + right.cpu_system_percent,
        cpu_user_percent: left.cpu_user_percent + right.cpu_user_percent,
        throttled_periods: left.throttled_periods.saturating_add(right.throttled_periods),
        throttled_nanos: left.throttled_nanos.saturating_add(right.throttled_nanos),
    }
}

/// What a machine uses.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct HostStats {
    memory: HostMemory,
    #[serde(rename = "CPU")]
    cpu: Vec<Cpu>,
    disk_stats: Vec<Disk>,
    alloc_dir_stats: Disk,
    device_stats: Option<()>,
    uptime: u64,
    timestamp: i64,
    #[serde(rename = "CPUTicksConsumed")]
    cpu_ticks_consumed: f64,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct HostMemory {
    total: u64,
    available: u64,
    used: u64,
    free: u64,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Cpu {
    #[serde(rename = "CPU")]
    name: String,
    user: f64,
    system: f64,
    idle: f64,
    total_percent: f64,
    total_ticks: f64,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Disk {
    device: String,
    mountpoint: String,
    size: u64,
    used: u64,
    available: u64,
    used_percent: f64,
    inodes_used_percent: f64,
}

impl From<&local::DiskUsage> for Disk {
    #[expect(clippy::cast_precision_loss, reason = "a percentage needs no 53 bits")]
    fn from(disk: &local::DiskUsage) -> Self {
        let used_percent =
            if disk.size == 0 { 0.0 } else { disk.used as f64 * 100.0 / disk.size as f64 };
        Self {
            device: disk.device.clone(),
            mountpoint: disk.mountpoint.clone(),
            size: disk.size,
            used: disk.used,
            available: disk.available,
            used_percent,
            inodes_used_percent: 0.0,
        }
    }
}

impl From<&local::HostUsage> for HostStats {
    fn from(usage: &local::HostUsage) -> Self {
        let cpu = |cpu: &local::CpuUsage| Cpu {
            name: cpu.name.clone(),
            user: cpu.user,
            system: cpu.system,
            idle: cpu.idle,
            total_percent: cpu.total,
            total_ticks: 0.0,
        };
        Self {
            memory: HostMemory {
                total: usage.memory.total,
                available: usage.memory.available,
                used: usage.memory.used,
                free: usage.memory.free,
            },
            cpu: usage.cpus.iter().map(cpu).collect(),
            disk_stats: usage.disks.iter().map(Disk::from).collect(),
            alloc_dir_stats: Disk::from(&usage.alloc_disk),
            device_stats: None,
            uptime: usage.uptime_seconds,
            timestamp: usage.at.unix_nanos(),
            cpu_ticks_consumed: usage.cpu_mhz_used,
        }
    }
}

/// A file or directory of an allocation.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct FileInfo {
    name: String,
    is_dir: bool,
    size: u64,
    file_mode: String,
    mod_time: Time,
    content_type: String,
}

impl From<&local::FileInfo> for FileInfo {
    fn from(file: &local::FileInfo) -> Self {
        Self {
            name: file.name.clone(),
            is_dir: file.is_dir,
            size: file.size,
            file_mode: file.mode.clone(),
            mod_time: Time(file.modified),
            content_type: file.content_type.clone(),
        }
    }
}
