//! Saving the cluster's state to a file, looking into such a file, and taking it back.
//!
//! What is saved is checked before the command says that it is there, and what is restored before
//! it is sent.

use std::path::{Path, PathBuf};
use std::time::Duration;

use cos_http::archive::{Archive, Meta};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::client::causes;
use crate::command::{Context, Failure, Program, Running};
use crate::output::{pairs, structured, text};

/// How often the agent saves unless it is told.
const INTERVAL: Duration = Duration::from_hours(1);

/// How many files the agent keeps unless it is told.
const RETAIN: usize = 30;

/// What the agent's files begin and end with; it removes no others.
const PREFIX: &str = "cos-";
const SUFFIX: &str = ".snap";

/// The wait before the agent tries again after a failure.
const RETRY_WAIT: Duration = Duration::from_secs(15);

fn route(program: Program) -> &'static str {
    if program == Program::Consul { "/v1/snapshot" } else { "/v1/operator/snapshot" }
}

pub(crate) fn save(context: Context) -> Running {
    Box::pin(async move {
        let path = match context.flags.arguments.as_slice() {
            [] => PathBuf::from(format!("backup-{}.snap", stamp())),
            [only] => PathBuf::from(only),
            _ => return Err(Failure::Usage("This command takes one argument: [file]".to_owned())),
        };
        let meta = fetch(&context, &path).await?;
        if context.program == Program::Consul {
            println!("Saved and verified snapshot to index {}", meta.index);
        } else {
            println!("State file written to {}", path.display());
        }
        Ok(0)
    })
}

/// Fetches a snapshot, checks it, and puts it into its place.
async fn fetch(context: &Context, path: &Path) -> Result<Meta, Failure> {
    let stale = if context.flags.on("stale") { "?stale=true" } else { "" };
    let response = context.client.stream(&format!("{}{stale}", route(context.program))).await?;
    let file = response.bytes().await.map_err(|error| Failure::new(causes(&error)))?;
    let archive = Archive::read(file.as_ref())
        .map_err(|error| Failure::new(format!("Error verifying the snapshot: {error}")))?;
    write(path, &file)
        .map_err(|error| Failure::new(format!("cannot write {}: {error}", path.display())))?;
    Ok(archive.meta)
}

/// Writes a file whole and durably, or not at all.
fn write(path: &Path, content: &[u8]) -> std::io::Result<()> {
    let mut draft = path.as_os_str().to_owned();
    draft.push(".tmp");
    let written = (|| {
        let mut file = std::fs::File::create(&draft)?;
        std::io::Write::write_all(&mut file, content)?;
        file.sync_all()?;
        std::fs::rename(&draft, path)
    })();
    if written.is_err() {
        // There may be none.
        drop(std::fs::remove_file(&draft));
    }
    written
}

pub(crate) fn inspect(context: Context) -> Running {
    Box::pin(async move {
        let path = context.one_argument("<file>")?;
        let (archive, size) = read(path)?;
        let meta = &archive.meta;
        let shown = serde_json::to_value(meta).unwrap_or_default();
        if structured(&context.flags, &json!({ "Meta": shown, "Size": size }))? {
            return Ok(0);
        }
        let mut lines = vec![
            ("ID", meta.id.clone()),
            ("Size", size.to_string()),
            ("Index", meta.index.to_string()),
            ("Term", meta.term.to_string()),
            ("Version", meta.version.to_string()),
            ("Build", meta.build.clone()),
            ("Taken At", taken_at(meta)),
            ("State Hash", meta.state_hash.clone()),
        ];
        lines.extend(meta.objects.iter().map(|(name, count)| (name.as_str(), count.to_string())));
        println!("{}", pairs(&lines));
        Ok(0)
    })
}

fn taken_at(meta: &Meta) -> String {
    Timestamp::from_second(meta.taken_at).map_or_else(|_| String::new(), |at| at.to_string())
}

fn read(path: &str) -> Result<(Archive, usize), Failure> {
    let file = std::fs::read(path)
        .map_err(|error| Failure::new(format!("Error opening snapshot file: {path}: {error}")))?;
    let archive = Archive::read(file.as_slice())
        .map_err(|error| Failure::new(format!("Error verifying snapshot: {path}: {error}")))?;
    Ok((archive, file.len()))
}

pub(crate) fn restore(context: Context) -> Running {
    Box::pin(async move {
        let path = context.one_argument("<file>")?;
        read(path)?;
        let file = std::fs::read(path)
            .map_err(|error| Failure::new(format!("Error opening snapshot file: {error}")))?;
        let sent = context.client.put_bytes(route(context.program), file).await;
        sent.map_err(|failure| match failure {
            Failure::Failed { message, code } => {
                Failure::Failed { message: format!("Error restoring snapshot: {message}"), code }
            }
            other @ Failure::Usage(_) => other,
        })?;
        println!(
            "{}",
            if context.program == Program::Consul {
                "Restored snapshot"
            } else {
                "Snapshot Restored"
            }
        );
        Ok(0)
    })
}

