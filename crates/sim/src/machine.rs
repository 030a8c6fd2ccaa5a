//! A machine on which an agent runs, as far as it outlives the agent: its processes, and what
//! shims wrote down of those that ended.
//!
//! # Invariants
//!
//! - A process ends once, and how it ended is known until the machine is started anew.

use std::collections::BTreeMap;

use cos_model::AllocId;

/// A process of a task.
#[derive(Clone, Debug)]
pub struct Process {
    /// The allocation.
    pub alloc: AllocId,
    /// The allocation's name in its job.
    pub name: String,
    /// The task.
    pub task: String,
    /// Whether it does not end when it is asked to.
    pub is_stubborn: bool,
    /// Whether it was asked to end.
    pub is_stopping: bool,
    /// When it started.
    pub since: u64,
}

/// A machine.
#[derive(Debug, Default)]
pub struct Machine {
    processes: BTreeMap<i32, Process>,
    /// How processes ended.
    ends: BTreeMap<i32, i32>,
    next: i32,
}

impl Machine {
    /// Starts a process. Like the drivers it first kills what ran of the same task, of which
    /// nobody knows any more; those are returned as well.
    pub fn start(&mut self, process: Process) -> (i32, Vec<i32>) {
        let earlier: Vec<i32> = self
            .processes
            .iter()
            .filter(|(_, other)| other.alloc == process.alloc && other.task == process.task)
            .map(|(pid, _)| *pid)
            .collect();
        for pid in &earlier {
            self.end(*pid, 137);
        }
        self.next += 1;
        self.processes.insert(self.next, process);
        (self.next, earlier)
    }

    /// Ends a process. False if it had ended.
    pub fn end(&mut self, pid: i32, code: i32) -> bool {
        let was_running = self.processes.remove(&pid).is_some();
        if was_running {
            self.ends.insert(pid, code);
        }
        was_running
    }

    /// A process that runs.
    pub fn process(&mut self, pid: i32) -> Option<&mut Process> {
        self.processes.get_mut(&pid)
    }

    /// How a process ended, if it did.
    pub fn ended(&self, pid: i32) -> Option<i32> {
        self.ends.get(&pid).copied()
    }

    /// Whether anything is known of a process.
    pub fn knows(&self, pid: i32) -> bool {
        self.processes.contains_key(&pid) || self.ends.contains_key(&pid)
    }

    /// All that runs.
    pub fn processes(&self) -> impl Iterator<Item = &Process> {
        self.processes.values()
    }

    /// Switches the machine off and on.
    pub fn reboot(&mut self) {
        self.processes.clear();
        self.ends.clear();
    }
}
