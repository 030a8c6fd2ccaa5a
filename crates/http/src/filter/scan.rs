//! Splits a filter expression into tokens.

use super::{FilterError, error};

/// How many tokens an expression may have; it bounds how deep the tree of it can get.
const TOKENS_MAX: usize = 2048;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token {
    Open,
    Close,
    Equal,
    NotEqual,
    /// A field, a keyword or an unquoted value.
    Word(String),
    /// A quoted value.
    Text(String),
}

impl Token {
    pub(super) fn into_text(self) -> Option<String> {
        match self {
            Self::Word(text) | Self::Text(text) => Some(text),
            Self::Open | Self::Close | Self::Equal | Self::NotEqual => None,
        }
    }
}

pub(super) fn scan(text: &str) -> Result<Vec<(usize, Token)>, FilterError> {
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(first) = text[at..].chars().next() {
        if first.is_whitespace() {
            at += first.len_utf8();
            continue;
        }
        if tokens.len() >= TOKENS_MAX {
            return Err(error(at, "expression is too long"));
        }
        let rest = &text[at..];
        let (token, length) = match first {
            '(' => (Token::Open, 1),
            ')' => (Token::Close, 1),
            '"' => quoted(rest).ok_or_else(|| error(at, "string is not closed"))?,
            '`' => {
                let end = rest[1..].find('`').ok_or_else(|| error(at, "string is not closed"))?;
                (Token::Text(rest[1..=end].to_owned()), end + 2)
            }
            _ if rest.starts_with("==") => (Token::Equal, 2),
            _ if rest.starts_with("!=") => (Token::NotEqual, 2),
            _ => word(rest).ok_or_else(|| error(at, format!("unexpected `{first}`")))?,
        };
        tokens.push((at, token));
        at += length;
    }
    Ok(tokens)
}

/// A word goes up to white space, a parenthesis or an operator, except inside `["…"]`.
fn word(rest: &str) -> Option<(Token, usize)> {
    let mut in_brackets = false;
    let mut length = rest.len();
    for (at, c) in rest.char_indices() {
        match c {
            '[' => in_brackets = true,
            ']' => in_brackets = false,
            _ if in_brackets => {}
            '(' | ')' | '=' | '!' | '"' | '`' => {
                length = at;
                break;
            }
            _ if c.is_whitespace() => {
                length = at;
                break;
            }
            _ => {}
        }
    }
    (length > 0).then(|| (Token::Word(rest[..length].to_owned()), length))
}

fn quoted(rest: &str) -> Option<(Token, usize)> {
    let mut text = String::new();
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => {
                text.push(match c {
                    'n' => '\n',
                    't' => '\t',
                    other => other,
                });
                escaped = false;
            }
            '\\' => escaped = true,
            '"' => return Some((Token::Text(text), at + 1)),
            _ => text.push(c),
        }
    }
    None
}
