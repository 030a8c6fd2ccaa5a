//! Templates: quoted strings and heredocs with `${…}` and `%{…}`.
//!
//! Trim markers and the indentation of `<<-` heredocs are decided on the flat sequence of text and
//! sequences, line by line, before loops and conditions are looked at. That is how Go does it, and
//! the results differ from a tree-wise treatment.

use cos_model::Value;
use hcl_edit::Span as _;
use hcl_edit::expr::Expression;
use hcl_edit::template::{
    Directive, Element, ForDirective, HeredocTemplate, IfDirective, StringTemplate, Strip, Template,
};

use super::{Failure, Place, Scope, fail, to_text};
use crate::diagnostic::Span;

/// One element of the flat sequence.
enum Flat {
    Text(String),
    /// A `${…}` or `%{…}`, and on which sides it trims.
    Sequence {
        before: bool,
        after: bool,
    },
}

/// The tree over the flat sequence; texts are indexes into it.
enum Piece<'t> {
    Text(usize),
    Value(&'t Expression),
    If { condition: &'t Expression, then: Vec<Piece<'t>>, otherwise: Vec<Piece<'t>> },
    For { directive: &'t ForDirective, body: Vec<Piece<'t>> },
}

impl Place<'_, '_> {
    /// A quoted string. One `${…}` alone gives its value as it is, not as text.
    pub(super) fn quoted(self, template: &StringTemplate, span: Span) -> Result<Value, Failure> {
        if let Some(Element::Interpolation(only)) = template.as_single_element() {
            return self.expression(&only.expr);
        }
        let mut flat = Vec::new();
        let pieces = flatten(template, &mut flat, false);
        trim(&mut flat);
        self.render_all(&pieces, &flat, span)
    }

    /// A heredoc. Its text is taken from the source and parsed on its own, because the parser has
    /// already removed indentation by other rules.
    pub(super) fn heredoc(self, heredoc: &HeredocTemplate, span: Span) -> Result<Value, Failure> {
        let text = self.source().slice(span);
        let first_line = text.find('\n').map_or(text.len(), |at| at + 1);
        let last_line = text.rfind('\n').map_or(text.len(), |at| at + 1).max(first_line);
        let raw = &text[first_line..last_line];
        let indented = text.starts_with("<<-");
        if !raw.contains("${") && !raw.contains("%{") {
            let mut flat: Vec<Flat> =
                raw.split_inclusive('\n').map(|line| Flat::Text(line.to_owned())).collect();
            if indented {
                dedent(&mut flat);
            }
            let whole: String = flat.iter().map(text_of).collect();
            self.charge(whole.len(), span)?;
            return Ok(Value::String(whole));
        }
        let template = hcl_edit::parser::parse_template(raw).map_err(|error| {
            fail(span, format!("heredoc `{}`: {}", heredoc.delimiter.as_str(), error.message()))
        })?;
        let mut flat = Vec::new();
        let pieces = flatten(&template, &mut flat, true);
        trim(&mut flat);
        if indented {
            dedent(&mut flat);
        }
        Place { base: span.start + first_line, ..self }.render_all(&pieces, &flat, span)
    }

    fn render_all(self, pieces: &[Piece<'_>], flat: &[Flat], span: Span) -> Result<Value, Failure> {
        let mut output = String::new();
        self.render(pieces, flat, &mut output, span)?;
        Ok(Value::String(output))
    }

    fn render(
        self,
        pieces: &[Piece<'_>],
        flat: &[Flat],
        output: &mut String,
        span: Span,
    ) -> Result<(), Failure> {
        for piece in pieces {
            self.step(span)?;
            match piece {
                Piece::Text(at) => {
                    let text = flat.get(*at).map_or("", text_of);
                    self.charge(text.len(), span)?;
                    output.push_str(text);
                }
                Piece::Value(expression) => {
                    let value = self.expression(expression)?;
                    let text = to_text(&value).ok_or_else(|| {
                        let summary = format!("a {} cannot be put into text", value.kind());
                        let place = self.span(expression.span());
                        Box::new(fail(place, summary).expected("text, a number or a truth value"))
                    })?;
                    self.charge(text.len(), span)?;
                    output.push_str(&text);
                }
                Piece::If { condition, then, otherwise } => {
                    let chosen = if self.truth(condition)? { then } else { otherwise };
                    self.render(chosen, flat, output, span)?;
                }
                Piece::For { directive, body } => {
                    let header = &directive.for_expr;
                    for (key, value) in self.iterate(&header.collection_expr)? {
                        let key_name = header.key_var.as_ref().map_or("", |name| name.as_str());
                        let outer = Scope::bind(key_name, &key, self.scope);
                        let scope = Scope::bind(header.value_var.as_str(), &value, Some(&outer));
                        let place =
                            Place { world: self.world, scope: Some(&scope), base: self.base };
                        place.render(body, flat, output, span)?;
                    }
                }
            }
        }
        Ok(())
    }
}

fn text_of(flat: &Flat) -> &str {
    match flat {
        Flat::Text(text) => text,
        Flat::Sequence { .. } => "",
    }
}

/// Lays a template out flat and returns the tree over it. Heredocs are cut at line ends.
fn flatten<'t>(template: &'t Template, flat: &mut Vec<Flat>, by_line: bool) -> Vec<Piece<'t>> {
    let mut pieces = Vec::new();
    for element in template {
        match element {
            Element::Literal(text) if by_line => {
                for line in text.split_inclusive('\n') {
                    pieces.push(Piece::Text(flat.len()));
                    flat.push(Flat::Text(line.to_owned()));
                }
            }
            Element::Literal(text) => {
                pieces.push(Piece::Text(flat.len()));
                flat.push(Flat::Text(text.as_str().to_owned()));
            }
            Element::Interpolation(interpolation) => {
                mark(flat, interpolation.strip);
                pieces.push(Piece::Value(&interpolation.expr));
            }
            Element::Directive(directive) => match directive.as_ref() {
                Directive::If(directive) => pieces.push(flatten_if(directive, flat, by_line)),
                Directive::For(directive) => {
                    mark(flat, directive.for_expr.strip);
                    let body = flatten(&directive.for_expr.template, flat, by_line);
                    mark(flat, directive.endfor_expr.strip);
                    pieces.push(Piece::For { directive, body });
                }
            },
        }
    }
    pieces
}

fn flatten_if<'t>(directive: &'t IfDirective, flat: &mut Vec<Flat>, by_line: bool) -> Piece<'t> {
    mark(flat, directive.if_expr.strip);
    let then = flatten(&directive.if_expr.template, flat, by_line);
    let otherwise = directive.else_expr.as_ref().map_or_else(Vec::new, |branch| {
        mark(flat, branch.strip);
        flatten(&branch.template, flat, by_line)
    });
    mark(flat, directive.endif_expr.strip);
    Piece::If { condition: &directive.if_expr.cond_expr, then, otherwise }
}

