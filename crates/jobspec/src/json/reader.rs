//! Reading objects field by field, with the path of every mistake.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use cos_model::{Extras, Value};

use crate::diagnostic::Diagnostic;
use crate::duration;
use crate::limits::MAX_ERRORS;
use crate::text::scalar_text;

/// Collects mistakes and warnings from all readers of one body.
#[derive(Debug, Default)]
pub(crate) struct Log {
    problems: RefCell<Vec<Diagnostic>>,
}

impl Log {
    pub(crate) fn error(&self, path: &str, summary: impl Into<String>, expected: &str) {
        self.push(Diagnostic::at_path(path, summary).expected(expected));
    }

    pub(crate) fn warn(&self, path: &str, summary: impl Into<String>) {
        self.push(Diagnostic::at_path(path, summary).warning());
    }

    /// Keeps a problem, unless there are enough of its kind.
    fn push(&self, problem: Diagnostic) {
        let mut problems = self.problems.borrow_mut();
        let alike = problems.iter().filter(|other| other.severity == problem.severity).count();
        if alike < MAX_ERRORS {
            problems.push(problem);
        }
    }

    pub(crate) fn into_problems(self) -> Vec<Diagnostic> {
        self.problems.into_inner()
    }
}

/// An object that is being read.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    map: &'a BTreeMap<String, Value>,
    path: String,
    seen: BTreeSet<&'a str>,
    log: &'a Log,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(map: &'a BTreeMap<String, Value>, path: String, log: &'a Log) -> Self {
        Self { map, path, seen: BTreeSet::new(), log }
    }

    /// The path of a field.
    pub(crate) fn path_of(&self, name: &str) -> String {
        format!("{}.{name}", self.path)
    }

    pub(crate) fn log(&self) -> &'a Log {
        self.log
    }

    pub(crate) fn error(&self, name: &str, summary: impl Into<String>, expected: &str) {
        self.log.error(&self.path_of(name), summary, expected);
    }

    /// Reports a mistake of the object as a whole.
    pub(crate) fn error_here(&self, summary: impl Into<String>, expected: &str) {
        self.log.error(&self.path, summary, expected);
    }

    /// The value of a field; null counts as absent.
    pub(crate) fn get(&mut self, name: &str) -> Option<&'a Value> {
        let found = self.map.get_key_value(name);
        let (key, value) =
            found.or_else(|| self.map.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)))?;
        self.seen.insert(key);
        (*value != Value::Null).then_some(value)
    }

    fn convert<T>(
        &mut self,
        name: &str,
        expected: &str,
        convert: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Option<T> {
        let value = self.get(name)?;
        let converted = convert(value);
        if converted.is_none() {
            let shown = match scalar_text(value) {
                Some(text) if text.len() <= 40 => format!("{} `{text}`", value.kind()),
                _ => value.kind().to_owned(),
            };
            self.error(name, format!("the value cannot be the {shown}"), expected);
        }
        converted
    }

    /// A text that was given.
    pub(crate) fn optional_text(&mut self, name: &str) -> Option<String> {
        self.convert(name, "text", scalar_text)
    }

    /// A text; empty if absent.
    pub(crate) fn text(&mut self, name: &str) -> String {
        self.optional_text(name).unwrap_or_default()
    }

    /// A text, or the default if it is absent or empty.
    pub(crate) fn text_or(&mut self, name: &str, default: &str) -> String {
        self.optional_text(name)
            .filter(|text| !text.is_empty())
            .unwrap_or_else(|| default.to_owned())
    }

    pub(crate) fn boolean(&mut self, name: &str) -> Option<bool> {
        self.convert(name, "true or false", Value::to_bool)
    }

    /// A truth value; false if absent.
    pub(crate) fn flag(&mut self, name: &str) -> bool {
        self.boolean(name).unwrap_or(false)
    }

    /// A whole number between two bounds.
    pub(crate) fn integer(&mut self, name: &str, low: i64, high: i64) -> Option<i64> {
        let expected = match (low, high) {
            (0, i64::MAX) => "a whole number that is not negative".to_owned(),
            (_, i64::MAX) => format!("a whole number from {low}"),
            _ => format!("a whole number from {low} to {high}"),
        };
        self.convert(name, &expected, |value| {
            whole_number(value).filter(|number| (low..=high).contains(number))
        })
    }

    pub(crate) fn u64(&mut self, name: &str) -> Option<u64> {
        self.integer(name, 0, i64::MAX).and_then(|number| u64::try_from(number).ok())
    }

    pub(crate) fn u32(&mut self, name: &str) -> Option<u32> {
        self.integer(name, 0, i64::from(u32::MAX)).and_then(|number| u32::try_from(number).ok())
    }

    /// A duration in nanoseconds or as text.
    pub(crate) fn duration(&mut self, name: &str) -> Option<Duration> {
        self.convert(name, "a duration such as \"30s\"", |value| match value {
            Value::String(text) => duration::parse(text),
            other => {
                whole_number(other).and_then(|n| u64::try_from(n).ok()).map(Duration::from_nanos)
            }
        })
    }

    pub(crate) fn texts(&mut self, name: &str) -> Vec<String> {
        self.convert(name, "a list of texts", |value| match value {
            Value::List(items) => items.iter().map(scalar_text).collect(),
            _ => None,
        })
        .unwrap_or_default()
    }

    pub(crate) fn text_map(&mut self, name: &str) -> BTreeMap<String, String> {
        let read = |value: &Value| {
            value
                .as_map()?
                .iter()
                .map(|(key, value)| Some((key.clone(), scalar_text(value)?)))
                .collect()
        };
        self.convert(name, "an object of texts", read).unwrap_or_default()
    }

    pub(crate) fn value_map(&mut self, name: &str) -> BTreeMap<String, Value> {
        self.convert(name, "an object", |value| value.as_map().cloned()).unwrap_or_default()
    }

    /// The map of an object, unread.
    pub(crate) fn map(&mut self, name: &str) -> Option<&'a BTreeMap<String, Value>> {
        self.convert(name, "an object", Value::as_map)
    }

    pub(crate) fn object(&mut self, name: &str) -> Option<Reader<'a>> {
        let map = self.map(name)?;
        Some(Reader::new(map, self.path_of(name), self.log))
    }

    /// The members of a list of objects; null members are passed over.
    pub(crate) fn objects(&mut self, name: &str) -> Vec<Reader<'a>> {
        let items = self.convert(name, "a list of objects", Value::as_list).unwrap_or_default();
        let mut readers = Vec::new();
        for (index, item) in items.iter().enumerate() {
            let path = format!("{}[{index}]", self.path_of(name));
            match item {
                Value::Map(map) => readers.push(Reader::new(map, path, self.log)),
                Value::Null => {}
                other => {
                    self.log.error(
                        &path,
                        format!("this cannot be a {}", other.kind()),
                        "an object",
                    );
                }
            }
        }
        readers
    }

    /// The members of an object of objects, by key.
    pub(crate) fn named_objects(&mut self, name: &str) -> Vec<(&'a str, Reader<'a>)> {
        let Some(map) = self.map(name) else { return Vec::new() };
        let mut readers = Vec::new();
        for (key, value) in map {
            let path = format!("{}.{key}", self.path_of(name));
            match value {
                Value::Map(inner) => {
                    readers.push((key.as_str(), Reader::new(inner, path, self.log)));
                }
                Value::Null => {}
                other => {
                    self.log.error(
                        &path,
                        format!("this cannot be a {}", other.kind()),
                        "an object",
                    );
                }
            }
        }
        readers
    }

    /// Moves fields that are not executed into `extras`, unless they are empty.
    pub(crate) fn keep(&mut self, extras: &mut Extras, names: &[&str]) {
        for name in names {
            if let Some(value) = self.get(name)
                && !is_empty(value)
            {
                extras.insert((*name).to_owned(), value.clone());
            }
        }
    }

    /// Accepts fields that mean nothing on input.
    pub(crate) fn ignore(&mut self, names: &[&str]) {
        for name in names {
            let _nothing_to_do = self.get(name);
        }
    }

    /// Ends reading; fields that nobody asked for are warned of.
    pub(crate) fn finish(self) {
        for key in self.map.keys() {
            if !self.seen.contains(key.as_str()) {
                let path = format!("{}.{key}", self.path);
                self.log.warn(&path, format!("the field `{key}` is not known and has no effect"));
            }
        }
    }
}

