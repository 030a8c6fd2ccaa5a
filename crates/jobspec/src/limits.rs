//! Limits: what is refused before it is parsed, and why.
//!
//! The parsers recurse and build trees, so the input is measured first by one pass that only
//! counts. Ten megabytes of open braces cost that pass a few thousand bytes of reading.
//!
//! # Deliberately absent
//!
//! - Grammar. The pass knows strings, comments and heredocs just well enough to skip them.

use crate::diagnostic::{Diagnostic, Source, Span};

/// The longest source text. Nomad's servers refuse longer job sources as well
/// (`job_max_source_size`), and nothing a person writes comes near it.
pub const MAX_SOURCE_BYTES: usize = 1 << 20;

/// How deep brackets may be nested. The HCL2 parser gives up at 64; job files stay below 15.
pub const MAX_NESTING: usize = 60;

/// How many attributes one block or object may have. Looking for duplicates takes the square of it.
pub const MAX_ITEMS: usize = 5_000;

/// How many errors, and how many warnings, of one input are reported. Finding the line of each
/// takes time, and nobody reads the hundredth.
pub const MAX_ERRORS: usize = 20;

/// How many bytes an evaluation may produce in total. Doubling a local thirty times asks for a
/// gigabyte.
pub const MAX_EVALUATED_BYTES: usize = 16 << 20;

/// How deep evaluation may go, through expressions and the locals they refer to. The stack ends
/// somewhere.
pub const MAX_EVALUATION_DEPTH: usize = 160;

/// How many expressions an evaluation may visit; nested loops multiply.
pub const MAX_EVALUATION_STEPS: usize = 2_000_000;

/// Refuses a text that is too long or nested too deeply.
pub fn check(source: &Source, max_bytes: usize) -> Result<(), Box<Diagnostic>> {
    let text = source.text();
    if text.len() > max_bytes {
        let summary = format!("the file has {} bytes", text.len());
        let limit = format!("at most {max_bytes} bytes");
        return Err(Box::new(Diagnostic::in_file(source.name(), summary).expected(limit)));
    }
    Scan { bytes: text.as_bytes(), at: 0, items: vec![0] }.run().map_err(|problem| {
        let (offset, summary, expected) = match problem {
            Problem::Depth(offset) => {
                (offset, "brackets are nested too deeply", format!("at most {MAX_NESTING} levels"))
            }
            Problem::Items(offset) => {
                (offset, "this block has too many items", format!("at most {MAX_ITEMS}"))
            }
        };
        Box::new(source.error(Span::new(offset, offset + 1), summary).expected(expected))
    })
}

enum Problem {
    Depth(usize),
    Items(usize),
}

/// The counting pass. `items` holds one counter for each open bracket.
struct Scan<'a> {
    bytes: &'a [u8],
    at: usize,
    items: Vec<usize>,
}

impl Scan<'_> {
    fn run(mut self) -> Result<(), Problem> {
        while let Some(byte) = self.bytes.get(self.at).copied() {
            match byte {
                b'#' => self.skip_line(),
                b'/' if self.next_is(b'/') => self.skip_line(),
                b'/' if self.next_is(b'*') => self.skip_comment(),
                b'"' => self.skip_string(),
                b'<' if self.next_is(b'<') => self.skip_heredoc(),
                _ => self.count(byte)?,
            }
            self.at += 1;
        }
        Ok(())
    }

    fn next_is(&self, byte: u8) -> bool {
        self.bytes.get(self.at + 1) == Some(&byte)
    }

    fn count(&mut self, byte: u8) -> Result<(), Problem> {
        match byte {
            b'{' | b'[' | b'(' => {
                if self.items.len() > MAX_NESTING {
                    return Err(Problem::Depth(self.at));
                }
                self.items.push(0);
            }
            b'}' | b']' | b')' if self.items.len() > 1 => {
                self.items.pop();
            }
            b'=' | b':' => {
                if let Some(items) = self.items.last_mut() {
                    *items += 1;
                    if *items > MAX_ITEMS {
                        return Err(Problem::Items(self.at));
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Leaves `at` on the last byte of the line.
    fn skip_line(&mut self) {
        self.at += self.bytes[self.at..].iter().take_while(|byte| **byte != b'\n').count();
        self.at = self.at.saturating_sub(1);
    }

    fn skip_comment(&mut self) {
        let rest = &self.bytes[self.at + 2..];
        let length = rest.windows(2).position(|pair| pair == b"*/").map_or(rest.len(), |at| at + 1);
        self.at += 2 + length;
    }

    /// A string ends at its quote or at the end of the line, whichever comes first. Quotes within
    /// `${…}` end it too early; the brackets inside are then counted, which does no harm.
    fn skip_string(&mut self) {
        self.at += 1;
        while let Some(byte) = self.bytes.get(self.at) {
            match byte {
                b'\\' => self.at += 1,
                b'"' | b'\n' => return,
                _ => {}
            }
            self.at += 1;
        }
    }

    fn skip_heredoc(&mut self) {
        let rest = &self.bytes[self.at + 2..];
        let rest = rest.strip_prefix(b"-").unwrap_or(rest);
        let name_length =
            rest.iter().take_while(|b| b.is_ascii_alphanumeric() || **b == b'_').count();
        let name = &rest[..name_length];
        let Some(line_end) = rest.iter().position(|byte| *byte == b'\n') else { return };
        if name.is_empty() || !rest[name_length..line_end].trim_ascii().is_empty() {
            return;
        }
        let mut at = self.bytes.len() - rest.len() + line_end + 1;
        for line in self.bytes[at..].split_inclusive(|byte| *byte == b'\n') {
            at += line.len();
            if line.trim_ascii() == name {
                break;
            }
        }
        self.at = at.saturating_sub(2).max(self.at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_text(text: &str, expected: &str) {
        let source = Source::new("f", text);
        let found = check(&source, MAX_SOURCE_BYTES).map_err(|problem| {
            format!("{}: {}; {}", problem.place(), problem.summary, problem.expected)
        });
        assert_eq!(found.err().unwrap_or_default(), expected);
    }

    #[test]
    fn open_braces_are_refused_at_the_first_that_is_too_deep() {
        let text = "{".repeat(1 << 20);
        check_text(&text, "f:1,61: brackets are nested too deeply; at most 60 levels");
    }

    #[test]
    fn a_long_file_is_refused_unread() {
        let text = "{".repeat(10_000_000);
        check_text(&text, "f:1,1: the file has 10000000 bytes; at most 1048576 bytes");
    }

    #[test]
    fn brackets_in_strings_comments_and_heredocs_do_not_count() {
        let many = "{[(".repeat(100);
        check_text(&format!("a = \"{many}\"\n# {many}\n// {many}\n/* {many} */ b = 1\n"), "");
        check_text(&format!("a = <<EOF\n{many}\nEOF\nb = <<-X\n {many}\n X\n"), "");
    }

    #[test]
    fn an_object_of_too_many_keys_is_refused() {
        let text = "a = 1\n".repeat(MAX_ITEMS + 1);
        check_text(&text, "f:5001,3: this block has too many items; at most 5000");
    }

    #[test]
    fn unfinished_texts_end_the_pass() {
        for text in ["\"", "\"\\", "/*", "/", "<<", "<<-", "<<A", "<<A\n", "#", "}}}}"] {
            check_text(text, "");
        }
    }
}
