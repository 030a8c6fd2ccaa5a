//! How an agent becomes a member of a cluster and stays one: the certificate authority, join tokens,
//! certificates on disk, and their renewal.
//!
//! `platform` speaks TLS with the certificates that this crate obtains; `server` decides who may
//! have one, and what a member may do.
//!
//! # Invariants
//!
//! - A member's private key never leaves its machine; the authority's keys leave it only for another
//!   server, over a connection that both sides proved themselves on.
//! - What is secret is written to files that only the agent's user can read, and shown nowhere.
//! - Making certificates is pure: time and entropy are arguments.
//!
//! # Deliberately absent
//!
//! - Withdrawing a certificate before its end. They live for days; to shut somebody out at once,
//!   rotate the authority.

pub mod authority;
pub mod certificate;
mod der;
mod disk;
mod given;
pub mod join;
mod keeper;
mod member;
pub mod secret;
pub mod token;
pub mod wire;

pub use authority::Authority;
pub use disk::{DiskError, Folder};
pub use given::{FileError, GivenFiles, read_certificates};
pub use keeper::{Keeper, KeeperError, Settings};
pub use member::ClientMember;
pub use secret::{Derived, RootKey};
pub use token::Token;
