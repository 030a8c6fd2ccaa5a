//! `format` and `formatlist`: text by a pattern with verbs, as Go's `printf` has them.

use cos_model::Value;

use super::encoding::json_text;
use super::{Answer, Function, Host, MANY, function, text};
use crate::eval::{to_number, to_text};

pub(super) const TABLE: &[Function] =
    &[function("format", 1, MANY, format_one), function("formatlist", 1, MANY, format_list)];

/// The widest field; wider ones would only fill memory.
const MAX_WIDTH: usize = 1_000;

#[derive(Default)]
struct Verb {
    left: bool,
    zero: bool,
    plus: bool,
    space: bool,
    sharp: bool,
    width: usize,
    precision: Option<usize>,
}

fn format_one(arguments: &[Value], _: &Host<'_>) -> Answer {
    apply(&text(arguments, 0)?, &arguments[1..]).map(Value::String)
}

fn format_list(arguments: &[Value], _: &Host<'_>) -> Answer {
    let pattern = text(arguments, 0)?;
    let rest = &arguments[1..];
    let mut length = None;
    for items in rest.iter().filter_map(Value::as_list) {
        if length.is_some_and(|length| length != items.len()) {
            return Err("the lists have different lengths".to_owned());
        }
        length = Some(items.len());
    }
    let mut output = Vec::new();
    for index in 0..length.unwrap_or(1) {
        let row: Vec<Value> = rest
            .iter()
            .map(|value| match value {
                Value::List(items) => items[index].clone(),
                single => single.clone(),
            })
            .collect();
        output.push(Value::String(apply(&pattern, &row)?));
    }
    Ok(Value::List(output))
}

fn apply(pattern: &str, arguments: &[Value]) -> Result<String, String> {
    let mut output = String::new();
    let mut next = 0;
    let mut used = 0;
    let mut chars = pattern.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '%' {
            output.push(c);
            continue;
        }
        let mut verb = Verb::default();
        while let Some(flag) = chars.next_if(|c| "-0+ #".contains(*c)) {
            match flag {
                '-' => verb.left = true,
                '0' => verb.zero = true,
                '+' => verb.plus = true,
                ' ' => verb.space = true,
                _ => verb.sharp = true,
            }
        }
        verb.width = digits(&mut chars)?.unwrap_or(0);
        if chars.next_if_eq(&'.').is_some() {
            verb.precision = Some(digits(&mut chars)?.unwrap_or(0));
        }
        if chars.next_if_eq(&'[').is_some() {
            let position = digits(&mut chars)?.unwrap_or(0);
            if chars.next() != Some(']') || position == 0 {
                return Err("`%[` needs a position and `]`".to_owned());
            }
            next = position - 1;
        }
        let Some(kind) = chars.next() else {
            return Err("the pattern ends after `%`".to_owned());
        };
        if kind == '%' {
            output.push('%');
            continue;
        }
        let argument =
            arguments.get(next).ok_or_else(|| format!("there is no value for `%{kind}`"))?;
        next += 1;
        used = used.max(next);
        pad(&mut output, &render(kind, argument, &verb)?, &verb);
        if output.len() > super::MAX_RESULT {
            return Err("the result is too long".to_owned());
        }
    }
    if used < arguments.len() {
        return Err(format!("the pattern uses {used} of {} values", arguments.len()));
    }
    Ok(output)
}

