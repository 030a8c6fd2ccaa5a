//! Translation of a document into the JSON form of a job.

use std::collections::BTreeMap;

use cos_model::Value;

use super::rewrite::rewrite_job;
use super::tables::JOB;
use super::{Field, Hook, Kind, Schema, Spans, Translated};
use crate::diagnostic::{Diagnostic, Diagnostics, Span};
use crate::duration;
use crate::hcl::{Body, Entry, Node, NodeKind};
use crate::limits::MAX_ERRORS;
use crate::text::scalar_text;

type Object = BTreeMap<String, Value>;

/// Operators that a constraint may name in place of `operator` and `value`.
const SHORTHANDS: [&str; 6] =
    ["version", "semver", "regexp", "set_contains", "set_contains_all", "set_contains_any"];

/// Translates a document that holds one job.
pub(crate) fn translate(document: &Body) -> Result<Translated, Diagnostics> {
    let mut translator = Translator { spans: Spans::default(), problems: Vec::new() };
    let mut jobs: Vec<(String, Span, &Body)> = Vec::new();
    for entry in &document.entries {
        if entry.key == "job" {
            for (label, body) in translator.labels(entry, document) {
                jobs.push((label.0.to_owned(), label.1, body));
            }
        } else {
            let summary = format!("`{}` has no place at the top of a job file", entry.key);
            let expected = "job, variable, variables or locals";
            translator.report(document, entry.key_span, summary, expected);
        }
    }
    if let Some((_, span, _)) = jobs.get(1) {
        let summary = "this file holds a second job".to_owned();
        translator.report(document, *span, summary, "one job in each file");
    }
    if jobs.is_empty() && translator.problems.is_empty() {
        let summary = "this file holds no job".to_owned();
        translator.report(document, Span::default(), summary, "`job \"name\" { … }`");
    }
    let mut object = Object::new();
    if let Some((id, span, body)) = jobs.first() {
        let body = rewrite_job(body);
        translator.spans.put("Job", *span);
        object = translator.object(&JOB, &body, "Job");
        if let std::collections::btree_map::Entry::Vacant(vacant) = object.entry("ID".to_owned()) {
            vacant.insert(Value::String(id.clone()));
            translator.spans.put("Job.ID", *span);
        }
    }
    let mut problems = translator.problems;
    if problems.is_empty() {
        return Ok(Translated { value: Value::Map(object), spans: translator.spans });
    }
    problems.sort_by_key(|problem| (problem.line, problem.column));
    Err(Diagnostics(problems))
}

/// Where a translated block goes: the object around it, its field, and the path of that field.
struct Target<'o> {
    object: &'o mut Object,
    field: &'o Field,
    path: &'o str,
}

struct Translator {
    spans: Spans,
    problems: Vec<Diagnostic>,
}

impl Translator {
    fn report(&mut self, body: &Body, span: Span, summary: String, expected: impl Into<String>) {
        if self.problems.len() < MAX_ERRORS {
            self.problems.push(body.error(span, summary).expected(expected));
        }
    }

    fn object(&mut self, schema: &Schema, body: &Body, path: &str) -> Object {
        let mut object = Object::new();
        for entry in &body.entries {
            match schema.fields.iter().find(|field| field.hcl == entry.key) {
                Some(field) => self.field(&mut object, field, entry, body, path),
                None => self.report_unknown(schema, entry, body),
            }
        }
        match schema.hook {
            Hook::None => {}
            Hook::Constraint => expand_shorthand(&mut object),
            Hook::Network => self.divide_ports(&mut object, path),
            Hook::Task => divide_identities(&mut object),
        }
        object
    }

    fn report_unknown(&mut self, schema: &Schema, entry: &Entry, body: &Body) {
        let what = if entry.is_block { "block" } else { "attribute" };
        let summary = format!("a {} has no {what} `{}`", schema.name, entry.key);
        let mut names: Vec<&str> = schema.fields.iter().map(|field| field.hcl).collect();
        names.sort_unstable();
        self.report(body, entry.key_span, summary, format!("one of {}", names.join(", ")));
    }

