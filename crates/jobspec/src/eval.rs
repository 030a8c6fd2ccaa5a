//! Evaluation of HCL2: from the parser's tree to a [`Body`] of plain values.
//!
//! # Invariants
//!
//! - **Unknown references stay.** `${attr.kernel.name}` means something to the node that runs the
//!   task, not here; only `var`, `local` and names bound by a loop are looked up.
//! - **Bounded.** Steps and produced bytes are counted, so no text can make evaluation run or grow
//!   without end.
//! - **Go's answers.** Where the parser's own evaluator differs from Go's (order of object keys,
//!   implicit conversions, trim markers in heredocs), this one follows Go.
//! - **Pure.** Files are read only if the caller allows it.

mod expression;
mod operators;
mod template;
mod types;
mod variables;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use cos_model::Value;
use hcl_edit::Span as _;
use hcl_edit::expr::{Expression, ObjectKey};
use hcl_edit::structure::{Attribute, Block, BlockLabel, Body as Tree, Structure};

pub(crate) use self::operators::{compare, equal, from_float, to_bool, to_number, to_text, unify};
pub(crate) use self::types::{Type, sorted_set};
pub(crate) use self::variables::{Inputs, declare};
use crate::diagnostic::{Diagnostic, Diagnostics, Source, Span};
use crate::hcl::{Body, Entry, Node, NodeKind};
use crate::limits::{MAX_ERRORS, MAX_EVALUATED_BYTES, MAX_EVALUATION_STEPS};

/// A failed evaluation. Boxed, because it is rare and large.
pub(crate) type Failure = Box<Fault>;

/// What is wrong, before anybody wants to read it: `try` may throw away a million of these, so the
/// source line is looked up later.
#[derive(Debug)]
pub(crate) struct Fault {
    span: Span,
    summary: String,
    expected: String,
}

impl Fault {
    /// Adds what was expected.
    fn expected(mut self, expected: impl Into<String>) -> Self {
        self.expected = expected.into();
        self
    }

    /// Completes it with the source line.
    fn in_source(self, source: &Source) -> Diagnostic {
        source.error(self.span, self.summary).expected(self.expected)
    }
}

/// Everything an expression may refer to, and what has been spent so far.
pub(crate) struct World<'a> {
    source: &'a Arc<Source>,
    /// Declared variables; `None` where `var` means nothing, as in agent configurations.
    variables: Option<BTreeMap<String, Value>>,
    /// Expressions of `locals`, evaluated when first asked for.
    locals: BTreeMap<String, &'a Expression>,
    resolved: RefCell<BTreeMap<String, Value>>,
    resolving: RefCell<Vec<String>>,
    /// Where relative paths of file functions begin; `None` forbids these functions.
    files: Option<PathBuf>,
    steps: Cell<usize>,
    depth: Cell<usize>,
    bytes: Cell<usize>,
    errors: RefCell<Vec<Diagnostic>>,
}

/// Makes a failure.
#[expect(clippy::unnecessary_box_returns, reason = "every caller returns it in a result")]
fn fail(span: Span, summary: impl Into<String>) -> Failure {
    Box::new(Fault { span, summary: summary.into(), expected: String::new() })
}

/// Names bound by loops, innermost first.
#[derive(Clone, Copy)]
pub(crate) struct Scope<'s> {
    name: &'s str,
    value: &'s Value,
    outer: Option<&'s Scope<'s>>,
}

impl<'s> Scope<'s> {
    fn bind(name: &'s str, value: &'s Value, outer: Option<&'s Scope<'s>>) -> Self {
        Self { name, value, outer }
    }

    fn find(&self, name: &str) -> Option<&'s Value> {
        if self.name == name { Some(self.value) } else { self.outer?.find(name) }
    }
}

/// A place to evaluate in: a world, the loops around, and where the text at hand begins.
#[derive(Clone, Copy)]
pub(crate) struct Place<'w, 'a> {
    world: &'w World<'a>,
    scope: Option<&'w Scope<'w>>,
    /// Offset of the parsed text within the source; heredocs are parsed on their own.
    base: usize,
}

impl<'a> World<'a> {
    /// A world without variables, locals and files.
    pub(crate) fn new(source: &'a Arc<Source>) -> Self {
        Self {
            source,
            variables: None,
            locals: BTreeMap::new(),
            resolved: RefCell::default(),
            resolving: RefCell::default(),
            files: None,
            steps: Cell::new(0),
            depth: Cell::new(0),
            bytes: Cell::new(0),
            errors: RefCell::default(),
        }
    }

    /// Allows functions that read files, relative to `base`.
    pub(crate) fn allow_files(&mut self, base: Option<PathBuf>) {
        self.files = base;
    }

