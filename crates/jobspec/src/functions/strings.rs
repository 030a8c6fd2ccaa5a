//! Functions on text.

use cos_model::Value;

use super::{Answer, Function, Host, MANY, function, strings_value, text, texts, whole};

pub(super) const TABLE: &[Function] = &[
    function("chomp", 1, 1, chomp),
    function("indent", 2, 2, indent),
    function("join", 2, MANY, join),
    function("lower", 1, 1, |a, _| Ok(Value::String(text(a, 0)?.to_lowercase()))),
    function("regex_replace", 3, 3, regex_replace),
    function("replace", 3, 3, replace),
    // Nomad's `reverse` reverses text, as `strrev` does.
    function("reverse", 1, 1, strrev),
    function("split", 2, 2, split),
    function("strlen", 1, 1, strlen),
    function("strrev", 1, 1, strrev),
    function("substr", 3, 3, substr),
    function("title", 1, 1, title),
    function("trim", 2, 2, trim),
    function("trimprefix", 2, 2, trimprefix),
    function("trimspace", 1, 1, |a, _| Ok(Value::String(text(a, 0)?.trim().to_owned()))),
    function("trimsuffix", 2, 2, trimsuffix),
    function("upper", 1, 1, |a, _| Ok(Value::String(text(a, 0)?.to_uppercase()))),
];

fn chomp(arguments: &[Value], _: &Host<'_>) -> Answer {
    Ok(Value::String(text(arguments, 0)?.trim_end_matches(['\n', '\r']).to_owned()))
}

fn indent(arguments: &[Value], _: &Host<'_>) -> Answer {
    let spaces = usize::try_from(whole(arguments, 0)?).unwrap_or(0);
    let body = text(arguments, 1)?;
    let lines = body.matches('\n').count();
    // The width alone may be larger than memory, even where there is no second line.
    if spaces.saturating_mul(lines.max(1)) > super::MAX_RESULT {
        return Err("the indentation is too large".to_owned());
    }
    Ok(Value::String(body.replace('\n', &format!("\n{}", " ".repeat(spaces)))))
}

fn join(arguments: &[Value], _: &Host<'_>) -> Answer {
    let separator = text(arguments, 0)?;
    let mut parts = Vec::new();
    for position in 1..arguments.len() {
        parts.extend(texts(arguments, position)?);
    }
    let bytes = parts.iter().map(String::len).sum::<usize>();
    if bytes.saturating_add(separator.len().saturating_mul(parts.len())) > super::MAX_RESULT {
        return Err("the result is too long".to_owned());
    }
    Ok(Value::String(parts.join(&separator)))
}

fn replace(arguments: &[Value], host: &Host<'_>) -> Answer {
    let (body, from, to) = (text(arguments, 0)?, text(arguments, 1)?, text(arguments, 2)?);
    // A pattern between slashes is a regular expression.
    if let Some(pattern) = from.strip_prefix('/').and_then(|rest| rest.strip_suffix('/'))
        && !pattern.is_empty()
    {
        let pattern = Value::String(pattern.to_owned());
        return regex_replace(&[Value::String(body), pattern, Value::String(to)], host);
    }
    checked_replacement(&body, body.matches(&from).count(), &to)?;
    Ok(Value::String(body.replace(&from, &to)))
}

fn regex_replace(arguments: &[Value], _: &Host<'_>) -> Answer {
    let (body, pattern, to) = (text(arguments, 0)?, text(arguments, 1)?, text(arguments, 2)?);
    let regex = regex::RegexBuilder::new(&pattern)
        .size_limit(1 << 20)
        .build()
        .map_err(|error| format!("`{pattern}` is not a regular expression: {error}"))?;
    checked_replacement(&body, regex.find_iter(&body).count(), &to)?;
    Ok(Value::String(regex.replace_all(&body, to.as_str()).into_owned()))
}

/// Refuses a replacement that would multiply text beyond the limit.
fn checked_replacement(body: &str, matches: usize, to: &str) -> Result<(), String> {
    // A reference such as `$1` may insert up to the whole text at each place.
    let each = if to.contains('$') { to.len().saturating_add(body.len()) } else { to.len() };
    if body.len().saturating_add(matches.saturating_mul(each)) > super::MAX_RESULT {
        return Err("the result is too long".to_owned());
    }
    Ok(())
}

fn split(arguments: &[Value], _: &Host<'_>) -> Answer {
    let (separator, body) = (text(arguments, 0)?, text(arguments, 1)?);
    if body.is_empty() {
        return Ok(Value::List(Vec::new()));
    }
    if separator.is_empty() {
        return Ok(strings_value(body.chars().map(String::from)));
    }
    Ok(strings_value(body.split(&separator).map(str::to_owned)))
}

fn strlen(arguments: &[Value], _: &Host<'_>) -> Answer {
    let count = text(arguments, 0)?.chars().count();
    Ok(Value::Int(i64::try_from(count).unwrap_or(i64::MAX)))
}

fn strrev(arguments: &[Value], _: &Host<'_>) -> Answer {
    Ok(Value::String(text(arguments, 0)?.chars().rev().collect()))
}

fn substr(arguments: &[Value], _: &Host<'_>) -> Answer {
    let body = text(arguments, 0)?;
    let length = i64::try_from(body.chars().count()).unwrap_or(i64::MAX);
    let (offset, wanted) = (whole(arguments, 1)?, whole(arguments, 2)?);
    // A negative offset counts from the end, a length of -1 is all that is left.
    let start = if offset < 0 { length.saturating_add(offset).max(0) } else { offset.min(length) };
    let taken = if wanted < 0 { length - start } else { wanted.min(length - start) };
    let to_size = |number: i64| usize::try_from(number).unwrap_or(0);
    Ok(Value::String(body.chars().skip(to_size(start)).take(to_size(taken)).collect()))
}

fn title(arguments: &[Value], _: &Host<'_>) -> Answer {
    let mut output = String::new();
    let mut at_start = true;
    for c in text(arguments, 0)?.chars() {
        if at_start {
            output.extend(c.to_uppercase());
        } else {
            output.push(c);
        }
        at_start = !c.is_alphanumeric() && c != '\'' && c != '_';
    }
    Ok(Value::String(output))
}

fn trim(arguments: &[Value], _: &Host<'_>) -> Answer {
    let (body, cut) = (text(arguments, 0)?, text(arguments, 1)?);
    Ok(Value::String(body.trim_matches(|c| cut.contains(c)).to_owned()))
}

fn trimprefix(arguments: &[Value], _: &Host<'_>) -> Answer {
    let (body, cut) = (text(arguments, 0)?, text(arguments, 1)?);
    Ok(Value::String(body.strip_prefix(&cut).unwrap_or(&body).to_owned()))
}

fn trimsuffix(arguments: &[Value], _: &Host<'_>) -> Answer {
    let (body, cut) = (text(arguments, 0)?, text(arguments, 1)?);
    Ok(Value::String(body.strip_suffix(&cut).unwrap_or(&body).to_owned()))
}
