//! Where a redirect route sends the client.

use crate::route::RouteSpec;

/// Returns the target of a redirect, or `None` if it would point at the request itself.
pub(super) fn target(
    spec: &RouteSpec,
    url: &str,
    host: &str,
    path: &str,
    query: Option<&str>,
) -> Option<String> {
    let path = rewrite_path(spec, path);
    let bare = path.trim_start_matches('/');
    let mut target = url.replace("$host", host);
    target = target.replace("/$path", &format!("/{bare}")).replace("$path", &format!("/{bare}"));
    if let Some(query) = query
        && !target.contains('?')
    {
        target = format!("{target}?{query}");
    }
    let same = format!("http://{host}{path}");
    (target != same).then_some(target)
}

/// Strips and prepends what the tag asks for. The result begins with a slash.
pub(super) fn rewrite_path(spec: &RouteSpec, path: &str) -> String {
    let mut rest = path;
    if let Some(strip) = spec.strip.as_deref()
        && let Some(after) = path.strip_prefix(strip)
    {
        rest = after;
    }
    let slash = if rest.starts_with('/') { "" } else { "/" };
    match spec.prepend.as_deref() {
        Some(prepend) if rest.is_empty() || rest == "/" => prepend.to_owned(),
        Some(prepend) => format!("{}{slash}{rest}", prepend.trim_end_matches('/')),
        None => format!("{slash}{rest}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(tag: &str, path: &str, expected: &str) {
        let spec = crate::route::parse_tag(tag, "").unwrap().unwrap();
        let actual = match &spec.redirect {
            Some((_, url)) => target(&spec, url, "h", path, Some("q=1")).unwrap_or_default(),
            None => rewrite_path(&spec, path),
        };
        assert_eq!(actual, expected, "{tag} {path}");
    }

    #[test]
    fn strip_prepend_and_redirect_follow_fabio() {
        check("urlprefix-/a strip=/a", "/a/b", "/b");
        check("urlprefix-/a strip=/a", "/a", "/");
        check("urlprefix-/a strip=/a", "/ab", "/b");
        check("urlprefix-/a prepend=/x", "/a/b", "/x/a/b");
        check("urlprefix-/a strip=/a prepend=/x", "/a/b", "/x/b");
        check("urlprefix-/a strip=/a prepend=/x", "/a", "/x");
        check("urlprefix-/a redirect=301,https://$host$path", "/a/b", "https://h/a/b?q=1");
        check("urlprefix-/a redirect=302,https://x/$path", "/a/b", "https://x/a/b?q=1");
        check("urlprefix-/a redirect=302,https://x/?fixed=1", "/a", "https://x/?fixed=1");
    }
}
