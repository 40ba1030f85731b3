//! Runs seeds of the simulation, for longer than a test may: `cargo xtask simulation --seeds 0..20000`.

#![allow(
    clippy::disallowed_methods,
    reason = "it says how long runs take in real time; what runs has a clock of its own"
)]

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Parser;
use springtide_tests::simulation::{self, Outcome, Story};

/// Runs seeds of the simulation.
#[derive(Debug, Parser)]
struct Arguments {
    /// FROM..TO, or one seed
    #[arg(long, value_parser = parse_seeds)]
    seeds: Range<u64>,
    /// Seeds at once
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Print what happened: all, or the lines that contain the given text
    #[arg(long, num_args = 0..=1, default_missing_value = "")]
    trace: Option<String>,
    /// Go on after a failure
    #[arg(long)]
    keep_going: bool,
}

fn parse_seeds(text: &str) -> Result<Range<u64>> {
    let number = |text: &str| text.trim().parse::<u64>().with_context(|| format!("`{text}` is no number"));
    match text.split_once("..") {
        Some((from, to)) => Ok(number(from)?..number(to)?),
        None => number(text).map(|seed| seed..seed + 1),
    }
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let story = match &arguments.trace {
        None => Story::OfViolation,
        Some(about) => {
            Story::Of(about.split(',').filter(|about| !about.is_empty()).map(str::to_owned).collect())
        }
    };
    let next = AtomicU64::new(arguments.seeds.start);
    let progress = Mutex::new(Progress::default());
    let began = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..arguments.threads.max(1) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= arguments.seeds.end {
                        return;
                    }
                    let outcome = simulation::run(seed, &story);
                    let mut progress = progress.lock().unwrap_or_else(PoisonError::into_inner);
                    progress.take(&outcome, began);
                    if !progress.failed.is_empty() && !arguments.keep_going {
                        return;
                    }
                }
            });
        }
    });
    let progress = progress.into_inner().unwrap_or_else(PoisonError::into_inner);
    progress.print(began);
    if !progress.failed.is_empty() {
        bail!("failing seeds: {:?}", progress.failed);
    }
    Ok(())
}

#[derive(Debug, Default)]
struct Progress {
    runs: u64,
    failed: Vec<u64>,
    tasks: u64,
    faults: u64,
    steps: u64,
    repeated: u64,
    charges: u64,
    evictions: u64,
    leaders: u64,
    fenced: u64,
    slowest: (Duration, u64),
    said: Option<Instant>,
}

impl Progress {
    fn take(&mut self, outcome: &Result<Outcome>, began: Instant) {
        self.runs += 1;
        match outcome {
            Ok(outcome) => {
                self.tasks += outcome.tasks as u64;
                self.faults += outcome.faults as u64;
                let counts = &outcome.counts;
                self.steps += counts.steps;
                self.repeated += counts.repeated;
                self.charges += counts.charges;
                self.evictions += counts.evictions;
                self.leaders += counts.leaders;
                self.fenced += counts.fenced;
                self.slowest = self.slowest.max((outcome.took, outcome.seed));
                if !outcome.story.is_empty() {
                    println!("{}", outcome.story);
                }
                if let Some(violation) = &outcome.violation {
                    self.failed.push(outcome.seed);
                    println!("seed {}: {}", outcome.seed, violation.what);
                    println!("  again: cargo xtask simulation --seeds {} --trace", outcome.seed);
                }
            }
            Err(error) => println!("a seed could not be run: {error:#}"),
        }
        if self.said.is_none_or(|said| said.elapsed() > Duration::from_secs(5)) {
            self.said = Some(Instant::now());
            self.print(began);
        }
    }

    fn print(&self, began: Instant) {
        let took = began.elapsed().as_secs_f64();
        println!(
            "{} runs in {took:.1} s ({:.2} s each), {} failed; {} tasks, {} faults, {} steps, {} runs again, \
             {} charges, {} evictions, {} leaders, {} fenced; slowest {:.0} s (seed {})",
            self.runs,
            took / self.runs.max(1) as f64,
            self.failed.len(),
            self.tasks,
            self.faults,
            self.steps,
            self.repeated,
            self.charges,
            self.evictions,
            self.leaders,
            self.fenced,
            self.slowest.0.as_secs_f64(),
            self.slowest.1,
        );
    }
}