    fn field(
        &mut self,
        object: &mut Object,
        field: &Field,
        entry: &Entry,
        body: &Body,
        path: &str,
    ) {
        if matches!(entry.node.kind, NodeKind::Scalar(Value::Null)) {
            return;
        }
        let field_path = format!("{path}.{}", field.json);
        self.spans.put(&field_path, entry.key_span);
        match field.kind {
            Kind::Text | Kind::Bool | Kind::Int | Kind::Duration | Kind::Texts => {
                if object.contains_key(field.json) {
                    // The strict parser refuses this by itself; old files come here.
                    let summary = format!("`{}` is given twice", field.hcl);
                    self.report(body, entry.key_span, summary, "one value");
                } else if let Some(value) = self.simple(field, entry, body) {
                    object.insert(field.json.to_owned(), value);
                }
            }
            Kind::TextMap | Kind::TextListMap | Kind::Free => {
                let found = self.map(field, entry, body);
                match object
                    .entry(field.json.to_owned())
                    .or_insert_with(|| Value::Map(Object::new()))
                {
                    Value::Map(map) => merge_free(map, found),
                    other => *other = Value::Map(found),
                }
            }
            Kind::One(schema) => {
                let target = Target { object, field, path: &field_path };
                self.one(target, schema, entry, body);
            }
            Kind::Many(schema) => {
                for inner in self.bodies(field, entry, body) {
                    let target = Target { object, field, path: &field_path };
                    self.push(target, schema, inner, None);
                }
            }
            Kind::Labelled(schema, label_field) => {
                for (label, inner) in self.labels(entry, body) {
                    let label = Some((label_field, label));
                    let target = Target { object, field, path: &field_path };
                    self.push(target, schema, inner, label);
                }
            }
            Kind::ByLabel(schema, label_field) => {
                for (label, inner) in self.labels(entry, body) {
                    let path = format!("{field_path}.{}", label.0);
                    self.spans.put(&path, label.1);
                    let mut found = self.object(schema, inner, &path);
                    found.insert(label_field.to_owned(), Value::String(label.0.to_owned()));
                    let map = object
                        .entry(field.json.to_owned())
                        .or_insert_with(|| Value::Map(Object::new()));
                    if let Value::Map(map) = map {
                        map.insert(label.0.to_owned(), Value::Map(found));
                    }
                }
            }
        }
    }

    fn one(&mut self, target: Target<'_>, schema: &Schema, entry: &Entry, body: &Body) {
        let Target { object, field, path } = target;
        if let Some((label, span)) = entry.labels.first() {
            let summary = format!("a block `{}` has no label, but here is `{label}`", field.hcl);
            self.report(body, *span, summary, "`{`");
        }
        for inner in self.bodies(field, entry, body) {
            if object.contains_key(field.json) {
                let summary = format!("the block `{}` is given twice", field.hcl);
                self.report(body, entry.key_span, summary, "one block");
                continue;
            }
            let found = self.object(schema, inner, path);
            object.insert(field.json.to_owned(), Value::Map(found));
        }
    }

    /// Translates one block of several and appends it.
    fn push(
        &mut self,
        target: Target<'_>,
        schema: &Schema,
        inner: &Body,
        label: Option<(&str, (&str, Span))>,
    ) {
        let Target { object, field, path } = target;
        let list = object.entry(field.json.to_owned()).or_insert_with(|| Value::List(Vec::new()));
        let index = list.as_list().map_or(0, <[Value]>::len);
        let path = format!("{path}[{index}]");
        self.spans.put(&path, label.map_or(inner.span, |(_, (_, span))| span));
        let mut found = self.object(schema, inner, &path);
        if let Some((name, (label, span))) = label {
            self.spans.put(&format!("{path}.{name}"), span);
            found.entry(name.to_owned()).or_insert_with(|| Value::String(label.to_owned()));
        }
        if let Some(Value::List(items)) = object.get_mut(field.json) {
            items.push(Value::Map(found));
        }
    }