fn mark(flat: &mut Vec<Flat>, strip: Strip) {
    flat.push(Flat::Sequence { before: strip.strip_start(), after: strip.strip_end() });
}

/// Applies `~` markers to the texts next to them.
fn trim(flat: &mut [Flat]) {
    for at in 0..flat.len() {
        let Flat::Sequence { before, after } = flat[at] else { continue };
        if before && let Some(Flat::Text(text)) = at.checked_sub(1).and_then(|i| flat.get_mut(i)) {
            text.truncate(text.trim_end().len());
        }
        if after && let Some(Flat::Text(text)) = flat.get_mut(at + 1) {
            text.drain(..text.len() - text.trim_start().len());
        }
    }
}

/// Removes the smallest indentation of any line from every line.
fn dedent(flat: &mut [Flat]) {
    let mut smallest = usize::MAX;
    let mut lines = Vec::new();
    let mut at_line_start = true;
    for (at, part) in flat.iter().enumerate() {
        if at_line_start {
            at_line_start = false;
            let indent = match part {
                // A blank line says nothing about the indentation.
                Flat::Text(text) if text.trim_start().is_empty() && text.ends_with('\n') => {
                    usize::MAX
                }
                Flat::Text(text) => {
                    lines.push(at);
                    text.chars().take_while(|c| c.is_whitespace()).count()
                }
                Flat::Sequence { .. } => 0,
            };
            smallest = smallest.min(indent);
        }
        if text_of(part).ends_with('\n') {
            at_line_start = true;
        }
    }
    for at in lines {
        if let Flat::Text(text) = &mut flat[at] {
            *text = text.chars().skip(smallest).collect();
        }
    }
}
