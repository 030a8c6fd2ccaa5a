//! `catalog …`: what exists.

use serde_json::Value;

use crate::client::escape;
use crate::command::{Context, Running};
use crate::output::{at, row, short, table, text};

pub(super) fn datacenters(context: Context) -> Running {
    Box::pin(async move {
        let answer = context.client.get("/v1/catalog/datacenters").await?.body;
        for name in answer.as_array().into_iter().flatten() {
            println!("{}", name.as_str().unwrap_or(""));
        }
        Ok(0)
    })
}

/// The facts that nodes must have, as parameters.
fn node_meta(context: &Context) -> String {
    context.flags.all("node-meta").fold(String::new(), |text, pair| {
        format!("{text}&node-meta={}", escape(&pair.replacen('=', ":", 1)))
    })
}

pub(super) fn nodes(context: Context) -> Running {
    Box::pin(async move {
        let meta = node_meta(&context);
        let filter = context
            .flags
            .value("filter")
            .map_or_else(String::new, |filter| format!("&filter={}", escape(filter)));
        let path = match context.flags.value("service") {
            Some(service) => format!("/v1/catalog/service/{}?x{meta}{filter}", escape(service)),
            None => format!("/v1/catalog/nodes?x{meta}{filter}"),
        };
        let answer = context.client.get(&path).await?.body;
        let detailed = context.flags.on("detailed");
        let mut header = row(["Node", "ID", "Address", "DC"]);
        if detailed {
            header.extend(row(["TaggedAddresses", "Meta"]));
        }
        let mut rows = vec![header];
        for node in answer.as_array().into_iter().flatten() {
            let mut cells = vec![
                text(node, "Node"),
                short(&text(node, "ID"), detailed),
                text(node, "Address"),
                text(node, "Datacenter"),
            ];
            if detailed {
                cells.push(joined(at(node, "TaggedAddresses")));
                cells.push(joined(at(node, "Meta")));
            }
            rows.push(cells);
        }
        rows.dedup();
        println!("{}", table(&rows));
        Ok(0)
    })
}

fn joined(map: &Value) -> String {
    let pairs: Vec<String> = map
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or("")))
        .collect();
    pairs.join(", ")
}

pub(super) fn services(context: Context) -> Running {
    Box::pin(async move {
        let with_tags = context.flags.on("tags");
        let mut rows: Vec<(String, Vec<String>)> = Vec::new();
        let tags_of = |value: &Value| -> Vec<String> {
            value
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|tag| tag.as_str().map(str::to_owned))
                .collect()
        };
        if let Some(node) = context.flags.value("node") {
            let path = format!("/v1/catalog/node/{}", escape(node));
            let answer = context.client.get(&path).await?.body;
            for (_, service) in at(&answer, "Services").as_object().into_iter().flatten() {
                rows.push((text(service, "Service"), tags_of(at(service, "Tags"))));
            }
        } else {
            let path = format!("/v1/catalog/services?x{}", node_meta(&context));
            let answer = context.client.get(&path).await?.body;
            for (name, tags) in answer.as_object().into_iter().flatten() {
                rows.push((name.clone(), tags_of(tags)));
            }
        }
        rows.sort();
        rows.dedup();
        for (name, tags) in rows {
            if with_tags {
                println!("{name:<24} {}", tags.join(","));
            } else {
                println!("{name}");
            }
        }
        Ok(0)
    })
}
