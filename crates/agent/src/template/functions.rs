//! Template functions that compute something from their arguments alone.
//!
//! As in consul-template, the value that a pipeline passes on is the last argument.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use gotmpl::{FuncMap, TemplateError, Value};
use sha2::{Digest, Sha256};

type Outcome = Result<Value, TemplateError>;
type Function = fn(&str, &[Value]) -> Outcome;

/// The largest list that `loop` makes: a template must not be able to fill the memory.
const LOOP_MAX: i64 = 100_000;

/// Every function by name. Those with the prefix `sprig_` are the ones of that library.
const FUNCTIONS: [(&str, Function); 62] = [
    ("toUpper", |n, a| Ok(Value::from(text_of(n, a, 0)?.to_uppercase()))),
    ("toLower", |n, a| Ok(Value::from(text_of(n, a, 0)?.to_lowercase()))),
    ("toTitle", |n, a| Ok(Value::from(title(&text_of(n, a, 0)?)))),
    ("sprig_upper", |n, a| Ok(Value::from(text_of(n, a, 0)?.to_uppercase()))),
    ("sprig_lower", |n, a| Ok(Value::from(text_of(n, a, 0)?.to_lowercase()))),
    ("sprig_title", |n, a| Ok(Value::from(title(&text_of(n, a, 0)?)))),
    ("trimSpace", |n, a| Ok(Value::from(text_of(n, a, 0)?.trim()))),
    ("sprig_trim", |n, a| Ok(Value::from(text_of(n, a, 0)?.trim()))),
    ("trim", |n, a| trim(n, a, |text, cut| text.trim_matches(cut))),
    ("trimPrefix", |n, a| affix(n, a, |text, affix| text.strip_prefix(affix))),
    ("trimSuffix", |n, a| affix(n, a, |text, affix| text.strip_suffix(affix))),
    ("sprig_trimPrefix", |n, a| affix(n, a, |text, affix| text.strip_prefix(affix))),
    ("sprig_trimSuffix", |n, a| affix(n, a, |text, affix| text.strip_suffix(affix))),
    ("sprig_hasPrefix", |n, a| Ok(Value::Bool(text_of(n, a, 1)?.starts_with(&text_of(n, a, 0)?)))),
    ("sprig_hasSuffix", |n, a| Ok(Value::Bool(text_of(n, a, 1)?.ends_with(&text_of(n, a, 0)?)))),
    ("split", split),
    ("sprig_splitList", split),
    ("join", join),
    ("sprig_join", join),
    ("replaceAll", replace),
    ("sprig_replace", replace),
    ("regexMatch", regex_match),
    ("regexReplaceAll", regex_replace),
    ("contains", contains),
    ("in", |n, a| Ok(Value::Bool(list_of(n, a, 0)?.contains(&argument(n, a, 1)?.clone())))),
    ("containsAll", |n, a| contains_many(n, a, |hits, all| hits == all)),
    ("containsAny", |n, a| contains_many(n, a, |hits, _| hits > 0)),
    ("containsNone", |n, a| contains_many(n, a, |hits, _| hits == 0)),
    ("containsNotAll", |n, a| contains_many(n, a, |hits, all| hits < all)),
    ("sprig_contains", |n, a| Ok(Value::Bool(text_of(n, a, 1)?.contains(&text_of(n, a, 0)?)))),
    ("sprig_default", |n, a| {
        let value = argument(n, a, 1)?;
        Ok(if value.is_truthy() { value.clone() } else { argument(n, a, 0)?.clone() })
    }),
    ("sprig_quote", |n, a| Ok(Value::from(format!("{:?}", text_of(n, a, 0)?)))),
    ("sprig_squote", |n, a| Ok(Value::from(format!("'{}'", text_of(n, a, 0)?)))),
    ("sprig_repeat", |n, a| {
        let times = usize::try_from(int_of(n, a, 0)?.clamp(0, LOOP_MAX)).unwrap_or(0);
        Ok(Value::from(text_of(n, a, 1)?.repeat(times)))
    }),
    ("indent", indent),
    ("sprig_indent", indent),
    ("parseInt", |n, a| parse(n, a, |text| text.parse().ok().map(Value::Int))),
    ("parseUint", |n, a| parse(n, a, |text| text.parse().ok().map(Value::Uint))),
    ("parseFloat", |n, a| parse(n, a, |text| text.parse().ok().map(Value::Float))),
    ("parseBool", |n, a| {
        parse(n, a, |text| match text {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(Value::Bool(true)),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(Value::Bool(false)),
            _ => None,
        })
    }),
    ("parseJSON", |n, a| {
        let json: serde_json::Value = serde_json::from_str(&text_of(n, a, 0)?)
            .map_err(|error| exec_error(n, &error.to_string()))?;
        Ok(from_json(&json))
    }),
    ("toJSON", |n, a| Ok(Value::from(to_json(argument(n, a, 0)?).to_string()))),
    ("toUnescapedJSON", |n, a| Ok(Value::from(to_json(argument(n, a, 0)?).to_string()))),
    ("sprig_toJson", |n, a| Ok(Value::from(to_json(argument(n, a, 0)?).to_string()))),
    ("toJSONPretty", |n, a| Ok(Value::from(format!("{:#}", to_json(argument(n, a, 0)?))))),
    ("base64Encode", |n, a| Ok(Value::from(STANDARD.encode(text_of(n, a, 0)?)))),
    ("base64URLEncode", |n, a| Ok(Value::from(URL_SAFE.encode(text_of(n, a, 0)?)))),
    ("base64Decode", |n, a| decoded(n, STANDARD.decode(text_of(n, a, 0)?))),
    ("base64URLDecode", |n, a| decoded(n, URL_SAFE.decode(text_of(n, a, 0)?))),
    ("sprig_b64enc", |n, a| Ok(Value::from(STANDARD.encode(text_of(n, a, 0)?)))),
    ("sprig_b64dec", |n, a| decoded(n, STANDARD.decode(text_of(n, a, 0)?))),
    ("sha256Hex", |n, a| {
        let digest = Sha256::digest(text_of(n, a, 0)?.as_bytes());
        Ok(Value::from(digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>()))
    }),
    ("loop", make_range),
    ("add", |n, a| arithmetic(n, a, i64::checked_add, |x, y| x + y)),
    ("subtract", |n, a| arithmetic(n, a, i64::checked_sub, |x, y| x - y)),
    ("multiply", |n, a| arithmetic(n, a, i64::checked_mul, |x, y| x * y)),
    ("divide", |n, a| arithmetic(n, a, i64::checked_div, |x, y| x / y)),
    ("modulo", |n, a| arithmetic(n, a, i64::checked_rem, |x, y| x % y)),
    ("minimum", |n, a| arithmetic(n, a, |x, y| Some(x.min(y)), f64::min)),
    ("maximum", |n, a| arithmetic(n, a, |x, y| Some(x.max(y)), f64::max)),
    ("byTag", by_tag),
    ("explode", explode),
];

