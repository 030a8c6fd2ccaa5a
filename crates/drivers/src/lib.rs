//! Drivers: the ways to run a task on this machine, and the shim that keeps a task alive without
//! its agent. They know nothing of the cluster.
//!
//! `cos` calls [`shim::main`] before it starts any runtime if its first argument is `shim`; the
//! agent makes [`Drivers`] once and asks it for a [`Driver`] by name.
//!
//! # Invariants
//!
//! - **A task never depends on the agent that started it.** See [`Driver`] and [`shim`].
//! - **What is not supported is refused by name**, when a job is validated and again when it
//!   starts, and never silently dropped.
//! - **Nothing stays behind.** After [`Driver::destroy`] there is no process, mount, cgroup or
//!   container of the task.
//!
//! # Deliberately absent
//!
//! - Network namespaces and CNI. Tasks use the host's network or what the Docker engine gives.

pub mod artifact;
mod capability;
mod cgroup;
pub mod docker;
pub mod driver;
pub mod exec;
pub mod exec_session;
mod local_exec;
pub mod logs;
mod options;
mod process;
pub mod raw_exec;
pub mod registry;
pub mod shim;
mod shim_tasks;
pub mod signal;
mod user;

pub use driver::{
    ConfigError, Driver, ExecRequest, ExitResult, Isolation, Limits, Mount, StartError, TaskConfig,
    TaskDirs, TaskError, TaskHandle, TaskStats, VisibleDirs,
};
pub use exec_session::{ExecInput, ExecOutput, ExecReader, ExecSession, ExecWriter};
pub use registry::{Drivers, Environment, PluginConfigs, PluginError};