/// A whole number, also from its text, and from floats that have no fraction.
fn whole_number(value: &Value) -> Option<i64> {
    match value {
        Value::Float(number) if number.fract() == 0.0 && number.abs() < 9e15 =>
        {
            #[expect(clippy::cast_possible_truncation, reason = "checked in the guard")]
            Some(*number as i64)
        }
        other => other.to_int(),
    }
}

/// Whether a value says nothing: null, false, zero, or without content.
pub(crate) fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) | Value::Int(0) => true,
        Value::Bool(true) | Value::Int(_) => false,
        Value::Float(number) => number.abs() == 0.0,
        Value::String(text) => text.is_empty(),
        Value::List(items) => items.is_empty(),
        Value::Map(map) => map.is_empty(),
    }
}

/// Lays `over` on `under`: fields that `over` gives win, null counts as not given.
pub(crate) fn overlay(
    under: Option<&BTreeMap<String, Value>>,
    over: Option<&BTreeMap<String, Value>>,
) -> Option<BTreeMap<String, Value>> {
    let mut merged: BTreeMap<String, Value> = BTreeMap::new();
    for (key, value) in under.into_iter().chain(over).flatten() {
        if *value != Value::Null {
            let known = merged.keys().find(|known| known.eq_ignore_ascii_case(key)).cloned();
            merged.insert(known.unwrap_or_else(|| key.clone()), value.clone());
        }
    }
    (under.is_some() || over.is_some()).then_some(merged)
}
