//! Datacenter patterns: text in which `*` stands for anything and `?` for one character.
//!
//! # Invariants
//!
//! - Time is at most the product of both lengths, whatever the pattern.

/// Whether `text` matches `pattern` as a whole.
pub(crate) fn matches(pattern: &str, text: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let text: Vec<char> = text.chars().collect();
    let (mut at_pattern, mut at_text) = (0, 0);
    // Where the last star was, and how much text it has swallowed so far.
    let mut star: Option<(usize, usize)> = None;
    while at_text < text.len() {
        let wanted = pattern.get(at_pattern).copied();
        if wanted == Some('*') {
            star = Some((at_pattern, at_text));
            at_pattern += 1;
        } else if wanted == Some('?') || wanted == Some(text[at_text]) {
            at_pattern += 1;
            at_text += 1;
        } else if let Some((star_at, swallowed)) = star {
            star = Some((star_at, swallowed + 1));
            at_pattern = star_at + 1;
            at_text = swallowed + 1;
        } else {
            return false;
        }
    }
    pattern[at_pattern..].iter().all(|character| *character == '*')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(pattern: &str, text: &str, expected: bool) {
        assert_eq!(matches(pattern, text), expected, "{pattern} against {text}");
    }

    #[test]
    fn a_star_stands_for_anything_and_the_rest_for_itself() {
        check("*", "", true);
        check("*", "dc1", true);
        check("dc*", "dc1", true);
        check("dc*", "eu-dc1", false);
        check("*-services", "public-services", true);
        check("p*c-*s", "public-services", true);
        check("dc?", "dc1", true);
        check("dc?", "dc", false);
        check("dc1", "dc1", true);
        check("dc1", "dc12", false);
        check("", "", true);
        check("a*a", "a", false);
    }

    proptest! {
        #[test]
        fn agrees_with_a_regular_expression(pattern in "[ab*?]{0,8}", text in "[ab]{0,8}") {
            let source = format!("^{}$", pattern.replace('*', ".*").replace('?', "."));
            let expected = regex::Regex::new(&source).unwrap().is_match(&text);
            prop_assert_eq!(matches(&pattern, &text), expected);
        }
    }
}
