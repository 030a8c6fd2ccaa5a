//! Job files and other documents: HCL2, HCL1 and JSON.

pub mod diagnostic;
pub mod duration;
mod eval;
mod functions;
pub mod hcl;
pub mod json;
pub mod limits;
mod text;

pub use diagnostic::{Diagnostic, Diagnostics, Severity};