fn digits(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Result<Option<usize>, String> {
    let mut text = String::new();
    while let Some(digit) = chars.next_if(char::is_ascii_digit) {
        text.push(digit);
    }
    if text.is_empty() {
        return Ok(None);
    }
    match text.parse() {
        Ok(number) if number <= MAX_WIDTH => Ok(Some(number)),
        _ => Err(format!("a width of {text} is too large")),
    }
}

fn render(kind: char, argument: &Value, verb: &Verb) -> Result<String, String> {
    let wrong = |wanted: &str| format!("`%{kind}` needs {wanted}, not a {}", argument.kind());
    let cut = |text: String| match verb.precision {
        Some(length) => text.chars().take(length).collect(),
        None => text,
    };
    match kind {
        'v' if verb.sharp => Ok(json_text(argument)),
        'v' => Ok(to_text(argument).unwrap_or_else(|| json_text(argument))),
        's' => to_text(argument).map(cut).ok_or_else(|| wrong("text")),
        'q' => {
            let text = to_text(argument).ok_or_else(|| wrong("text"))?;
            Ok(json_text(&Value::String(cut(text))))
        }
        't' => match crate::eval::to_bool(argument) {
            Some(truth) => Ok(truth.to_string()),
            None => Err(wrong("a truth value")),
        },
        'd' | 'b' | 'o' | 'x' | 'X' => match to_number(argument) {
            Some(Value::Int(number)) => Ok(render_whole(kind, number, verb)),
            #[expect(clippy::cast_possible_truncation, reason = "Go cuts the fraction off as well")]
            Some(Value::Float(number)) => Ok(render_whole(kind, number.trunc() as i64, verb)),
            _ => Err(wrong("a number")),
        },
        'e' | 'E' | 'f' | 'F' | 'g' | 'G' => match to_number(argument) {
            #[expect(clippy::cast_precision_loss, reason = "a float verb was asked for")]
            Some(Value::Int(number)) => Ok(render_float(kind, number as f64, verb)),
            Some(Value::Float(number)) => Ok(render_float(kind, number, verb)),
            _ => Err(wrong("a number")),
        },
        other => Err(format!("`%{other}` is not a verb")),
    }
}

fn signed(negative: bool, digits: &str, verb: &Verb) -> String {
    let sign = match (negative, verb.plus, verb.space) {
        (true, _, _) => "-",
        (false, true, _) => "+",
        (false, false, true) => " ",
        (false, false, false) => "",
    };
    format!("{sign}{digits}")
}

fn render_whole(kind: char, number: i64, verb: &Verb) -> String {
    let amount = number.unsigned_abs();
    let digits = match kind {
        'b' => format!("{amount:b}"),
        'o' => format!("{amount:o}"),
        'x' => format!("{}{amount:x}", if verb.sharp { "0x" } else { "" }),
        'X' => format!("{}{amount:X}", if verb.sharp { "0X" } else { "" }),
        _ => amount.to_string(),
    };
    signed(number < 0, &digits, verb)
}

fn render_float(kind: char, number: f64, verb: &Verb) -> String {
    let amount = number.abs();
    let digits = match kind {
        'e' | 'E' => exponent(amount, verb.precision.unwrap_or(6), kind),
        'f' | 'F' => format!("{amount:.*}", verb.precision.unwrap_or(6)),
        _ => crate::text::float_text(amount),
    };
    signed(number.is_sign_negative() && amount > 0.0, &digits, verb)
}

/// Scientific notation with a sign and at least two digits in the exponent, as Go writes it.
fn exponent(amount: f64, precision: usize, kind: char) -> String {
    let plain = format!("{amount:.precision$e}");
    let (digits, power) = plain.split_once('e').unwrap_or((&plain, "0"));
    let (sign, power) = match power.strip_prefix('-') {
        Some(power) => ('-', power),
        None => ('+', power),
    };
    format!("{digits}{kind}{sign}{power:0>2}")
}

fn pad(output: &mut String, text: &str, verb: &Verb) {
    let missing = verb.width.saturating_sub(text.chars().count());
    if verb.left {
        output.push_str(text);
        output.push_str(&" ".repeat(missing));
    } else if verb.zero {
        let (sign, digits) = match text.strip_prefix(['-', '+']) {
            Some(digits) => (&text[..1], digits),
            None => ("", text),
        };
        output.push_str(sign);
        output.push_str(&"0".repeat(missing));
        output.push_str(digits);
    } else {
        output.push_str(&" ".repeat(missing));
        output.push_str(text);
    }
}
