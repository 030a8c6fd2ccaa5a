//! Requests to an agent's HTTP API.

use std::time::Duration;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::{Method, StatusCode};
use serde_json::Value;

use crate::command::{Failure, Program};
use crate::flags::Parsed;

mod tls;

/// What is escaped in one segment of a path or one value of a query.
const SEGMENT: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b'*');

/// How often an agent is asked that says that it has too much to do.
const BUSY_TRIES: u32 = 5;

/// How long to wait in between if the agent does not say, and at most.
const BUSY_WAIT: Duration = Duration::from_secs(1);
const BUSY_WAIT_MAX: Duration = Duration::from_secs(10);

/// A handle to one agent.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    http: reqwest::Client,
    address: String,
    token: Option<String>,
    /// Parameters of every request: region and namespace, or datacenter.
    common: Vec<(&'static str, String)>,
    program: Program,
}

/// An answer: the index that it was read at, and its JSON.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) index: u64,
    pub(crate) body: Value,
}

impl Client {
    /// Reads flags and environment.
    pub(crate) fn new(program: Program, flags: &Parsed) -> Result<Self, Failure> {
        let setting = |flag: &str, variable: &str| {
            let from_environment = || std::env::var(variable).ok();
            flags.value(flag).map(str::to_owned).or_else(from_environment).filter(|v| !v.is_empty())
        };
        let consul = program == Program::Consul;
        let address = if consul {
            setting("http-addr", "CONSUL_HTTP_ADDR")
                .unwrap_or_else(|| "http://127.0.0.1:8500".to_owned())
        } else {
            setting("address", "NOMAD_ADDR").unwrap_or_else(|| "http://127.0.0.1:4646".to_owned())
        };
        let is_ssl = consul && is_true("CONSUL_HTTP_SSL") == Some(true);
        let address = match address.split_once("://") {
            Some(("http", rest)) if is_ssl => format!("https://{rest}"),
            Some(_) => address,
            None if is_ssl => format!("https://{address}"),
            None => format!("http://{address}"),
        };
        let mut common = Vec::new();
        if consul {
            common.extend(flags.value("datacenter").map(|value| ("dc", value.to_owned())));
            common.extend(flags.value("namespace").map(|value| ("ns", value.to_owned())));
            if flags.on("stale") {
                common.push(("stale", String::new()));
            }
        } else {
            common.extend(setting("region", "NOMAD_REGION").map(|value| ("region", value)));
            common
                .extend(setting("namespace", "NOMAD_NAMESPACE").map(|value| ("namespace", value)));
        }
        let token = if consul {
            setting("token", "CONSUL_HTTP_TOKEN")
        } else {
            setting("token", "NOMAD_TOKEN")
        };
        let http = tls::builder(program, flags, setting)?;
        let (http, address) = tls::named(http, program, &address, setting)?;
        let http = http.build().map_err(|error| {
            Failure::new(format!("Error initializing client: {}", causes(&error)))
        })?;
        Ok(Self { http, address, token, common, program })
    }

    /// The agent's address, for messages and sockets.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Reads JSON.
    pub(crate) async fn get(&self, path: &str) -> Result<Answer, Failure> {
        self.request(Method::GET, path, None).await
    }

    /// Reads JSON; what is not there is `None`.
    pub(crate) async fn find(&self, path: &str) -> Result<Option<Answer>, Failure> {
        let response = self.send(Method::GET, path, None).await?;
        if response.status() == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        decode(response).await.map(Some)
    }

    /// Reads JSON, also from an answer with this status of failure.
    pub(crate) async fn read_even_if(&self, path: &str, status: u16) -> Result<Value, Failure> {
        let response = self.send(Method::GET, path, None).await?;
        if response.status().as_u16() != status {
            return decode(response).await.map(|answer| answer.body);
        }
        let bytes = response.bytes().await.map_err(|error| Failure::new(causes(&error)))?;
        serde_json::from_slice(&bytes)
            .map_err(|error| Failure::new(format!("the answer is not JSON: {error}")))
    }

    /// Reads JSON of what may come and go: null while it is not there.
    pub(crate) async fn watch(&self, path: &str) -> Result<Answer, Failure> {
        let response = self.send(Method::GET, path, None).await?;
        if response.status() == StatusCode::NOT_FOUND {
            return Ok(Answer { index: index_of(&response), body: Value::Null });
        }
        decode(response).await
    }

    /// Writes, and reads the answer.
    pub(crate) async fn put(&self, path: &str, body: &Value) -> Result<Answer, Failure> {
        self.request(Method::PUT, path, Some(body.to_string().into_bytes())).await
    }

    /// Writes bytes as they are.
    pub(crate) async fn put_bytes(&self, path: &str, body: Vec<u8>) -> Result<Answer, Failure> {
        self.request(Method::PUT, path, Some(body)).await
    }

    /// Writes something new, and reads the answer.
    pub(crate) async fn post(&self, path: &str, body: &Value) -> Result<Answer, Failure> {
        self.request(Method::POST, path, Some(body.to_string().into_bytes())).await
    }

