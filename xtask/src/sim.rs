//! `cargo xtask sim`: builds the simulator in its own profile and runs it, as it is or with a bug.
//!
//! `--mutations` plants one bug after another and asserts that each is found within its number of
//! seeds. The table in `crates/sim/mutations.md` says which there are. A bug in shipped code is a
//! patch that is applied to a copy of the tree; the tree itself is never touched.

#![expect(clippy::disallowed_methods, reason = "it says how long things took")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Instant;

use anyhow::{Context, bail, ensure};

/// What the copy of the tree is made of.
const PARTS: [&str; 8] = [
    "Cargo.toml",
    "Cargo.lock",
    "rust-toolchain.toml",
    ".cargo",
    "crates",
    "samples",
    "shims",
    "xtask",
];

/// The fewest planted bugs that there must be.
const MUTATIONS_MIN: usize = 10;

/// Runs what is asked for.
pub(crate) fn run(root: &Path, arguments: &[String]) -> anyhow::Result<ExitCode> {
    if arguments.first().map(String::as_str) == Some("--mutations") {
        return mutations(root, &arguments[1..]);
    }
    let status = cargo(root, "run").arg("--").args(arguments).status()?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A bug to plant.
#[derive(Debug)]
struct Mutation {
    name: String,
    is_patch: bool,
    seeds: String,
}

/// Plants the bugs of these names, or all.
fn mutations(root: &Path, names: &[String]) -> anyhow::Result<ExitCode> {
    let all = table(root)?;
    ensure!(all.len() >= MUTATIONS_MIN, "only {} planted bugs", all.len());
    if let Some(unknown) = names.iter().find(|name| !all.iter().any(|m| m.name == **name)) {
        bail!("there is no planted bug {unknown:?}");
    }
    let wanted = all.iter().filter(|m| names.is_empty() || names.contains(&m.name));
    let mut missed = 0;
    for mutation in wanted {
        let started = Instant::now();
        let program = build(root, mutation)?;
        let built = started.elapsed().as_secs_f64();
        let mut search = Command::new(&program);
        search.args(["--seeds", &mutation.seeds]);
        if !mutation.is_patch {
            search.args(["--planted", &mutation.name]);
        }
        let output = search.output().with_context(|| program.display().to_string())?;
        let text = String::from_utf8_lossy(&output.stdout);
        let line = |start: &str| {
            text.lines().find_map(|line| line.strip_prefix(start)).unwrap_or_default().to_owned()
        };
        let took = started.elapsed().as_secs_f64() - built;
        let is_found = output.status.code() == Some(1);
        let word = if is_found { "found" } else { "MISSED" };
        println!(
            "{word} {:<28} {}; {} (build {built:.0} s, run {took:.0} s)",
            mutation.name,
            line("found "),
            line("VIOLATION ").chars().take(120).collect::<String>(),
        );
        missed += usize::from(!is_found);
    }
    Ok(if missed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Reads the table of planted bugs: name, where, seeds, what.
fn table(root: &Path) -> anyhow::Result<Vec<Mutation>> {
    let path = root.join("crates/sim/mutations.md");
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let mut found = Vec::new();
    for line in text.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [_, name, place, seeds, _what, _] = cells[..] else {
            bail!("{}: not a row of the table: {line}", path.display());
        };
        let (name, seeds) = (name.trim_matches('`').to_owned(), seeds.to_owned());
        let is_patch = place == "patch";
        let patch = patch_of(root, &name);
        ensure!(is_patch == patch.exists(), "{}: row and patch disagree", patch.display());
        found.push(Mutation { name, is_patch, seeds });
    }
    let patches = fs::read_dir(root.join("crates/sim/mutations"))?.count();
    let rows = found.iter().filter(|mutation| mutation.is_patch).count();
    ensure!(patches == rows, "{patches} patches, and {rows} rows that name one");
    Ok(found)
}

fn patch_of(root: &Path, name: &str) -> PathBuf {
    root.join(format!("crates/sim/mutations/{name}.patch"))
}

/// Builds the simulator with a bug. One in the model needs no build of its own.
fn build(root: &Path, mutation: &Mutation) -> anyhow::Result<PathBuf> {
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    let program = target.join("sim/cos-sim");
    if !mutation.is_patch {
        ensure!(cargo(root, "build").status()?.success(), "the simulator cannot be built");
        return Ok(program);
    }
    let tree = target.join("sim-mutations/tree");
    for part in PARTS {
        copy(&root.join(part), &tree.join(part))?;
    }
    let patch = patch_of(root, &mutation.name);
    let applied = Command::new("git")
        .args(["apply", "--whitespace=nowarn"])
        .arg(&patch)
        .current_dir(&tree)
        // Else git would look for the paths in the repository that this lies in.
        .env("GIT_CEILING_DIRECTORIES", target.join("sim-mutations"))
        .status()?;
    ensure!(applied.success(), "{} cannot be applied", patch.display());
    let built = cargo(&tree, "build").env("CARGO_TARGET_DIR", &target).status()?;
    ensure!(built.success(), "with {} the simulator cannot be built", patch.display());
    let own = target.join("sim-mutations/cos-sim");
    fs::copy(&program, &own)?;
    // What was built last must not be taken for the program without the bug.
    fs::remove_file(&program)?;
    Ok(own)
}

fn cargo(directory: &Path, what: &str) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(directory);
    command.args([what, "--quiet", "--locked", "--profile", "sim", "--package", "cos-sim"]);
    command
}

/// Copies a file or directory, touching only what differs so that builds stay incremental.
fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    if from.is_dir() {
        fs::create_dir_all(to)?;
        for entry in fs::read_dir(to)? {
            let entry = entry?;
            if !from.join(entry.file_name()).exists() {
                if entry.path().is_dir() {
                    fs::remove_dir_all(entry.path())?;
                } else {
                    fs::remove_file(entry.path())?;
                }
            }
        }
        for entry in fs::read_dir(from)? {
            let name = entry?.file_name();
            if name != "target" {
                copy(&from.join(&name), &to.join(&name))?;
            }
        }
    } else if from.exists() {
        let bytes = fs::read(from)?;
        if fs::read(to).ok().as_deref() != Some(bytes.as_slice()) {
            fs::write(to, bytes)?;
        }
    }
    Ok(())
}
