//! Files that are not as they were written.
//!
//! A server that starts on damaged files either repairs them, because nobody was told that the
//! damaged part is durable, or ends and names the file and the way out. It never serves what it
//! did not store.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail, ensure};

use super::{Outcome, Run};
use crate::cluster::until;

/// How long a server may take to start or to refuse.
const START_TIME: Duration = Duration::from_secs(20);

/// Keys whose values are compared.
const FIXED: usize = 40;

/// Bytes that a torn tail lacks.
const TORN: [u64; 3] = [1, 7, 100];

/// What a server did with damaged files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Repaired,
    Refused,
}

/// Writes keys that do not change any more.
async fn write_fixed(run: &mut Run<'_>) -> anyhow::Result<()> {
    for number in 0..FIXED {
        let url = run.cluster.servers[0].consul(&format!("/v1/kv/fixed/{number}"));
        let (status, text) = run.cluster.put(&url, format!("fixed value {number}")).await?;
        ensure!(status == 200, "{status} {text}");
    }
    Ok(())
}

/// The fixed keys as a server has them.
async fn read_fixed(run: &Run<'_>, server: usize) -> Option<String> {
    run.cluster.ask(&run.cluster.servers[server].consul("/v1/kv/fixed/?recurse&stale")).await
}

/// Starts a server on damaged files and insists on one of the two right answers.
async fn start_damaged(run: &mut Run<'_>, victim: usize, what: &str) -> anyhow::Result<Answer> {
    let from = run.cluster.servers[victim].log_length();
    run.cluster.servers[victim].start()?;
    let right = read_fixed(run, (victim + 1) % 3).await.context("the others do not answer")?;
    let begun = tokio::time::Instant::now();
    while begun.elapsed() < START_TIME {
        if !run.cluster.servers[victim].is_running() {
            let log = run.cluster.servers[victim].log_since(from);
            let last = log.lines().last().unwrap_or_default();
            let names_file = ["data/", "raft", "segment", "snapshot", "log-", ".id"];
            ensure!(names_file.iter().any(|word| last.contains(word)), "{what}: no file: {last}");
            ensure!(
                last.contains("recover") || last.contains("move"),
                "{what}: no way out: {last}"
            );
            return Ok(Answer::Refused);
        }
        if let Some(found) = read_fixed(run, victim).await
            && found.len() >= right.len()
        {
            ensure!(found == right, "{what}: wrong data are served");
            return Ok(Answer::Repaired);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let log = run.cluster.servers[victim].log_since(from);
    bail!("{what}: neither served nor refused: {log}")
}

/// All files below a directory that have content, in order.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![dir.to_owned()];
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            match entry.metadata() {
                Ok(data) if data.is_dir() => open.push(entry.path()),
                Ok(data) if data.is_file() && data.len() > 0 => found.push(entry.path()),
                _ => {}
            }
        }
    }
    found.sort();
    found
}

/// Flips one bit. Doing it twice undoes it.
fn flip(file: &Path, offset: u64) -> anyhow::Result<()> {
    use std::os::unix::fs::FileExt;
    let file = std::fs::File::options().read(true).write(true).open(file)?;
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset)?;
    byte[0] ^= 1 << (offset % 8);
    Ok(file.write_all_at(&byte, offset)?)
}

/// Damages one place after another of a follower's files.
async fn flip_all(
    run: &mut Run<'_>,
    places: impl Fn(&Path) -> Vec<(PathBuf, u64)>,
) -> anyhow::Result<Outcome> {
    write_fixed(run).await?;
    let (_, [victim, _]) = run.cluster.roles().await?;
    run.cluster.servers[victim].end().await?;
    let data = run.cluster.servers[victim].data();
    let (mut repaired, mut refused) = (0, 0);
    for (file, offset) in places(&data) {
        let length = std::fs::metadata(&file).map_or(0, |data| data.len());
        // A start between two of them may have replaced it.
        if offset >= length {
            continue;
        }
        flip(&file, offset)?;
        let name = file.strip_prefix(&data).unwrap_or(&file).display();
        let what = format!("bit {} of {name}+{offset}", offset % 8);
        let answer = start_damaged(run, victim, &what).await;
        run.cluster.servers[victim].kill();
        if let Ok(Answer::Repaired) = answer {
            repaired += 1;
            continue;
        }
        // What is refused is left as it was, and can be mended.
        ensure!(std::fs::metadata(&file)?.len() == length, "{name} was changed");
        flip(&file, offset)?;
        answer?;
        refused += 1;
    }
    run.cluster.servers[victim].start()?;
    run.cluster.make_whole().await?;
    let recovered = run.cluster.until_writes(&[0, 1, 2]).await?;
    Ok(Outcome::noted(recovered, format!("{repaired} repaired or harmless, {refused} refused")))
}