    fn simple(&mut self, field: &Field, entry: &Entry, body: &Body) -> Option<Value> {
        let node = &entry.node;
        let value = match field.kind {
            Kind::Text => node.as_scalar().and_then(scalar_text).map(Value::String),
            Kind::Bool => node.as_scalar().and_then(Value::to_bool).map(Value::Bool),
            Kind::Int => node.as_scalar().and_then(Value::to_int).map(Value::Int),
            Kind::Duration => match node.as_scalar() {
                Some(Value::String(text)) => duration::parse_nanos(text).map(Value::Int),
                Some(Value::Int(nanos)) => Some(Value::Int(*nanos)),
                _ => None,
            },
            _ => texts(node),
        };
        if value.is_none() {
            let expected = match field.kind {
                Kind::Bool => "true or false",
                Kind::Int => "a whole number",
                Kind::Duration => "a duration in quotes, such as \"30s\"",
                Kind::Texts => "a list of texts",
                _ => "text",
            };
            let kind = node.kind_name();
            let shown = match node.as_scalar().and_then(scalar_text) {
                Some(text) if text.len() <= 40 && !text.contains('\n') => {
                    format!("{kind} `{text}`")
                }
                _ => kind.to_owned(),
            };
            let summary = format!("`{}` cannot be the {shown}", field.hcl);
            self.report(body, node.span, summary, expected);
        }
        value
    }

    fn map(&mut self, field: &Field, entry: &Entry, body: &Body) -> Object {
        let mut map = Object::new();
        for inner in self.bodies(field, entry, body) {
            if matches!(field.kind, Kind::Free) {
                merge_free(&mut map, free(inner));
                continue;
            }
            for item in &inner.entries {
                let value = match field.kind {
                    Kind::TextListMap => texts(&item.node),
                    _ if matches!(item.node.kind, NodeKind::Scalar(Value::Null)) => continue,
                    _ => item.node.as_scalar().and_then(scalar_text).map(Value::String),
                };
                if let Some(value) = value {
                    map.insert(item.key.clone(), value);
                } else {
                    let summary = format!("`{}` cannot be a {}", item.key, item.node.kind_name());
                    self.report(inner, item.node.span, summary, "text");
                }
            }
        }
        map
    }

    fn bodies<'b>(&mut self, field: &Field, entry: &'b Entry, body: &Body) -> Vec<&'b Body> {
        let only_bodies = match &entry.node.kind {
            NodeKind::Body(_) => true,
            NodeKind::List(items) => items.iter().all(|item| item.as_body().is_some()),
            NodeKind::Scalar(_) => false,
        };
        if !only_bodies {
            let summary = format!("`{}` cannot be a {}", field.hcl, entry.node.kind_name());
            self.report(body, entry.node.span, summary, format!("a block `{} {{ … }}`", field.hcl));
        }
        entry.node.bodies()
    }

    /// The labelled bodies of an entry. Where the label is missing, the keys inside are the labels,
    /// as JSON writes it.
    fn labels<'b>(&mut self, entry: &'b Entry, body: &Body) -> Vec<((&'b str, Span), &'b Body)> {
        if let Some((_, span)) = entry.labels.get(1) {
            let summary = format!("a block `{}` has one label", entry.key);
            self.report(body, *span, summary, "`{`");
        }
        if let Some((label, span)) = entry.labels.first() {
            return entry
                .node
                .bodies()
                .into_iter()
                .map(|body| ((label.as_str(), *span), body))
                .collect();
        }
        let inner = entry.node.bodies();
        let nested = !inner.is_empty()
            && inner.iter().all(|body| {
                !body.entries.is_empty()
                    && body.entries.iter().all(|inner| !inner.node.bodies().is_empty())
            });
        if !nested || entry.is_block {
            let summary = format!("the block `{}` has no label", entry.key);
            let expected = format!("`{} \"name\" {{ … }}`", entry.key);
            self.report(body, entry.key_span, summary, expected);
            return Vec::new();
        }
        inner
            .into_iter()
            .flat_map(|body| &body.entries)
            .flat_map(|entry| {
                let label = (entry.key.as_str(), entry.key_span);
                entry.node.bodies().into_iter().map(move |body| (label, body))
            })
            .collect()
    }

    /// Ports with a fixed number go to one list, the others to another.
    fn divide_ports(&mut self, network: &mut Object, path: &str) {
        let Some(Value::List(ports)) = network.remove("~ports") else { return };
        let (mut fixed, mut dynamic) = (Vec::new(), Vec::new());
        for (index, port) in ports.into_iter().enumerate() {
            let is_fixed = port
                .as_map()
                .and_then(|port| port.get("Value"))
                .and_then(Value::to_int)
                .is_some_and(|number| number != 0);
            let (name, list) = if is_fixed {
                ("ReservedPorts", &mut fixed)
            } else {
                ("DynamicPorts", &mut dynamic)
            };
            let (old, new) =
                (format!("{path}.~ports[{index}]"), format!("{path}.{name}[{}]", list.len()));
            self.spans.alias(&old, &new);
            list.push(port);
        }
        network.insert("ReservedPorts".to_owned(), Value::List(fixed));
        network.insert("DynamicPorts".to_owned(), Value::List(dynamic));
    }
}

