//! Flags of the measurements.
//!
//! Deliberately absent: knowing which measurement takes which flag; one that asks for none of the
//! flags it was given simply ignores them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::str::FromStr;

use crate::BenchError;

/// Every flag that any measurement knows; an unknown one is most likely a mistake.
const KNOWN: [&str; 14] = [
    "allocs", "bytes", "changes", "clients", "dir", "etcd", "how", "json", "kills", "nodes",
    "rounds", "seconds", "servers", "watchers",
];

/// Flags without a value.
const SWITCHES: [&str; 1] = ["json"];

/// What was asked for.
#[derive(Debug)]
pub(crate) struct Options {
    given: BTreeMap<String, String>,
}

impl Options {
    /// Reads `-name=value`, `-name value` and `-switch`, with one dash or two.
    pub(crate) fn parse(arguments: &[String]) -> Result<Self, BenchError> {
        let mut given = BTreeMap::new();
        let mut rest = arguments.iter();
        while let Some(word) = rest.next() {
            let Some(flag) = word.strip_prefix('-') else {
                return Err(BenchError::Usage(format!("unexpected argument `{word}`")));
            };
            let flag = flag.strip_prefix('-').unwrap_or(flag);
            let (name, value) = match flag.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (flag, None),
            };
            if !KNOWN.contains(&name) {
                return Err(BenchError::Usage(format!("unknown option `-{name}`")));
            }
            let value = match value {
                Some(value) => value,
                None if SWITCHES.contains(&name) => "true".to_owned(),
                None => rest
                    .next()
                    .cloned()
                    .ok_or_else(|| BenchError::Usage(format!("`-{name}` needs a value")))?,
            };
            given.insert(name.to_owned(), value);
        }
        Ok(Self { given })
    }

    /// A number, or its default. Zero is never meant.
    pub(crate) fn number<T>(&self, name: &str, default: T) -> Result<T, BenchError>
    where
        T: FromStr + PartialEq + Default,
    {
        let Some(text) = self.given.get(name) else { return Ok(default) };
        match text.parse::<T>() {
            Ok(number) if number != T::default() => Ok(number),
            _ => Err(BenchError::Usage(format!("`-{name}={text}`: expected a number above zero"))),
        }
    }

    /// A word, if one was given.
    pub(crate) fn word(&self, name: &str) -> Option<&str> {
        self.given.get(name).map(String::as_str)
    }

    /// Whether a switch is on.
    pub(crate) fn is_on(&self, name: &str) -> bool {
        self.given.get(name).is_some_and(|value| value != "false")
    }

    /// The directory below which servers keep their data.
    pub(crate) fn directory(&self) -> PathBuf {
        self.given.get("dir").map_or_else(std::env::temp_dir, PathBuf::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(words: &str, expected: Result<u32, &str>) {
        let words: Vec<String> = words.split_whitespace().map(str::to_owned).collect();
        let kills = Options::parse(&words).and_then(|options| options.number("kills", 100));
        match (kills, expected) {
            (Ok(kills), Ok(expected)) => assert_eq!(kills, expected),
            (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error}"),
            (kills, expected) => panic!("{kills:?}, expected {expected:?}"),
        }
    }

    #[test]
    fn flags_take_either_form() {
        check("", Ok(100));
        check("-kills=7 -json", Ok(7));
        check("--kills 7", Ok(7));
    }

    #[test]
    fn what_is_wrong_is_named() {
        check("-kill=7", Err("unknown option `-kill`"));
        check("-kills", Err("`-kills` needs a value"));
        check("-kills=0", Err("`-kills=0`"));
        check("-kills=many", Err("`-kills=many`"));
        check("seven", Err("unexpected argument `seven`"));
    }
}