pub(super) async fn bit_flips(run: &mut Run<'_>) -> anyhow::Result<Outcome> {
    flip_all(run, |data| {
        let places = |file: PathBuf| {
            let length = std::fs::metadata(&file).map_or(1, |data| data.len());
            let mut offsets = vec![0, length / 4, length / 2, length - 1];
            offsets.dedup();
            offsets.into_iter().map(move |offset| (file.clone(), offset))
        };
        files(data).into_iter().flat_map(places).collect()
    })
    .await
}

pub(super) async fn bit_flips_in_tail(run: &mut Run<'_>) -> anyhow::Result<Outcome> {
    flip_all(run, |data| {
        let Some((file, end)) = last_segment(data) else { return Vec::new() };
        [1, 9, 40, 300].into_iter().map(|back| (file.clone(), end.saturating_sub(back))).collect()
    })
    .await
}

/// The segment of the log that is written to, and where its content ends: it may be longer than
/// what was written.
fn last_segment(data: &Path) -> Option<(PathBuf, u64)> {
    let is_log = |file: &PathBuf| file.extension().is_some_and(|name| name == "segment");
    let file = files(data).into_iter().rfind(is_log)?;
    let content = std::fs::read(&file).ok()?;
    let end = content.iter().rposition(|byte| *byte != 0)? as u64 + 1;
    Some((file, end))
}

pub(super) async fn torn_tail(run: &mut Run<'_>) -> anyhow::Result<Outcome> {
    write_fixed(run).await?;
    let (_, [victim, _]) = run.cluster.roles().await?;
    run.cluster.servers[victim].kill();
    let mut answers = Vec::new();
    for less in TORN {
        let data = run.cluster.servers[victim].data();
        let (file, end) = last_segment(&data).context("there is a log")?;
        let length = std::fs::metadata(&file)?.len();
        let file = std::fs::File::options().write(true).open(&file)?;
        file.set_len(end.saturating_sub(less))?;
        // A file that is longer than its content stays so when a write is torn.
        file.set_len(length)?;
        let answer = start_damaged(run, victim, &format!("{less} bytes torn off")).await?;
        answers.push(answer);
        run.cluster.servers[victim].kill();
        if answer == Answer::Refused {
            break;
        }
    }
    if answers.last() == Some(&Answer::Refused) {
        run.cluster.servers[victim].wipe()?;
    }
    run.cluster.servers[victim].start()?;
    run.cluster.make_whole().await?;
    let recovered = run.cluster.until_writes(&[0, 1, 2]).await?;
    Ok(Outcome::noted(recovered, format!("{answers:?}")))
}

pub(super) async fn wiped(run: &mut Run<'_>) -> anyhow::Result<Outcome> {
    write_fixed(run).await?;
    let (leader, [victim, _]) = run.cluster.roles().await?;
    run.cluster.servers[victim].kill();
    run.cluster.servers[victim].wipe()?;
    run.cluster.servers[victim].start()?;
    let recovered = run.cluster.until_writes(&[victim]).await?;
    let right = read_fixed(run, leader).await.context("the leader does not answer")?;
    until("data of the others", START_TIME, async || {
        (read_fixed(run, victim).await? == right).then_some(())
    })
    .await?;
    Ok(Outcome::noted(recovered, "it came back as a new member"))
}
