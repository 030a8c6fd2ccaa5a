//! Reading a driver's free-form options, so that every mistake is named.
//!
//! # Invariants
//!
//! - **Whatever is not read is an error.** A [`Options`] knows the keys of its driver; the rest is
//!   unknown, or known and refused with a reason.
//! - **Lenient like old job files.** A quoted number is a number, a block given once is a list of
//!   one, a map in a list of one is the map.

use std::collections::BTreeMap;

use cos_model::Value;

use crate::driver::ConfigError;

/// The options of one task or plugin.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Options<'a> {
    driver: &'static str,
    values: &'a BTreeMap<String, Value>,
}

impl<'a> Options<'a> {
    /// Takes options after checking that each is known, and none refused. An option that is refused
    /// may be given with a value that asks for nothing (null, false, empty, zero).
    pub(crate) fn new(
        driver: &'static str,
        values: &'a BTreeMap<String, Value>,
        known: &[&str],
        refused: &[(&str, &str)],
    ) -> Result<Self, ConfigError> {
        for (key, value) in values {
            if known.contains(&key.as_str()) {
                continue;
            }
            match refused.iter().find(|(name, _)| name == key) {
                Some(_) if asks_for_nothing(value) => {}
                Some((_, why)) => {
                    let why = (*why).to_owned();
                    return Err(ConfigError::Unsupported { driver, key: key.clone(), why });
                }
                None => return Err(ConfigError::Unknown { driver, key: key.clone() }),
            }
        }
        Ok(Self { driver, values })
    }

    /// Makes the error for an option whose value cannot be used.
    pub(crate) fn invalid(&self, key: &str, why: impl Into<String>) -> ConfigError {
        ConfigError::Invalid { driver: self.driver, key: key.to_owned(), why: why.into() }
    }

    fn expected(&self, key: &str, what: &str, found: &Value) -> ConfigError {
        self.invalid(key, format!("expected {what}, found {}", found.kind()))
    }

    fn get(&self, key: &str) -> Option<&'a Value> {
        self.values.get(key).filter(|value| !matches!(value, Value::Null))
    }

    /// Returns a text; empty if absent.
    pub(crate) fn text(&self, key: &str) -> Result<String, ConfigError> {
        self.get(key).map_or(Ok(String::new()), |value| self.scalar(key, value))
    }

    /// Returns a text that must be there.
    pub(crate) fn required_text(&self, key: &'static str) -> Result<String, ConfigError> {
        let text = self.text(key)?;
        if text.is_empty() {
            return Err(ConfigError::Missing { driver: self.driver, key });
        }
        Ok(text)
    }

    /// Returns a truth value; `None` if absent.
    pub(crate) fn truth(&self, key: &str) -> Result<Option<bool>, ConfigError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        value.to_bool().map(Some).ok_or_else(|| self.expected(key, "true or false", value))
    }

    /// Returns a whole number; `None` if absent.
    pub(crate) fn number(&self, key: &str) -> Result<Option<i64>, ConfigError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        value.to_int().map(Some).ok_or_else(|| self.expected(key, "a whole number", value))
    }

    /// Returns a list of texts; empty if absent.
    pub(crate) fn texts(&self, key: &str) -> Result<Vec<String>, ConfigError> {
        match self.get(key) {
            None => Ok(Vec::new()),
            Some(Value::List(items)) => items.iter().map(|item| self.scalar(key, item)).collect(),
            Some(other) => Err(self.expected(key, "a list of strings", other)),
        }
    }

    /// Returns a map of texts, given as a map, a block, or several blocks that are merged.
    pub(crate) fn text_map(&self, key: &str) -> Result<BTreeMap<String, String>, ConfigError> {
        let mut merged = BTreeMap::new();
        for block in self.blocks(key)? {
            for (name, value) in block {
                merged.insert(name.clone(), self.scalar(&format!("{key}.{name}"), value)?);
            }
        }
        Ok(merged)
    }

    /// Returns the blocks of this name; none if absent.
    pub(crate) fn blocks(
        &self,
        key: &str,
    ) -> Result<Vec<&'a BTreeMap<String, Value>>, ConfigError> {
        match self.get(key) {
            None => Ok(Vec::new()),
            Some(Value::Map(map)) => Ok(vec![map]),
            Some(Value::List(items)) => items
                .iter()
                .map(|item| item.as_map().ok_or_else(|| self.expected(key, "a block", item)))
                .collect(),
            Some(other) => Err(self.expected(key, "a block", other)),
        }
    }

    /// Returns the only block of this name.
    pub(crate) fn block(
        &self,
        key: &str,
    ) -> Result<Option<&'a BTreeMap<String, Value>>, ConfigError> {
        let blocks = self.blocks(key)?;
        if blocks.len() > 1 {
            return Err(self.invalid(key, "given more than once"));
        }
        Ok(blocks.first().copied())
    }

    fn scalar(&self, key: &str, value: &Value) -> Result<String, ConfigError> {
        match value {
            Value::String(text) => Ok(text.clone()),
            Value::Int(number) => Ok(number.to_string()),
            Value::Float(number) => Ok(number.to_string()),
            Value::Bool(truth) => Ok(truth.to_string()),
            other => Err(self.expected(key, "a string", other)),
        }
    }
}

