//! Template functions that read something: environment, keys, files, catalog, clock.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use cos_model::catalog::{Health, Instance};
use gotmpl::{FuncMap, TemplateError, Value};

use super::functions::{exec_error, text_of};
use super::{Context, Need};

type Outcome = Result<Value, TemplateError>;
type Lookup = fn(&Context, &[Value]) -> Outcome;
/// A lookup that takes no arguments and cannot fail.
type PlainLookup = fn(&Context) -> Value;

/// Every lookup by its names.
const LOOKUPS: [(&str, Lookup); 15] = [
    ("env", env),
    ("mustEnv", must_env),
    ("envOrDefault", env_or_default),
    ("key", key),
    ("keyExists", key_exists),
    ("keyOrDefault", key_or_default),
    ("ls", ls),
    ("safeLs", ls),
    ("tree", tree),
    ("safeTree", tree),
    ("file", file),
    ("service", service),
    ("nomadService", service),
    ("node", node),
    ("timestamp", timestamp),
];

const PLAIN_LOOKUPS: [(&str, PlainLookup); 4] = [
    ("services", services),
    ("nomadServices", services),
    ("nodes", nodes),
    ("datacenters", datacenters),
];

pub(super) fn all(context: &Arc<Context>) -> FuncMap {
    let with_arguments = LOOKUPS.iter().map(|(name, lookup)| {
        let context = Arc::clone(context);
        let function: gotmpl::ValueFunc = Arc::new(move |args| lookup(&context, args));
        ((*name).to_owned(), function)
    });
    let plain = PLAIN_LOOKUPS.iter().map(|(name, lookup)| {
        let context = Arc::clone(context);
        let function: gotmpl::ValueFunc = Arc::new(move |_| Ok(lookup(&context)));
        ((*name).to_owned(), function)
    });
    with_arguments.chain(plain).collect()
}

fn env(context: &Context, args: &[Value]) -> Outcome {
    let name = text_of("env", args, 0)?;
    Ok(Value::from(context.facts.env.get(&name).cloned().unwrap_or_default()))
}

fn must_env(context: &Context, args: &[Value]) -> Outcome {
    let name = text_of("mustEnv", args, 0)?;
    let value = context.facts.env.get(&name).cloned();
    value.map(Value::from).ok_or_else(|| exec_error("mustEnv", &format!("{name} is not set")))
}

fn env_or_default(context: &Context, args: &[Value]) -> Outcome {
    let name = text_of("envOrDefault", args, 0)?;
    let default = text_of("envOrDefault", args, 1)?;
    let value = context.facts.env.get(&name).filter(|value| !value.is_empty()).cloned();
    Ok(Value::from(value.unwrap_or(default)))
}

fn key(context: &Context, args: &[Value]) -> Outcome {
    let name = text_of("key", args, 0)?;
    let value = first_value(context, &name);
    if value.is_none() {
        context.wait_for(format!("kv.block({name})"));
    }
    Ok(Value::from(value.unwrap_or_default()))
}

fn key_exists(context: &Context, args: &[Value]) -> Outcome {
    let name = text_of("keyExists", args, 0)?;
    Ok(Value::Bool(first_value(context, &name).is_some()))
}

fn key_or_default(context: &Context, args: &[Value]) -> Outcome {
    let name = text_of("keyOrDefault", args, 0)?;
    let default = text_of("keyOrDefault", args, 1)?;
    let value = first_value(context, &name).filter(|value| !value.is_empty());
    Ok(Value::from(value.unwrap_or(default)))
}

fn first_value(context: &Context, name: &str) -> Option<String> {
    let entries = context.keys(Need::Key(plain_key(name)))?;
    entries.first().map(|entry| String::from_utf8_lossy(&entry.value).into_owned())
}

/// Keys may be written with a slash in front and with the datacenter behind.
fn plain_key(name: &str) -> String {
    let name = name.trim_start_matches('/');
    name.split_once('@').map_or(name, |(key, _)| key).to_owned()
}

