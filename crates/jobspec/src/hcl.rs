//! Documents: HCL2, HCL1 or JSON text as one tree with positions.
//!
//! Agent configurations, policies and job files are written in any of three notations, and the
//! file's ending does not say which. [`parse`] finds out, and gives a [`Body`] that looks the same
//! for all: `server { enabled = true }`, `server = { enabled = true }` and
//! `{"server": {"enabled": true}}` are one entry `server` that holds a body.
//!
//! Use [`Fields`] to read a body: it converts, remembers what was asked for, and reports every
//! other key with its position.
//!
//! # Invariants
//!
//! - Entries stand in the order of the text, and each knows where its key and its value are.
//! - References such as `${attr.kernel.name}` that nobody here can resolve stay text.
//!
//! # Deliberately absent
//!
//! - Meaning. What a key does is the reader's business.

mod fields;
mod lenient;
mod lexer;

use std::collections::BTreeMap;
use std::sync::Arc;

use cos_model::Value;

pub use self::fields::Fields;
pub(crate) use self::lenient::Outcome;
use crate::diagnostic::{Diagnostic, Diagnostics, Position, Source, Span};
use crate::eval::World;
use crate::limits;

/// The entries of a file, a block or an object.
#[derive(Clone, Debug)]
pub struct Body {
    /// Where diagnostics find the text.
    pub source: Arc<Source>,
    /// The entries, in order.
    pub entries: Vec<Entry>,
    /// Where the body is; the opening bracket if it has one.
    pub span: Span,
}

/// An attribute or a block.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// Where the key is.
    pub key_span: Span,
    /// The labels of a block, `web` in `job "web" {}`.
    pub labels: Vec<(String, Span)>,
    /// What it holds.
    pub node: Node,
    /// Whether it was written as a block, without `=`.
    pub is_block: bool,
}

/// A value with its place.
#[derive(Clone, Debug)]
pub struct Node {
    /// The value.
    pub kind: NodeKind,
    /// Where it is.
    pub span: Span,
}

/// What a value is.
#[derive(Clone, Debug)]
pub enum NodeKind {
    /// Null, a truth value, a number or text.
    Scalar(Value),
    /// A list.
    List(Vec<Node>),
    /// A block's body or an object.
    Body(Body),
}

/// Parses a document in whichever of the three notations it is written.
///
/// A text that begins with `{` is JSON. Anything else is tried as HCL2 and then, if that fails, as
/// HCL1. If both fail, the errors of the notation that came further are returned.
pub fn parse(text: &str, file_name: &str) -> Result<Body, Diagnostics> {
    let source = Source::new(file_name, text);
    limits::check(&source, limits::MAX_SOURCE_BYTES)?;
    if looks_like_json(source.text()) {
        return parse_json(&source);
    }
    let parsed = match hcl_edit::parser::parse_body(source.text()) {
        Ok(parsed) => parsed,
        Err(error) => {
            let outcome = lenient::parse(&source, lenient::Notation::Hcl1);
            return outcome.or_strict_error(strict_error(&source, &error));
        }
    };
    let world = World::new(&source);
    let body = world.body(&parsed, source.text().len());
    let errors = world.into_errors();
    if errors.0.is_empty() { Ok(body) } else { Err(errors) }
}

/// Parses JSON text into a body with positions.
pub(crate) fn parse_json(source: &Arc<Source>) -> Result<Body, Diagnostics> {
    let outcome = lenient::parse(source, lenient::Notation::Json);
    if outcome.errors.is_empty() { Ok(outcome.body) } else { Err(Diagnostics(outcome.errors)) }
}

/// Parses HCL1 text, with all errors that were found.
pub(crate) fn parse_hcl1(source: &Arc<Source>) -> Outcome {
    lenient::parse(source, lenient::Notation::Hcl1)
}

/// Whether the first character that is not space opens an object.
pub(crate) fn looks_like_json(text: &str) -> bool {
    text.trim_start().starts_with('{')
}

