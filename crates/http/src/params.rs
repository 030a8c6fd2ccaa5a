//! The query string: its parameters, and those that every read has in common.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use percent_encoding::percent_decode_str;

use crate::duration;
use crate::error::ApiError;
use crate::filter::Filter;

/// How long a read waits if it does not say, and at most.
pub const WAIT_MAX: Duration = Duration::from_mins(5);

/// How many parameters of a query string are looked at.
const PARAMS_MAX: usize = 256;

/// The parameters of a query string, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Params(Vec<(String, String)>);

impl Params {
    /// Reads a query string. Nothing in it can be wrong; what is not UTF-8 is replaced.
    pub fn parse(query: &str) -> Self {
        let pairs = query.split('&').filter(|pair| !pair.is_empty()).take(PARAMS_MAX);
        Self(
            pairs
                .map(|pair| {
                    let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                    (decode(name), decode(value))
                })
                .collect(),
        )
    }

    /// The first value of a parameter.
    pub fn get(&self, name: &str) -> Option<&str> {
        let mut found = self.0.iter().filter(|(known, _)| known == name);
        found.next().map(|(_, value)| value.as_str())
    }

    /// The first value of a parameter, unless it is empty.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.get(name).filter(|value| !value.is_empty())
    }

    /// All values of a parameter.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Whether a parameter is given at all.
    pub fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// A switch: given without a value, or with a value that Go takes for true.
    pub fn flag(&self, name: &str) -> Result<bool, ApiError> {
        match self.get(name) {
            None | Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(false),
            Some("" | "1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(true),
            Some(other) => Err(ApiError::bad_request(format!(
                "Failed to parse value of {name:?} ({other:?}) as a bool"
            ))),
        }
    }

    /// A whole number.
    pub fn number<T: std::str::FromStr>(&self, name: &str) -> Result<Option<T>, ApiError> {
        let bad = |text: &str| {
            ApiError::bad_request(format!(
                "Failed to parse value of {name:?} ({text:?}) as a number"
            ))
        };
        self.text(name).map(|text| text.parse().ok().ok_or_else(|| bad(text))).transpose()
    }

    /// A duration in Go's notation.
    pub fn duration(&self, name: &str) -> Result<Option<Duration>, ApiError> {
        let bad = |error: duration::ParseDurationError| ApiError::bad_request(error.to_string());
        self.text(name).map(|text| duration::parse(text).map_err(bad)).transpose()
    }
}

fn decode(text: &str) -> String {
    let spaced = text.replace('+', " ");
    percent_decode_str(&spaced).decode_utf8_lossy().into_owned()
}

impl<S: Sync> FromRequestParts<S> for Params {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Infallible> {
        Ok(Self::parse(parts.uri.query().unwrap_or_default()))
    }
}

/// What every read request may say.
#[derive(Clone, Debug)]
pub struct ReadOptions {
    /// Answer only with something newer than this; zero answers at once.
    pub index: u64,
    /// How long to wait for something newer, without jitter.
    pub wait: Duration,
    /// Whether any server may answer from what it has.
    pub stale: bool,
    /// Whether the JSON is indented.
    pub pretty: bool,
    /// The namespace, `*` for all.
    pub namespace: String,
    /// The beginning of the ids that are wanted.
    pub prefix: String,
    /// How many items one page has; zero is no limit.
    pub per_page: usize,
    /// Where the page begins; empty is the beginning.
    pub next_token: String,
    /// Whether the order is reversed.
    pub reverse: bool,
    /// Which items are wanted.
    pub filter: Option<Filter>,
}

impl ReadOptions {
    /// Reads the common parameters.
    pub fn from_params(params: &Params) -> Result<Self, ApiError> {
        let filter = match params.text("filter") {
            Some(text) => Some(Filter::parse(text).map_err(|error| {
                ApiError::bad_request(format!(
                    "failed to create result paginator: failed to read filter expression: {error}"
                ))
            })?),
            None => None,
        };
        let index = params
            .number("index")
            .map_err(|_bad| ApiError::bad_request("Invalid index"))?
            .unwrap_or(0);
        let wait = params
            .duration("wait")
            .map_err(|_bad| ApiError::bad_request("Invalid wait time"))?
            .filter(|wait| !wait.is_zero());
        Ok(Self {
            index,
            wait: wait.unwrap_or(WAIT_MAX).min(WAIT_MAX),
            stale: params.flag("stale")? && !params.flag("consistent")?,
            pretty: is_pretty(params),
            namespace: params.text("namespace").unwrap_or("default").to_owned(),
            prefix: params.text("prefix").unwrap_or_default().to_owned(),
            per_page: params.number("per_page")?.unwrap_or(0),
            next_token: params.text("next_token").unwrap_or_default().to_owned(),
            reverse: params.flag("reverse")?,
            filter,
        })
    }

    /// Whether things of a namespace are wanted.
    pub fn wants_namespace(&self, namespace: &str) -> bool {
        self.namespace == "*" || self.namespace == namespace
    }
}

/// Whether JSON is to be indented: `pretty` is there and not `0`.
pub fn is_pretty(params: &Params) -> bool {
    params.get("pretty").is_some_and(|value| value != "0")
}

impl<S: Sync> FromRequestParts<S> for ReadOptions {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiError> {
        Self::from_params(&Params::parse(parts.uri.query().unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(query: &str, expected: Result<(u64, u64, bool), &str>) {
        let options = ReadOptions::from_params(&Params::parse(query));
        let found = options.as_ref().map(|o| (o.index, o.wait.as_secs(), o.stale));
        assert_eq!(found.map_err(|error| error.message.as_str()), expected, "{query}");
    }

    #[test]
    fn common_parameters_are_read() {
        check("", Ok((0, 300, false)));
        check("index=7&wait=10s&stale", Ok((7, 10, true)));
        check("wait=2h&stale=false", Ok((0, 300, false)));
        check("index=x", Err("Invalid index"));
        check("wait=5", Err("Invalid wait time"));
        check("stale=yes", Err("Failed to parse value of \"stale\" (\"yes\") as a bool"));
    }

    #[test]
    fn names_and_values_are_decoded() {
        let params = Params::parse("a%2Fb=c+d%20e&x=1&x=2&&flag");
        assert_eq!(params.get("a/b"), Some("c d e"));
        assert_eq!(params.all("x").collect::<Vec<_>>(), ["1", "2"]);
        assert!(params.has("flag") && !params.has("other"));
    }
}