fn ls(context: &Context, args: &[Value]) -> Outcome {
    Ok(below(context, &text_of("ls", args, 0)?, |rest| !rest.contains('/')))
}

fn tree(context: &Context, args: &[Value]) -> Outcome {
    Ok(below(context, &text_of("tree", args, 0)?, |rest| !rest.ends_with('/')))
}

fn below(context: &Context, prefix: &str, wanted: fn(&str) -> bool) -> Value {
    let mut prefix = plain_key(prefix);
    if !prefix.is_empty() && !prefix.ends_with('/') {
        prefix.push('/');
    }
    let entries = context.keys(Need::Tree(prefix.clone())).unwrap_or_else(|| Arc::from([]));
    let list: Vec<Value> = entries
        .iter()
        .filter_map(|entry| Some((entry.key.strip_prefix(&prefix)?, entry)))
        .filter(|(rest, _)| !rest.is_empty() && wanted(rest))
        .map(|(rest, entry)| {
            map([
                ("Key", Value::from(rest)),
                ("Path", Value::from(entry.key.as_str())),
                ("Value", Value::from(String::from_utf8_lossy(&entry.value).into_owned())),
            ])
        })
        .collect();
    Value::from(list)
}

fn file(context: &Context, args: &[Value]) -> Outcome {
    let path = text_of("file", args, 0)?;
    let known = context.facts.files.get(&path);
    context.trace(|trace| {
        trace.unknown |= known.is_none();
        trace.needs.insert(Need::File(path.clone()));
    });
    match known {
        Some(Some(content)) => Ok(Value::from(content.clone())),
        Some(None) => Err(exec_error("file", &format!("cannot read {path}"))),
        None => Ok(Value::from("")),
    }
}

/// `service "tag.name@dc|passing,warning"`, or the filter as a second argument.
fn service(context: &Context, args: &[Value]) -> Outcome {
    // `nomadService` may be called with a count and a key in front, to choose a stable subset.
    if args.len() > 2 {
        return Err(exec_error("service", "choosing a subset is not supported"));
    }
    let query = text_of("service", args, 0)?;
    let (query, inline) = query.split_once('|').unwrap_or((&query, ""));
    let (query, datacenter) = query.split_once('@').unwrap_or((query, ""));
    let (tag, name) = query.split_once('.').unwrap_or(("", query));
    let filter = if args.len() > 1 { text_of("service", args, 1)? } else { inline.to_owned() };
    let wanted = statuses(&filter)?;
    context.trace(|trace| trace.reads_catalog = true);
    if !datacenter.is_empty() && datacenter != context.facts.datacenter {
        return Ok(Value::from(Vec::new()));
    }
    let instances: Vec<Value> = context
        .facts
        .catalog
        .instances(name)
        .iter()
        .filter(|instance| wanted.as_ref().is_none_or(|set| set.contains(&instance.health())))
        .filter(|instance| tag.is_empty() || instance.service.tags.iter().any(|t| t == tag))
        .map(instance_value)
        .collect();
    Ok(Value::from(instances))
}

fn statuses(filter: &str) -> Result<Option<BTreeSet<Health>>, TemplateError> {
    if filter.trim().is_empty() {
        return Ok(Some(BTreeSet::from([Health::Passing])));
    }
    let mut set = BTreeSet::new();
    for word in filter.split(',') {
        match word.trim() {
            "any" => return Ok(None),
            "passing" | "healthy" => set.insert(Health::Passing),
            "warning" => set.insert(Health::Warning),
            "critical" => set.insert(Health::Critical),
            other => {
                return Err(exec_error("service", &format!("filter `{other}` is not supported")));
            }
        };
    }
    Ok(Some(set))
}

