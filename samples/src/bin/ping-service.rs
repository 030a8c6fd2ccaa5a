//! `ping-service`: answers with a chain of itself, one segment for each hop, found through the
//! registry.
//!
//! `GET /ping?hop=N` counts N up and asks a random instance of the provider for the rest of the
//! message, until N is over ten. It answers 200 also when a peer fails; then the message says so.

use std::sync::Arc;
use std::time::Duration;

use hyper::StatusCode;

use cos_samples::flags::Flags;
use cos_samples::net::{self, Answer};

/// The chain ends when the hop count is above this.
const HOPS_MAX: i64 = 10;
/// How long a peer or the registry may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(1);

#[derive(Debug)]
struct Ping {
    service_name: String,
    provider: String,
    provider_address: String,
    registry: String,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    let flags = Flags::from_args();
    let ping = Arc::new(Ping {
        service_name: flags.text("service-name", "foo"),
        provider: flags.text("provider", ""),
        provider_address: flags.text("provider-addr", ""),
        registry: flags.text("consul-server-addr", ""),
    });
    let port = u16::try_from(flags.number("p", 8080)).unwrap_or(8080);
    let serving = net::serve(port, move |request| {
        let ping = Arc::clone(&ping);
        let path = request.uri().path().to_owned();
        let query = request.uri().query().unwrap_or("").to_owned();
        async move { ping.answer(&path, &query).await }
    });
    tokio::select! {
        result = serving => result, // dropping the server only drops open connections
        () = net::until_told_to_end() => Ok(()),
    }
}

impl Ping {
    async fn answer(&self, path: &str, query: &str) -> Answer {
        if path != "/ping" {
            let text = format!("Path '{path}' is not implemented");
            return net::answer(StatusCode::INTERNAL_SERVER_ERROR, TEXT, text);
        }
        let hop = query
            .split('&')
            .find_map(|pair| pair.strip_prefix("hop="))
            .and_then(|number| number.parse::<i64>().ok())
            .unwrap_or(0)
            + 1;
        let rest = self.rest(hop).await;
        let body = serde_json::json!({
            "message": format!("/[{},v1]{rest}", self.service_name),
            "name": self.service_name,
            "version": "v1",
        });
        net::answer(StatusCode::OK, TEXT, format!("{body}\n"))
    }

    async fn rest(&self, hop: i64) -> String {
        let alone = self.provider.is_empty() && self.provider_address.is_empty();
        if alone || hop > HOPS_MAX {
            return "(PONG)".to_owned();
        }
        let target = self.look_up().await.unwrap_or_else(|| self.provider_address.clone());
        self.forward(&target, hop).await.unwrap_or_else(|| "(BOING)".to_owned())
    }

    /// Picks one healthy instance of the provider, this one included.
    async fn look_up(&self) -> Option<String> {
        if self.registry.is_empty() {
            return None;
        }
        let url = format!("http://{}/v1/health/service/{}?passing=1", self.registry, self.provider);
        let (_, body) = net::get(&url, CALL_TIMEOUT).await.ok()?;
        let entries: Vec<serde_json::Value> = serde_json::from_slice(&body).ok()?;
        if entries.is_empty() {
            return None;
        }
        let service = entries[net::random_below(entries.len())].get("Service")?;
        Some(format!("{}:{}", service.get("Address")?.as_str()?, service.get("Port")?))
    }

    async fn forward(&self, target: &str, hop: i64) -> Option<String> {
        let url = format!("http://{target}/ping?hop={hop}");
        let (_, body) = net::get(&url, CALL_TIMEOUT).await.ok()?;
        let answer: serde_json::Value = serde_json::from_slice(&body).ok()?;
        Some(answer.get("message")?.as_str()?.to_owned())
    }
}

/// The content type that a Go server guesses for these bodies.
const TEXT: &str = "text/plain; charset=utf-8";