pub(super) fn all() -> FuncMap {
    FUNCTIONS
        .iter()
        .map(|(name, function)| {
            let run: gotmpl::ValueFunc = Arc::new(|args| function(name, args));
            ((*name).to_owned(), run)
        })
        .collect()
}

pub(super) fn exec_error(function: &str, why: &str) -> TemplateError {
    TemplateError::Exec(format!("{function}: {why}"))
}

/// Reads an argument as text; numbers are written out.
pub(super) fn text_of(name: &str, args: &[Value], at: usize) -> Result<String, TemplateError> {
    Ok(match argument(name, args, at)? {
        Value::Nil => String::new(),
        value => value.to_string(),
    })
}

fn argument<'a>(name: &str, args: &'a [Value], at: usize) -> Result<&'a Value, TemplateError> {
    args.get(at).ok_or_else(|| TemplateError::ArgCount {
        name: name.to_owned(),
        expected: at + 1,
        got: args.len(),
    })
}

fn int_of(name: &str, args: &[Value], at: usize) -> Result<i64, TemplateError> {
    let value = argument(name, args, at)?;
    let parsed = || value.to_string().trim().parse().ok();
    value.as_int().or_else(parsed).ok_or_else(|| exec_error(name, "expected a whole number"))
}

fn list_of(name: &str, args: &[Value], at: usize) -> Result<Arc<[Value]>, TemplateError> {
    match argument(name, args, at)? {
        Value::List(list) => Ok(Arc::clone(list)),
        Value::Nil => Ok(Arc::from(Vec::new())),
        other => Err(exec_error(name, &format!("expected a list, got {}", other.type_name()))),
    }
}

