//! One run of one check: an HTTP request, a connection, a script.
//!
//! Deliberately absent: thresholds and memory; see `ledger`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use cos_model::catalog::{Health, Probe};
use reqwest::header::{ACCEPT, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use tokio::net::TcpStream;

use super::ScriptHost;

/// How much of an answer is kept.
const OUTPUT_BYTES_MAX: usize = 4096;

/// The wait for an answer when the definition names none.
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);

/// What asks. Connections are not kept: a check that reuses one would miss that the door is shut.
#[derive(Clone, Debug)]
pub(super) struct Prober {
    strict: reqwest::Client,
    lenient: reqwest::Client,
    scripts: Arc<dyn ScriptHost>,
}

/// What a run said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) health: Health,
    pub(super) output: String,
}

impl Prober {
    pub(super) fn new(scripts: Arc<dyn ScriptHost>) -> Self {
        let client = |lenient: bool| {
            reqwest::Client::builder()
                .pool_max_idle_per_host(0)
                .no_proxy()
                .danger_accept_invalid_certs(lenient)
                .build()
                .expect("the TLS backend is compiled in and needs nothing of the machine")
        };
        Self { strict: client(false), lenient: client(true), scripts }
    }

    /// Runs a check once. A TTL check has nothing to be run.
    pub(super) async fn ask(&self, probe: &Probe, timeout: Duration) -> Option<Outcome> {
        let timeout = if timeout.is_zero() { TIMEOUT_DEFAULT } else { timeout };
        match probe {
            Probe::Ttl(_) => None,
            Probe::Tcp(address) => Some(ask_tcp(address, timeout).await),
            Probe::Script { args, target } => {
                Some(script_outcome(self.scripts.run(target, args, timeout).await))
            }
            Probe::Http { .. } => Some(self.ask_http(probe, timeout).await),
        }
    }

    async fn ask_http(&self, probe: &Probe, timeout: Duration) -> Outcome {
        let Probe::Http { url, method, header, body, tls_skip_verify } = probe else {
            return critical("not an HTTP check");
        };
        let client = if *tls_skip_verify { &self.lenient } else { &self.strict };
        let shown_method = if method.is_empty() { "GET" } else { method };
        let Ok(parsed_method) = reqwest::Method::from_bytes(shown_method.as_bytes()) else {
            return critical(&format!("`{shown_method}` is not a method"));
        };
        let headers = match headers(header) {
            Ok(headers) => headers,
            Err(why) => return critical(&why),
        };
        let request = client
            .request(parsed_method, plain_url(url))
            .timeout(timeout)
            .headers(headers)
            .body(body.clone());
        match request.send().await {
            Ok(response) => http_outcome(shown_method, url, response).await,
            Err(error) => critical(&format!("{shown_method} {url}: {}", cause_of(&error))),
        }
    }
}

async fn http_outcome(method: &str, url: &str, response: reqwest::Response) -> Outcome {
    let status = response.status();
    let body = first_bytes(response).await;
    let health = match status.as_u16() {
        200..=299 => Health::Passing,
        429 => Health::Warning,
        _ => Health::Critical,
    };
    Outcome { health, output: format!("HTTP {method} {url}: {status} Output: {body}") }
}

/// Reads no more of a body than is kept: an endless answer must not hold the check.
async fn first_bytes(mut response: reqwest::Response) -> String {
    let mut bytes = Vec::new();
    while bytes.len() < OUTPUT_BYTES_MAX {
        match response.chunk().await {
            Ok(Some(chunk)) => bytes.extend_from_slice(&chunk),
            Ok(None) | Err(_) => break,
        }
    }
    bytes.truncate(OUTPUT_BYTES_MAX);
    String::from_utf8_lossy(&bytes).into_owned()
}

async fn ask_tcp(address: &str, timeout: Duration) -> Outcome {
    match tokio::time::timeout(timeout, TcpStream::connect(plain_host(address))).await {
        Ok(Ok(_)) => {
            Outcome { health: Health::Passing, output: format!("TCP connect {address}: Success") }
        }
        Ok(Err(error)) => critical(&format!("dial tcp {address}: {error}")),
        Err(_) => critical(&format!("dial tcp {address}: i/o timeout")),
    }
}

fn script_outcome(result: Result<(i32, String), String>) -> Outcome {
    match result {
        Ok((code, output)) => {
            let health = match code {
                0 => Health::Passing,
                1 => Health::Warning,
                _ => Health::Critical,
            };
            Outcome { health, output: last_bytes(output) }
        }
        Err(why) => critical(&why),
    }
}

fn last_bytes(mut text: String) -> String {
    let surplus = text.len().saturating_sub(OUTPUT_BYTES_MAX);
    let cut = (surplus..text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    text.drain(..cut);
    text
}

fn critical(output: &str) -> Outcome {
    Outcome { health: Health::Critical, output: output.to_owned() }
}

fn headers(given: &BTreeMap<String, Vec<String>>) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    headers.insert(USER_AGENT, HeaderValue::from_static("Consul Health Check"));
    headers.insert(ACCEPT, HeaderValue::from_static("text/plain, text/*, */*"));
    for (name, values) in given {
        let parsed = HeaderName::from_bytes(name.as_bytes())
            .ok()
            .ok_or_else(|| format!("`{name}` is not a header"))?;
        headers.remove(&parsed);
        for value in values {
            let value = HeaderValue::from_str(value)
                .ok()
                .ok_or_else(|| format!("the value of header `{name}` cannot be sent"))?;
            headers.append(parsed.clone(), value);
        }
    }
    Ok(headers)
}

/// The whole chain in one line: the outermost error alone says only that something failed.
fn cause_of(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        words = inner.to_string();
        source = inner.source();
    }
    words
}

/// Takes the brackets from an IPv4 address, which some services put there.
pub(super) fn plain_url(url: &str) -> String {
    let Some(start) = url.find("://[") else { return url.to_owned() };
    let host = &url[start + 4..];
    let Some(end) = host.find(']') else { return url.to_owned() };
    if host[..end].contains(':') {
        return url.to_owned();
    }
    format!("{}://{}{}", &url[..start], &host[..end], &host[end + 1..])
}

fn plain_host(address: &str) -> String {
    match address.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, port)) if !host.contains(':') => format!("{host}{port}"),
        _ => address.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brackets_around_ipv4_are_taken_away() {
        let rows = [
            ("http://[10.9.9.9]:9998/health", "http://10.9.9.9:9998/health"),
            ("http://[::1]:80/", "http://[::1]:80/"),
            ("http://10.0.0.1:80/[x]", "http://10.0.0.1:80/[x]"),
            ("http://[10.9.9.9", "http://[10.9.9.9"),
        ];
        for (given, expected) in rows {
            assert_eq!(plain_url(given), expected);
        }
        assert_eq!(plain_host("[10.9.9.9]:80"), "10.9.9.9:80");
        assert_eq!(plain_host("[::1]:80"), "[::1]:80");
    }

    #[test]
    fn an_exit_code_is_a_state() {
        let rows = [(0, Health::Passing), (1, Health::Warning), (2, Health::Critical)];
        for (code, health) in rows {
            assert_eq!(script_outcome(Ok((code, String::new()))).health, health);
        }
        assert_eq!(script_outcome(Err("no".to_owned())).health, Health::Critical);
    }

    #[test]
    fn long_output_keeps_its_end() {
        let text = format!("{}ü end", "x".repeat(OUTPUT_BYTES_MAX));
        assert!(last_bytes(text).ends_with("ü end"));
    }
}
