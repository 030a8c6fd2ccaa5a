//! Filter expressions: which items of a list are wanted, by their fields.
//!
//! `Status == "running" and (Meta.team == ops or "web" in Tags) and not Name matches "^old"`.
//! Operators: `==`, `!=`, `in`, `not in`, `contains`, `not contains`, `matches`, `not matches`,
//! `is empty`, `is not empty`; `and`, `or`, `not` and parentheses join them.
//!
//! # Invariants
//!
//! - Reading is total: any text is an expression or an error with a position.
//! - A field that an item does not have equals nothing, contains nothing and is empty.

use regex::{Regex, RegexBuilder};
use serde_json::Value;

mod scan;

use scan::{Token, scan};

/// How deep parentheses and `not` may be nested.
const DEPTH_MAX: usize = 64;

/// How large a compiled pattern may get.
const PATTERN_BYTES_MAX: usize = 1024 * 1024;

/// Why a text is not a filter expression.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message} (at position {position})")]
pub struct FilterError {
    /// What is wrong.
    pub message: String,
    /// The byte at which it is wrong, from 0.
    pub position: usize,
}

/// A filter expression that was read.
#[derive(Clone, Debug)]
pub struct Filter(Node);

#[derive(Clone, Debug)]
enum Node {
    And(Box<Self>, Box<Self>),
    Or(Box<Self>, Box<Self>),
    Not(Box<Self>),
    Test(Vec<String>, Test),
}

#[derive(Clone, Debug)]
enum Test {
    Equals(String),
    Contains(String),
    Matches(Regex),
    Empty,
}

impl Filter {
    /// Reads an expression.
    pub fn parse(text: &str) -> Result<Self, FilterError> {
        let mut parser = Parser { tokens: scan(text)?, at: 0, end: text.len() };
        let node = parser.any(0)?;
        match parser.tokens.get(parser.at) {
            None => Ok(Self(node)),
            Some((position, _)) => Err(error(*position, "expected `and`, `or` or the end")),
        }
    }

    /// Whether an item is wanted.
    pub fn matches(&self, item: &Value) -> bool {
        holds(&self.0, item)
    }
}

fn error(position: usize, message: impl Into<String>) -> FilterError {
    FilterError { message: message.into(), position }
}

fn holds(node: &Node, item: &Value) -> bool {
    match node {
        Node::And(left, right) => holds(left, item) && holds(right, item),
        Node::Or(left, right) => holds(left, item) || holds(right, item),
        Node::Not(inner) => !holds(inner, item),
        Node::Test(path, test) => test.holds(lookup(item, path)),
    }
}

fn lookup<'a>(item: &'a Value, path: &[String]) -> Option<&'a Value> {
    path.iter()
        .try_fold(item, |value, name| match value {
            Value::Object(map) => map.get(name),
            Value::Array(items) => name.parse::<usize>().ok().and_then(|at| items.get(at)),
            _ => None,
        })
        .filter(|value| !value.is_null())
}

impl Test {
    fn holds(&self, value: Option<&Value>) -> bool {
        match (self, value) {
            (Self::Empty, None) => true,
            (_, None) => false,
            (Self::Empty, Some(Value::Array(items))) => items.is_empty(),
            (Self::Empty, Some(Value::Object(map))) => map.is_empty(),
            (Self::Empty, Some(value)) => scalar(value).is_some_and(|text| text.is_empty()),
            (Self::Equals(wanted), Some(value)) => equals(value, wanted),
            (Self::Contains(wanted), Some(Value::Array(items))) => {
                items.iter().any(|item| equals(item, wanted))
            }
            (Self::Contains(wanted), Some(Value::Object(map))) => map.contains_key(wanted),
            (Self::Contains(wanted), Some(Value::String(text))) => text.contains(wanted.as_str()),
            (Self::Contains(_), Some(_)) => false,
            (Self::Matches(pattern), Some(value)) => {
                scalar(value).is_some_and(|text| pattern.is_match(&text))
            }
        }
    }
}