fn instance_value(instance: &Instance) -> Value {
    let service = &instance.service;
    let tags: Vec<Value> = service.tags.iter().map(|tag| Value::from(tag.as_str())).collect();
    let status = match instance.health() {
        Health::Passing => "passing",
        Health::Warning => "warning",
        Health::Critical => "critical",
    };
    map([
        ("Node", Value::from(Arc::clone(&instance.node.name))),
        ("NodeID", Value::from(instance.node.id.as_str())),
        ("NodeAddress", Value::from(instance.node.address.as_str())),
        ("NodeMeta", text_map(&instance.node.meta)),
        ("ID", Value::from(Arc::clone(&service.id))),
        ("Name", Value::from(Arc::clone(&service.name))),
        ("Address", Value::from(instance.address())),
        ("Port", Value::Int(i64::from(service.port))),
        ("Tags", Value::from(tags)),
        ("ServiceMeta", text_map(&service.meta)),
        ("Status", Value::from(status)),
    ])
}

fn services(context: &Context) -> Value {
    context.trace(|trace| trace.reads_catalog = true);
    let catalog = &context.facts.catalog;
    let list: Vec<Value> = catalog
        .service_names()
        .into_iter()
        .map(|name| {
            let tags: BTreeSet<String> = catalog
                .instances(&name)
                .iter()
                .flat_map(|instance| instance.service.tags.clone())
                .collect();
            let tags: Vec<Value> = tags.into_iter().map(Value::from).collect();
            map([("Name", Value::from(name)), ("Tags", Value::from(tags))])
        })
        .collect();
    Value::from(list)
}

fn node(context: &Context, args: &[Value]) -> Outcome {
    context.trace(|trace| trace.reads_catalog = true);
    let name = match args.first() {
        Some(_) => text_of("node", args, 0)?,
        None => context.facts.env.get("NOMAD_NODE_NAME").cloned().unwrap_or_default(),
    };
    let Some(node) = context.facts.catalog.node(&name) else { return Ok(Value::Nil) };
    Ok(map([("Node", node_value(node))]))
}

fn nodes(context: &Context) -> Value {
    context.trace(|trace| trace.reads_catalog = true);
    let list: Vec<Value> = context.facts.catalog.nodes().map(|node| node_value(node)).collect();
    Value::from(list)
}

fn node_value(node: &cos_model::catalog::CatalogNode) -> Value {
    map([
        ("ID", Value::from(node.id.as_str())),
        ("Node", Value::from(Arc::clone(&node.name))),
        ("Address", Value::from(node.address.as_str())),
        ("Meta", text_map(&node.meta)),
    ])
}

fn datacenters(context: &Context) -> Value {
    Value::from(vec![Value::from(context.facts.datacenter.as_str())])
}

/// Without a layout RFC 3339; with `unix` seconds. Go's layouts are not supported.
fn timestamp(context: &Context, args: &[Value]) -> Outcome {
    let nanos = context.facts.now.unix_nanos();
    let seconds = nanos.div_euclid(1_000_000_000);
    match args.first().and_then(Value::as_str) {
        None => {
            let moment = jiff::Timestamp::from_second(seconds)
                .map_err(|error| exec_error("timestamp", &error.to_string()))?;
            Ok(Value::from(moment.to_string()))
        }
        Some("unix") => Ok(Value::from(seconds.to_string())),
        Some(layout) => {
            Err(exec_error("timestamp", &format!("layout `{layout}` is not supported")))
        }
    }
}

fn text_map(texts: &BTreeMap<String, String>) -> Value {
    let map: BTreeMap<String, Value> =
        texts.iter().map(|(key, value)| (key.clone(), Value::from(value.as_str()))).collect();
    Value::from(map)
}

fn map<const N: usize>(fields: [(&str, Value); N]) -> Value {
    let map: BTreeMap<Arc<str>, Value> =
        fields.into_iter().map(|(name, value)| (Arc::from(name), value)).collect();
    Value::from(map)
}
