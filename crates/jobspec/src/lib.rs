//! Job files and their relatives: HCL2, HCL1 and JSON text in, a complete [`Job`] out.
//!
//! ```text
//!                 ┌─ hcl-edit + eval ─┐
//!   text ─ limits ┤  (HCL2)           ├─ hcl::Body ─ spec ─┐
//!                 └─ hcl::lenient ────┘  (positions)        ├─ JSON form ─ json ─ Job
//!                    (HCL1, JSON)         API bodies ───────┘            (defaults)
//! ```
//!
//! Everything becomes Nomad's JSON form first, so that names, defaults and rules exist once. Text
//! keeps its positions all the way, so a wrong operator is reported at its line and column.
//!
//! # Invariants
//!
//! - **Total.** No input panics, hangs or takes more than its size allows (see [`limits`]).
//! - **Complete.** A [`Job`] from here has every default filled in.
//! - **Honest.** What is not executed is named, by [`unsupported()`]; nothing is dropped in silence.
//!
//! # Deliberately absent
//!
//! - Submitting. The caller sends the job, or does not.
//! - The node's side of `${…}`. References to nodes, allocations and secrets stay text.

pub mod diagnostic;
pub mod duration;
mod eval;
mod functions;
pub mod hcl;
pub mod json;
pub mod limits;
mod parse;
mod spec;
mod text;
pub mod validate;

use std::path::PathBuf;
use std::sync::Arc;

use cos_model::Job;

pub use diagnostic::{Diagnostic, Diagnostics, Severity};
pub use functions::{UNSUPPORTED as UNSUPPORTED_FUNCTIONS, names as function_names};
pub use parse::parse_job;
pub use validate::{unsupported, validate};

use crate::diagnostic::Source;
use crate::spec::Spans;

/// What a job file may use and what its variables are.
#[derive(Clone, Debug)]
pub struct Options {
    /// Values of variables, `-var name=value`, in order.
    pub variables: Vec<(String, String)>,
    /// Files of values, by name and text, in order.
    pub variable_files: Vec<(String, String)>,
    /// The environment, of which `NOMAD_VAR_name` sets variables.
    pub environment: Vec<(String, String)>,
    /// Where relative paths of `file(…)` begin; `None` forbids functions that read files.
    pub files: Option<PathBuf>,
    /// Whether a value for an undeclared variable is an error rather than a warning.
    pub strict: bool,
    /// The longest text that is read.
    pub max_source_bytes: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            variables: Vec::new(),
            variable_files: Vec::new(),
            environment: Vec::new(),
            files: None,
            strict: true,
            max_source_bytes: limits::MAX_SOURCE_BYTES,
        }
    }
}

/// A job that was read.
#[derive(Clone, Debug)]
pub struct Parsed {
    /// The job, complete.
    pub job: Job,
    /// What is worth telling.
    pub warnings: Vec<Diagnostic>,
    /// How it was written.
    pub format: Format,
    /// Where its fields are; empty if it did not come from a text.
    pub origin: Option<Origin>,
}

impl Parsed {
    /// Everything that [`validate()`] finds, at its place in the text.
    pub fn problems(&self) -> Vec<Diagnostic> {
        let found = validate(&self.job);
        let Some(origin) = &self.origin else { return found };
        let mut located: Vec<Diagnostic> = found.iter().map(|p| origin.locate(p)).collect();
        located.sort_by_key(|problem| (problem.line, problem.column));
        located
    }
}

/// The text that a job came from.
#[derive(Clone, Debug)]
pub struct Origin {
    source: Arc<Source>,
    spans: Arc<Spans>,
}

impl Origin {
    /// Turns a problem with the path of a field into one with a place in the text.
    pub fn locate(&self, problem: &Diagnostic) -> Diagnostic {
        self.spans.locate(problem, &self.source)
    }
}

/// The notation of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// The present language of job files.
    Hcl2,
    /// The language of old job files.
    Hcl1,
    /// JSON, either of the API or of the job file's structure.
    Json,
}

impl Format {
    /// The word that a submission carries.
    pub fn name(self) -> &'static str {
        match self {
            Self::Hcl2 => "hcl2",
            Self::Hcl1 => "hcl1",
            Self::Json => "json",
        }
    }
}
