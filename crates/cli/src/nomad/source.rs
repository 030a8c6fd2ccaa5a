//! Job files: read, with the values for their variables, and parsed here, without an agent.

use std::io::Read;
use std::path::PathBuf;

use cos_jobspec::{Diagnostic, Options, Parsed as Job, Severity, parse_job};

use crate::command::{Context, Failure};

/// Reads and parses the job that a command's argument names; `-` is standard input.
pub(super) fn read(context: &Context) -> Result<(Job, String), Failure> {
    let path = context.one_argument("<path>")?;
    let (text, name) = if path == "-" {
        let mut text = String::new();
        std::io::stdin()
            .read_to_string(&mut text)
            .map_err(|error| Failure::new(format!("Error reading standard input: {error}")))?;
        (text, "<stdin>".to_owned())
    } else {
        let text = std::fs::read_to_string(path).map_err(|error| {
            Failure::new(format!(
                "Error getting job struct: Error reading job file from {path}: {error}"
            ))
        })?;
        (text, path.to_owned())
    };
    let job = parse(context, &text, &name)?;
    Ok((job, text))
}

fn parse(context: &Context, text: &str, name: &str) -> Result<Job, Failure> {
    let mut variables = Vec::new();
    for pair in context.flags.all("var") {
        let (key, value) = pair
            .split_once('=')
            .ok_or_else(|| Failure::Usage(format!("-var={pair}: expected name=value")))?;
        variables.push((key.to_owned(), value.to_owned()));
    }
    let mut variable_files = Vec::new();
    for file in context.flags.all("var-file") {
        let text = std::fs::read_to_string(file).map_err(|error| {
            Failure::new(format!("Error reading variable file {file}: {error}"))
        })?;
        variable_files.push((file.to_owned(), text));
    }
    let base = std::path::Path::new(name).parent().filter(|dir| !dir.as_os_str().is_empty());
    let options = Options {
        variables,
        variable_files,
        environment: std::env::vars().filter(|(name, _)| name.starts_with("NOMAD_VAR_")).collect(),
        files: Some(base.map_or_else(|| PathBuf::from("."), Into::into)),
        strict: context.flags.value("hcl2-strict").is_none_or(|value| value != "false"),
        ..Options::default()
    };
    parse_job(text, name, &options).map_err(|problems| {
        Failure::new(format!(
            "Error getting job struct: Error parsing job file from {name}:\n{problems}"
        ))
    })
}

/// Everything that is wrong with a job or not executed: errors, then warnings.
pub(super) fn problems(job: &Job) -> (Vec<String>, Vec<String>) {
    let all = job.warnings.iter().cloned().chain(job.problems());
    let (errors, warnings): (Vec<_>, Vec<_>) =
        all.partition(|problem| problem.severity == Severity::Error);
    let shown = |problems: Vec<Diagnostic>| problems.iter().map(ToString::to_string).collect();
    (shown(errors), shown(warnings))
}
