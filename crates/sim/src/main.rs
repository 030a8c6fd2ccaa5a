//! `cargo xtask sim` runs this: seeds on several threads, or one seed with its trace.

#![expect(clippy::print_stdout, reason = "a tool tells its user")]
#![expect(clippy::disallowed_methods, reason = "it says how long it took; no run sees that")]

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context, bail};
use cos_sim::{Keep, Options, Outcome, Planted, run};

const USAGE: &str = "\
Usage: cargo xtask sim --seeds N [--from S] [--jobs J] [--planted NAME]
       cargo xtask sim --seed S [--trace] [--planted NAME]";

/// What is asked for.
#[derive(Debug, Default)]
struct Arguments {
    seeds: Option<u64>,
    seed: Option<u64>,
    from: u64,
    jobs: Option<usize>,
    has_trace: bool,
    planted: Option<Planted>,
}

fn main() -> anyhow::Result<ExitCode> {
    let arguments = parse(std::env::args().skip(1))?;
    match (arguments.seed, arguments.seeds) {
        (Some(seed), None) => Ok(one(seed, &arguments)),
        (None, Some(count)) => Ok(many(count, &arguments)),
        _ => bail!("{USAGE}"),
    }
}

fn parse(words: impl Iterator<Item = String>) -> anyhow::Result<Arguments> {
    let mut arguments = Arguments::default();
    let mut words = words;
    while let Some(word) = words.next() {
        let mut value = || words.next().with_context(|| format!("{word} needs a value"));
        match word.as_str() {
            "--seeds" => arguments.seeds = Some(value()?.parse().context("--seeds")?),
            "--seed" => arguments.seed = Some(value()?.parse().context("--seed")?),
            "--from" => arguments.from = value()?.parse().context("--from")?,
            "--jobs" => arguments.jobs = Some(value()?.parse().context("--jobs")?),
            "--trace" => arguments.has_trace = true,
            "--planted" => {
                let name = value()?;
                let planted = Planted::named(&name);
                arguments.planted = Some(planted.with_context(|| format!("no bug {name:?}"))?);
            }
            _ => bail!("{word:?} is not understood\n{USAGE}"),
        }
    }
    Ok(arguments)
}

fn options(seed: u64, arguments: &Arguments) -> Options {
    Options { planted: arguments.planted, ..Options::of(seed) }
}

/// Runs one seed and shows it.
fn one(seed: u64, arguments: &Arguments) -> ExitCode {
    let keep = if arguments.has_trace { Keep::Everything } else { Keep::Tail };
    let outcome = run(options(seed, arguments), keep);
    if arguments.has_trace || outcome.violation.is_some() {
        outcome.lines.iter().for_each(|line| println!("{line}"));
    }
    show(&outcome);
    if outcome.violation.is_some() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn show(outcome: &Outcome) {
    let Outcome { seed, hash, events, entries, requests: (sent, done), .. } = outcome;
    println!(
        "seed {seed}: trace {hash:016x}, {events} events, {entries} entries, {done} of {sent} requests done"
    );
    if let Some(why) = &outcome.violation {
        println!("VIOLATION {why}");
        println!("reproduce with: cargo xtask sim --seed {seed}");
    }
}

/// Runs seeds until one fails.
fn many(count: u64, arguments: &Arguments) -> ExitCode {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let (from, jobs) = (arguments.from, arguments.jobs.unwrap_or(processors).max(1));
    let next = AtomicU64::new(from);
    let has_failed = AtomicBool::new(false);
    let failed: Mutex<Option<u64>> = Mutex::new(None);
    let totals: Mutex<(u64, u64, u64, u64)> = Mutex::new((0, 0, 0, 0));
    let started = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                while !has_failed.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= from + count {
                        break;
                    }
                    let outcome = run(options(seed, arguments), Keep::Nothing);
                    if let Ok(mut totals) = totals.lock() {
                        totals.0 += 1;
                        totals.1 += outcome.events;
                        totals.2 += outcome.entries;
                        totals.3 ^= outcome.hash;
                    }
                    if outcome.violation.is_some()
                        && let Ok(mut failed) = failed.lock()
                    {
                        // The first of them, whichever thread was quicker.
                        *failed = Some(failed.map_or(seed, |other| other.min(seed)));
                        has_failed.store(true, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let (runs, events, entries, hash) = *totals.lock().unwrap_or_else(PoisonError::into_inner);
    let seconds = started.elapsed().as_secs_f64();
    if let Some(seed) = *failed.lock().unwrap_or_else(PoisonError::into_inner) {
        let code = one(seed, arguments);
        println!("found after {runs} of {count} seeds, {seconds:.1} s");
        return code;
    }
    println!(
        "{runs} seeds from {from}: 0 violations, traces {hash:016x}, {events} events, \
         {entries} entries, {seconds:.1} s on {jobs} threads"
    );
    ExitCode::SUCCESS
}