/// Puts an error of the HCL2 parser into our form.
pub(crate) fn strict_error(source: &Source, error: &hcl_edit::parser::Error) -> Diagnostic {
    let offset = error.location().offset();
    let found = source.text().get(offset..).and_then(|rest| rest.chars().next());
    let length = found.map_or(0, char::len_utf8);
    let span = Span::new(offset, offset + length);
    // The parser's messages are "invalid PROBLEM; expected THINGS", either part of which may miss.
    let message = error.message();
    let (problem, expected) = match message.strip_prefix("expected ") {
        Some(expected) => ("", expected),
        None => message.split_once("; expected ").unwrap_or((message, "")),
    };
    let problem = problem.trim_end_matches("unexpected token").trim_end_matches("; ");
    let found = match found {
        None => "the file ends too early".to_owned(),
        Some('\n' | '\r') => "the line ends too early".to_owned(),
        Some(c) => format!("unexpected `{c}`"),
    };
    let summary = if problem.is_empty() { found } else { format!("{found}, {problem}") };
    let expected =
        expected.replace("newline or eof", "the end of the line").replace("`\n`", "a new line");
    source.error(span, summary).expected(expected)
}

impl Body {
    /// The entries with this key, in order.
    pub fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a Entry> {
        self.entries.iter().filter(move |entry| entry.key == key)
    }

    /// The last entry with this key, which is the one that counts.
    pub fn get(&self, key: &str) -> Option<&Entry> {
        self.entries.iter().rev().find(|entry| entry.key == key)
    }

    /// Line and column of a span in this body's text.
    pub fn position(&self, span: Span) -> Position {
        self.source.position(span.start)
    }

    /// Makes an error about a span in this body's text.
    pub fn error(&self, span: Span, summary: impl Into<String>) -> Diagnostic {
        self.source.error(span, summary)
    }

    /// The body as a plain map. A key that is there several times becomes a list, and labels
    /// become levels of maps, both as JSON would write them.
    pub fn to_map(&self) -> BTreeMap<String, Value> {
        let mut map: BTreeMap<String, Value> = BTreeMap::new();
        let mut blocks: BTreeMap<&str, Vec<Value>> = BTreeMap::new();
        for entry in &self.entries {
            if entry.is_block {
                blocks.entry(&entry.key).or_default().push(entry.to_value());
            } else {
                map.insert(entry.key.clone(), entry.to_value());
            }
        }
        for (key, mut values) in blocks {
            let value = match (values.len(), values.pop()) {
                (1, Some(only)) => only,
                (_, last) => Value::List(values.into_iter().chain(last).collect()),
            };
            map.insert(key.to_owned(), value);
        }
        map
    }
}

impl Entry {
    /// The value, with labels as levels of maps.
    pub fn to_value(&self) -> Value {
        let inner = self.node.to_value();
        self.labels
            .iter()
            .rev()
            .fold(inner, |inner, (label, _)| Value::Map(BTreeMap::from([(label.clone(), inner)])))
    }
}

impl Node {
    /// Makes a node of a value, all of whose parts are at `span`.
    pub fn from_value(value: Value, span: Span, source: &Arc<Source>) -> Self {
        let kind = match value {
            Value::List(items) => NodeKind::List(
                items.into_iter().map(|item| Self::from_value(item, span, source)).collect(),
            ),
            Value::Map(map) => {
                let entry = |(key, value)| Entry {
                    key,
                    key_span: span,
                    labels: Vec::new(),
                    node: Self::from_value(value, span, source),
                    is_block: false,
                };
                let entries = map.into_iter().map(entry).collect();
                NodeKind::Body(Body { source: Arc::clone(source), entries, span })
            }
            scalar => NodeKind::Scalar(scalar),
        };
        Self { kind, span }
    }

    /// The value without positions.
    pub fn to_value(&self) -> Value {
        match &self.kind {
            NodeKind::Scalar(value) => value.clone(),
            NodeKind::List(items) => Value::List(items.iter().map(Self::to_value).collect()),
            NodeKind::Body(body) => Value::Map(body.to_map()),
        }
    }

    /// Names the kind of value for messages.
    pub fn kind_name(&self) -> &'static str {
        match &self.kind {
            NodeKind::Scalar(value) => value.kind(),
            NodeKind::List(_) => "list",
            NodeKind::Body(_) => "block",
        }
    }

    /// The body, if it is a block or an object.
    pub fn as_body(&self) -> Option<&Body> {
        match &self.kind {
            NodeKind::Body(body) => Some(body),
            _ => None,
        }
    }

    /// The scalar, if it is one.
    pub fn as_scalar(&self) -> Option<&Value> {
        match &self.kind {
            NodeKind::Scalar(value) => Some(value),
            _ => None,
        }
    }

    /// The bodies it holds: itself, or the members of a list of blocks.
    pub fn bodies(&self) -> Vec<&Body> {
        match &self.kind {
            NodeKind::Body(body) => vec![body],
            NodeKind::List(items) => items.iter().filter_map(Self::as_body).collect(),
            NodeKind::Scalar(_) => Vec::new(),
        }
    }
}
