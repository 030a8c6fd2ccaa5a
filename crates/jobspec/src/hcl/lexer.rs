//! The words of HCL1 and JSON.
//!
//! # Invariants
//!
//! - **Total.** Every text has a next token; what cannot be read is a [`Lexeme::Bad`] with the
//!   reason, and reading goes on behind it.
//! - **Verbatim references.** `${…}` inside HCL1 strings is kept as it stands, quotes and all.

use cos_model::Value;

use crate::diagnostic::Span;

/// A token and its place.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Token {
    pub(super) lexeme: Lexeme,
    pub(super) span: Span,
}

/// What a token is.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Lexeme {
    /// A bare word.
    Word(String),
    /// A quoted text or a heredoc.
    Text(String),
    /// A number.
    Number(Value),
    /// One of `{ } [ ] , =`; a colon reads as `=`.
    Sign(char),
    /// Something that is not of the language, and what to say about it.
    Bad(&'static str, &'static str),
    /// Nothing is left.
    End,
}

/// Reads tokens from a text.
#[derive(Clone, Debug)]
pub(super) struct Lexer<'a> {
    text: &'a str,
    at: usize,
    json: bool,
    /// Where exactly a bad token is bad, if not at its start.
    fault: Option<usize>,
}

fn is_word_start(c: char) -> bool {
    c.is_alphabetic() || c == '_'
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '-' | '.')
}

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a str, json: bool) -> Self {
        Self { text, at: 0, json, fault: None }
    }

    /// Reads the next token.
    pub(super) fn next(&mut self) -> Token {
        self.skip_space();
        let start = self.at;
        let lexeme = self.read();
        Token { lexeme, span: Span::new(self.fault.take().unwrap_or(start), self.at) }
    }

    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn skip_space(&mut self) {
        loop {
            let rest = self.rest();
            self.at += rest.len() - rest.trim_start().len();
            let rest = self.rest();
            if rest.starts_with('#') || rest.starts_with("//") {
                self.at += rest.find('\n').unwrap_or(rest.len());
            } else if rest.starts_with("/*") {
                self.at += rest.find("*/").map_or(rest.len(), |end| end + 2);
            } else {
                return;
            }
        }
    }

    fn read(&mut self) -> Lexeme {
        let Some(first) = self.rest().chars().next() else { return Lexeme::End };
        match first {
            '{' | '}' | '[' | ']' | ',' | '=' | ':' => {
                self.at += 1;
                Lexeme::Sign(if first == ':' { '=' } else { first })
            }
            '"' => self.read_text(),
            '<' if self.rest().starts_with("<<") => self.read_heredoc(),
            '0'..='9' | '-' | '+' => self.read_number(),
            c if is_word_start(c) => {
                let rest = self.rest();
                let length = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
                self.at += length;
                Lexeme::Word(rest[..length].to_owned())
            }
            c => {
                self.at += c.len_utf8();
                Lexeme::Bad("this character has no meaning here", "a key, a value or `}`")
            }
        }
    }

    fn read_number(&mut self) -> Lexeme {
        let rest = self.rest();
        let sign = usize::from(rest.starts_with(['-', '+']));
        let hex = rest[sign..].starts_with("0x") || rest[sign..].starts_with("0X");
        let body = if hex {
            2 + count(&rest[sign + 2..], |c| c.is_ascii_hexdigit())
        } else {
            decimal_length(&rest[sign..])
        };
        let length = sign + body;
        self.at += length.max(1);
        let Some(value) = number_value(&rest[..length], hex) else {
            return Lexeme::Bad(
                "this is not a number",
                "digits, with an optional sign and fraction",
            );
        };
        let tail = count(self.rest(), is_word);
        if tail > 0 {
            self.fault = Some(self.at);
            self.at += tail;
            return Lexeme::Bad(
                "letters follow a number",
                "the end of the line; a duration or size is written in quotes, such as \"30s\"",
            );
        }
        Lexeme::Number(value)
    }

    fn read_text(&mut self) -> Lexeme {
        self.at += 1;
        let mut text = String::new();
        // How many brackets are open since `${`; zero outside.
        let mut depth = 0_usize;
        let mut good = true;
        while let Some(c) = self.rest().chars().next() {
            self.at += c.len_utf8();
            match c {
                '"' if depth == 0 && good => return Lexeme::Text(text),
                '"' if depth == 0 => {
                    return Lexeme::Bad(
                        "this text holds a bad escape",
                        "one of \\n \\r \\t \\\" \\\\ \\u0000",
                    );
                }
                '\n' if depth == 0 => {
                    self.at -= 1;
                    return Lexeme::Bad("the text is not closed on its line", "a closing quote");
                }
                '\\' if depth == 0 => match self.read_escape() {
                    Some(c) => text.push(c),
                    None => good = false,
                },
                '$' if !self.json && self.rest().starts_with('{') => {
                    self.at += 1;
                    depth += 1;
                    text.push_str("${");
                }
                '{' if depth > 0 => {
                    depth += 1;
                    text.push(c);
                }
                '}' if depth > 0 => {
                    depth -= 1;
                    text.push(c);
                }
                _ => text.push(c),
            }
        }
        Lexeme::Bad("the text is not closed before the end of the file", "a closing quote")
    }

    fn read_escape(&mut self) -> Option<char> {
        let c = self.rest().chars().next()?;
        self.at += c.len_utf8();
        Some(match c {
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'b' => '\u{8}',
            'f' => '\u{c}',
            'u' => return self.read_unicode(4),
            'U' => return self.read_unicode(8),
            '"' | '\\' | '/' | '$' | '{' => c,
            _ => return None,
        })
    }

    fn read_unicode(&mut self, digits: usize) -> Option<char> {
        let high = self.read_hex(digits)?;
        if !(0xd800..0xdc00).contains(&high) {
            return char::from_u32(high);
        }
        // JSON writes characters beyond the basic plane as two escapes.
        if !self.rest().starts_with("\\u") {
            return None;
        }
        self.at += 2;
        let low = self.read_hex(4)?.checked_sub(0xdc00).filter(|low| *low < 0x400)?;
        char::from_u32(0x1_0000 + ((high - 0xd800) << 10) + low)
    }

    fn read_hex(&mut self, digits: usize) -> Option<u32> {
        let text = self.rest().get(..digits)?;
        let number = u32::from_str_radix(text, 16).ok()?;
        self.at += digits;
        Some(number)
    }

    fn read_heredoc(&mut self) -> Lexeme {
        let rest = &self.rest()[2..];
        let (indented, rest) = match rest.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, rest),
        };
        let start = self.text.len() - rest.len();
        let name_length = count(rest, |c| c.is_alphanumeric() || c == '_');
        let Some(line_length) = rest.find('\n') else {
            self.at = self.text.len();
            return Lexeme::Bad("the file ends in the first line of a heredoc", "lines of text");
        };
        self.at = start + line_length;
        if name_length == 0 || !rest[name_length..line_length].trim().is_empty() {
            return Lexeme::Bad("this is not the start of a heredoc", "`<<NAME` and a new line");
        }
        let name = &rest[..name_length];
        let mut lines = Vec::new();
        let mut at = start + line_length + 1;
        for line in self.text[at..].split_inclusive('\n') {
            if line.trim() == name {
                // The line's end stays, so that the next key is seen on another line.
                self.at = at + line.trim_end().len();
                return Lexeme::Text(join_lines(&lines, indented));
            }
            lines.push(line);
            at += line.len();
        }
        self.at = self.text.len();
        Lexeme::Bad("the heredoc is not closed before the end of the file", "its closing name")
    }
}