    /// Deletes what a body names.
    pub(crate) async fn delete_with(&self, path: &str, body: &Value) -> Result<Answer, Failure> {
        self.request(Method::DELETE, path, Some(body.to_string().into_bytes())).await
    }

    /// Deletes.
    pub(crate) async fn delete(&self, path: &str) -> Result<Answer, Failure> {
        self.request(Method::DELETE, path, None).await
    }

    async fn request(
        &self,
        method: Method,
        path: &str,
        body: Option<Vec<u8>>,
    ) -> Result<Answer, Failure> {
        decode(self.send(method, path, body).await?).await
    }

    /// Opens a stream of bytes.
    pub(crate) async fn stream(&self, path: &str) -> Result<reqwest::Response, Failure> {
        let response = self.send(Method::GET, path, None).await?;
        if response.status().is_success() {
            return Ok(response);
        }
        Err(refused(response).await)
    }

    /// Asks, and asks again for a while if the agent says that it has too much to do.
    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<Vec<u8>>,
    ) -> Result<reqwest::Response, Failure> {
        let mut tries = 1;
        loop {
            let response = self.send_once(method.clone(), path, body.clone()).await?;
            if response.status() != StatusCode::TOO_MANY_REQUESTS || tries == BUSY_TRIES {
                return Ok(response);
            }
            tries += 1;
            tokio::time::sleep(retry_after(&response)).await;
        }
    }

    async fn send_once(
        &self,
        method: Method,
        path: &str,
        body: Option<Vec<u8>>,
    ) -> Result<reqwest::Response, Failure> {
        let mut request = self.http.request(method, self.url(path));
        if let Some(token) = &self.token {
            let header =
                if self.program == Program::Consul { "X-Consul-Token" } else { "X-Nomad-Token" };
            request = request.header(header, token);
        }
        if let Some(body) = body {
            request = request.body(body);
        }
        request.send().await.map_err(|error| {
            let mut message = format!("cannot reach {}: {}", self.address, causes(&error));
            if let Some(hint) = tls::explain(&message, self.program) {
                message = format!("{message}\n{hint}");
            } else if error.is_connect() {
                let variable =
                    if self.program == Program::Consul { "CONSUL_HTTP_ADDR" } else { "NOMAD_ADDR" };
                message = format!(
                    "{message}\nIs an agent running there? Set {variable} or a flag to ask another."
                );
            }
            Failure::new(message)
        })
    }

    /// A whole URL with the common parameters; those that the path states itself win.
    pub(crate) fn url(&self, path: &str) -> String {
        let mut url = format!("{}{path}", self.address);
        for (name, value) in &self.common {
            let stated = path.contains(&format!("?{name}=")) || path.contains(&format!("&{name}="));
            if !stated {
                let separator = if url.contains('?') { '&' } else { '?' };
                url = format!("{url}{separator}{name}={}", escape(value));
            }
        }
        url
    }
}

/// How long an agent that is busy wants to be left alone.
fn retry_after(response: &reqwest::Response) -> Duration {
    let header = response.headers().get(reqwest::header::RETRY_AFTER);
    let seconds = header.and_then(|value| value.to_str().ok()?.parse().ok());
    seconds.map_or(BUSY_WAIT, Duration::from_secs).min(BUSY_WAIT_MAX)
}

/// Escapes one segment of a path or one value of a query.
pub(crate) fn escape(text: &str) -> String {
    utf8_percent_encode(text, SEGMENT).to_string()
}

/// A variable that is on or off; `None` if it is not set or neither.
fn is_true(variable: &str) -> Option<bool> {
    match std::env::var(variable).ok()?.to_lowercase().as_str() {
        "1" | "t" | "true" => Some(true),
        "0" | "f" | "false" => Some(false),
        _ => None,
    }
}

async fn decode(response: reqwest::Response) -> Result<Answer, Failure> {
    if !response.status().is_success() {
        return Err(refused(response).await);
    }
    let index = index_of(&response);
    let bytes = response.bytes().await.map_err(|error| Failure::new(causes(&error)))?;
    if bytes.is_empty() {
        return Ok(Answer { index, body: Value::Null });
    }
    let body = serde_json::from_slice(&bytes)
        .map_err(|error| Failure::new(format!("the answer is not JSON: {error}")))?;
    Ok(Answer { index, body })
}

/// The index that an answer carries, to wait for what comes after it.
fn index_of(response: &reqwest::Response) -> u64 {
    let headers = response.headers();
    ["x-nomad-index", "x-consul-index"]
        .iter()
        .find_map(|name| headers.get(*name)?.to_str().ok()?.parse().ok())
        .unwrap_or(0)
}

async fn refused(response: reqwest::Response) -> Failure {
    let status = response.status().as_u16();
    let text = response.text().await.unwrap_or_default();
    Failure::new(format!("Unexpected response code: {status} ({})", text.trim()))
}

/// An error with its causes, which say what really happened.
pub(crate) fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
