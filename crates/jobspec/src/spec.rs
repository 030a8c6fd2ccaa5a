//! The job specification: which blocks and attributes a job file may hold, and what they are called
//! in the JSON form.
//!
//! A job file is translated to the JSON form by tables and then read by [`crate::json`], so that
//! defaults and rules exist once. The translation remembers where each field came from; that is how
//! a mistake found later is still reported at its line and column.
//!
//! # Invariants
//!
//! - Every block and attribute of the tables is translated; every other one is an error with its
//!   position.
//! - A field has the type that its table says, whether the file quoted it or not.

mod connect;
mod extra;
mod rewrite;
mod tables;
mod translate;

use std::collections::BTreeMap;

use cos_model::Value;

use crate::diagnostic::{Diagnostic, Source, Span};
use crate::hcl::{Body, Node, NodeKind};

pub(crate) use self::translate::translate;

/// What a field holds.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    /// Text.
    Text,
    /// A truth value.
    Bool,
    /// A whole number.
    Int,
    /// A duration, as text or nanoseconds.
    Duration,
    /// A list of texts.
    Texts,
    /// A map of texts, as attribute or block, merged if given twice.
    TextMap,
    /// A map of lists of texts.
    TextListMap,
    /// A block without rules, merged if given twice.
    Free,
    /// A block that may be given once.
    One(&'static Schema),
    /// A block that may be given several times.
    Many(&'static Schema),
    /// A block with a label, several times; the label becomes the named field.
    Labelled(&'static Schema, &'static str),
    /// A block with a label, several times, collected by label; the label becomes the named field.
    ByLabel(&'static Schema, &'static str),
}

/// An attribute or block.
pub(crate) struct Field {
    /// The name in job files.
    hcl: &'static str,
    /// The name in JSON. One that begins with `~` is for [`Hook`]s only.
    json: &'static str,
    kind: Kind,
}

/// What is done with a block after its fields have been translated.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hook {
    /// Nothing.
    None,
    /// `version = ">= 1"` and the like become operator and value.
    Constraint,
    /// Ports are divided into fixed and dynamic ones.
    Network,
    /// The default identity is told from the others.
    Task,
}

/// A kind of block.
pub(crate) struct Schema {
    name: &'static str,
    fields: &'static [Field],
    hook: Hook,
}

/// Makes a line of a table.
const fn field(hcl: &'static str, json: &'static str, kind: Kind) -> Field {
    Field { hcl, json, kind }
}

/// Makes a table without hook.
const fn schema(name: &'static str, fields: &'static [Field]) -> Schema {
    Schema { name, fields, hook: Hook::None }
}

/// Where the fields of a translated job stand in the text.
#[derive(Debug, Default)]
pub(crate) struct Spans {
    by_path: BTreeMap<String, Span>,
}

impl Spans {
    /// Remembers the place of a field.
    fn put(&mut self, path: &str, span: Span) {
        self.by_path.insert(path.to_owned(), span);
    }

    /// Gives everything below `old` a second path below `new`.
    fn alias(&mut self, old: &str, new: &str) {
        let moved: Vec<(String, Span)> = self
            .by_path
            .range(old.to_owned()..)
            .take_while(|(path, _)| path.starts_with(old))
            .map(|(path, span)| (format!("{new}{}", &path[old.len()..]), *span))
            .collect();
        self.by_path.extend(moved);
    }

    /// Collects the places of all fields of a JSON text.
    pub(crate) fn of_json(body: &Body, path: &str) -> Self {
        let mut spans = Self::default();
        spans.put(path, body.span);
        spans.collect_body(body, path);
        spans
    }

    fn collect_body(&mut self, body: &Body, path: &str) {
        for entry in &body.entries {
            let path = format!("{path}.{}", entry.key);
            self.put(&path, entry.key_span);
            self.collect_node(&entry.node, &path);
        }
    }

    fn collect_node(&mut self, node: &Node, path: &str) {
        match &node.kind {
            NodeKind::Body(body) => self.collect_body(body, path),
            NodeKind::List(items) => {
                for (index, item) in items.iter().enumerate() {
                    let path = format!("{path}[{index}]");
                    self.put(&path, item.span);
                    self.collect_node(item, &path);
                }
            }
            NodeKind::Scalar(_) => {}
        }
    }

    /// Finds the place of a field, or of the nearest field around it.
    fn find(&self, path: &str) -> Span {
        let mut path = path;
        loop {
            if let Some(span) = self.by_path.get(path) {
                return *span;
            }
            let Some(shorter) = path.rfind(['.', '[']) else { return Span::default() };
            path = &path[..shorter];
        }
    }

    /// Turns a problem with a path into one with a place in the text.
    pub(crate) fn locate(&self, problem: &Diagnostic, source: &Source) -> Diagnostic {
        let located = source.error(self.find(&problem.path), problem.summary.clone());
        let located = located.expected(problem.expected.clone());
        if problem.is_error() { located } else { located.warning() }
    }
}

/// A translated job: its JSON form and the places of its fields.
#[derive(Debug)]
pub(crate) struct Translated {
    pub(crate) value: Value,
    pub(crate) spans: Spans,
}
