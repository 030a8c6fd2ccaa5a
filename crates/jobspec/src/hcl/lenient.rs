//! HCL1 and JSON: one tolerant parser for both.
//!
//! HCL1 is what job files and agent configurations were written in before HCL2: commas after
//! attributes, several attributes on a line, quoted keys, blocks that are objects and objects that
//! are blocks. JSON is the same grammar with stricter writers. Unlike the strict parser this one
//! goes on after an error, so that one run finds several.
//!
//! # Invariants
//!
//! - **Terminates.** Every loop consumes a token or ends.
//! - **Bounded.** Nesting is limited before (see [`crate::limits`]) and here.
//!
//! # Deliberately absent
//!
//! - Expressions. HCL1 has none; `${…}` is kept as text.

use std::sync::Arc;

use cos_model::Value;

use super::lexer::{Lexeme, Lexer, Token};
use super::{Body, Entry, Node, NodeKind};
use crate::diagnostic::{Diagnostic, Diagnostics, Source, Span};
use crate::limits::{MAX_ERRORS, MAX_NESTING};

/// Which of the two notations to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Notation {
    /// The old HCL.
    Hcl1,
    /// JSON, whose strings know no `${`.
    Json,
}

/// What the parser found, whatever was wrong with it.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) body: Body,
    pub(crate) errors: Vec<Diagnostic>,
}

impl Outcome {
    /// Returns the body, or the errors of the notation that came further into the text.
    pub(crate) fn or_strict_error(self, strict: Diagnostic) -> Result<Body, Diagnostics> {
        let Some(first) = self.errors.first() else { return Ok(self.body) };
        let came_as_far = (first.line, first.column) >= (strict.line, strict.column);
        // At the end of the text the strict parser only knows that something is missing; this one
        // knows which bracket is open.
        let source = &self.body.source;
        let end = source.position(source.text().trim_end().len());
        let strict_reached_end = (strict.line, strict.column) >= (end.line, end.column);
        if came_as_far || strict_reached_end {
            return Err(Diagnostics(self.errors));
        }
        Err(strict.into())
    }
}

/// Parses a text.
pub(super) fn parse(source: &Arc<Source>, notation: Notation) -> Outcome {
    let mut lexer = Lexer::new(source.text(), notation == Notation::Json);
    let ahead = lexer.next();
    let mut parser = Parser { source, lexer, ahead, depth: 0, errors: Vec::new() };
    let end = source.text().len();
    let body = if notation == Notation::Json {
        let node = parser.value();
        if parser.ahead.lexeme != Lexeme::End {
            let span = parser.ahead.span;
            parser.error(span, "text follows the closing bracket", "the end of the file");
        }
        match node.kind {
            NodeKind::Body(body) => body,
            _ => parser.body_of(Vec::new(), Span::new(0, end)),
        }
    } else {
        let entries = parser.entries(None);
        parser.body_of(entries, Span::new(0, end))
    };
    Outcome { body, errors: parser.errors }
}

struct Parser<'a> {
    source: &'a Arc<Source>,
    lexer: Lexer<'a>,
    ahead: Token,
    depth: usize,
    errors: Vec<Diagnostic>,
}

