//! What the sample services share: Go-style flags with environment fallback, a small HTTP server
//! and client, and picking one of several at random.
//!
//! The samples are ordinary programs that know nothing of cos. They find each other through a
//! Consul-style registry, as services written years ago do.
//!
//! Deliberately absent: anything a service would not have brought itself, such as a cos library.

pub mod flags;
pub mod net;
