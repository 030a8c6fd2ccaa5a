//! Functions on paths and files. They need the caller's permission: the command line gives it, a
//! server that parses somebody's job does not.

use std::path::{Component, Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cos_model::Value;

use super::{Answer, Function, Host, function, strings_value, text};

pub(super) const TABLE: &[Function] = &[
    function("abspath", 1, 1, abspath),
    function("basename", 1, 1, basename),
    function("dirname", 1, 1, dirname),
    function("file", 1, 1, file),
    function("filebase64", 1, 1, filebase64),
    function("fileexists", 1, 1, fileexists),
    function("fileset", 2, 2, fileset),
    function("pathexpand", 1, 1, pathexpand),
];

/// How many directory entries `fileset` looks at.
const MAX_FILES: usize = 10_000;

fn base<'h>(host: &Host<'h>) -> Result<&'h Path, String> {
    host.files.ok_or_else(|| "functions that look at files are disabled here".to_owned())
}

fn resolve(arguments: &[Value], host: &Host<'_>) -> Result<PathBuf, String> {
    Ok(base(host)?.join(text(arguments, 0)?))
}

fn shown(path: &Path) -> Value {
    Value::String(path.to_string_lossy().into_owned())
}

fn abspath(arguments: &[Value], host: &Host<'_>) -> Answer {
    let mut clean = PathBuf::new();
    for component in resolve(arguments, host)?.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                clean.pop();
            }
            other => clean.push(other),
        }
    }
    Ok(shown(&clean))
}

fn basename(arguments: &[Value], host: &Host<'_>) -> Answer {
    base(host)?;
    let path = text(arguments, 0)?;
    let name = Path::new(&path).file_name();
    Ok(Value::String(name.map_or_else(|| path.clone(), |name| name.to_string_lossy().into_owned())))
}

fn dirname(arguments: &[Value], host: &Host<'_>) -> Answer {
    base(host)?;
    let path = text(arguments, 0)?;
    let parent = Path::new(&path).parent().unwrap_or_else(|| Path::new("/"));
    Ok(if parent.as_os_str().is_empty() { Value::String(".".to_owned()) } else { shown(parent) })
}

fn read(arguments: &[Value], host: &Host<'_>) -> Result<Vec<u8>, String> {
    let path = resolve(arguments, host)?;
    let problem = |error: std::io::Error| format!("cannot read `{}`: {error}", path.display());
    let length = std::fs::metadata(&path).map_err(problem)?.len();
    if length > super::MAX_RESULT as u64 {
        return Err(format!(
            "`{}` has {length} bytes, more than {}",
            path.display(),
            super::MAX_RESULT
        ));
    }
    std::fs::read(&path).map_err(problem)
}

fn file(arguments: &[Value], host: &Host<'_>) -> Answer {
    let bytes = read(arguments, host)?;
    String::from_utf8(bytes)
        .map(Value::String)
        .map_err(|_binary| "the file is not text; use `filebase64`".to_owned())
}

fn filebase64(arguments: &[Value], host: &Host<'_>) -> Answer {
    Ok(Value::String(STANDARD.encode(read(arguments, host)?)))
}

fn fileexists(arguments: &[Value], host: &Host<'_>) -> Answer {
    Ok(Value::Bool(resolve(arguments, host)?.is_file()))
}

/// Files below a directory whose relative path fits a pattern with `*`, `?` and `**`.
fn fileset(arguments: &[Value], host: &Host<'_>) -> Answer {
    let root = resolve(arguments, host)?;
    let pattern = glob(&text(arguments, 1)?)?;
    let mut found = Vec::new();
    let mut open = vec![root.clone()];
    let mut seen = 0;
    while let Some(directory) = open.pop() {
        let entries = std::fs::read_dir(&directory)
            .map_err(|error| format!("cannot read `{}`: {error}", directory.display()))?;
        for entry in entries.flatten() {
            seen += 1;
            if seen > MAX_FILES {
                return Err(format!("there are more than {MAX_FILES} files"));
            }
            let path = entry.path();
            let kind = entry.file_type().map_err(|error| error.to_string())?;
            if kind.is_dir() {
                open.push(path);
            } else if let Ok(relative) = path.strip_prefix(&root) {
                let name = relative.to_string_lossy();
                if pattern.is_match(&name) {
                    found.push(name.into_owned());
                }
            }
        }
    }
    found.sort();
    Ok(strings_value(found))
}

fn glob(pattern: &str) -> Result<regex::Regex, String> {
    let mut expression = String::from("^");
    let mut rest = pattern;
    while let Some(c) = rest.chars().next() {
        if let Some(after) = rest.strip_prefix("**/") {
            expression.push_str("(.*/)?");
            rest = after;
            continue;
        }
        if let Some(after) = rest.strip_prefix("**") {
            expression.push_str(".*");
            rest = after;
            continue;
        }
        match c {
            '*' => expression.push_str("[^/]*"),
            '?' => expression.push_str("[^/]"),
            other => expression.push_str(&regex::escape(&other.to_string())),
        }
        rest = &rest[c.len_utf8()..];
    }
    expression.push('$');
    regex::Regex::new(&expression).map_err(|error| error.to_string())
}

fn pathexpand(arguments: &[Value], host: &Host<'_>) -> Answer {
    base(host)?;
    let path = text(arguments, 0)?;
    let home = std::env::var("HOME").unwrap_or_default();
    Ok(Value::String(match path.strip_prefix('~') {
        Some(rest) if rest.is_empty() || rest.starts_with('/') => format!("{home}{rest}"),
        _ => path,
    }))
}