/// What the agent was told.
struct Plan {
    interval: Duration,
    retain: usize,
    directory: PathBuf,
}

/// Saves at intervals while the asked agent's server leads, until it is stopped.
pub(crate) fn agent(context: Context) -> Running {
    Box::pin(async move {
        context.no_arguments()?;
        let plan = plan(&context)?;
        std::fs::create_dir_all(&plan.directory).map_err(|error| {
            Failure::new(format!("cannot make {}: {error}", plan.directory.display()))
        })?;
        let once = context.flags.on("once");
        loop {
            let saved = round(&context, &plan).await;
            if once {
                return saved.map(|()| 0);
            }
            let wait = match saved {
                Ok(()) => plan.interval,
                Err(failure) => {
                    eprintln!("{}", describe(&failure));
                    RETRY_WAIT.min(plan.interval)
                }
            };
            // Dropping either loses nothing: files are put into place whole.
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                _ = tokio::signal::ctrl_c() => return Ok(0),
            }
        }
    })
}

fn plan(context: &Context) -> Result<Plan, Failure> {
    let interval = match context.flags.value("interval") {
        None => INTERVAL,
        Some(text) => cos_jobspec::duration::parse(text)
            .filter(|interval| *interval >= Duration::from_secs(1))
            .ok_or_else(|| {
                Failure::Usage(format!("-interval={text} is no duration of 1s or more"))
            })?,
    };
    let retain = match context.flags.value("retain") {
        None => RETAIN,
        Some(text) => text
            .parse()
            .ok()
            .filter(|count| *count > 0)
            .ok_or_else(|| Failure::Usage(format!("-retain={text} is no number above zero")))?,
    };
    let directory = context.flags.value("local-path").unwrap_or(".").into();
    Ok(Plan { interval, retain, directory })
}

fn describe(failure: &Failure) -> String {
    match failure {
        Failure::Usage(message) | Failure::Failed { message, .. } => message.clone(),
    }
}

/// Saves once if the asked server leads, and removes what is too old.
async fn round(context: &Context, plan: &Plan) -> Result<(), Failure> {
    if !asked_leads(context).await? {
        println!("{} the asked server does not lead, nothing saved", Timestamp::now());
        return Ok(());
    }
    let path = plan.directory.join(format!("{PREFIX}{}{SUFFIX}", stamp()));
    let meta = fetch(context, &path).await?;
    println!("{} saved index {} to {}", Timestamp::now(), meta.index, path.display());
    for old in surplus(names(&plan.directory), plan.retain) {
        let old = plan.directory.join(old);
        std::fs::remove_file(&old)
            .map_err(|error| Failure::new(format!("cannot remove {}: {error}", old.display())))?;
    }
    Ok(())
}

/// Every server may have such an agent beside it; the leader's is the one that saves.
async fn asked_leads(context: &Context) -> Result<bool, Failure> {
    let own = context.client.get("/v1/agent/self").await?.body;
    Ok(text(&own, "stats.nomad.leader") == "true")
}

fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

/// The files beyond the newest `retain`. Their names sort by time.
fn surplus(names: Vec<String>, retain: usize) -> Vec<String> {
    let mut ours: Vec<String> = names
        .into_iter()
        .filter(|name| name.starts_with(PREFIX) && name.ends_with(SUFFIX))
        .collect();
    ours.sort();
    ours.truncate(ours.len().saturating_sub(retain));
    ours
}

/// The time as part of a file's name.
fn stamp() -> String {
    Timestamp::now().strftime("%Y%m%dT%H%M%S%.3fZ").to_string()
}

/// The digest of what a server holds now, to compare with what `inspect` shows.
pub(crate) fn hash(context: Context) -> Running {
    Box::pin(async move {
        context.no_arguments()?;
        let stale = if context.flags.on("stale") { "?stale=true" } else { "" };
        let path = format!("{}/hash{stale}", route(context.program));
        let answer: Value = context.client.get(&path).await?.body;
        if structured(&context.flags, &answer)? {
            return Ok(0);
        }
        println!(
            "{}",
            pairs(&[("Index", text(&answer, "Index")), ("State Hash", text(&answer, "StateHash"))])
        );
        Ok(0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_files_stay_and_others_are_not_touched() {
        let names = ["cos-2.snap", "cos-1.snap", "notes.txt", "cos-3.snap", "cos-0.snap.tmp"];
        let names = || names.map(str::to_owned).to_vec();
        assert_eq!(surplus(names(), 2), ["cos-1.snap"]);
        assert_eq!(surplus(names(), 3), Vec::<String>::new());
        assert_eq!(surplus(names(), 1), ["cos-1.snap", "cos-2.snap"]);
    }

    #[test]
    fn a_file_is_written_whole_or_not_at_all() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.snap");
        write(&path, b"one").unwrap();
        write(&path, b"two").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        write(&directory.path().join("missing/a.snap"), b"x").unwrap_err();
        assert_eq!(names(directory.path()), ["a.snap"]);
    }
}