fn asks_for_nothing(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) | Value::Int(0) => true,
        Value::String(text) => text.is_empty(),
        Value::List(items) => items.is_empty(),
        Value::Map(map) => map.is_empty(),
        Value::Bool(true) | Value::Int(_) | Value::Float(_) => false,
    }
}

/// Parses a duration as job files write it: `500ms`, `3m`, `1h30m`; a bare number is nanoseconds.
pub(crate) fn duration(text: &str) -> Option<std::time::Duration> {
    const UNITS: [(&str, f64); 7] = [
        ("ns", 1e-9),
        ("us", 1e-6),
        ("µs", 1e-6),
        ("ms", 1e-3),
        ("h", 3600.0),
        ("m", 60.0),
        ("s", 1.0),
    ];
    if let Ok(nanos) = text.parse() {
        return Some(std::time::Duration::from_nanos(nanos));
    }
    let mut rest = text;
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(digits);
        let (unit, factor) = UNITS.into_iter().find(|(unit, _)| tail.starts_with(unit))?;
        seconds += number.parse::<f64>().ok()? * factor;
        rest = &tail[unit.len()..];
    }
    std::time::Duration::try_from_secs_f64(seconds).ok().filter(|_| !text.is_empty())
}

/// Whether a name is meant by a pattern in which `*` stands for anything.
pub(crate) fn matches_pattern(pattern: &str, name: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(name) = name.strip_prefix(first) else { return false };
    (0..=name.len())
        .filter(|at| name.is_char_boundary(*at))
        .any(|at| matches_pattern(rest, &name[at..]))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn options(values: &[(&str, Value)]) -> BTreeMap<String, Value> {
        values.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect()
    }

    #[test]
    fn unknown_and_refused_options_are_named() {
        let check = |key: &str, value: Value, want: Option<&str>| {
            let values = options(&[(key, value)]);
            let known = ["image"];
            let refused = [("devices", "because")];
            let error = Options::new("docker", &values, &known, &refused).err();
            assert_eq!(error.map(|error| error.to_string()).as_deref(), want);
        };
        let text = || Value::String("x".into());
        check("image", text(), None);
        check("imagee", text(), Some("driver docker: unknown option `imagee`"));
        check(
            "devices",
            Value::List(vec![text()]),
            Some("driver docker: option `devices` is not supported: because"),
        );
        check("devices", Value::List(Vec::new()), None);
    }

    #[test]
    fn blocks_and_lists_of_blocks_are_merged_into_one_map() {
        let block = |key: &str, value: i64| Value::Map(options(&[(key, Value::Int(value))]));
        for value in [Value::List(vec![block("a", 1), block("b", 2)]), {
            Value::Map(options(&[("a", Value::Int(1)), ("b", Value::String("2".into()))]))
        }] {
            let values = options(&[("port_map", value)]);
            let found = Options::new("docker", &values, &["port_map"], &[])
                .and_then(|options| options.text_map("port_map"))
                .expect("the map is well-formed");
            assert_eq!(found, BTreeMap::from([("a".into(), "1".into()), ("b".into(), "2".into())]));
        }
    }

    proptest::proptest! {
        #[test]
        fn no_duration_panics(text in "[0-9.hmsnuµ -]{0,24}") {
            let _ = duration(&text);
        }
    }

    #[test]
    fn durations_are_read_as_job_files_write_them() {
        for (text, want) in [
            ("3m", Some(Duration::from_mins(3))),
            ("1h30m", Some(Duration::from_mins(90))),
            ("250ms", Some(Duration::from_millis(250))),
            ("5000000000", Some(Duration::from_secs(5))),
            ("five", None),
            ("5x", None),
            ("", None),
        ] {
            assert_eq!(duration(text), want, "{text}");
        }
    }

    #[test]
    fn patterns_of_variables_match_like_globs() {
        for (pattern, name, want) in [
            ("AWS_*", "AWS_KEY", true),
            ("AWS_*", "MY_AWS_KEY", false),
            ("*TOKEN*", "A_TOKEN_B", true),
            ("HOME", "HOME", true),
            ("HOME", "HOMES", false),
        ] {
            assert_eq!(matches_pattern(pattern, name), want, "{pattern} {name}");
        }
    }
}
