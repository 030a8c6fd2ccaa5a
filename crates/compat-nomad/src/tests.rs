//! The routes over a real state, in process: a request, and the answer's status and body.

mod blocking;
mod bodies;
mod cluster;
mod forwarded;
mod machine;
mod reads;
mod support;
mod writes;
