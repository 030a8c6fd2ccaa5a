//! What connects shells to edges: each adapter is one trait of an edge on one handle of a shell.
//!
//! Deliberately absent: anything that decides.

mod discovery;
mod info;
mod local;
mod membership;
mod planning;
mod streams;

pub(crate) use discovery::{Naming, NamingParts, ServerSink};
pub(crate) use info::Info;
pub(crate) use local::LocalAgent;
pub(crate) use membership::Membership;
pub(crate) use planning::Planning;
