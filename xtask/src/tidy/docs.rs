//! Markdown: one sentence a line, and nothing about files that are not there.

use super::Tree;

/// Pages that must name every crate.
const ARCHITECTURE: &str = "ARCHITECTURE.md";

/// Checks every page.
pub(super) fn check(tree: &Tree) -> anyhow::Result<Vec<String>> {
    let mut problems = Vec::new();
    for path in &tree.markdown {
        let text = tree.read(path)?;
        let shown = path.display().to_string();
        problems.extend(sentences(&text, &shown));
        problems.extend(paths(tree, &text, &shown));
    }
    let architecture = tree.read(ARCHITECTURE)?;
    for entry in std::fs::read_dir(tree.root.join("crates"))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if !architecture.contains(&format!("`{name}`")) {
            problems.push(format!("{ARCHITECTURE}: crate `{name}` is not named"));
        }
    }
    Ok(problems)
}

/// Two sentences on one line make a change to one look like a change to both.
fn sentences(text: &str, shown: &str) -> Vec<String> {
    let mut inside_code = false;
    let mut problems = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        if line.trim_start().starts_with("```") {
            inside_code = !inside_code;
        }
        let prose = !inside_code && !line.starts_with('|') && !line.starts_with("    ");
        let ends = line.match_indices(". ").filter(|(at, _)| {
            let before = line[..*at].chars().next_back();
            let after = line[at + 2..].chars().next();
            // A list number or an abbreviation is not the end of a sentence.
            before.is_some_and(|c| c.is_lowercase() || c == '`' || c == ')')
                && after.is_some_and(char::is_uppercase)
        });
        if prose && ends.count() > 0 {
            problems.push(format!("{shown}:{number}: one sentence a line"));
        }
    }
    problems
}

/// A path in backticks that begins with a directory of ours must exist.
fn paths(tree: &Tree, text: &str, shown: &str) -> Vec<String> {
    const OURS: [&str; 6] = ["crates/", "samples/", "docs/", "xtask/", "conformance/", "benches/"];
    let mut problems = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        for part in line.split('`').skip(1).step_by(2) {
            let plain = !part.contains([' ', '*', '<', '{', '$', '…']);
            let ours = OURS.iter().any(|dir| part.starts_with(dir));
            if ours && plain && !tree.root.join(part).exists() {
                problems.push(format!("{shown}:{number}: there is no `{part}`"));
            }
        }
    }
    problems
}
