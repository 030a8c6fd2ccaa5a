//! End-to-end tests: the real program, started as a user would, watched from outside.
//!
//! One test binary, so that the harness is compiled and linked once. Every agent listens on a
//! loopback address of its own, and every test has a directory of its own, so that all of them run
//! beside each other and beside a cluster that somebody uses.
//!
//! Deliberately absent: what one crate can show alone. A test is here if it needs several of them.

mod cluster;
mod dev;
mod docker;
mod endurance;
mod garbage;
mod harness;
mod identity;
mod jobs;
mod snapshot;
