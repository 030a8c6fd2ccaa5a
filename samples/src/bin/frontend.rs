//! `frontend`: a page with its own four facts and those of one backend, found through the registry
//! before each answer because locations change.
//!
//! A backend that cannot be found is shown as DOWN; the page itself is always 200.

use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use hyper::StatusCode;

use cos_samples::flags::Flags;
use cos_samples::net;

/// The facts; one that is not set shows its own name.
const FACTS: [&str; 4] = ["variable", "git_short_commit", "branch", "node"];
/// How long the backend or the registry may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(2);

type Table = Vec<(String, String)>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    let flags = Flags::from_args();
    let port = u16::try_from(flags.number("port", 8080)).unwrap_or(8080);
    let registry = Arc::new(flags.text("consul-addr", "127.0.0.1:8500"));
    let own: Arc<Table> =
        Arc::new(FACTS.iter().map(|name| ((*name).to_owned(), flags.text(name, name))).collect());
    let serving = net::serve(port, move |_| {
        let (registry, own) = (Arc::clone(&registry), Arc::clone(&own));
        async move {
            let backend = ask_backend(&registry).await;
            net::answer(StatusCode::OK, "text/html; charset=utf-8", page(&own, &backend))
        }
    });
    tokio::select! {
        result = serving => result, // dropping the server only drops open connections
        () = net::until_told_to_end() => Ok(()),
    }
}

async fn ask_backend(registry: &str) -> Table {
    let down = || vec![("service".to_owned(), "DOWN".to_owned())];
    let Some(address) = look_up(registry).await else { return down() };
    let Ok((status, body)) = net::get(&format!("http://{address}/"), CALL_TIMEOUT).await else {
        return down();
    };
    let mut table = vec![
        ("service".to_owned(), "UP".to_owned()),
        ("response_status".to_owned(), status.as_u16().to_string()),
    ];
    if status.is_success()
        && let Ok(serde_json::Value::Object(facts)) = serde_json::from_slice(&body)
    {
        let text = |value: &serde_json::Value| {
            value.as_str().map_or_else(|| value.to_string(), str::to_owned)
        };
        table.extend(facts.iter().map(|(name, value)| (name.clone(), text(value))));
    }
    table
}

/// Takes the first registered backend, as the original does.
async fn look_up(registry: &str) -> Option<String> {
    let url = format!("http://{registry}/v1/catalog/service/backend");
    let (_, body) = net::get(&url, CALL_TIMEOUT).await.ok()?;
    let entries: Vec<serde_json::Value> = serde_json::from_slice(&body).ok()?;
    let first = entries.first()?;
    let own = first.get("ServiceAddress").and_then(serde_json::Value::as_str).unwrap_or("");
    let address = if own.is_empty() { first.get("Address")?.as_str()? } else { own };
    Some(format!("{address}:{}", first.get("ServicePort")?))
}

fn page(own: &Table, backend: &Table) -> String {
    let mut html = String::from("<!doctype html><title>frontend</title>");
    for (title, table) in [("Frontend", own), ("Backend", backend)] {
        write!(html, "<h1>{title}</h1><table>").expect("writing to a string cannot fail");
        for (name, value) in table {
            let row = format!("<tr><td>{}</td><td>{}</td></tr>", escape(name), escape(value));
            html.push_str(&row);
        }
        html.push_str("</table>");
    }
    html
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
