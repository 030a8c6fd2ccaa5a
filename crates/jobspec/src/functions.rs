//! Functions of job files: one table of names, arities and implementations.
//!
//! A new function is a line in the table of its file and an implementation beside it.
//!
//! # Invariants
//!
//! - **Total.** A function gets any values and answers with a value or a message.
//! - **Pure**, except for those of [`files`], which read only where the [`Host`] allows it.
//! - **Bounded.** No function makes more than [`MAX_RESULT`] members or bytes out of a few.
//!
//! # Deliberately absent
//!
//! - `try` and `can`, which do not evaluate their arguments first. The evaluator has them.

mod addresses;
mod collections;
mod dates;
mod encoding;
mod files;
mod formats;
mod hashes;
mod numbers;
mod sets;
mod strings;

use std::path::Path;

use cos_model::Value;

/// The most members or bytes that a function makes from arguments that are smaller.
const MAX_RESULT: usize = 1 << 20;

/// What a function may know of the world.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Host<'a> {
    /// Where relative paths begin; `None` forbids reading files.
    pub(crate) files: Option<&'a Path>,
}

/// The answer of a function, or what is wrong with its arguments.
pub(crate) type Answer = Result<Value, String>;

/// A function of job files.
#[derive(Clone, Copy)]
pub(crate) struct Function {
    name: &'static str,
    least: usize,
    most: usize,
    /// The implementation. The number of arguments has been checked.
    pub(crate) run: fn(&[Value], &Host<'_>) -> Answer,
}

/// Any number of arguments.
const MANY: usize = usize::MAX;

/// Every function that works, by subject.
const TABLES: [&[Function]; 10] = [
    strings::TABLE,
    formats::TABLE,
    numbers::TABLE,
    collections::TABLE,
    sets::TABLE,
    encoding::TABLE,
    hashes::TABLE,
    dates::TABLE,
    addresses::TABLE,
    files::TABLE,
];

/// Functions that Nomad has and cos does not yet.
pub const UNSUPPORTED: [&str; 5] = ["bcrypt", "rsadecrypt", "uuidv4", "yamldecode", "yamlencode"];

/// Makes a line of a table.
const fn function(
    name: &'static str,
    least: usize,
    most: usize,
    run: fn(&[Value], &Host<'_>) -> Answer,
) -> Function {
    Function { name, least, most, run }
}

/// Finds a function by name.
pub(crate) fn find(name: &str) -> Result<Function, String> {
    let found = TABLES.iter().flat_map(|table| table.iter()).find(|function| function.name == name);
    found.copied().ok_or_else(|| {
        if UNSUPPORTED.contains(&name) {
            format!("the function `{name}` is not supported yet")
        } else {
            format!("there is no function `{name}`")
        }
    })
}

/// The names of all functions that work, in order.
pub fn names() -> Vec<&'static str> {
    let tables = TABLES.iter().flat_map(|table| table.iter().map(|function| function.name));
    let mut names: Vec<&str> = tables.chain(["try", "can"]).collect();
    names.sort_unstable();
    names
}

impl Function {
    /// Says what is wrong with a number of arguments.
    pub(crate) fn arity_problem(&self, count: usize) -> Option<String> {
        if (self.least..=self.most).contains(&count) {
            None
        } else if self.least == self.most {
            Some(format!("{}", self.least))
        } else if self.most == MANY {
            Some(format!("at least {}", self.least))
        } else {
            Some(format!("{} to {}", self.least, self.most))
        }
    }
}

// Reading of arguments, with messages that say which one is wrong.

fn wrong(position: usize, value: &Value, expected: &str) -> String {
    format!("argument {} is a {}, not {expected}", position + 1, value.kind())
}

fn text(arguments: &[Value], position: usize) -> Result<String, String> {
    let value = &arguments[position];
    crate::text::scalar_text(value).ok_or_else(|| wrong(position, value, "text"))
}

fn number(arguments: &[Value], position: usize) -> Result<Value, String> {
    let value = &arguments[position];
    crate::eval::to_number(value).ok_or_else(|| wrong(position, value, "a number"))
}

fn float(arguments: &[Value], position: usize) -> Result<f64, String> {
    Ok(match number(arguments, position)? {
        #[expect(clippy::cast_precision_loss, reason = "floats are what was asked for")]
        Value::Int(number) => number as f64,
        Value::Float(number) => number,
        _ => 0.0,
    })
}

fn whole(arguments: &[Value], position: usize) -> Result<i64, String> {
    match number(arguments, position)? {
        Value::Int(number) => Ok(number),
        other => Err(wrong(position, &other, "a whole number")),
    }
}

fn list(arguments: &[Value], position: usize) -> Result<&[Value], String> {
    let value = &arguments[position];
    value.as_list().ok_or_else(|| wrong(position, value, "a list"))
}

fn map(
    arguments: &[Value],
    position: usize,
) -> Result<&std::collections::BTreeMap<String, Value>, String> {
    let value = &arguments[position];
    value.as_map().ok_or_else(|| wrong(position, value, "a map"))
}

fn texts(arguments: &[Value], position: usize) -> Result<Vec<String>, String> {
    list(arguments, position)?
        .iter()
        .map(|item| {
            crate::text::scalar_text(item)
                .ok_or_else(|| format!("argument {} holds a {}", position + 1, item.kind()))
        })
        .collect()
}

/// A size that came as an argument.
fn size(arguments: &[Value], position: usize) -> Result<usize, String> {
    let number = whole(arguments, position)?;
    usize::try_from(number).map_err(|_negative| format!("argument {} is negative", position + 1))
}

fn strings_value(items: impl IntoIterator<Item = String>) -> Value {
    Value::List(items.into_iter().map(Value::String).collect())
}

#[cfg(test)]
#[path = "functions/tests.rs"]
mod tests;
