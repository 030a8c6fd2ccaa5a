//! Variables and locals of a job file, and the values given to them from outside.
//!
//! A value comes, from weakest to strongest, from the variable's default, the environment
//! (`NOMAD_VAR_name`), variable files in order, and `-var name=value`.

use std::collections::BTreeMap;

use cos_model::Value;
use hcl_edit::Span as _;
use hcl_edit::expr::Expression;
use hcl_edit::structure::{Attribute, Block, BlockLabel, Body as Tree, Structure};

use super::{Failure, Place, Scope, Type, World, fail};
use crate::diagnostic::{Diagnostic, Source, Span};
use crate::hcl;

/// Values for variables, weakest first.
#[derive(Debug, Default)]
pub(crate) struct Inputs<'a> {
    pub(crate) environment: &'a [(String, String)],
    pub(crate) files: &'a [(String, String)],
    pub(crate) flags: &'a [(String, String)],
    pub(crate) strict: bool,
}

/// A declared variable while its value is being found.
struct Declared<'t> {
    kind: Option<Type>,
    value: Option<Value>,
    span: Span,
    block: Option<&'t Block>,
}

/// Declares all variables and locals of a file in `world`. Returns warnings; errors are reported
/// to the world.
pub(crate) fn declare<'a>(
    world: &mut World<'a>,
    tree: &'a Tree,
    inputs: &Inputs<'_>,
) -> Vec<Diagnostic> {
    let mut declared: BTreeMap<String, Declared<'a>> = BTreeMap::new();
    world.variables = Some(BTreeMap::new());
    for structure in tree {
        let Structure::Block(block) = structure else { continue };
        match block.ident.as_str() {
            "variable" => declare_one(world, block, &mut declared),
            "variables" => {
                for attribute in block.body.attributes() {
                    let value = world.place().expression(&attribute.value);
                    let span = world.place().span(attribute.key.span());
                    let value = world.keep(value);
                    let kind = value.as_ref().map(Type::of);
                    let variable = Declared { kind, value, span, block: None };
                    add(world, &mut declared, attribute.key.as_str(), variable);
                }
            }
            "locals" => {
                for attribute in block.body.attributes() {
                    world.locals.insert(attribute.key.as_str().to_owned(), &attribute.value);
                }
            }
            _ => {}
        }
    }
    let warnings = assign_inputs(world, &mut declared, inputs);
    finish(world, declared);
    warnings
}

impl World<'_> {
    /// Keeps a value, or reports why there is none.
    fn keep<T>(&self, value: Result<T, Failure>) -> Option<T> {
        value.map_err(|problem| self.report(*problem)).ok()
    }
}

fn add<'t>(
    world: &World<'_>,
    declared: &mut BTreeMap<String, Declared<'t>>,
    name: &str,
    variable: Declared<'t>,
) {
    if declared.contains_key(name) {
        let summary = format!("the variable `{name}` is declared twice");
        world.report_diagnostic(world.source.error(variable.span, summary));
    }
    declared.insert(name.to_owned(), variable);
}

fn declare_one<'t>(
    world: &World<'_>,
    block: &'t Block,
    declared: &mut BTreeMap<String, Declared<'t>>,
) {
    let place = world.place();
    let span = place.span(block.ident.span());
    let Some(name) = block.labels.first().map(BlockLabel::as_str) else {
        let problem = fail(span, "this variable has no name");
        return world.report(problem.expected("a name in quotes"));
    };
    let known = ["type", "default", "description", "sensitive"];
    for structure in &block.body {
        let (key, fits) = match structure {
            Structure::Attribute(a) => (&a.key, known.contains(&a.key.as_str())),
            Structure::Block(b) => (&b.ident, b.has_ident("validation")),
        };
        if !fits {
            let summary = format!("a variable has no `{}`", key.as_str());
            let problem = fail(place.span(key.span()), summary);
            world.report(problem.expected("type, default, description or validation"));
        }
    }
    let mut kind = None;
    if let Some(attribute) = block.body.get_attribute("type") {
        match Type::read(&attribute.value) {
            Ok(found) => kind = Some(found),
            Err(text) => {
                let problem = fail(place.span(attribute.value.span()), text);
                world
                    .report(problem.expected("string, number, bool, list(…), map(…), object({…})"));
            }
        }
    }
    let value = block
        .body
        .get_attribute("default")
        .and_then(|attribute| world.keep(convert_default(place, attribute, kind.as_ref())));
    if kind.is_none() {
        kind = value.as_ref().map(Type::of);
    }
    add(world, declared, name, Declared { kind, value, span, block: Some(block) });
}

fn convert_default(
    place: Place<'_, '_>,
    attribute: &Attribute,
    kind: Option<&Type>,
) -> Result<Value, Failure> {
    let value = place.expression(&attribute.value)?;
    let Some(kind) = kind else { return Ok(value) };
    kind.convert(value).ok_or_else(|| {
        let problem = fail(place.span(attribute.value.span()), "the default has another type");
        Box::new(problem.expected(kind.name()))
    })
}

