//! The rules: who may depend on whom, how files begin, how long they get, what they may not hold.
//!
//! Each rule is a function from the tree to a list of problems, each of which names a file and, if
//! it has one, a line. Code is read as text and manifests as lines; nothing is executed.

use std::path::{Path, PathBuf};

mod crates;
mod docs;
mod source;

/// A rule.
type Rule = fn(&Tree) -> anyhow::Result<Vec<String>>;

/// All rules.
const RULES: [Rule; 4] = [crates::check, source::check, docs::check, golden];

/// The files of the tree that rules look at.
pub(crate) struct Tree {
    /// The root.
    pub(crate) root: PathBuf,
    /// Every Rust file, relative to the root.
    pub(crate) rust: Vec<PathBuf>,
    /// Every Markdown file, relative to the root.
    pub(crate) markdown: Vec<PathBuf>,
}

/// Runs all rules.
pub(crate) fn check(root: &Path) -> anyhow::Result<Vec<String>> {
    let mut tree = Tree { root: root.to_owned(), rust: Vec::new(), markdown: Vec::new() };
    collect(root, root, &mut tree)?;
    tree.rust.sort();
    tree.markdown.sort();
    let mut problems = Vec::new();
    for rule in RULES {
        problems.extend(rule(&tree)?);
    }
    Ok(problems)
}

/// Directories that hold nothing of ours.
const SKIPPED: [&str; 5] = ["target", ".git", ".run", "node_modules", "proptest-regressions"];

fn collect(root: &Path, dir: &Path, tree: &mut Tree) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("");
        if path.is_dir() {
            if !SKIPPED.contains(&name) && !path.is_symlink() {
                collect(root, &path, tree)?;
            }
            continue;
        }
        let relative = path.strip_prefix(root)?.to_owned();
        match path.extension().and_then(|ending| ending.to_str()) {
            Some("rs") => tree.rust.push(relative),
            Some("md") => tree.markdown.push(relative),
            _ => {}
        }
    }
    Ok(())
}

impl Tree {
    /// Reads a file of the tree.
    pub(crate) fn read(&self, path: impl AsRef<Path>) -> anyhow::Result<String> {
        let path = self.root.join(path);
        std::fs::read_to_string(&path)
            .map_err(|error| anyhow::anyhow!("cannot read {}: {error}", path.display()))
    }
}

/// Every command of the replicated state has an encoding that is kept for ever.
fn golden(tree: &Tree) -> anyhow::Result<Vec<String>> {
    let source = tree.read("crates/state/src/command.rs")?;
    let body = source
        .split("pub enum Command {")
        .nth(1)
        .and_then(|rest| rest.split("\n}\n").next())
        .unwrap_or("");
    let variants = body.lines().filter_map(|line| {
        let name = line.strip_prefix("    ")?;
        let first = name.chars().next()?;
        let end = name.find([' ', '(', ','])?;
        first.is_ascii_uppercase().then(|| name[..end].to_owned())
    });
    let mut kept = String::new();
    for entry in std::fs::read_dir(tree.root.join("crates/state/tests/golden"))? {
        kept = format!("{kept}{}\n", snake_free(&entry?.file_name().to_string_lossy()));
    }
    Ok(variants
        .filter(|variant| !kept.contains(&variant.to_lowercase()))
        .map(|variant| {
            format!("crates/state/src/command.rs: `{variant}` has no file in tests/golden")
        })
        .collect())
}

/// File names may separate words; variants do not.
fn snake_free(name: &str) -> String {
    name.replace(['_', '-'], "").to_lowercase()
}
