//! The fault suite: a cluster of real processes is hurt while clients use it, and what the clients
//! were told is judged.
//!
//! `cargo test -p cos --test faults` does the short form; `docs/faults.md` tells the rest.
//!
//! # Invariants
//!
//! - One line per fault: operations, acknowledged, lost, time to recover.
//! - Whatever happens, namespaces, mounts and processes go; the files of a failed run stay.
//!
//! # Deliberately absent
//!
//! - Deciding what was right: `cos-faults` does.

#![expect(clippy::print_stdout, reason = "the lines are what the suite is for")]

use std::process::ExitCode;
use std::time::Duration;

mod agent;
mod cluster;
mod judge;
mod lab;
#[path = "../e2e/harness/processes.rs"]
mod processes;
mod rounds;
mod scenes;
mod workload;

use cluster::Cluster;
use judge::{Judgement, judge};
use lab::Lab;
use scenes::{Outcome, Run, SCENES, Scene};
use workload::Workload;

/// How long the load goes on before a fault and after it.
const LOAD_TIME: Duration = Duration::from_secs(1);

/// What is asked for on the command line.
#[derive(Debug, Default)]
struct Wanted {
    is_long: bool,
    lists: bool,
    only: Vec<String>,
    rounds: Option<u32>,
    seed: Option<u64>,
}

impl Wanted {
    /// Reads the arguments. What is meant for the usual test harness has no effect.
    fn parse(arguments: impl Iterator<Item = String>) -> anyhow::Result<Self> {
        let mut wanted = Self::default();
        let mut arguments = arguments;
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or_else(|| anyhow::anyhow!("{argument} VALUE"));
            match argument.as_str() {
                "--long" => wanted.is_long = true,
                "--list" => wanted.lists = true,
                "--only" => wanted.only.push(value()?),
                "--rounds" => wanted.rounds = Some(value()?.parse()?),
                "--seed" => wanted.seed = Some(value()?.parse()?),
                "--test-threads" | "--format" | "--color" | "--skip" | "--logfile" => {
                    value()?;
                }
                other if other.starts_with('-') => {}
                other => wanted.only.push(other.to_owned()),
            }
        }
        Ok(wanted)
    }

    fn scenes(&self) -> Vec<Scene> {
        let is_wanted = |scene: &&Scene| {
            if self.only.is_empty() {
                self.is_long || scene.is_short
            } else {
                self.only.iter().any(|part| scene.name.contains(part.as_str()))
            }
        };
        SCENES.iter().filter(is_wanted).copied().collect()
    }
}

fn main() -> anyhow::Result<ExitCode> {
    let wanted = Wanted::parse(std::env::args().skip(1))?;
    let scenes = wanted.scenes();
    if wanted.lists {
        for scene in &scenes {
            println!("{}: test", scene.name);
        }
        return Ok(ExitCode::SUCCESS);
    }
    if scenes.is_empty() && wanted.rounds.is_none() {
        return Ok(ExitCode::SUCCESS);
    }
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: the fault suite needs root for its network namespaces");
        return Ok(ExitCode::SUCCESS);
    }
    let seed = wanted.seed.unwrap_or_else(|| u64::from(std::process::id()) * 7919);
    println!("seed {seed}");
    let mut lab = Lab::enter()?;
    let dir = tempfile::Builder::new().prefix("cos-faults-").tempdir()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let went_well = runtime.block_on(async {
        let mut cluster = Cluster::new(&mut lab, dir.path(), 1)?;
        let work = async {
            match wanted.rounds {
                Some(rounds) => rounds::kill_all(&mut cluster, rounds, seed).await,
                None => all(&mut cluster, &scenes, seed).await,
            }
        };
        tokio::select! {
            went_well = work => went_well,
            // Everything is dropped on the way out, and with that cleaned up.
            _ = tokio::signal::ctrl_c() => anyhow::bail!("interrupted"),
        }
    });
    drop(runtime);
    if matches!(went_well, Ok(true)) {
        return Ok(ExitCode::SUCCESS);
    }
    println!("the files are kept in {}", dir.keep().display());
    went_well.map(|_| ExitCode::FAILURE)
}

/// Does all faults and says whether all went well.
async fn all(cluster: &mut Cluster, scenes: &[Scene], seed: u64) -> anyhow::Result<bool> {
    cluster.make_whole().await?;
    println!(
        "{:34} {:>10} {:>12} {:>5} {:>12}",
        "fault", "operations", "acknowledged", "lost", "recovered"
    );
    let mut failed = 0;
    for (number, scene) in (0..).zip(scenes) {
        let mut run = Run { cluster: &mut *cluster, seed: seed ^ number };
        match one(&mut run, scene, &format!("f{number}"), seed).await {
            Ok((outcome, judgement)) => {
                failed += usize::from(!tell(scene.name, &outcome, &judgement));
            }
            Err(error) => {
                println!("{:34} FAILED: {error:#}", scene.name);
                failed += 1;
                cluster.make_whole().await?;
            }
        }
    }
    println!("{} faults, {failed} failed", scenes.len());
    Ok(failed == 0)
}

/// Does one fault under load.
async fn one(
    run: &mut Run<'_>,
    scene: &Scene,
    name: &str,
    seed: u64,
) -> anyhow::Result<(Outcome, Judgement)> {
    run.cluster.make_whole().await?;
    let workload = Workload::start(run.cluster, name, seed).await?;
    run.load(LOAD_TIME).await;
    let outcome = (scene.act)(run).await;
    run.load(LOAD_TIME).await;
    run.cluster.make_whole().await?;
    let judgement = judge(&workload.finish().await);
    match outcome {
        Ok(outcome) => Ok((outcome, judgement)),
        Err(error) if judgement.complaints.is_empty() => Err(error),
        Err(error) => Err(error.context(judgement.complaints.join("\n"))),
    }
}

/// Prints the line of a fault. Says whether it went well.
fn tell(name: &str, outcome: &Outcome, judgement: &Judgement) -> bool {
    let Judgement { operations, acknowledged, lost, complaints } = judgement;
    let recovered = format!("{} ms", outcome.recovered.as_millis());
    println!(
        "{name:34} {operations:>10} {acknowledged:>12} {lost:>5} {recovered:>12}  {}",
        outcome.note
    );
    for complaint in complaints {
        println!("  FAILED: {complaint}");
    }
    *lost == 0 && complaints.is_empty()
}
