//! Diagnostics: what is wrong, where, and what was expected instead.
//!
//! A diagnostic carries everything that is needed to print it, so it outlives the text it is
//! about. Its first printed line is `FILE:LINE,COLUMN: summary`, which editors and scripts read.
//!
//! # Invariants
//!
//! - Lines and columns count from one; columns count characters, not bytes.
//! - The excerpt is at most [`MAX_EXCERPT`] characters, so a file of one endless line prints well.

use std::fmt;
use std::sync::Arc;

/// The longest piece of a source line that is shown.
pub const MAX_EXCERPT: usize = 160;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Worth telling; the input is used all the same.
    Warning,
    /// The input is refused.
    Error,
}

/// A range of bytes in a source text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    /// First byte.
    pub start: usize,
    /// The byte after the last one.
    pub end: usize,
}

impl Span {
    /// Makes a span.
    pub const fn new(start: usize, end: usize) -> Self {
        Self { start, end }
    }

    /// The empty span at `offset`.
    pub const fn at(offset: usize) -> Self {
        Self { start: offset, end: offset }
    }

    /// The smallest span that covers both.
    #[must_use]
    pub fn to(self, other: Self) -> Self {
        Self { start: self.start.min(other.start), end: self.end.max(other.end) }
    }
}

/// A place for people: line and column from one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The line.
    pub line: usize,
    /// The character within the line.
    pub column: usize,
}

/// A named text, with an index of its lines.
#[derive(Debug)]
pub struct Source {
    name: String,
    text: String,
    line_starts: Vec<usize>,
}

impl Source {
    /// Takes a text under the name that diagnostics show. A byte order mark is dropped.
    pub fn new(name: impl Into<String>, text: &str) -> Arc<Self> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text).to_owned();
        let mut line_starts = vec![0];
        line_starts.extend(text.match_indices('\n').map(|(at, _)| at + 1));
        Arc::new(Self { name: name.into(), text, line_starts })
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The text of a span; empty if the span is not in this text.
    pub fn slice(&self, span: Span) -> &str {
        self.text.get(span.start..span.end).unwrap_or("")
    }

    /// The line of a byte offset. Unlike [`Source::position`] it does not read the line.
    pub fn line_of(&self, offset: usize) -> usize {
        self.line_starts.partition_point(|start| *start <= offset).max(1)
    }

    /// Line and column of a byte offset; offsets past the end are the end.
    pub fn position(&self, offset: usize) -> Position {
        let offset = offset.min(self.text.len());
        let line = self.line_of(offset);
        let start = self.line_starts[line - 1];
        let column = self.text.as_bytes()[start..offset]
            .iter()
            .filter(|byte| (**byte & 0b1100_0000) != 0b1000_0000)
            .count();
        Position { line, column: column + 1 }
    }

    /// The text of a line, without its end.
    pub fn line(&self, line: usize) -> &str {
        let Some(start) = line.checked_sub(1).and_then(|index| self.line_starts.get(index)) else {
            return "";
        };
        let end = self.line_starts.get(line).map_or(self.text.len(), |next| next - 1);
        self.text.get(*start..end).unwrap_or("").trim_end_matches('\r')
    }

    /// Makes an error about a span.
    pub fn error(&self, span: Span, summary: impl Into<String>) -> Diagnostic {
        let from = self.position(span.start);
        let to = self.position(span.end.max(span.start));
        let line = self.line(from.line);
        let on_line = if to.line == from.line {
            to.column.saturating_sub(from.column)
        } else {
            (line.chars().count() + 1).saturating_sub(from.column)
        };
        let skipped = if from.column > MAX_EXCERPT { from.column - MAX_EXCERPT / 2 } else { 0 };
        let excerpt: String = line.chars().skip(skipped).take(MAX_EXCERPT).collect();
        Diagnostic {
            severity: Severity::Error,
            file: self.name.clone(),
            line: from.line,
            column: from.column,
            width: on_line.clamp(1, MAX_EXCERPT),
            path: String::new(),
            summary: summary.into(),
            expected: String::new(),
            excerpt,
            caret: from.column - 1 - skipped,
        }
    }
}

/// One problem and its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Error or warning.
    pub severity: Severity,
    /// The file; empty when the input was not a text.
    pub file: String,
    /// The line, from one; zero when the input was not a text.
    pub line: usize,
    /// The column in characters, from one.
    pub column: usize,
    /// How many characters of the line it is about.
    pub width: usize,
    /// The field of a JSON body, such as `Job.TaskGroups[0].Name`; empty for texts.
    pub path: String,
    /// What is wrong, in one line.
    pub summary: String,
    /// What was expected instead; may be empty.
    pub expected: String,
    /// The source line, or the part of it around the place.
    pub excerpt: String,
    /// Where in `excerpt` the place is.
    pub caret: usize,
}

