//! The one form of a path by which routes are looked up.
//!
//! Percent escapes are decoded once, dots and doubled slashes resolved, a trailing slash kept.
//! Looking up another form than the instance sees is how requests slip past a route; so a path
//! that means two things (an escaped slash, an escaped percent sign) is refused instead.

use std::borrow::Cow;

/// Returns the path for the look-up, or `None` if it is ambiguous or leaves the root.
pub(crate) fn normalize(path: &str) -> Option<Cow<'_, str>> {
    let plain = !path.contains('%') && !path.contains("//") && !path.contains("/.");
    if plain {
        return path.starts_with('/').then_some(Cow::Borrowed(path));
    }
    let decoded = decode(path)?;
    let mut parts: Vec<&str> = Vec::new();
    for part in decoded.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    let mut clean = format!("/{}", parts.join("/"));
    let last = decoded.rsplit('/').next().unwrap_or("");
    if !parts.is_empty() && matches!(last, "" | "." | "..") {
        clean.push('/');
    }
    Some(Cow::Owned(clean))
}

fn decode(path: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        if *byte != b'%' {
            bytes.push(*byte);
            continue;
        }
        let digits = std::str::from_utf8(rest.get(..2)?).ok()?;
        if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        let value = u8::from_str_radix(digits, 16).ok()?;
        if matches!(value, b'/' | b'\\' | b'%' | 0) {
            return None;
        }
        bytes.push(value);
        rest = &rest[2..];
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(path: &str, expected: Option<&str>) {
        assert_eq!(normalize(path).as_deref(), expected, "path: {path}");
    }

    #[test]
    fn dots_and_escapes_are_resolved_and_ambiguity_is_refused() {
        check("/a/b", Some("/a/b"));
        check("/a/./b//c/", Some("/a/b/c/"));
        check("/a/../b", Some("/b"));
        check("/a/..", Some("/"));
        check("/%61/b", Some("/a/b"));
        check("/a/%2e%2e/b", Some("/b"));
        check("/../a", None);
        check("/a%2Fb", None);
        check("/a%252e", None);
        check("/a%zz", None);
        check("/a%2", None);
        check("*", None);
    }

    proptest! {
        #[test]
        fn the_result_is_clean_and_stays_as_it_is(path in "/[a-c./%2eE]{0,24}") {
            if let Some(clean) = normalize(&path) {
                prop_assert!(clean.starts_with('/'));
                prop_assert!(!clean.contains("//"));
                prop_assert!(clean.split('/').all(|part| part != "." && part != ".."));
            }
        }
    }
}