fn count(text: &str, accepts: impl Fn(char) -> bool) -> usize {
    text.find(|c| !accepts(c)).unwrap_or(text.len())
}

fn decimal_length(text: &str) -> usize {
    let digit = |c: char| c.is_ascii_digit();
    let mut length = count(text, digit);
    if let Some(fraction) = text[length..].strip_prefix('.') {
        let digits = count(fraction, digit);
        if digits > 0 {
            length += 1 + digits;
        }
    }
    if text[length..].starts_with(['e', 'E']) {
        let after = &text[length + 1..];
        let sign = usize::from(after.starts_with(['-', '+']));
        let digits = count(&after[sign..], digit);
        if digits > 0 {
            length += 1 + sign + digits;
        }
    }
    length
}

fn number_value(text: &str, hex: bool) -> Option<Value> {
    let (negative, digits) = match text.strip_prefix(['-', '+']) {
        Some(digits) => (text.starts_with('-'), digits),
        None => (false, text),
    };
    let signed = |number: i64| if negative { -number } else { number };
    if hex {
        return i64::from_str_radix(&digits[2..], 16).ok().map(|n| Value::Int(signed(n)));
    }
    if digits.bytes().all(|byte| byte.is_ascii_digit()) {
        // HCL1 reads a leading zero as octal, which file modes rely on.
        let octal = digits.len() > 1
            && digits.starts_with('0')
            && digits.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
        let radix = if octal { 8 } else { 10 };
        if let Ok(number) = i64::from_str_radix(digits, radix) {
            return Some(Value::Int(signed(number)));
        }
    }
    text.parse::<f64>().ok().filter(|number| number.is_finite()).map(Value::Float)
}

fn join_lines(lines: &[&str], indented: bool) -> String {
    if !indented {
        return lines.concat();
    }
    let indent = lines
        .iter()
        .filter(|line| !line.trim().is_empty())
        .map(|line| count(line, |c| c == ' ' || c == '\t'))
        .min()
        .unwrap_or(0);
    lines.iter().map(|line| line.get(indent..).unwrap_or_else(|| line.trim_start())).collect()
}