    /// Whether anything went wrong so far.
    pub(crate) fn has_errors(&self) -> bool {
        !self.errors.borrow().is_empty()
    }

    /// The errors that were met.
    pub(crate) fn into_errors(self) -> Diagnostics {
        Diagnostics(self.errors.into_inner())
    }

    /// Evaluates a whole tree. Errors are collected, see [`World::into_errors`].
    pub(crate) fn body(&self, tree: &Tree, end: usize) -> Body {
        self.place().body(tree, Span::new(0, end))
    }

    /// Evaluates a job file without its declarations, which [`declare`] has read.
    pub(crate) fn job_file(&self, tree: &Tree) -> Body {
        let is_declaration = |structure: &&Structure| match structure {
            Structure::Block(block) => {
                ["variable", "variables", "locals"].contains(&block.ident.as_str())
            }
            Structure::Attribute(_) => false,
        };
        let rest = tree.into_iter().filter(|structure| !is_declaration(structure));
        self.place().structures(rest, Span::new(0, self.source.text().len()))
    }

    fn place(&self) -> Place<'_, 'a> {
        Place { world: self, scope: None, base: 0 }
    }

    fn report(&self, fault: Fault) {
        if self.errors.borrow().len() < MAX_ERRORS {
            self.report_diagnostic(fault.in_source(self.source));
        }
    }

    fn report_diagnostic(&self, problem: Diagnostic) {
        let mut errors = self.errors.borrow_mut();
        if errors.len() < MAX_ERRORS {
            errors.push(problem);
        }
    }
}