fn equals(value: &Value, wanted: &str) -> bool {
    scalar(value).is_some_and(|text| text == wanted)
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(truth) => Some(truth.to_string()),
        Value::Number(number) => Some(number.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

struct Parser {
    tokens: Vec<(usize, Token)>,
    at: usize,
    end: usize,
}

impl Parser {
    fn any(&mut self, depth: usize) -> Result<Node, FilterError> {
        let mut left = self.all(depth)?;
        while self.takes_word("or") {
            left = Node::Or(Box::new(left), Box::new(self.all(depth)?));
        }
        Ok(left)
    }

    fn all(&mut self, depth: usize) -> Result<Node, FilterError> {
        let mut left = self.one(depth)?;
        while self.takes_word("and") {
            left = Node::And(Box::new(left), Box::new(self.one(depth)?));
        }
        Ok(left)
    }

    fn one(&mut self, depth: usize) -> Result<Node, FilterError> {
        if depth > DEPTH_MAX {
            return Err(error(self.position(), "nested too deeply"));
        }
        if self.takes_word("not") {
            return Ok(Node::Not(Box::new(self.one(depth + 1)?)));
        }
        if self.takes(&Token::Open) {
            let inner = self.any(depth + 1)?;
            if self.takes(&Token::Close) {
                return Ok(inner);
            }
            return Err(error(self.position(), "expected `)`"));
        }
        self.test()
    }

    /// `value in field`, or `field operator value`.
    fn test(&mut self) -> Result<Node, FilterError> {
        let position = self.position();
        let Some((_, first)) = self.tokens.get(self.at).cloned() else {
            return Err(error(position, "expected a field or a value"));
        };
        self.at += 1;
        let denied = self.takes_word("not");
        if self.takes_word("in") {
            let wanted = first.into_text().ok_or_else(|| error(position, "expected a value"))?;
            let field = self.value()?;
            return Ok(maybe_not(denied, Node::Test(path(&field), Test::Contains(wanted))));
        }
        let Token::Word(field) = first else {
            return Err(error(position, "expected a field"));
        };
        let field = path(&field);
        if denied {
            let test = self.word_operator()?;
            return Ok(maybe_not(true, Node::Test(field, test)));
        }
        if self.takes_word("is") {
            let denied = self.takes_word("not");
            if self.takes_word("empty") {
                return Ok(maybe_not(denied, Node::Test(field, Test::Empty)));
            }
            return Err(error(self.position(), "expected `empty`"));
        }
        if self.takes(&Token::Equal) {
            return Ok(Node::Test(field, Test::Equals(self.value()?)));
        }
        if self.takes(&Token::NotEqual) {
            return Ok(maybe_not(true, Node::Test(field, Test::Equals(self.value()?))));
        }
        Ok(Node::Test(field, self.word_operator()?))
    }

    fn word_operator(&mut self) -> Result<Test, FilterError> {
        if self.takes_word("contains") {
            return Ok(Test::Contains(self.value()?));
        }
        let position = self.position();
        if self.takes_word("matches") {
            let pattern = self.value()?;
            let compiled = RegexBuilder::new(&pattern).size_limit(PATTERN_BYTES_MAX).build();
            return compiled.map(Test::Matches).map_err(|bad| error(position, bad.to_string()));
        }
        Err(error(position, "expected `==`, `!=`, `in`, `contains`, `matches` or `is empty`"))
    }

    fn value(&mut self) -> Result<String, FilterError> {
        let position = self.position();
        let text = self.tokens.get(self.at).and_then(|(_, token)| token.clone().into_text());
        self.at += 1;
        text.ok_or_else(|| error(position, "expected a value"))
    }

    fn takes(&mut self, wanted: &Token) -> bool {
        let found = self.tokens.get(self.at).is_some_and(|(_, token)| token == wanted);
        self.at += usize::from(found);
        found
    }

    fn takes_word(&mut self, wanted: &str) -> bool {
        let found = matches!(self.tokens.get(self.at), Some((_, Token::Word(w))) if w == wanted);
        self.at += usize::from(found);
        found
    }

    fn position(&self) -> usize {
        self.tokens.get(self.at).map_or(self.end, |(position, _)| *position)
    }
}

fn maybe_not(denied: bool, node: Node) -> Node {
    if denied { Node::Not(Box::new(node)) } else { node }
}

/// Splits `Meta.team`, `Meta["a.b"]` and `/Meta/team` into names.
fn path(field: &str) -> Vec<String> {
    if let Some(pointer) = field.strip_prefix('/') {
        return pointer.split('/').map(str::to_owned).collect();
    }
    let mut names = Vec::new();
    for (number, part) in field.split("[\"").enumerate() {
        let (quoted, plain) =
            if number == 0 { ("", part) } else { part.split_once("\"]").unwrap_or((part, "")) };
        if number > 0 {
            names.push(quoted.to_owned());
        }
        names.extend(plain.split('.').filter(|name| !name.is_empty()).map(str::to_owned));
    }
    names
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(expression: &str, expected: bool) {
        let item = json!({
            "Name": "web", "Count": 4, "Stop": false, "Tags": ["a", "b"], "None": null,
            "Meta": {"team": "ops", "a.b": "c"}, "Empty": [],
        });
        let filter = Filter::parse(expression).unwrap();
        assert_eq!(filter.matches(&item), expected, "{expression}");
    }

    #[test]
    fn expressions_select_by_fields() {
        check(r#"Name == "web""#, true);
        check("Name != web", false);
        check("Count == 4 and Stop == false", true);
        check(r#""a" in Tags"#, true);
        check(r#""z" not in Tags"#, true);
        check("Tags contains b", true);
        check("Tags not contains b", false);
        check(r#"Name matches "^w.b$""#, true);
        check("Name not matches `x`", true);
        check("Empty is empty and Nothing is empty and None is empty", true);
        check("Tags is not empty", true);
        check("Meta.team == ops and Meta[\"a.b\"] == c", true);
        check("not (Name == x or Name == y) and Name == web", true);
        check("Name == x or Name == web and Count == 5", false);
        check("team in Meta", true);
        check("Nothing == x", false);
    }

    #[test]
    fn what_is_no_expression_is_refused_with_its_position() {
        for (text, position) in
            [("", 0), ("Name", 4), ("Name ==", 7), ("(Name == a", 10), ("a == b c", 7), ("\"x", 0)]
        {
            assert_eq!(Filter::parse(text).unwrap_err().position, position, "{text}");
        }
        assert!(Filter::parse("Name matches \"(\"").is_err());
        assert!(Filter::parse(&"(".repeat(100_000)).is_err());
        assert!(Filter::parse(&"not ".repeat(100_000)).is_err());
    }
}
