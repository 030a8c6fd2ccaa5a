//! The ingress: bytes from clients to healthy instances, by the routes that service tags name.
//!
//! ```text
//!   catalog (watch) ──► Table::build ──► current table (swapped whole)
//!                                             │ read per request, never waited for
//!   listener ──► worker 0..n ──► look up ──► pick ──► connection pool ──► instance
//! ```
//!
//! Tasks: one that rebuilds the table when the catalog changes, one per listener that accepts and
//! hands connections to the workers in turn, and one for the page and API of the table. Workers
//! are threads with a runtime each, so that a request never crosses threads.
//!
//! # Invariants
//!
//! - **Pure decisions.** Parsing tags, building the table, looking up and picking take no clock
//!   and draw no entropy.
//! - **Data never waits for control.** A request uses the table it finds.
//! - **Only healthy instances** are in the table.
//!
//! # Deliberately absent
//!
//! - TLS towards clients, HTTP/2 and gRPC. Tags that ask for gRPC are refused by name in the log
//!   and on the routes page.
//! - The catalog's source. Whoever starts the ingress brings a watch on a catalog.

mod admin;
mod handle;
mod normalize;
mod proxy;
mod route;
mod table;
mod tcp;

pub use handle::{Config, Ingress, StartError};
pub use route::{RouteSpec, TagError, parse_tag};
pub use table::{Protocol, Route, Table, Target};
