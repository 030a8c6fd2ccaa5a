//! From the text of a job file to a job.

use std::sync::Arc;

use cos_model::Value;

use crate::diagnostic::{Diagnostic, Diagnostics, Source};
use crate::eval::{Inputs, World, declare};
use crate::hcl::{self, Body};
use crate::json::job_from_value;
use crate::limits;
use crate::spec::{Spans, Translated, translate};
use crate::{Format, Options, Origin, Parsed};

/// Fields by which an API body is told from a job file in JSON.
const API_FIELDS: [&str; 3] = ["ID", "Name", "TaskGroups"];

/// Reads a job file in whichever notation it is written.
///
/// A text that begins with `{` is JSON, of the API or of a job file. Anything else is HCL2; if it
/// does not parse as that, it is tried as HCL1. Errors name file, line and column, and several are
/// reported at once where possible. Nothing is half read: there is a complete job or none.
pub fn parse_job(text: &str, file_name: &str, options: &Options) -> Result<Parsed, Diagnostics> {
    let source = Source::new(file_name, text);
    limits::check(&source, options.max_source_bytes)?;
    if hcl::looks_like_json(source.text()) {
        return parse_json(&source);
    }
    match hcl_edit::parser::parse_body(source.text()) {
        Ok(tree) => parse_strict(&source, &tree, options),
        Err(error) => parse_lenient(&source, hcl::strict_error(&source, &error)),
    }
}

fn parse_strict(
    source: &Arc<Source>,
    tree: &hcl_edit::structure::Body,
    options: &Options,
) -> Result<Parsed, Diagnostics> {
    let mut world = World::new(source);
    world.allow_files(options.files.clone());
    let inputs = Inputs {
        environment: &options.environment,
        files: &options.variable_files,
        flags: &options.variables,
        strict: options.strict,
    };
    let mut warnings = declare(&mut world, tree, &inputs);
    // Without its variables the rest of the file could only repeat the same mistakes.
    let document = if world.has_errors() { None } else { Some(world.job_file(tree)) };
    let errors = world.into_errors();
    let Some(document) = document.filter(|_| errors.0.is_empty()) else { return Err(errors) };
    let mut parsed = finish(translate(&document)?, source, Format::Hcl2)?;
    warnings.append(&mut parsed.warnings);
    Ok(Parsed { warnings, ..parsed })
}

/// Reads a text that is not HCL2, for which `strict` is the reason.
fn parse_lenient(source: &Arc<Source>, strict: Diagnostic) -> Result<Parsed, Diagnostics> {
    let outcome = hcl::parse_hcl1(source);
    let declares = |body: &Body| {
        body.entries.iter().any(|e| ["variable", "variables", "locals"].contains(&e.key.as_str()))
    };
    // Variables and functions exist in HCL2 only. Read as HCL1, they would stay text.
    if declares(&outcome.body) || has_expressions(source.text()) {
        return Err(strict.into());
    }
    let document = outcome.or_strict_error(strict)?;
    finish(translate(&document)?, source, Format::Hcl1)
}

/// Whether a text refers to variables or calls functions inside of `${…}`.
fn has_expressions(text: &str) -> bool {
    text.split("${").skip(1).any(|rest| {
        let rest = rest.trim_start();
        let name =
            rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
        let after = &rest[name..];
        (name > 0 && after.starts_with('('))
            || (["var", "local"].contains(&&rest[..name]) && after.starts_with('.'))
    })
}

fn parse_json(source: &Arc<Source>) -> Result<Parsed, Diagnostics> {
    let body = hcl::parse_json(source)?;
    let has_fields = |body: &Body| {
        let is_field = |key: &str| API_FIELDS.iter().any(|field| field.eq_ignore_ascii_case(key));
        body.entries.iter().any(|entry| is_field(&entry.key))
    };
    let inner = body.entries.iter().find(|entry| entry.key.eq_ignore_ascii_case("Job"));
    let inner = inner.and_then(|entry| entry.node.as_body());
    let job =
        inner.filter(|inner| has_fields(inner)).or_else(|| has_fields(&body).then_some(&body));
    match job {
        Some(job) => {
            let spans = Spans::of_json(job, "Job");
            let value = Value::Map(job.to_map());
            finish(Translated { value, spans }, source, Format::Json)
        }
        None => finish(translate(&body)?, source, Format::Json),
    }
}

fn finish(
    translated: Translated,
    source: &Arc<Source>,
    format: Format,
) -> Result<Parsed, Diagnostics> {
    let Translated { value, spans } = translated;
    let origin = Origin { source: Arc::clone(source), spans: Arc::new(spans) };
    let locate = |problems: Vec<Diagnostic>| {
        let mut located: Vec<Diagnostic> =
            problems.iter().map(|problem| origin.locate(problem)).collect();
        located.sort_by_key(|problem| (problem.line, problem.column));
        located
    };
    match job_from_value(&value, format) {
        Ok(parsed) => {
            let warnings = locate(parsed.warnings);
            Ok(Parsed { warnings, origin: Some(origin), ..parsed })
        }
        Err(problems) => Err(Diagnostics(locate(problems.0))),
    }
}