fn title(text: &str) -> String {
    let mut begins = true;
    text.chars()
        .flat_map(|c| {
            let upper = begins;
            begins = c.is_whitespace();
            if upper { c.to_uppercase().collect::<Vec<_>>() } else { vec![c] }
        })
        .collect()
}

fn trim(name: &str, args: &[Value], cut: for<'a> fn(&'a str, &[char]) -> &'a str) -> Outcome {
    let characters: Vec<char> = text_of(name, args, 0)?.chars().collect();
    let text = text_of(name, args, 1)?;
    Ok(Value::from(cut(&text, &characters)))
}

fn affix(
    name: &str,
    args: &[Value],
    strip: for<'a> fn(&'a str, &str) -> Option<&'a str>,
) -> Outcome {
    let affix = text_of(name, args, 0)?;
    let text = text_of(name, args, 1)?;
    Ok(Value::from(strip(&text, &affix).unwrap_or(&text)))
}

fn split(name: &str, args: &[Value]) -> Outcome {
    let separator = text_of(name, args, 0)?;
    let text = text_of(name, args, 1)?.trim().to_owned();
    let parts: Vec<Value> = if text.is_empty() {
        Vec::new()
    } else if separator.is_empty() {
        text.chars().map(|c| Value::from(c.to_string())).collect()
    } else {
        text.split(&separator).map(Value::from).collect()
    };
    Ok(Value::from(parts))
}

fn join(name: &str, args: &[Value]) -> Outcome {
    let separator = text_of(name, args, 0)?;
    let parts: Vec<String> = list_of(name, args, 1)?.iter().map(ToString::to_string).collect();
    Ok(Value::from(parts.join(&separator)))
}

fn replace(name: &str, args: &[Value]) -> Outcome {
    let text = text_of(name, args, 2)?;
    Ok(Value::from(text.replace(&text_of(name, args, 0)?, &text_of(name, args, 1)?)))
}

fn regex(name: &str, args: &[Value]) -> Result<regex::Regex, TemplateError> {
    regex::Regex::new(&text_of(name, args, 0)?)
        .map_err(|error| exec_error(name, &error.to_string()))
}

fn regex_match(name: &str, args: &[Value]) -> Outcome {
    Ok(Value::Bool(regex(name, args)?.is_match(&text_of(name, args, 1)?)))
}

fn regex_replace(name: &str, args: &[Value]) -> Outcome {
    let with = text_of(name, args, 1)?;
    let text = text_of(name, args, 2)?;
    Ok(Value::from(regex(name, args)?.replace_all(&text, with.as_str()).into_owned()))
}

/// `contains` looks into lists and into texts: the latter is what template authors expect.
fn contains(name: &str, args: &[Value]) -> Outcome {
    let wanted = argument(name, args, 0)?;
    match argument(name, args, 1)? {
        Value::List(list) => Ok(Value::Bool(list.contains(wanted))),
        other => Ok(Value::Bool(other.to_string().contains(&wanted.to_string()))),
    }
}

fn contains_many(name: &str, args: &[Value], judge: fn(usize, usize) -> bool) -> Outcome {
    let wanted = list_of(name, args, 0)?;
    let list = list_of(name, args, 1)?;
    let hits = wanted.iter().filter(|item| list.contains(item)).count();
    Ok(Value::Bool(judge(hits, wanted.len())))
}

fn indent(name: &str, args: &[Value]) -> Outcome {
    let spaces = usize::try_from(int_of(name, args, 0)?.clamp(0, 1024)).unwrap_or(0);
    let pad = " ".repeat(spaces);
    let text = text_of(name, args, 1)?;
    let lines: Vec<String> = text.split('\n').map(|line| format!("{pad}{line}")).collect();
    Ok(Value::from(lines.join("\n")))
}

fn parse(name: &str, args: &[Value], read: fn(&str) -> Option<Value>) -> Outcome {
    let text = text_of(name, args, 0)?;
    if text.is_empty() {
        // As in consul-template: on the first pass a key may not be there yet.
        return Ok(Value::Int(0));
    }
    read(&text).ok_or_else(|| exec_error(name, &format!("cannot read {text:?}")))
}

fn decoded(name: &str, bytes: Result<Vec<u8>, base64::DecodeError>) -> Outcome {
    let bytes = bytes.map_err(|error| exec_error(name, &error.to_string()))?;
    Ok(Value::from(String::from_utf8_lossy(&bytes).into_owned()))
}

