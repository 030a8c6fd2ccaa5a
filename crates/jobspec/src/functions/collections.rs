//! Functions on lists and maps.

use std::collections::BTreeMap;

use cos_model::Value;

use super::{
    Answer, Function, Host, MANY, MAX_RESULT, float, function, list, map, size, strings_value,
    text, texts, whole,
};
use crate::eval::{Type, equal, from_float, sorted_set, to_text, unify};

pub(super) const TABLE: &[Function] = &[
    function("chunklist", 2, 2, chunklist),
    function("coalesce", 1, MANY, coalesce),
    function("coalescelist", 1, MANY, coalescelist),
    function("compact", 1, 1, compact),
    function("concat", 1, MANY, concat),
    function("contains", 2, 2, contains),
    function("convert", 2, 2, convert),
    function("distinct", 1, 1, distinct),
    function("element", 2, 2, element),
    function("flatten", 1, 1, |a, _| Ok(Value::List(flat(list(a, 0)?)))),
    function("index", 2, 2, index_of),
    function("keys", 1, 1, |a, _| Ok(strings_value(map(a, 0)?.keys().cloned()))),
    function("length", 1, 1, length),
    function("lookup", 2, 3, lookup),
    function("merge", 0, MANY, merge),
    function("range", 1, 3, range),
    function("slice", 3, 3, slice),
    function("sort", 1, 1, sort),
    function("values", 1, 1, |a, _| Ok(Value::List(map(a, 0)?.values().cloned().collect()))),
    function("zipmap", 2, 2, zipmap),
];

fn count(number: usize) -> Value {
    Value::Int(i64::try_from(number).unwrap_or(i64::MAX))
}

fn chunklist(arguments: &[Value], _: &Host<'_>) -> Answer {
    let (items, length) = (list(arguments, 0)?, size(arguments, 1)?);
    if length == 0 {
        return Ok(Value::List(vec![Value::List(items.to_vec())]));
    }
    Ok(Value::List(items.chunks(length).map(|chunk| Value::List(chunk.to_vec())).collect()))
}

fn coalesce(arguments: &[Value], _: &Host<'_>) -> Answer {
    let found = arguments.iter().find(|value| **value != Value::Null);
    let found = found.cloned().ok_or("all arguments are null")?;
    Ok(arguments.iter().fold(found, unify))
}

fn coalescelist(arguments: &[Value], _: &Host<'_>) -> Answer {
    for position in 0..arguments.len() {
        if arguments[position] != Value::Null && !list(arguments, position)?.is_empty() {
            return Ok(arguments[position].clone());
        }
    }
    Err("all lists are empty".to_owned())
}

fn compact(arguments: &[Value], _: &Host<'_>) -> Answer {
    let empty = Value::String(String::new());
    let keep = |value: &&Value| **value != Value::Null && **value != empty;
    Ok(Value::List(list(arguments, 0)?.iter().filter(keep).cloned().collect()))
}

fn concat(arguments: &[Value], _: &Host<'_>) -> Answer {
    let mut output = Vec::new();
    for position in 0..arguments.len() {
        output.extend_from_slice(list(arguments, position)?);
    }
    Ok(Value::List(output))
}

fn contains(arguments: &[Value], _: &Host<'_>) -> Answer {
    Ok(Value::Bool(list(arguments, 0)?.iter().any(|item| equal(item, &arguments[1]))))
}

/// `convert(value, type)`; the type comes as the text that an unknown reference leaves.
fn convert(arguments: &[Value], _: &Host<'_>) -> Answer {
    let name = text(arguments, 1)?;
    let name = name.trim_start_matches("${").trim_end_matches('}');
    let kind = match name {
        "string" => Type::Text,
        "number" => Type::Number,
        "bool" => Type::Bool,
        "any" => Type::Any,
        other => return Err(format!("conversion to `{other}` is not supported")),
    };
    kind.convert(arguments[0].clone())
        .ok_or_else(|| format!("a {} cannot become a {name}", arguments[0].kind()))
}

fn distinct(arguments: &[Value], _: &Host<'_>) -> Answer {
    Ok(Value::List(without_repetition(list(arguments, 0)?)?))
}

/// Keeps the first of equal values.
pub(super) fn without_repetition(items: &[Value]) -> Result<Vec<Value>, String> {
    // Comparing all with all takes the square of the number.
    if items.len() > 5_000 {
        return Err("the list is too long".to_owned());
    }
    let mut output: Vec<Value> = Vec::new();
    for item in items {
        if !output.iter().any(|other| equal(other, item)) {
            output.push(item.clone());
        }
    }
    Ok(output)
}

