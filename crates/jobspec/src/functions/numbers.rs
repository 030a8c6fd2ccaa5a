//! Functions on numbers.

use cos_model::Value;

use super::{Answer, Function, Host, MANY, float, function, number, text, whole};
use crate::eval::{compare, from_float};

pub(super) const TABLE: &[Function] = &[
    function("abs", 1, 1, abs),
    function("ceil", 1, 1, |a, _| Ok(from_float(float(a, 0)?.ceil()))),
    function("floor", 1, 1, |a, _| Ok(from_float(float(a, 0)?.floor()))),
    function("log", 2, 2, |a, _| finite(float(a, 0)?.log(float(a, 1)?))),
    function("max", 1, MANY, |a, _| extreme(a, std::cmp::Ordering::Greater)),
    function("min", 1, MANY, |a, _| extreme(a, std::cmp::Ordering::Less)),
    function("parseint", 2, 2, parseint),
    function("pow", 2, 2, |a, _| finite(float(a, 0)?.powf(float(a, 1)?))),
    function("signum", 1, 1, signum),
];

fn finite(number: f64) -> Answer {
    if number.is_finite() {
        Ok(from_float(number))
    } else {
        Err("the result is not a number".to_owned())
    }
}

fn abs(arguments: &[Value], _: &Host<'_>) -> Answer {
    match number(arguments, 0)? {
        Value::Int(number) => {
            number.checked_abs().map(Value::Int).ok_or_else(|| "too large".to_owned())
        }
        Value::Float(number) => Ok(Value::Float(number.abs())),
        other => Ok(other),
    }
}

fn extreme(arguments: &[Value], wanted: std::cmp::Ordering) -> Answer {
    let mut best = number(arguments, 0)?;
    for position in 1..arguments.len() {
        let candidate = number(arguments, position)?;
        if compare(&candidate, &best) == wanted {
            best = candidate;
        }
    }
    Ok(best)
}

fn parseint(arguments: &[Value], _: &Host<'_>) -> Answer {
    let (digits, base) = (text(arguments, 0)?, whole(arguments, 1)?);
    let radix = u32::try_from(base).ok().filter(|radix| (2..=36).contains(radix));
    let radix = radix.ok_or("the base must be from 2 to 36")?;
    i64::from_str_radix(&digits, radix)
        .map(Value::Int)
        .map_err(|_unreadable| format!("`{digits}` is not a number in base {base}"))
}

fn signum(arguments: &[Value], _: &Host<'_>) -> Answer {
    Ok(Value::Int(match number(arguments, 0)? {
        Value::Int(number) => number.signum(),
        Value::Float(number) if number > 0.0 => 1,
        Value::Float(number) if number < 0.0 => -1,
        _ => 0,
    }))
}
