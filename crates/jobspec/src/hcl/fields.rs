//! Reading a body field by field, with every mistake reported at its place.
//!
//! ```
//! use cos_jobspec::hcl::{self, Fields};
//!
//! let text = "name = \"a\"\nserver {\n  enabled = \"true\"\n  bootstrap_expect = 3\n}\nplugin \"docker\" {\n  config { gc { image = false } }\n}\nextra = 1\n";
//! let body = hcl::parse(text, "agent.hcl").unwrap();
//!
//! let mut fields = Fields::new(&body);
//! assert_eq!(fields.string("name").as_deref(), Some("a"));
//! assert_eq!(fields.string("region"), None);
//! fields.block("server", |server| {
//!     assert_eq!(server.boolean("enabled"), Some(true));
//!     assert_eq!(server.integer("bootstrap_expect"), Some(3));
//! });
//! fields.labelled("plugin", |label, plugin| {
//!     assert_eq!(label, "docker");
//!     plugin.block("config", |config| {
//!         config.block("gc", |gc| assert_eq!(gc.boolean("image"), Some(false)));
//!     });
//! });
//! let problems = fields.finish();
//! assert_eq!(problems.len(), 1);
//! assert_eq!(problems[0].place(), "agent.hcl:9,1");
//! assert_eq!(problems[0].summary, "unknown key `extra`");
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use cos_model::Value;

use super::{Body, Entry, Node, NodeKind};
use crate::diagnostic::{Diagnostic, Span};
use crate::duration;
use crate::limits::MAX_ERRORS;
use crate::text::scalar_text;

/// A body that is being read. [`Fields::finish`] reports what nobody asked for.
#[derive(Debug)]
pub struct Fields<'a> {
    body: &'a Body,
    known: BTreeSet<String>,
    problems: Vec<Diagnostic>,
}

impl<'a> Fields<'a> {
    /// Begins to read a body.
    pub fn new(body: &'a Body) -> Self {
        Self { body, known: BTreeSet::new(), problems: Vec::new() }
    }

