//! Rust files: how they begin, how long they get, what they may not hold.

use std::path::Path;

use super::Tree;

/// A file longer than this must be split.
const LINES_MAX: usize = 800;
/// Words that mean unfinished work. Work that is left is written down in docs/known-gaps.md.
const UNFINISHED: [&str; 5] = ["TODO", "FIXME", "XXX", "todo!(", "unimplemented!("];

/// Checks every Rust file.
pub(super) fn check(tree: &Tree) -> anyhow::Result<Vec<String>> {
    let mut problems = Vec::new();
    for path in &tree.rust {
        let text = tree.read(path)?;
        let shown = path.display();
        if let Some(problem) = header(&text) {
            problems.push(format!("{shown}:1: {problem}"));
        }
        let lines = text.lines().count();
        if lines > LINES_MAX {
            problems.push(format!("{shown}: {lines} lines; split it by meaning ({LINES_MAX})"));
        }
        // This file names the words that it looks for.
        if path != Path::new("xtask/src/tidy/source.rs") {
            problems.extend(words(&text, &shown.to_string()));
        }
        problems.extend(imports(&text).map(|line| {
            format!("{shown}:{line}: imports of std stand in a block of their own, first")
        }));
    }
    Ok(problems)
}

/// The first line says what the file is for, in at least one sentence.
fn header(text: &str) -> Option<&'static str> {
    let doc: Vec<&str> = text
        .lines()
        .skip_while(|line| line.starts_with("#!["))
        .take_while(|line| line.starts_with("//!"))
        .collect();
    if doc.is_empty() {
        return Some("the file does not begin with `//!` and what it is for");
    }
    let sentence = doc.join(" ");
    (!sentence.contains(['.', ':'])).then_some("the header is not a sentence")
}

fn words(text: &str, shown: &str) -> Vec<String> {
    let mut problems = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        for word in UNFINISHED {
            if line.contains(word) {
                problems
                    .push(format!("{shown}:{number}: `{word}`; write it into docs/known-gaps.md"));
            }
        }
    }
    problems
}

/// The line of the first `use` that mixes std with others in one block, or comes after them.
fn imports(text: &str) -> Option<usize> {
    let mut others_seen = false;
    let mut block: Vec<bool> = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let Some(rest) = line.strip_prefix("use ") else {
            if line.trim().is_empty() {
                block.clear();
            } else if line.starts_with("mod ") || line.starts_with("fn ") {
                // What follows the imports is not their concern.
                break;
            }
            continue;
        };
        let std = ["std::", "core::", "alloc::"].iter().any(|name| rest.starts_with(name));
        if (std && others_seen) || block.iter().any(|before| *before != std) {
            return Some(number);
        }
        others_seen |= !std;
        block.push(std);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_bite() {
        assert!(header("use a;").is_some());
        assert!(header("//! What it is for.\n").is_none());
        assert_eq!(words("// TODO later", "f").len(), 1);
        assert_eq!(imports("use std::a;\n\nuse b;\n"), None);
        assert_eq!(imports("use b;\nuse std::a;\n"), Some(2));
        assert_eq!(imports("use b;\n\nuse std::a;\n"), Some(3));
    }
}
