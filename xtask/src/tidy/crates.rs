//! Arrows point down: which crate may depend on which, and which stay free of the machine.

use std::path::Path;

use super::Tree;

/// A crate, what it may depend on inside the workspace.
const ALLOWED: [(&str, &[&str]); 20] = [
    ("faults", &[]),
    ("model", &[]),
    ("state", &["model"]),
    ("scheduler", &["model"]),
    ("jobspec", &["model"]),
    ("platform", &[]),
    ("identity", &["platform"]),
    ("raft", &["model", "platform"]),
    ("server", &["identity", "model", "platform", "raft", "scheduler", "state"]),
    ("drivers", &["model", "platform"]),
    ("agent", &["drivers", "model", "platform"]),
    ("discovery", &["model", "platform"]),
    ("ingress", &["model", "platform"]),
    ("http", &["jobspec", "model", "platform", "state"]),
    ("compat-nomad", &["http", "jobspec", "model", "platform", "state"]),
    ("compat-consul", &["http", "model", "platform", "state"]),
    ("cli", &["http", "jobspec", "model"]),
    ("bench", &["model", "platform"]),
    // Never shipped: nobody may depend on it.
    ("sim", &["agent", "drivers", "model", "scheduler", "server", "state"]),
    (
        "cos",
        &[
            "agent",
            "bench",
            "cli",
            "compat-consul",
            "compat-nomad",
            "discovery",
            "drivers",
            "http",
            "identity",
            "ingress",
            "jobspec",
            "model",
            "platform",
            "raft",
            "scheduler",
            "server",
            "state",
        ],
    ),
];

/// Crates that decide and do nothing else.
const CORES: [&str; 4] = ["model", "state", "scheduler", "jobspec"];

/// What a core may not depend on, because it reaches the machine or waits.
const NOT_IN_CORES: [&str; 9] =
    ["tokio", "hyper", "axum", "tonic", "reqwest", "getrandom", "rand", "nix", "rustix"];

/// Checks every manifest.
pub(super) fn check(tree: &Tree) -> anyhow::Result<Vec<String>> {
    let mut problems = Vec::new();
    let mut found = Vec::new();
    for entry in std::fs::read_dir(tree.root.join("crates"))? {
        found.push(entry?.file_name().to_string_lossy().into_owned());
    }
    found.sort();
    for name in found {
        let path = format!("crates/{name}/Cargo.toml");
        let manifest = tree.read(Path::new(&path))?;
        let Some((_, allowed)) = ALLOWED.iter().find(|(known, _)| *known == name) else {
            problems.push(format!("{path}: the crate is not in the table of xtask tidy"));
            continue;
        };
        if !manifest.contains("[lints]\nworkspace = true") {
            problems.push(format!("{path}: the crate does not take the workspace's lints"));
        }
        for (line, dependency) in dependencies(&manifest) {
            if let Some(inside) = dependency.strip_prefix("cos-")
                && !allowed.contains(&inside)
            {
                problems.push(format!("{path}:{line}: {name} may not depend on {inside}"));
            }
            if CORES.contains(&name.as_str()) && NOT_IN_CORES.contains(&dependency.as_str()) {
                problems.push(format!("{path}:{line}: a core may not depend on {dependency}"));
            }
        }
    }
    Ok(problems)
}

/// The names under `[dependencies]` with their lines; tests may depend on more.
fn dependencies(manifest: &str) -> Vec<(usize, String)> {
    let mut inside = false;
    let mut found = Vec::new();
    for (number, line) in (1..).zip(manifest.lines()) {
        if line.starts_with('[') {
            inside = line == "[dependencies]";
        } else if inside && let Some(end) = line.find(['.', ' ', '=']) {
            found.push((number, line[..end].to_owned()));
        }
    }
    found
}
