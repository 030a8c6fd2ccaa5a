//! The known name that a wrong one was probably meant to be.

/// A name this far away, in edits, is not a guess any more.
const DISTANCE_MAX: usize = 3;

/// Returns the nearest known name, if one is near.
pub(crate) fn nearest<'a>(wrong: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    known
        .map(|name| (distance(wrong, name), name))
        .filter(|(distance, name)| *distance <= DISTANCE_MAX.min(name.len() / 2))
        .min()
        .map(|(_, name)| name)
}

/// How many characters must be added, removed or replaced.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_found_and_a_stranger_is_not() {
        let known = ["job run", "job status", "node drain"];
        assert_eq!(nearest("job rnu", known.into_iter()), Some("job run"));
        assert_eq!(nearest("nod drain", known.into_iter()), Some("node drain"));
        assert_eq!(nearest("completely other", known.into_iter()), None);
    }
}
