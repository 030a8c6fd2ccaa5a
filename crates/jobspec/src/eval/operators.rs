//! Operators and the implicit conversions between text, numbers and truth values.

use cos_model::Value;
use hcl_edit::expr::BinaryOperator;

use crate::text::scalar_text;

/// The largest float below which every whole number is exact.
const MAX_EXACT: f64 = 9_007_199_254_740_992.0;

/// A number, also from its text.
pub(crate) fn to_number(value: &Value) -> Option<Value> {
    match value {
        Value::Int(_) | Value::Float(_) => Some(value.clone()),
        Value::String(text) => {
            let whole = text.parse().ok().map(Value::Int);
            // Rust would also read "inf" and "nan", which are no numbers in job files.
            let is_number = text.bytes().all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b));
            whole.or_else(|| text.parse().ok().filter(|_| is_number).map(from_float))
        }
        _ => None,
    }
}

/// A truth value, also from its text.
pub(crate) fn to_bool(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(truth) => Some(*truth),
        Value::String(text) => text.parse().ok(),
        _ => None,
    }
}

/// The text of a scalar.
pub(crate) fn to_text(value: &Value) -> Option<String> {
    scalar_text(value)
}

/// A float as a number: whole numbers stay whole.
pub(crate) fn from_float(number: f64) -> Value {
    if number.fract() == 0.0 && number.abs() < MAX_EXACT {
        #[expect(clippy::cast_possible_truncation, reason = "checked against MAX_EXACT")]
        return Value::Int(number as i64);
    }
    Value::Float(number)
}

/// A number as a float.
pub(crate) fn as_float(value: &Value) -> f64 {
    match value {
        #[expect(clippy::cast_precision_loss, reason = "floats are what was asked for")]
        Value::Int(number) => *number as f64,
        Value::Float(number) => *number,
        _ => 0.0,
    }
}

/// Converts `value` to the type that it and `other` have in common: text, if one of them is.
pub(crate) fn unify(value: Value, other: &Value) -> Value {
    match (&value, other) {
        (Value::Int(_) | Value::Float(_) | Value::Bool(_), Value::String(_)) => {
            scalar_text(&value).map_or(value, Value::String)
        }
        _ => value,
    }
}

/// Whether two values are equal; whole and fractional numbers compare by amount.
pub(crate) fn equal(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Int(_), Value::Float(_)) | (Value::Float(_), Value::Int(_)) => {
            as_float(left).total_cmp(&as_float(right)).is_eq()
        }
        _ => left == right,
    }
}

/// Orders two numbers.
pub(crate) fn compare(left: &Value, right: &Value) -> std::cmp::Ordering {
    match (left, right) {
        (Value::Int(left), Value::Int(right)) => left.cmp(right),
        _ => as_float(left).total_cmp(&as_float(right)),
    }
}

/// Applies a binary operator.
pub(super) fn binary(
    operator: BinaryOperator,
    left: &Value,
    right: &Value,
) -> Result<Value, String> {
    use BinaryOperator as Op;
    match operator {
        Op::Eq => return Ok(Value::Bool(equal(left, right))),
        Op::NotEq => return Ok(Value::Bool(!equal(left, right))),
        Op::And | Op::Or => {
            let both = to_bool(left).zip(to_bool(right));
            let (left, right) = both.ok_or_else(|| mismatch("true or false", left, right))?;
            return Ok(Value::Bool(if operator == Op::And {
                left && right
            } else {
                left || right
            }));
        }
        _ => {}
    }
    let both = to_number(left).zip(to_number(right));
    let (a, b) = both.ok_or_else(|| mismatch("numbers", left, right))?;
    let order = compare(&a, &b);
    match operator {
        Op::Less => Ok(Value::Bool(order.is_lt())),
        Op::LessEq => Ok(Value::Bool(order.is_le())),
        Op::Greater => Ok(Value::Bool(order.is_gt())),
        Op::GreaterEq => Ok(Value::Bool(order.is_ge())),
        _ => arithmetic(operator, &a, &b),
    }
}

fn mismatch(wanted: &str, left: &Value, right: &Value) -> String {
    format!("this operator needs {wanted}, not a {} and a {}", left.kind(), right.kind())
}

fn arithmetic(operator: BinaryOperator, left: &Value, right: &Value) -> Result<Value, String> {
    use BinaryOperator as Op;
    if matches!(operator, Op::Div | Op::Mod) && as_float(right).abs() == 0.0 {
        return Err("division by zero".to_owned());
    }
    if let (Value::Int(a), Value::Int(b)) = (left, right) {
        let whole = match operator {
            Op::Plus => a.checked_add(*b),
            Op::Minus => a.checked_sub(*b),
            Op::Mul => a.checked_mul(*b),
            Op::Mod => a.checked_rem(*b),
            Op::Div => a.checked_div(*b).filter(|whole| whole.checked_mul(*b) == Some(*a)),
            _ => None,
        };
        if let Some(whole) = whole {
            return Ok(Value::Int(whole));
        }
    }
    let (a, b) = (as_float(left), as_float(right));
    let result = match operator {
        Op::Plus => a + b,
        Op::Minus => a - b,
        Op::Mul => a * b,
        Op::Div => a / b,
        _ => a % b,
    };
    if result.is_finite() {
        Ok(from_float(result))
    } else {
        Err("the result is too large".to_owned())
    }
}

/// A member of a list or map.
pub(super) fn index(value: &Value, key: &Value) -> Result<Value, String> {
    match value {
        Value::Map(map) => {
            let name = to_text(key).ok_or_else(|| format!("a {} is not a key", key.kind()))?;
            map.get(&name).cloned().ok_or_else(|| format!("there is no `{name}` here"))
        }
        Value::List(items) => {
            let Some(Value::Int(position)) = to_number(key) else {
                return Err(format!("a list has no member `{}`", to_text(key).unwrap_or_default()));
            };
            usize::try_from(position)
                .ok()
                .and_then(|position| items.get(position))
                .cloned()
                .ok_or_else(|| {
                    format!("the list has {} members, not index {position}", items.len())
                })
        }
        other => Err(format!("a {} has no members", other.kind())),
    }
}