fn element(arguments: &[Value], _: &Host<'_>) -> Answer {
    let items = list(arguments, 0)?;
    let length = i64::try_from(items.len()).unwrap_or(i64::MAX);
    if length == 0 {
        return Err("the list is empty".to_owned());
    }
    // The index wraps around.
    let position = whole(arguments, 1)?.rem_euclid(length);
    Ok(items[usize::try_from(position).unwrap_or(0)].clone())
}

fn flat(items: &[Value]) -> Vec<Value> {
    let mut output = Vec::new();
    for item in items {
        match item {
            Value::List(inner) => output.extend(flat(inner)),
            other => output.push(other.clone()),
        }
    }
    output
}

fn index_of(arguments: &[Value], _: &Host<'_>) -> Answer {
    let position = list(arguments, 0)?.iter().position(|item| equal(item, &arguments[1]));
    position.map(count).ok_or_else(|| "the list does not hold this value".to_owned())
}

fn length(arguments: &[Value], _: &Host<'_>) -> Answer {
    match &arguments[0] {
        Value::List(items) => Ok(count(items.len())),
        Value::Map(map) => Ok(count(map.len())),
        Value::String(text) => Ok(count(text.chars().count())),
        other => Err(super::wrong(0, other, "a list, a map or text")),
    }
}

fn lookup(arguments: &[Value], _: &Host<'_>) -> Answer {
    let key = text(arguments, 1)?;
    map(arguments, 0)?
        .get(&key)
        .or_else(|| arguments.get(2))
        .cloned()
        .ok_or_else(|| format!("there is no `{key}` and no default"))
}

fn merge(arguments: &[Value], _: &Host<'_>) -> Answer {
    let mut output = BTreeMap::new();
    for (position, argument) in arguments.iter().enumerate() {
        if *argument != Value::Null {
            output.extend(map(arguments, position)?.clone());
        }
    }
    Ok(Value::Map(output))
}

fn range(arguments: &[Value], _: &Host<'_>) -> Answer {
    let (start, end) = match arguments.len() {
        1 => (0.0, float(arguments, 0)?),
        _ => (float(arguments, 0)?, float(arguments, 1)?),
    };
    let step = match arguments.len() {
        3 => float(arguments, 2)?,
        _ if end < start => -1.0,
        _ => 1.0,
    };
    if step.abs() == 0.0 || (step > 0.0) != (end > start) && start.total_cmp(&end).is_ne() {
        return Err("the step leads away from the end".to_owned());
    }
    // Nomad makes at most this many, too.
    let most = 1_024;
    let mut output = Vec::new();
    let mut factor = 0.0_f64;
    loop {
        let current = factor.mul_add(step, start);
        if (step > 0.0 && current >= end) || (step < 0.0 && current <= end) {
            return Ok(Value::List(output));
        }
        if output.len() >= most {
            return Err(format!("a range has at most {most} members"));
        }
        output.push(from_float(current));
        factor += 1.0;
    }
}

fn slice(arguments: &[Value], _: &Host<'_>) -> Answer {
    let items = list(arguments, 0)?;
    let (start, end) = (size(arguments, 1)?, size(arguments, 2)?);
    let part = items.get(start..end);
    part.map(|part| Value::List(part.to_vec()))
        .ok_or_else(|| format!("the list has {} members, not {start} to {end}", items.len()))
}

fn sort(arguments: &[Value], _: &Host<'_>) -> Answer {
    let mut items = texts(arguments, 0)?;
    items.sort();
    Ok(strings_value(items))
}

fn zipmap(arguments: &[Value], _: &Host<'_>) -> Answer {
    let (keys, values) = (texts(arguments, 0)?, list(arguments, 1)?);
    if keys.len() != values.len() {
        return Err("there must be as many values as keys".to_owned());
    }
    Ok(Value::Map(keys.into_iter().zip(values.iter().cloned()).collect()))
}

/// Makes a set: sorted, without repetitions, of one type.
pub(super) fn set(items: &[Value]) -> Vec<Value> {
    let has_text = items.iter().any(|item| matches!(item, Value::String(_)));
    let same = |item: &Value| match to_text(item) {
        Some(text) if has_text => Value::String(text),
        _ => item.clone(),
    };
    sorted_set(items.iter().map(same).collect())
}

/// Refuses a product of sizes beyond the limit.
pub(super) fn check_product(sizes: impl Iterator<Item = usize>) -> Result<(), String> {
    let product = sizes.fold(1_usize, usize::saturating_mul);
    if product > MAX_RESULT / 64 { Err("the product is too large".to_owned()) } else { Ok(()) }
}