fn assign_inputs(
    world: &World<'_>,
    declared: &mut BTreeMap<String, Declared<'_>>,
    inputs: &Inputs<'_>,
) -> Vec<Diagnostic> {
    let mut warnings = Vec::new();
    for (name, text) in inputs.environment {
        let Some(name) = name.strip_prefix("NOMAD_VAR_") else { continue };
        // The environment is shared with other jobs, so names that mean nothing here are normal.
        if let Some(variable) = declared.get_mut(name) {
            assign_text(world, name, text, variable, &format!("NOMAD_VAR_{name}"));
        }
    }
    for (file, text) in inputs.files {
        match hcl::parse(text, file) {
            Err(problems) => {
                problems.into_iter().for_each(|problem| world.report_diagnostic(problem));
            }
            Ok(body) => {
                for entry in &body.entries {
                    let value = entry.node.to_value();
                    let problem = || body.error(entry.key_span, "");
                    match declared.get_mut(&entry.key) {
                        Some(variable) if !entry.is_block => {
                            assign(world, &entry.key, value, variable, problem);
                        }
                        Some(_) => {
                            let text = "a variable file holds no blocks";
                            world.report_diagnostic(named(problem(), text));
                        }
                        None => undeclared(world, &entry.key, problem(), inputs, &mut warnings),
                    }
                }
            }
        }
    }
    for (name, text) in inputs.flags {
        if let Some(variable) = declared.get_mut(name) {
            assign_text(world, name, text, variable, &format!("-var {name}"));
        } else {
            let problem = Diagnostic::at_path(format!("-var {name}"), "");
            undeclared(world, name, problem, inputs, &mut warnings);
        }
    }
    warnings
}

fn named(mut problem: Diagnostic, summary: &str) -> Diagnostic {
    summary.clone_into(&mut problem.summary);
    problem
}

fn undeclared(
    world: &World<'_>,
    name: &str,
    problem: Diagnostic,
    inputs: &Inputs<'_>,
    warnings: &mut Vec<Diagnostic>,
) {
    let problem = named(problem, &format!("the job declares no variable `{name}`"));
    if inputs.strict {
        world.report_diagnostic(problem);
    } else {
        warnings.push(problem.warning());
    }
}

/// Assigns a value that came as text: as it is for text and numbers, as an expression otherwise.
fn assign_text(
    world: &World<'_>,
    name: &str,
    text: &str,
    variable: &mut Declared<'_>,
    origin: &str,
) {
    let kind = variable.kind.as_ref().unwrap_or(&Type::Text);
    let problem = || Diagnostic::at_path(origin, "");
    let value = if kind.reads_text() {
        Value::String(text.to_owned())
    } else {
        match evaluate_text(text, origin) {
            Ok(value) => value,
            Err(problem) => return world.report_diagnostic(*problem),
        }
    };
    assign(world, name, value, variable, problem);
}

fn evaluate_text(text: &str, origin: &str) -> Result<Value, Box<Diagnostic>> {
    let source = Source::new(origin, text);
    crate::limits::check(&source, crate::limits::MAX_SOURCE_BYTES)?;
    let expression: Expression = hcl_edit::parser::parse_expr(source.text())
        .map_err(|error| Box::new(hcl::strict_error(&source, &error)))?;
    let world = World::new(&source);
    let value = world.place().expression(&expression);
    value.map_err(|fault| Box::new(fault.in_source(&source)))
}

fn assign(
    world: &World<'_>,
    name: &str,
    value: Value,
    variable: &mut Declared<'_>,
    problem: impl FnOnce() -> Diagnostic,
) {
    let kind = variable.kind.as_ref().unwrap_or(&Type::Any);
    if let Some(value) = kind.convert(value) {
        variable.value = Some(value);
    } else {
        let summary = format!("the value of `{name}` has the wrong type");
        world.report_diagnostic(named(problem(), &summary).expected(kind.name()));
    }
}

/// Puts the values in place, and then asks the validations, which may look at all of them.
fn finish(world: &mut World<'_>, declared: BTreeMap<String, Declared<'_>>) {
    let mut checks = Vec::new();
    let mut values = BTreeMap::new();
    for (name, variable) in declared {
        if let Some(value) = variable.value {
            checks.extend(variable.block);
            values.insert(name, value);
        } else {
            let summary = format!("the variable `{name}` has no value");
            let expected = format!("a default, `-var {name}=…` or NOMAD_VAR_{name}");
            world.report_diagnostic(world.source.error(variable.span, summary).expected(expected));
            // A value keeps uses of the variable from being reported as well.
            values.insert(name, Value::Null);
        }
    }
    world.variables = Some(values);
    for block in checks {
        for validation in block.body.get_blocks("validation") {
            if let Err(problem) = validate(world.place(), validation) {
                world.report(*problem);
            }
        }
    }
}

fn validate(place: Place<'_, '_>, validation: &Block) -> Result<(), Failure> {
    let span = place.span(validation.ident.span());
    let condition = validation.body.get_attribute("condition");
    let message = validation.body.get_attribute("error_message");
    let (Some(condition), Some(message)) = (condition, message) else {
        let problem = fail(span, "this validation is not complete");
        return Err(Box::new(problem.expected("`condition` and `error_message`")));
    };
    let unbound: Option<&Scope<'_>> = None;
    let place = Place { scope: unbound, ..place };
    if place.truth(&condition.value)? {
        return Ok(());
    }
    let message = place.expression(&message.value)?;
    let text = super::to_text(&message).unwrap_or_else(|| "a variable is not valid".to_owned());
    Err(fail(place.span(condition.value.span()), text))
}
