//! Amounts of what a node has and a task takes.

use std::fmt;

use serde::{Deserialize, Serialize};

/// An amount of each resource that is counted by number. Ports and devices are sets, not amounts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Resources {
    /// Processor share in MHz.
    pub cpu_mhz: u64,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// Disk in MiB.
    pub disk_mib: u64,
}

/// Names one resource in a reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Dimension {
    /// Processor share.
    Cpu,
    /// Memory.
    Memory,
    /// Disk.
    Disk,
}

impl Resources {
    /// Adds two amounts; at the limit the sum stays at the limit.
    #[must_use]
    pub fn saturating_add(&self, other: &Self) -> Self {
        Self {
            cpu_mhz: self.cpu_mhz.saturating_add(other.cpu_mhz),
            memory_mib: self.memory_mib.saturating_add(other.memory_mib),
            disk_mib: self.disk_mib.saturating_add(other.disk_mib),
        }
    }

    /// Takes `other` away; an over-committed resource leaves zero.
    #[must_use]
    pub fn saturating_sub(&self, other: &Self) -> Self {
        Self {
            cpu_mhz: self.cpu_mhz.saturating_sub(other.cpu_mhz),
            memory_mib: self.memory_mib.saturating_sub(other.memory_mib),
            disk_mib: self.disk_mib.saturating_sub(other.disk_mib),
        }
    }

    /// Returns the first resource of which `self` asks for more than `room` has.
    pub fn first_excess_over(&self, room: &Self) -> Option<Dimension> {
        if self.cpu_mhz > room.cpu_mhz {
            Some(Dimension::Cpu)
        } else if self.memory_mib > room.memory_mib {
            Some(Dimension::Memory)
        } else if self.disk_mib > room.disk_mib {
            Some(Dimension::Disk)
        } else {
            None
        }
    }
}

impl fmt::Display for Dimension {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::Disk => "disk",
        })
    }
}
