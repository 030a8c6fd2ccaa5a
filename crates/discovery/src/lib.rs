//! Names over DNS: which instances of a service are healthy, and where nodes are.
//!
//! ```text
//!   socket ──► decode ──► answer(&Catalog, &Question, now, entropy) ──► fit to size ──► encode
//! ```
//!
//! Tasks: one per UDP socket, one per TCP listener and one per TCP connection. They read the
//! catalog from a watch, so every agent answers from its own copy, also when no server is there.
//!
//! # Invariants
//!
//! - **Pure answers.** [`answer()`] takes the catalog, the question, the time and entropy, and
//!   touches nothing else.
//! - **Only healthy instances** are named.
//! - **No packet panics.** What cannot be decoded is answered with an error or dropped.
//!
//! # Deliberately absent
//!
//! - Recursion: names outside the domain are refused.
//! - Prepared queries and mesh names.

mod answer;
mod fit;
mod name;
mod server;
mod wire;

pub use answer::{Answer, Question, Zone, answer};
pub use server::{Config, Dns, StartError};
pub use wire::{Channel, respond};