impl<'w> Place<'w, '_> {
    fn span(self, range: Option<Range<usize>>) -> Span {
        let range = range.unwrap_or(0..0);
        Span::new(self.base + range.start, self.base + range.end)
    }

    fn source(self) -> &'w Arc<Source> {
        self.world.source
    }

    /// Counts one step.
    fn step(self, span: Span) -> Result<(), Failure> {
        let steps = self.world.steps.get() + 1;
        self.world.steps.set(steps);
        if steps > MAX_EVALUATION_STEPS {
            return Err(fail(span, "the expressions of this file take too many steps"));
        }
        Ok(())
    }

    /// Counts bytes that an expression produced.
    fn charge(self, bytes: usize, span: Span) -> Result<(), Failure> {
        let total = self.world.bytes.get().saturating_add(bytes);
        self.world.bytes.set(total);
        if total > MAX_EVALUATED_BYTES {
            let limit = format!("at most {MAX_EVALUATED_BYTES} bytes in total");
            let problem = fail(span, "the expressions of this file produce too much text");
            return Err(Box::new(problem.expected(limit)));
        }
        Ok(())
    }

    fn body(self, tree: &Tree, span: Span) -> Body {
        self.structures(tree, span)
    }

    fn structures<'t>(
        self,
        structures: impl IntoIterator<Item = &'t Structure>,
        span: Span,
    ) -> Body {
        let mut entries = Vec::new();
        for structure in structures {
            match structure {
                Structure::Attribute(attribute) => entries.push(self.attribute(attribute)),
                Structure::Block(block) if block.has_ident("dynamic") => {
                    match self.dynamic(block) {
                        Ok(blocks) => entries.extend(blocks),
                        Err(problem) => self.world.report(*problem),
                    }
                }
                Structure::Block(block) => entries.push(self.block(block)),
            }
        }
        Body { source: Arc::clone(self.source()), entries, span }
    }

    fn attribute(self, attribute: &Attribute) -> Entry {
        let node = self.node(&attribute.value).unwrap_or_else(|problem| {
            self.world.report(*problem);
            Node { kind: NodeKind::Scalar(Value::Null), span: self.span(attribute.value.span()) }
        });
        Entry {
            key: attribute.key.as_str().to_owned(),
            key_span: self.span(attribute.key.span()),
            labels: Vec::new(),
            node,
            is_block: false,
        }
    }

    fn block(self, block: &Block) -> Entry {
        let label = |label: &BlockLabel| (label.as_str().to_owned(), self.span(label.span()));
        let span = self.span(block.span());
        Entry {
            key: block.ident.as_str().to_owned(),
            key_span: self.span(block.ident.span()),
            labels: block.labels.iter().map(label).collect(),
            node: Node { kind: NodeKind::Body(self.body(&block.body, span)), span },
            is_block: true,
        }
    }

    /// Expands `dynamic "kind" { for_each = …, content { … } }` into blocks of that kind.
    fn dynamic(self, block: &Block) -> Result<Vec<Entry>, Failure> {
        let span = self.span(block.ident.span());
        let Some(kind) = block.labels.first().map(BlockLabel::as_str) else {
            let problem = fail(span, "this dynamic block has no label");
            return Err(Box::new(problem.expected("the kind of block to make, in quotes")));
        };
        let content = block.body.get_blocks("content").next();
        let for_each = block.body.get_attribute("for_each");
        let (Some(content), Some(for_each)) = (content, for_each) else {
            let problem = fail(span, "this dynamic block is not complete");
            return Err(Box::new(problem.expected("`for_each = …` and `content { … }`")));
        };
        for inner in &block.body {
            let key = match inner {
                Structure::Attribute(attribute) => &attribute.key,
                Structure::Block(block) => &block.ident,
            };
            if !["for_each", "iterator", "labels", "content"].contains(&key.as_str()) {
                let summary = format!("a dynamic block has no `{}`", key.as_str());
                return Err(fail(self.span(key.span()), summary));
            }
        }
        let iterator = match block.body.get_attribute("iterator").map(|a| &a.value) {
            Some(Expression::Variable(name)) => name.as_str().to_owned(),
            Some(other) => {
                let problem = fail(self.span(other.span()), "this is not a name");
                return Err(Box::new(problem.expected("a bare name, without quotes")));
            }
            None => kind.to_owned(),
        };
        let items = self.iterate(&for_each.value)?;
        let mut entries = Vec::new();
        for (key, value) in items {
            let each =
                Value::Map(BTreeMap::from([("key".to_owned(), key), ("value".to_owned(), value)]));
            let scope = Scope::bind(&iterator, &each, self.scope);
            // The scope lives only for this round, so the place is rebuilt with it.
            let place = Place { world: self.world, scope: Some(&scope), base: self.base };
            place.step(span)?;
            let labels = match block.body.get_attribute("labels") {
                Some(labels) => place.labels(&labels.value)?,
                None => Vec::new(),
            };
            let mut entry = place.block(content);
            kind.clone_into(&mut entry.key);
            entry.key_span = span;
            entry.labels = labels;
            entries.push(entry);
        }
        Ok(entries)
    }

    fn labels(self, labels: &Expression) -> Result<Vec<(String, Span)>, Failure> {
        let span = self.span(labels.span());
        let wrong = || Box::new(fail(span, "these are not labels").expected("a list of texts"));
        let Value::List(items) = self.expression(labels)? else { return Err(wrong()) };
        items.iter().map(|item| to_text(item).map(|text| (text, span)).ok_or_else(wrong)).collect()
    }

    /// Evaluates an expression and keeps the places of an object's keys and a list's members.
    fn node(self, expression: &Expression) -> Result<Node, Failure> {
        let span = self.span(expression.span());
        match expression {
            Expression::Object(object) => {
                let mut entries = Vec::new();
                for (key, value) in object {
                    let (name, key_span) = self.object_key(key, value.expr())?;
                    let node = self.node(value.expr())?;
                    let labels = Vec::new();
                    entries.push(Entry { key: name, key_span, labels, node, is_block: false });
                }
                let body = Body { source: Arc::clone(self.source()), entries, span };
                Ok(Node { kind: NodeKind::Body(body), span })
            }
            Expression::Array(array) => {
                let items: Result<_, _> = array.iter().map(|item| self.node(item)).collect();
                Ok(Node { kind: NodeKind::List(items?), span })
            }
            other => Ok(Node::from_value(self.expression(other)?, span, self.source())),
        }
    }

    fn object_key(self, key: &ObjectKey, value: &Expression) -> Result<(String, Span), Failure> {
        match key {
            ObjectKey::Ident(name) => {
                let span = match name.span() {
                    Some(range) => self.span(Some(range)),
                    None => self.key_before(name.as_str(), self.span(value.span())),
                };
                Ok((name.as_str().to_owned(), span))
            }
            ObjectKey::Expression(expression) => {
                let span = self.span(expression.span());
                let value = self.expression(expression)?;
                let text = to_text(&value)
                    .ok_or_else(|| Box::new(fail(span, "this cannot be a key").expected("text")))?;
                Ok((text, span))
            }
        }
    }

    /// Finds a bare key before its value: the parser does not say where it was.
    fn key_before(self, name: &str, value: Span) -> Span {
        let before = self.source().text().get(..value.start).unwrap_or("");
        let trimmed = before.trim_end().trim_end_matches(['=', ':']).trim_end();
        if trimmed.ends_with(name) {
            Span::new(trimmed.len() - name.len(), trimmed.len())
        } else {
            value
        }
    }
}

#[cfg(test)]
#[path = "eval/tests.rs"]
mod tests;