impl Parser<'_> {
    fn body_of(&self, entries: Vec<Entry>, span: Span) -> Body {
        Body { source: Arc::clone(self.source), entries, span }
    }

    fn advance(&mut self) -> Token {
        let next = self.lexer.next();
        std::mem::replace(&mut self.ahead, next)
    }

    fn at_sign(&self, sign: char) -> bool {
        self.ahead.lexeme == Lexeme::Sign(sign)
    }

    fn take_sign(&mut self, sign: char) -> bool {
        let found = self.at_sign(sign);
        if found {
            self.advance();
        }
        found
    }

    fn line_of(&self, offset: usize) -> usize {
        self.source.line_of(offset)
    }

    fn error(&mut self, span: Span, summary: &str, expected: &str) {
        if self.errors.len() < MAX_ERRORS {
            self.errors.push(self.source.error(span, summary).expected(expected));
        }
    }

    /// Reports the token ahead: its own fault if it has one, else that it does not belong here.
    fn unexpected(&mut self, expected: &str) {
        let Token { lexeme, span } = self.ahead.clone();
        match lexeme {
            Lexeme::Bad(summary, expected) => self.error(span, summary, expected),
            Lexeme::End => self.error(span, "the file ends too early", expected),
            _ => {
                let text = self.source.slice(span);
                let shown: String = text.lines().next().unwrap_or("").chars().take(30).collect();
                self.error(span, &format!("unexpected `{shown}`"), expected);
            }
        }
    }

    /// Reads entries up to `end` (which is left ahead) or the end of the text.
    fn entries(&mut self, end: Option<char>) -> Vec<Entry> {
        let mut entries = Vec::new();
        loop {
            match &self.ahead.lexeme {
                Lexeme::End => return entries,
                Lexeme::Sign(sign) if Some(*sign) == end => return entries,
                Lexeme::Sign(',') => {
                    self.advance();
                }
                Lexeme::Word(_) | Lexeme::Text(_) | Lexeme::Number(_) => {
                    entries.extend(self.entry());
                }
                _ => {
                    self.unexpected("a key or `}`");
                    self.advance();
                }
            }
            if self.errors.len() >= MAX_ERRORS {
                return entries;
            }
        }
    }

    /// Reads keys up to `=` or `{`, and the value. The keys must stand on one line.
    fn entry(&mut self) -> Option<Entry> {
        let mut keys: Vec<(String, Span)> = Vec::new();
        loop {
            let key = match &self.ahead.lexeme {
                Lexeme::Word(key) | Lexeme::Text(key) => key.clone(),
                Lexeme::Number(_) => self.source.slice(self.ahead.span).to_owned(),
                _ => break,
            };
            let span = self.ahead.span;
            if let Some((_, last)) = keys.last()
                && self.line_of(last.end) != self.line_of(span.start)
            {
                break;
            }
            keys.push((key, span));
            self.advance();
        }
        let last = keys.last().map(|(_, span)| *span).unwrap_or_default();
        let mut keys = keys.into_iter();
        let (key, key_span) = keys.next()?;
        let labels: Vec<(String, Span)> = keys.collect();
        let is_block = self.at_sign('{');
        if !is_block && !self.at_sign('=') {
            self.complain_after_key(last);
            return None;
        }
        if !is_block {
            self.advance();
        }
        let node = self.value();
        Some(Entry { key, key_span, labels, node, is_block })
    }

    fn complain_after_key(&mut self, key: Span) {
        if matches!(self.ahead.lexeme, Lexeme::Bad(..)) {
            self.unexpected("");
            self.advance();
        } else {
            let name = self.source.slice(key).to_owned();
            self.error(key, &format!("nothing follows `{name}`"), "`=` and a value, or `{`");
        }
    }

    fn value(&mut self) -> Node {
        let start = self.ahead.span;
        let kind = match self.ahead.lexeme.clone() {
            Lexeme::Text(text) => self.scalar(Value::String(text)),
            Lexeme::Number(number) => self.scalar(number),
            Lexeme::Word(word) if word == "true" => self.scalar(Value::Bool(true)),
            Lexeme::Word(word) if word == "false" => self.scalar(Value::Bool(false)),
            Lexeme::Word(word) if word == "null" => self.scalar(Value::Null),
            Lexeme::Sign(sign @ ('{' | '[')) => return self.nested(sign, start),
            Lexeme::Word(_) => {
                self.unexpected("a value; text is written in quotes");
                self.scalar(Value::Null)
            }
            Lexeme::Bad(..) => {
                self.unexpected("");
                self.scalar(Value::Null)
            }
            Lexeme::Sign('}' | ',') | Lexeme::End => {
                // The brace or comma belongs to somebody outside, so it stays ahead.
                self.unexpected("a value");
                NodeKind::Scalar(Value::Null)
            }
            Lexeme::Sign(_) => {
                self.unexpected("a value");
                self.scalar(Value::Null)
            }
        };
        Node { kind, span: start }
    }

    fn scalar(&mut self, value: Value) -> NodeKind {
        self.advance();
        NodeKind::Scalar(value)
    }

    fn nested(&mut self, sign: char, start: Span) -> Node {
        self.advance();
        if self.depth >= MAX_NESTING {
            self.error(start, "brackets are nested too deeply", "fewer levels");
            self.lexer = Lexer::new("", false);
            self.ahead = self.lexer.next();
            return Node { kind: NodeKind::Scalar(Value::Null), span: start };
        }
        self.depth += 1;
        let node = if sign == '{' { self.object(start) } else { self.list(start) };
        self.depth -= 1;
        node
    }

    fn object(&mut self, start: Span) -> Node {
        let entries = self.entries(Some('}'));
        let end = self.ahead.span;
        if !self.take_sign('}') {
            self.error(start, "this `{` is not closed", "`}` before the end of the file");
        }
        let span = start.to(end);
        Node { kind: NodeKind::Body(self.body_of(entries, span)), span }
    }

    fn list(&mut self, start: Span) -> Node {
        let mut items = Vec::new();
        loop {
            while self.take_sign(',') {}
            let end = self.ahead.span;
            if self.take_sign(']') {
                return Node { kind: NodeKind::List(items), span: start.to(end) };
            }
            if self.ahead.lexeme == Lexeme::End || self.errors.len() >= MAX_ERRORS {
                self.error(start, "this `[` is not closed", "`]` before the end of the file");
                return Node { kind: NodeKind::List(items), span: start.to(end) };
            }
            let before = self.ahead.span;
            items.push(self.value());
            if self.ahead.span == before {
                // `value` reported a sign that is not its own; passing it keeps the loop going.
                self.advance();
            }
        }
    }
}

#[cfg(test)]
#[path = "lenient_tests.rs"]
mod tests;
