//! The page and API of the table, in fabio's shape: `/health`, `/routes`, `/api/routes`.
//!
//! Deliberately absent: changing routes by hand. Routes come from the catalog alone.

use std::convert::Infallible;
use std::fmt::Write;
use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use tokio::net::TcpListener;

use cos_platform::{Fate, Tasks};

use crate::table::{Protocol, Route, Table, Target};

type Page = Response<Full<Bytes>>;

/// One route as fabio lists it.
#[derive(Debug, Serialize)]
struct Entry<'a> {
    service: &'a str,
    host: &'a str,
    path: &'a str,
    src: String,
    dst: String,
    opts: String,
    weight: f64,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    tags: &'a [String],
    cmd: &'static str,
    rate1: f64,
    pct99: f64,
}

/// Serves until the tasks stop.
pub(crate) async fn serve(listener: TcpListener, table: Arc<ArcSwap<Table>>, tasks: Tasks) {
    let stopping = tasks.stopping();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted, // a connection not accepted stays queued
            () = stopping.cancelled() => return,
        };
        let Ok((socket, _)) = accepted else { continue };
        let table = Arc::clone(&table);
        let stopping = tasks.stopping();
        tasks.spawn("ingress-ui-connection", Fate::Ends, async move {
            let service = service_fn(move |request: Request<Incoming>| {
                let page = answer(&table.load(), request.method(), request.uri());
                async move { Ok::<_, Infallible>(page) }
            });
            let connection = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(socket), service);
            tokio::select! {
                _ = connection => {} // a client that hangs up is not an error
                () = stopping.cancelled() => {}
            }
        });
    }
}

fn answer(table: &Table, method: &Method, uri: &hyper::Uri) -> Page {
    if method != Method::GET && method != Method::HEAD {
        return page(StatusCode::METHOD_NOT_ALLOWED, TEXT, "use GET\n");
    }
    let query = uri.query().unwrap_or("");
    match uri.path() {
        "/health" => page(StatusCode::OK, TEXT, "OK\n"),
        "/" => {
            let mut redirect = page(StatusCode::SEE_OTHER, TEXT, "");
            redirect
                .headers_mut()
                .insert("location", hyper::header::HeaderValue::from_static("/routes"));
            redirect
        }
        "/routes" => page(StatusCode::OK, "text/html; charset=utf-8", html(table)),
        "/api/routes" if query.split('&').any(|word| word == "raw") => {
            page(StatusCode::OK, TEXT, commands(table))
        }
        "/api/routes" => {
            let entries = entries(table);
            let pretty = query.split('&').any(|word| word == "pretty");
            let json = if pretty {
                serde_json::to_string_pretty(&entries)
            } else {
                serde_json::to_string(&entries)
            };
            page(StatusCode::OK, JSON, json.unwrap_or_default())
        }
        "/api/version" => page(StatusCode::OK, TEXT, cos_model::version::COS),
        _ => page(StatusCode::NOT_FOUND, TEXT, "404 page not found\n"),
    }
}

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json; charset=utf-8";

fn page(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Page {
    let mut page = Response::new(Full::new(body.into()));
    *page.status_mut() = status;
    page.headers_mut()
        .insert("content-type", hyper::header::HeaderValue::from_static(content_type));
    page
}

fn all(table: &Table) -> impl Iterator<Item = (&Route, &Target)> {
    table
        .routes()
        .chain(table.tcp_routes().values())
        .flat_map(|route| route.targets.iter().map(move |target| (route, target)))
}

fn entries(table: &Table) -> Vec<Entry<'_>> {
    all(table)
        .map(|(route, target)| Entry {
            service: &target.service,
            host: &route.host,
            path: &route.path,
            src: format!("{}{}", route.host, route.path),
            dst: destination(target),
            opts: options(target),
            weight: target.share,
            tags: &target.tags,
            cmd: "route add",
            // fabio keeps these two for old readers and no longer measures them either.
            rate1: 0.0,
            pct99: 0.0,
        })
        .collect()
}

fn destination(target: &Target) -> String {
    if let Some((_, url)) = &target.spec.redirect {
        return url.clone();
    }
    match target.protocol {
        Protocol::Http => format!("http://{}/", target.address),
        Protocol::Https { .. } => format!("https://{}/", target.address),
        Protocol::Tcp => format!("tcp://{}", target.address),
    }
}

fn options(target: &Target) -> String {
    let words: Vec<String> = target
        .spec
        .options
        .iter()
        .filter(|(name, _)| *name != "weight")
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    words.join(" ")
}

fn commands(table: &Table) -> String {
    all(table).fold(String::new(), |mut text, (route, target)| {
        let source = format!("{}{}", route.host, route.path);
        let mut line = format!("route add {} {source} {}", target.service, destination(target));
        if let Some(weight) = target.spec.weight {
            line = format!("{line} weight {weight}");
        }
        if !target.tags.is_empty() {
            line = format!("{line} tags \"{}\"", target.tags.join(","));
        }
        let options = options(target);
        if !options.is_empty() {
            line = format!("{line} opts \"{options}\"");
        }
        text.push_str(&line);
        text.push('\n');
        text
    })
}

fn html(table: &Table) -> String {
    let mut rows = String::new();
    for entry in entries(table) {
        let cells = [
            entry.service,
            &entry.src,
            &entry.dst,
            &entry.opts,
            &format!("{:.2} %", entry.weight * 100.0),
        ]
        .map(|cell| format!("<td>{}</td>", escape(cell)))
        .concat();
        writeln!(rows, "<tr>{cells}</tr>").expect("writing to a string cannot fail");
    }
    if rows.is_empty() {
        rows.push_str("<tr><td colspan=5>No routes. Tag a service with urlprefix-/path.</td></tr>");
    }
    let refused: String =
        table.refused().iter().map(|reason| format!("<li>{}</li>", escape(reason))).collect();
    let refused = if refused.is_empty() {
        refused
    } else {
        format!("<h2>Refused tags</h2><ul>{refused}</ul>")
    };
    format!(
        "<!doctype html><meta charset=utf-8><title>cos ingress</title>\
         <style>body{{font:15px sans-serif;margin:2em}}table{{border-collapse:collapse}}\
         td,th{{padding:.3em 1em;border-bottom:1px solid #ccc;text-align:left}}</style>\
         <h1>Routing table</h1><table><tr><th>Service<th>Source<th>Destination<th>Options\
         <th>Weight</tr>{rows}</table>{refused}"
    )
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