    /// The body itself, for what has no getter here.
    pub fn body(&self) -> &'a Body {
        self.body
    }

    /// Ends reading: the mistakes so far, and an error for each key that was never asked for.
    #[must_use]
    pub fn finish(mut self) -> Vec<Diagnostic> {
        self.report_unknown();
        self.problems
    }

    fn report_unknown(&mut self) {
        for entry in &self.body.entries {
            if !self.known.contains(&entry.key) && self.problems.len() < MAX_ERRORS {
                let known: Vec<&str> = self.known.iter().map(String::as_str).collect();
                let summary = format!("unknown key `{}`", entry.key);
                let problem = self.body.error(entry.key_span, summary);
                self.problems.push(problem.expected(format!("one of {}", known.join(", "))));
            }
        }
    }

    /// Reports a mistake of the reader's own finding.
    pub fn report(&mut self, span: Span, summary: impl Into<String>, expected: &str) {
        if self.problems.len() < MAX_ERRORS {
            self.problems.push(self.body.error(span, summary).expected(expected));
        }
    }

    /// Accepts keys without reading them.
    pub fn accept(&mut self, keys: &[&str]) {
        self.known.extend(keys.iter().map(|key| (*key).to_owned()));
    }

    /// Whether the key is there; it counts as asked for.
    pub fn has(&mut self, key: &str) -> bool {
        self.entry(key).is_some()
    }

    /// The entry that counts for a key.
    pub fn entry(&mut self, key: &str) -> Option<&'a Entry> {
        self.known.insert(key.to_owned());
        let entry = self.body.get(key)?;
        match &entry.node.kind {
            NodeKind::Scalar(Value::Null) => None,
            _ => Some(entry),
        }
    }

    fn convert<T>(
        &mut self,
        key: &str,
        expected: &str,
        convert: impl FnOnce(&Node) -> Option<T>,
    ) -> Option<T> {
        let entry = self.entry(key)?;
        let value = convert(&entry.node);
        if value.is_none() {
            let summary = format!("`{key}` cannot be this {}", entry.node.kind_name());
            self.report(entry.node.span, summary, expected);
        }
        value
    }

    /// A text; numbers and truth values are taken as their text.
    pub fn string(&mut self, key: &str) -> Option<String> {
        self.convert(key, "text", |node| node.as_scalar().and_then(scalar_text))
    }

    /// A truth value, also in quotes.
    pub fn boolean(&mut self, key: &str) -> Option<bool> {
        self.convert(key, "true or false", |node| node.as_scalar()?.to_bool())
    }

    /// A whole number, also in quotes.
    pub fn integer(&mut self, key: &str) -> Option<i64> {
        self.convert(key, "a whole number", |node| node.as_scalar()?.to_int())
    }

    /// A whole number within bounds, also in quotes.
    pub fn integer_in(&mut self, key: &str, low: i64, high: i64) -> Option<i64> {
        let expected = format!("a whole number from {low} to {high}");
        self.convert(key, &expected, |node| {
            node.as_scalar()?.to_int().filter(|number| (low..=high).contains(number))
        })
    }

    /// A number, also in quotes.
    pub fn number(&mut self, key: &str) -> Option<f64> {
        self.convert(key, "a number", |node| match node.as_scalar()? {
            Value::Float(number) => Some(*number),
            #[expect(clippy::cast_precision_loss, reason = "settings are small")]
            Value::Int(number) => Some(*number as f64),
            Value::String(text) => text.trim().parse().ok(),
            _ => None,
        })
    }

    /// A duration such as `30s`; a bare number is nanoseconds.
    pub fn duration(&mut self, key: &str) -> Option<Duration> {
        self.convert(key, "a duration such as \"30s\"", |node| match node.as_scalar()? {
            Value::String(text) => duration::parse(text),
            Value::Int(nanos) => u64::try_from(*nanos).ok().map(Duration::from_nanos),
            _ => None,
        })
    }

    /// A list of texts; a single text is a list of one.
    pub fn strings(&mut self, key: &str) -> Option<Vec<String>> {
        self.convert(key, "a list of texts", |node| match &node.kind {
            NodeKind::Scalar(value) => scalar_text(value).map(|text| vec![text]),
            NodeKind::List(items) => {
                items.iter().map(|item| item.as_scalar().and_then(scalar_text)).collect()
            }
            NodeKind::Body(_) => None,
        })
    }

    /// A map of texts, as an attribute or as one or more blocks, which are merged.
    pub fn string_map(&mut self, key: &str) -> BTreeMap<String, String> {
        self.known.insert(key.to_owned());
        let mut map = BTreeMap::new();
        for body in self.bodies(key) {
            for entry in &body.entries {
                match entry.node.as_scalar().and_then(scalar_text) {
                    Some(text) => {
                        map.insert(entry.key.clone(), text);
                    }
                    None => self.report(entry.node.span, "this is not text", "text"),
                }
            }
        }
        map
    }

    /// Any value.
    pub fn value(&mut self, key: &str) -> Option<Value> {
        self.entry(key).map(|entry| entry.node.to_value())
    }

    /// A free block as a map: blocks of the same name are merged, later keys win.
    pub fn map(&mut self, key: &str) -> BTreeMap<String, Value> {
        self.known.insert(key.to_owned());
        self.bodies(key).into_iter().flat_map(Body::to_map).collect()
    }

    /// Reads each block of this name with `read`, which gets the fields one after the other.
    /// Unknown keys inside are reported.
    pub fn block(&mut self, key: &str, mut read: impl FnMut(&mut Fields<'a>)) {
        self.known.insert(key.to_owned());
        for body in self.bodies(key) {
            let mut inner = Fields::new(body);
            read(&mut inner);
            self.problems.extend(inner.finish());
        }
    }

    /// Reads each block of this name that has a label: `plugin "docker" {}`, or in JSON
    /// `"plugin": {"docker": {}}`.
    pub fn labelled(&mut self, key: &str, mut read: impl FnMut(&str, &mut Fields<'a>)) {
        self.known.insert(key.to_owned());
        let body = self.body;
        for entry in body.entries.iter().filter(|entry| entry.key == key) {
            for (label, inner) in self.labels_of(entry) {
                let mut fields = Fields::new(inner);
                read(label, &mut fields);
                self.problems.extend(fields.finish());
            }
        }
    }

    fn labels_of(&mut self, entry: &'a Entry) -> Vec<(&'a str, &'a Body)> {
        let bodies = entry.node.bodies();
        if let Some((label, _)) = entry.labels.first() {
            return bodies.into_iter().map(|body| (label.as_str(), body)).collect();
        }
        let mut found = Vec::new();
        for body in bodies {
            for inner in &body.entries {
                let inner_bodies = inner.node.bodies();
                if inner_bodies.is_empty() {
                    let summary = format!("`{}` needs a label", entry.key);
                    self.report(entry.key_span, summary, "a name in quotes before the `{`");
                    break;
                }
                found.extend(inner_bodies.into_iter().map(|body| (inner.key.as_str(), body)));
            }
        }
        found
    }

    /// The bodies of a key, blocks and objects alike; anything else is reported.
    fn bodies(&mut self, key: &str) -> Vec<&'a Body> {
        let mut bodies = Vec::new();
        let body = self.body;
        for entry in body.entries.iter().filter(|entry| entry.key == key) {
            match &entry.node.kind {
                NodeKind::Scalar(Value::Null) => {}
                NodeKind::Scalar(_) => {
                    let summary = format!("`{key}` cannot be this {}", entry.node.kind_name());
                    self.report(entry.node.span, summary, "a block `{ … }`");
                }
                _ => bodies.extend(entry.node.bodies()),
            }
        }
        bodies
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hcl;

    /// Reads one configuration and renders its problems.
    #[track_caller]
    fn check(text: &str, read: impl FnOnce(&mut Fields<'_>), expected: &[&str]) {
        let body = hcl::parse(text, "a").expect("the text parses");
        let mut fields = Fields::new(&body);
        read(&mut fields);
        let problems: Vec<String> =
            fields.finish().iter().map(|p| format!("{} {}", p.place(), p.summary)).collect();
        assert_eq!(problems, expected, "{text}");
    }

    #[test]
    fn all_three_notations_read_alike() {
        let texts = [
            "server {\n  retry_join = [\"a\"]\n}\nplugin \"x\" {\n  args = []\n}\n",
            "server { retry_join = [\"a\"], }, plugin \"x\" { args = [] }",
            "server = { retry_join = [\"a\"] }\nplugin = { x = { args = [] } }\n",
            r#"{"server": {"retry_join": ["a"]}, "plugin": {"x": {"args": []}}}"#,
            r#"{"server": [{"retry_join": ["a"]}], "plugin": [{"x": [{"args": []}]}]}"#,
        ];
        for text in texts {
            let mut seen = Vec::new();
            check(
                text,
                |fields| {
                    fields.block("server", |server| {
                        seen.extend(server.strings("retry_join").unwrap_or_default());
                    });
                    fields.labelled("plugin", |label, plugin| {
                        assert_eq!(plugin.strings("args"), Some(Vec::new()));
                        seen.push(label.to_owned());
                    });
                },
                &[],
            );
            assert_eq!(seen, ["a", "x"], "{text}");
        }
    }

    #[test]
    fn wrong_kinds_and_unknown_keys_are_named_with_their_place() {
        check(
            "a = \"x\"\nb = 1\nc = true\nd {\n  e = 1\n}\nf = \"soon\"\n",
            |fields| {
                assert_eq!(fields.integer("a"), None);
                fields.block("b", |_| {});
                fields.block("d", |_| {});
                assert_eq!(fields.duration("f"), None);
            },
            &[
                "a:1,5 `a` cannot be this string",
                "a:2,5 `b` cannot be this number",
                "a:5,3 unknown key `e`",
                "a:7,5 `f` cannot be this string",
                "a:3,1 unknown key `c`",
            ],
        );
    }

    #[test]
    fn numbers_and_truth_may_be_quoted() {
        check(
            "a = \"3\"\nb = \"false\"\nc = 7\nd = \"1m\"\ne = 1.5\nf = \"200\"\n",
            |fields| {
                assert_eq!(fields.integer("a"), Some(3));
                assert_eq!(fields.boolean("b"), Some(false));
                assert_eq!(fields.string("c").as_deref(), Some("7"));
                assert_eq!(fields.duration("d"), Some(Duration::from_mins(1)));
                assert_eq!(fields.number("e"), Some(1.5));
                assert_eq!(fields.integer_in("f", 0, 100), None);
            },
            &["a:6,5 `f` cannot be this string"],
        );
    }

    #[test]
    fn maps_given_twice_are_merged() {
        check(
            "meta {\n  a = 1\n  b = \"x\"\n}\nmeta {\n  b = \"y\"\n}\noptions = { \"driver.raw_exec.enable\" = \"1\" }\n",
            |fields| {
                let meta = fields.string_map("meta");
                assert_eq!(meta.get("a").map(String::as_str), Some("1"));
                assert_eq!(meta.get("b").map(String::as_str), Some("y"));
                assert_eq!(fields.map("options").len(), 1);
            },
            &[],
        );
    }
}