impl Diagnostic {
    /// Makes an error about a field of a JSON body.
    pub fn at_path(path: impl Into<String>, summary: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            file: String::new(),
            line: 0,
            column: 0,
            width: 0,
            path: path.into(),
            summary: summary.into(),
            expected: String::new(),
            excerpt: String::new(),
            caret: 0,
        }
    }

    /// Makes an error about a file as a whole.
    pub fn in_file(file: impl Into<String>, summary: impl Into<String>) -> Self {
        Self { file: file.into(), line: 1, column: 1, ..Self::at_path("", summary) }
    }

    /// Adds what was expected.
    #[must_use]
    pub fn expected(mut self, expected: impl Into<String>) -> Self {
        self.expected = expected.into();
        self
    }

    /// Turns it into a warning.
    #[must_use]
    pub fn warning(mut self) -> Self {
        self.severity = Severity::Warning;
        self
    }

    /// Whether the input is refused for this.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }

    /// The place as diagnostics begin: `FILE:LINE,COLUMN`, or the path of a JSON field.
    pub fn place(&self) -> String {
        match (self.file.is_empty(), self.path.is_empty()) {
            (false, _) => format!("{}:{},{}", self.file, self.line, self.column),
            (true, false) => self.path.clone(),
            (true, true) => String::new(),
        }
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = self.place();
        if !place.is_empty() {
            write!(f, "{place}: ")?;
        }
        if self.severity == Severity::Warning {
            f.write_str("warning: ")?;
        }
        f.write_str(&self.summary)?;
        if self.excerpt.is_empty() {
            if !self.expected.is_empty() {
                write!(f, "; expected {}", self.expected)?;
            }
            return Ok(());
        }
        let gutter = self.line.to_string();
        let blank = " ".repeat(gutter.len());
        // Tabs are repeated, so that the caret stands where the eye expects it.
        let indent: String = self
            .excerpt
            .chars()
            .take(self.caret)
            .map(|c| if c == '\t' { c } else { ' ' })
            .collect();
        let room = self.excerpt.chars().count().saturating_sub(self.caret).max(1);
        let carets = "^".repeat(self.width.clamp(1, room));
        write!(f, "\n  {gutter} | {}\n  {blank} | {indent}{carets}", self.excerpt)?;
        if !self.expected.is_empty() {
            write!(f, "\n  {blank} = expected {}", self.expected)?;
        }
        Ok(())
    }
}

/// Several diagnostics, as an error.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diagnostics(pub Vec<Diagnostic>);

impl Diagnostics {
    /// The first diagnostic that is an error, or the first at all.
    pub fn first(&self) -> Option<&Diagnostic> {
        self.0.iter().find(|diagnostic| diagnostic.is_error()).or_else(|| self.0.first())
    }
}

impl std::error::Error for Diagnostics {}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, diagnostic) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            diagnostic.fmt(f)?;
        }
        Ok(())
    }
}

impl From<Diagnostic> for Diagnostics {
    fn from(diagnostic: Diagnostic) -> Self {
        Self(vec![diagnostic])
    }
}

impl From<Box<Diagnostic>> for Diagnostics {
    fn from(diagnostic: Box<Diagnostic>) -> Self {
        Self(vec![*diagnostic])
    }
}

impl IntoIterator for Diagnostics {
    type Item = Diagnostic;
    type IntoIter = std::vec::IntoIter<Diagnostic>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, span: Span, expected: &str) {
        let source = Source::new("a.nomad", text);
        assert_eq!(source.error(span, "bad").expected("good").to_string(), expected);
    }

    #[test]
    fn the_caret_stands_under_the_place() {
        check(
            "a\nbc = 9998s\n",
            Span::new(11, 12),
            "a.nomad:2,10: bad\n  2 | bc = 9998s\n    |          ^\n    = expected good",
        );
    }

    #[test]
    fn columns_count_characters_and_tabs_are_kept() {
        check(
            "\té = x",
            Span::new(6, 7),
            "a.nomad:1,6: bad\n  1 | \té = x\n    | \t    ^\n    = expected good",
        );
    }

    #[test]
    fn places_past_the_end_are_the_end() {
        check("ab", Span::at(99), "a.nomad:1,3: bad\n  1 | ab\n    |   ^\n    = expected good");
    }

    #[test]
    fn an_endless_line_is_cut_around_the_place() {
        let source = Source::new("a", &"x".repeat(10_000));
        let text = source.error(Span::new(5_000, 5_001), "bad").to_string();
        assert!(text.len() < 500, "{text}");
    }
}
