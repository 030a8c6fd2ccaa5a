//! Filtering, ordering and cutting lists into pages.

use serde_json::Value;

use crate::params::ReadOptions;

/// Where an item stands in its list; also the token from which a page begins.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PageKey {
    /// Comes first in the order; zero for lists that are ordered by text alone.
    number: u64,
    text: String,
}

impl PageKey {
    /// A place in a list that is ordered by text.
    pub fn text(text: impl Into<String>) -> Self {
        Self { number: 0, text: text.into() }
    }

    /// A place in a list that is ordered by a number, usually the create index.
    pub fn numbered(number: u64, text: impl Into<String>) -> Self {
        Self { number, text: text.into() }
    }

    /// The token that clients send back.
    pub fn token(&self) -> String {
        match self.number {
            0 => self.text.clone(),
            number => format!("{number}.{}", self.text),
        }
    }

    fn from_token(token: &str, like: &Self) -> Self {
        let numbered = token
            .split_once('.')
            .filter(|_| like.number > 0)
            .and_then(|(number, text)| Some(Self::numbered(number.parse().ok()?, text)));
        numbered.unwrap_or_else(|| Self::text(token))
    }
}

/// Puts items in order, takes those that the filter wants, and cuts one page. Returns the page and
/// the token of the next one.
///
/// `full` makes the JSON that the filter looks at; it is called only if there is a filter.
pub fn page<T>(
    options: &ReadOptions,
    items: impl IntoIterator<Item = T>,
    key: impl Fn(&T) -> PageKey,
    full: impl Fn(&T) -> Value,
) -> (Vec<T>, Option<String>) {
    let wanted = |item: &T| options.filter.as_ref().is_none_or(|f| f.matches(&full(item)));
    let mut items: Vec<(PageKey, T)> =
        items.into_iter().filter(wanted).map(|item| (key(&item), item)).collect();
    items.sort_by(|(left, _), (right, _)| left.cmp(right));
    if options.reverse {
        items.reverse();
    }
    if let (false, Some((like, _))) = (options.next_token.is_empty(), items.first()) {
        let start = PageKey::from_token(&options.next_token, like);
        let before =
            |place: &PageKey| if options.reverse { *place > start } else { *place < start };
        let skipped = items.partition_point(|(place, _)| before(place));
        items.drain(..skipped);
    }
    let next = match options.per_page {
        0 => None,
        size => items.get(size).map(|(place, _)| place.token()),
    };
    if options.per_page > 0 {
        items.truncate(options.per_page);
    }
    (items.into_iter().map(|(_, item)| item).collect(), next)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::params::Params;

    #[track_caller]
    fn check(query: &str, expected: (&[u64], Option<&str>)) {
        let options = ReadOptions::from_params(&Params::parse(query)).unwrap();
        let key = |n: &u64| PageKey::numbered(*n, format!("id-{n}"));
        let (found, next) = page(&options, [30, 4, 100, 7], key, |n| json!({"N": n}));
        assert_eq!((found.as_slice(), next.as_deref()), expected, "{query}");
    }

    #[test]
    fn lists_are_ordered_and_cut() {
        check("", (&[4, 7, 30, 100], None));
        check("reverse=true", (&[100, 30, 7, 4], None));
        check("per_page=2", (&[4, 7], Some("30.id-30")));
        check("per_page=2&next_token=30.id-30", (&[30, 100], None));
        check("per_page=2&next_token=31.", (&[100], None));
        check("per_page=1&reverse=true&next_token=30.id-30", (&[30], Some("7.id-7")));
        check("filter=N%20!=%207&per_page=2", (&[4, 30], Some("100.id-100")));
        check("per_page=4", (&[4, 7, 30, 100], None));
    }
}
