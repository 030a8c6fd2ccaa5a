//! Jobs in and out: everything that this dialect asks of `jobspec`.

use cos_http::ApiError;
use cos_jobspec::json::{job_from_json, job_to_json};
use cos_jobspec::{Diagnostic, Diagnostics, Options, Parsed};
use cos_model::Job;
use serde_json::Value;

/// What errors call a job's text that came without a file.
const SOURCE_NAME: &str = "input.hcl";

/// What errors call the variables that came with it.
const VARIABLES_NAME: &str = "input.hcl.vars";

/// A job that was read from a body.
#[derive(Clone, Debug)]
pub(crate) struct ReadJob {
    pub(crate) job: Job,
    /// What is wrong with it, one text each.
    pub(crate) errors: Vec<String>,
    /// What the caller should know, as one text.
    pub(crate) warnings: String,
}

impl ReadJob {
    /// Refuses a job that is wrong, naming everything that is.
    pub(crate) fn check(&self) -> Result<(), ApiError> {
        if self.errors.is_empty() {
            return Ok(());
        }
        Err(ApiError::bad_request(joined(&self.errors)))
    }
}

/// Reads the JSON form of a job, with all defaults filled in.
pub(crate) fn read_job(json: &Value) -> Result<ReadJob, ApiError> {
    let parsed = job_from_json(json).map_err(|error| ApiError::bad_request(error.to_string()))?;
    let found = parsed.problems();
    let (errors, warnings): (Vec<Diagnostic>, Vec<Diagnostic>) =
        found.into_iter().chain(parsed.warnings).partition(Diagnostic::is_error);
    Ok(ReadJob {
        job: parsed.job,
        errors: errors.iter().map(ToString::to_string).collect(),
        warnings: joined_warnings(&warnings),
    })
}

/// Writes the JSON form of a job.
pub(crate) fn job_json(job: &Job) -> Value {
    job_to_json(job)
}

/// Several errors as Nomad lists them; none is empty.
pub(crate) fn joined(errors: &[String]) -> String {
    let lines: String = errors.iter().map(|error| format!("\t* {error}\n")).collect();
    match errors.len() {
        0 => String::new(),
        1 => format!("1 error occurred:\n{lines}\n"),
        count => format!("{count} errors occurred:\n{lines}\n"),
    }
}

fn joined_warnings(warnings: &[Diagnostic]) -> String {
    let lines: String = warnings.iter().map(|warning| format!("* {warning}\n")).collect();
    match warnings.len() {
        0 => String::new(),
        1 => format!("1 warning:\n\n{lines}"),
        count => format!("{count} warnings:\n\n{lines}"),
    }
}

/// Reads the text of a job file, with the text of a file of variables. Files are not read.
pub(crate) async fn parse_hcl(source: String, variables: String) -> Result<Job, ApiError> {
    let work = move || {
        let options = Options {
            variable_files: vec![(VARIABLES_NAME.to_owned(), variables)],
            files: None,
            ..Options::default()
        };
        cos_jobspec::parse_job(&source, SOURCE_NAME, &options)
    };
    // A large file takes long to read; other requests must not wait for it.
    let outcome: Result<Parsed, Diagnostics> = tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| ApiError::internal(format!("Failed to parse job: {error}")))?;
    let parsed =
        outcome.map_err(|error| ApiError::bad_request(format!("Failed to parse job: {error}")))?;
    Ok(parsed.job)
}