fn texts(node: &Node) -> Option<Value> {
    let items = match &node.kind {
        NodeKind::List(items) => items
            .iter()
            .map(|item| item.as_scalar().and_then(scalar_text))
            .collect::<Option<Vec<_>>>()?,
        NodeKind::Scalar(value) => vec![scalar_text(value)?],
        NodeKind::Body(_) => return None,
    };
    Some(Value::List(items.into_iter().map(Value::String).collect()))
}

/// A block without rules: attributes as they are, blocks as lists of maps, since nobody here knows
/// whether there may be several.
fn free(body: &Body) -> Object {
    let mut map = Object::new();
    for entry in &body.entries {
        if !entry.is_block {
            map.insert(entry.key.clone(), entry.node.to_value());
            continue;
        }
        let inner = Value::Map(entry.node.as_body().map(free).unwrap_or_default());
        let labelled = entry.labels.iter().rev().fold(inner, |inner, (label, _)| {
            Value::Map(Object::from([(label.clone(), Value::List(vec![inner]))]))
        });
        merge_free(&mut map, Object::from([(entry.key.clone(), Value::List(vec![labelled]))]));
    }
    map
}

/// Merges free maps: lists of blocks are joined, anything else is replaced.
fn merge_free(map: &mut Object, more: Object) {
    for (key, value) in more {
        match (map.get_mut(&key), value) {
            (Some(Value::List(old)), Value::List(new))
                if old.iter().chain(&new).all(|item| item.as_map().is_some()) =>
            {
                old.extend(new);
            }
            (_, value) => {
                map.insert(key, value);
            }
        }
    }
}

fn expand_shorthand(object: &mut Object) {
    for operator in SHORTHANDS {
        if let Some(value) = object.remove(&format!("~{operator}")) {
            object.insert("Operand".to_owned(), Value::String(operator.to_owned()));
            object.insert("RTarget".to_owned(), value);
        }
    }
    if let Some(attribute) = object.remove("~distinct_property") {
        object.insert("Operand".to_owned(), Value::String("distinct_property".to_owned()));
        object.insert("LTarget".to_owned(), attribute);
    }
    if let Some(Value::Bool(wanted)) = object.remove("~distinct_hosts") {
        object.insert("Operand".to_owned(), Value::String("distinct_hosts".to_owned()));
        object.insert("RTarget".to_owned(), Value::String(wanted.to_string()));
    }
}

fn divide_identities(task: &mut Object) {
    let Some(Value::List(identities)) = task.remove("Identities") else { return };
    let is_default = |identity: &Value| {
        let name = identity.as_map().and_then(|identity| identity.get("Name"));
        name.and_then(Value::as_str).is_none_or(|name| name.is_empty() || name == "default")
    };
    let (default, others): (Vec<Value>, Vec<Value>) = identities.into_iter().partition(is_default);
    if let Some(identity) = default.into_iter().next() {
        task.insert("Identity".to_owned(), identity);
    }
    if !others.is_empty() {
        task.insert("Identities".to_owned(), Value::List(others));
    }
}