fn make_range(name: &str, args: &[Value]) -> Outcome {
    let (from, to) = match args.len() {
        1 => (0, int_of(name, args, 0)?),
        _ => (int_of(name, args, 0)?, int_of(name, args, 1)?),
    };
    if to.saturating_sub(from) > LOOP_MAX {
        return Err(exec_error(name, &format!("more than {LOOP_MAX} rounds")));
    }
    Ok(Value::from((from..to).map(Value::Int).collect::<Vec<_>>()))
}

/// The piped value is the left operand: `{{ 5 | subtract 2 }}` is 3.
fn arithmetic(
    name: &str,
    args: &[Value],
    whole: fn(i64, i64) -> Option<i64>,
    broken: fn(f64, f64) -> f64,
) -> Outcome {
    let (right, left) = (argument(name, args, 0)?, argument(name, args, 1)?);
    if let (Some(left), Some(right)) = (left.as_int(), right.as_int()) {
        let result = whole(left, right).map(Value::Int);
        return result.ok_or_else(|| exec_error(name, "out of range"));
    }
    match (left.as_float(), right.as_float()) {
        (Some(left), Some(right)) => Ok(Value::Float(broken(left, right))),
        _ => Err(exec_error(name, "expected numbers")),
    }
}

/// Sorts instances into a map from tag to those that carry it.
fn by_tag(name: &str, args: &[Value]) -> Outcome {
    let mut sorted: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for instance in list_of(name, args, 0)?.iter() {
        if let Some(Value::List(tags)) = instance.field("Tags") {
            for tag in tags.iter() {
                sorted.entry(tag.to_string()).or_default().push(instance.clone());
            }
        }
    }
    let map: BTreeMap<String, Value> =
        sorted.into_iter().map(|(tag, list)| (tag, Value::from(list))).collect();
    Ok(Value::from(map))
}

/// Makes a nested map of a list of keys.
fn explode(name: &str, args: &[Value]) -> Outcome {
    let mut root = serde_json::Map::new();
    for pair in list_of(name, args, 0)?.iter() {
        let key = pair.field("Key").map(ToString::to_string).unwrap_or_default();
        let value = pair.field("Value").map(ToString::to_string).unwrap_or_default();
        let mut parts: Vec<&str> = key.split('/').filter(|part| !part.is_empty()).collect();
        let Some(last) = parts.pop() else { continue };
        let mut place = &mut root;
        for part in parts {
            let below = place
                .entry(part)
                .or_insert_with(|| serde_json::Value::Object(serde_json::Map::new()));
            let serde_json::Value::Object(map) = below else {
                return Err(exec_error(name, &format!("`{part}` is both a value and a folder")));
            };
            place = map;
        }
        place.insert(last.to_owned(), serde_json::Value::String(value));
    }
    Ok(from_json(&serde_json::Value::Object(root)))
}

fn from_json(json: &serde_json::Value) -> Value {
    match json {
        serde_json::Value::Null => Value::Nil,
        serde_json::Value::Bool(truth) => Value::Bool(*truth),
        serde_json::Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(whole), _) => Value::Int(whole),
            (None, Some(float)) => Value::Float(float),
            (None, None) => Value::from(number.to_string()),
        },
        serde_json::Value::String(text) => Value::from(text.as_str()),
        serde_json::Value::Array(list) => {
            Value::from(list.iter().map(from_json).collect::<Vec<_>>())
        }
        serde_json::Value::Object(map) => {
            let map: BTreeMap<String, Value> =
                map.iter().map(|(key, value)| (key.clone(), from_json(value))).collect();
            Value::from(map)
        }
    }
}

fn to_json(value: &Value) -> serde_json::Value {
    match value {
        Value::Bool(truth) => serde_json::Value::Bool(*truth),
        Value::Int(number) => serde_json::Value::from(*number),
        Value::Uint(number) => serde_json::Value::from(*number),
        Value::Float(number) => serde_json::Value::from(*number),
        Value::String(text) => serde_json::Value::String(text.to_string()),
        Value::List(list) => serde_json::Value::Array(list.iter().map(to_json).collect()),
        Value::Map(map) => serde_json::Value::Object(
            map.iter().map(|(key, value)| (key.to_string(), to_json(value))).collect(),
        ),
        Value::Nil | Value::Function(_) => serde_json::Value::Null,
    }
}
